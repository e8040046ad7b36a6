//! The whole input is an expression. Compiling it returns; an error has a known code and a place in
//! the text; what compiles says the same of itself each time. The recovering parse finds that error
//! first, and none exactly where it compiles; the parts of its tree lie within each other.

#![no_main]

use jsonata::{CompileError, ERROR_CODES, Program, SYNTAX_ERRORS_MAX, Syntax};
use libfuzzer_sys::{Corpus, fuzz_target};

fn error(error: &CompileError, source: &str, units: usize) {
    assert!(ERROR_CODES.iter().any(|(code, _)| *code == error.code()), "{error}");
    assert!(!error.message().is_empty(), "{error:?}");
    let position = error.position();
    // As jsonata-js, which skips four digits after \\u at the end of a source too.
    assert!(position.offset <= units + 4, "{position:?} in a source of {units} units");
    let lines = source.split('\n').count();
    assert!((1..=lines).contains(&(position.line as usize)), "{position:?} of {lines} lines");
    assert!(position.column >= 1, "{position:?}");
    let _ = error.render(source);
}

fn tree(syntax: &Syntax) {
    let mut open = vec![syntax.root()];
    let mut parts = 0;
    while let Some(part) = open.pop() {
        parts += 1;
        let around = &part.extent().bytes;
        assert!(syntax.source().get(around.clone()).is_some(), "{part:?}");
        let mut from = around.start;
        for child in part.children() {
            let bytes = &child.extent().bytes;
            assert!(from <= bytes.start && bytes.end <= around.end, "{child:?} in {part:?}");
            from = bytes.end;
            open.push(child);
        }
    }
    assert!(parts <= 4 * syntax.source().len() + 4, "{parts} parts");
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(source) = std::str::from_utf8(data) else { return Corpus::Reject };
    let units = source.encode_utf16().count();
    let syntax = Syntax::parse(source);
    tree(&syntax);
    assert!(syntax.errors().len() <= SYNTAX_ERRORS_MAX);
    syntax.errors().iter().for_each(|e| error(e, source, units));
    match Program::compile(source) {
        Ok(program) => {
            assert_eq!(syntax.errors(), []);
            assert_eq!(program.source(), source);
            let again = Program::compile(source).expect("it compiled before");
            assert_eq!(program.variables(), again.variables());
            assert_eq!(program.reads(), again.reads());
        }
        Err(first) => {
            error(&first, source, units);
            assert_eq!(syntax.errors().first(), Some(&first));
        }
    }
    Corpus::Keep
});
