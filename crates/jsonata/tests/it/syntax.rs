//! What editors are told: all syntax errors with their places, and a tree of any text.

use jsonata::{CompileError, Program, SYNTAX_ERRORS_MAX, Syntax, SyntaxKind, SyntaxNode};
use proptest::prelude::*;

use crate::{generated, suite};

fn errors(source: &str) -> Vec<String> {
    let show = |e: &CompileError| {
        let p = e.position();
        format!("{} {}:{} {}", e.code(), p.line, p.column, p.offset)
    };
    Syntax::parse(source).errors().iter().map(show).collect()
}

/// What holds for any text. Gives the number of nodes.
fn hold(source: &str) -> usize {
    let syntax = Syntax::parse(source);
    match Program::compile(source) {
        Ok(_) => assert!(syntax.errors().is_empty(), "{source:.200}: {:?}", syntax.errors().first()),
        Err(e) => assert_eq!(syntax.errors().first(), Some(&e), "{source:.200}"),
    }
    assert!(syntax.errors().len() <= SYNTAX_ERRORS_MAX);
    assert!(!syntax.has_more_errors() || syntax.errors().len() == SYNTAX_ERRORS_MAX);
    let mut nodes = 0;
    let mut todo = vec![(syntax.root(), 0..source.len())];
    while let Some((node, within)) = todo.pop() {
        nodes += 1;
        let bytes = node.extent().bytes.clone();
        assert!(bytes.start <= bytes.end && source.get(bytes.clone()).is_some(), "{source:.200}");
        assert!(within.start <= bytes.start && bytes.end <= within.end, "{source:.200} {node:?}");
        todo.extend(node.children().map(|child| (child, bytes.clone())));
    }
    nodes
}

#[test]
fn all_errors_of_a_source_are_found_and_no_others() {
    for (source, expected) in [
        // Several mistakes: each once.
        (
            "{\n  \"a\": 1 2,\n  \"b\": [1, , 3],\n  \"c\" 4,\n  \"d\": )\n}",
            &["S0202 2:10 12", "S0211 3:12 26", "S0202 4:7 38", "S0211 5:8 48"][..],
        ),
        ("(\n  $a := ;\n  $b := 2 3;\n  4 := $c;\n  $d)", &["S0211 2:9 11", "S0202 3:11 23", "S0212 4:3 28"]),
        ("$sum(items.(price * )) + $count(]) & 'x", &["S0211 1:21 21", "S0211 1:33 33", "S0101 1:38 39"]),
        ("{\"name\": \"abc,\n \"b\": 2 +,\n \"c\": f(1, 2}", &["S0202 2:3 19", "S0202 3:13 39"]),
        ("items[price > 10].{ 'a' , 'b': 1 ! 2 }", &["S0202 1:25 25", "S0204 1:34 34"]),
        ("null.a + 5.b + (%)[%.%]", &["S0213 1:1 4", "S0213 1:10 10", "S0217 1:14 14"]),
        ("$map(a, function(x, $y) { x }) ~> |a|{}", &["S0208 1:18 18", "S0203 1:40 39"]),
        ("a := 1; $b := 2; 3 4; ))", &["S0212 1:1 1", "S0201 1:7 7", "S0201 1:20 20", "S0211 1:23 23"]),
        ("function($x)<n<s>:n>{ 'a\\q' & \"\\u12\" }", &["S0401 1:15 15", "S0103 1:25 25", "S0104 1:32 32"]),
        ("+ 5 * = 3", &["S0211 1:1 1", "S0211 1:7 7"]),
        ("a^b + c^(", &["S0202 1:3 3", "S0203 1:10 9"]),
        ("$x@1.b#2", &["S0214 1:4 4", "S0214 1:8 8"]),
        ("1e999 + 1e1000", &["S0102 1:1 0", "S0102 1:9 8"]),
        ("a !! b", &["S0204 1:3 3", "S0204 1:4 4"]),
        ("$f(1 2 3, 4 5, (6", &["S0202 1:6 6", "S0202 1:13 13", "S0203 1:18 17"]),
        ("{1 2 {3 4", &["S0202 1:4 4", "S0202 1:9 9", "S0203 1:10 9"]),
        ("$f(/a(/,\n'ž😀' 1)", &["S0302 1:4 17", "S0202 2:6 16"]),
        // One mistake: nothing that follows from it.
        ("((((((((((", &["S0203 1:11 10"]),
        ("))))))", &["S0211 1:1 1"]),
        ("[[[[1, 2", &["S0203 1:9 8"]),
        ("function($x) $x + 1", &["S0202 1:14 15"]),
        ("a.b.", &["S0207 1:5 4"]),
        ("'don''t'", &["S0201 1:6 8"]),
        ("$f(a, \"b)", &["S0101 1:7 9"]),
        ("{'a': [\"b], 'c': 1}", &["S0101 1:8 19"]),
        ("$f(/ab)", &["S0302 1:4 7"]),
        ("[a, `b]", &["S0105 1:5 7"]),
        ("a /* x", &["S0106 1:3 2"]),
        ("(a /* x)", &["S0106 1:4 3"]),
        ("a ? : b", &["S0211 1:5 5"]),
        ("a ? b : ", &["S0207 1:9 8"]),
        ("!a", &["S0204 1:1 1"]),
        ("foo bar baz quux", &["S0201 1:5 7"]),
        ("a[1 b{2}", &["S0202 1:5 5"]),
        ("a{b:c}{d:e}[1]", &["S0210 1:7 7"]),
        ("", &["S0207 1:1 0"]),
        ("f(a, $ )] + [", &["S0201 1:9 9"]),
        ("{'a', 'b': 1, 'c': [1; 2]}", &["S0202 1:5 5", "S0202 1:22 22"]),
        ("a.b[c = 'd'].{'e': f}", &[]),
    ] {
        assert_eq!(errors(source), expected, "{source}");
        hold(source);
    }
}

#[test]
fn errors_beyond_the_limit_are_not_listed() {
    let exactly = "1 2;".repeat(SYNTAX_ERRORS_MAX);
    let syntax = Syntax::parse(&format!("({exactly})"));
    assert_eq!((syntax.errors().len(), syntax.has_more_errors()), (SYNTAX_ERRORS_MAX, false));
    let syntax = Syntax::parse(&format!("({exactly} 1 2)"));
    assert_eq!((syntax.errors().len(), syntax.has_more_errors()), (SYNTAX_ERRORS_MAX, true));
    assert_eq!(errors(&" ".repeat(5 * 1024 * 1024)), ["S0902 1:1 0"]);
}

/// The tree as text: kinds, and the text of what has no parts.
fn show(node: SyntaxNode<'_>) -> String {
    let parts: Vec<String> = node.children().map(show).collect();
    if parts.is_empty() {
        return format!("{:?} {}", node.kind(), node.text()).trim_end().to_owned();
    }
    format!("{:?}({})", node.kind(), parts.join(", "))
}

#[test]
fn a_tree_has_the_parts_of_a_source_with_their_places() {
    for (source, expected) in [
        (
            "items[price > 10].{'n': name, 'f': $f(1, ?)}",
            "Path(Filter(Name items, Binary(Name price, Number 10)), Object(Pair(String 'n', Name name), Pair(String 'f', PartialCall(Variable $f, Number 1, Placeholder ?))))",
        ),
        (
            "($x := -a.b[]; $x{c: /d/i}^(>e, **))",
            "Block(Bind(Variable $x, Negate(Path(Name a, Name b[]))), Sort(Group(Variable $x, Pair(Name c, Regex /d/i)), Name e, Descendants **))",
        ),
        (
            "a@$b#$i ~> |%|{}, ['x'..1]| ? b ?: c : d ?? null",
            "Condition(Chain(Index(Focus(Name a, Variable $b), Variable $i), Transform(Parent %, Object {}, Array(Binary(String 'x', Number 1)))), Elvis(Name b, Name c), Coalesce(Name d, Null null))",
        ),
        ("function($a)<n:n>{ $a() }", "Lambda(Variable $a, Call(Variable $a))"),
        ("[1, , $f(2]", "Array(Number 1, Error, Call(Variable $f, Number 2))"),
        ("a b; true", "Error(Name a, Boolean true)"),
    ] {
        assert_eq!(show(Syntax::parse(source).root()), expected, "{source}");
    }
    let source = "(\n  'ž😀' & $x;\n  b)";
    let syntax = Syntax::parse(source);
    let block = syntax.root();
    assert_eq!((block.kind(), block.text()), (SyntaxKind::Block, source));
    let concat = block.children().next().expect("first");
    assert_eq!(concat.text(), "'ž😀' & $x");
    let variable = concat.children().next_back().expect("right");
    let extent = variable.extent();
    assert_eq!((extent.start.offset, extent.start.line, extent.start.column), (12, 2, 10));
    assert_eq!((extent.end.offset, extent.end.line, extent.end.column), (14, 2, 12));
    assert_eq!(&source[extent.bytes.clone()], "$x");
}

#[test]
fn any_nesting_and_any_length_is_read_in_linear_time() {
    let on_a_small_stack = || {
        for piece in [
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "a(",
            "a[",
            "{a:",
            "-",
            "1+",
            "a.",
            "|a|",
            "a^(",
            "function($x){",
            ",",
            ";",
            ":",
            "..",
            "1 2 ",
            "(1 2 ",
            "[1 2, ",
            "([{",
            "([{)",
            "(]",
            "a b;",
            "'\\q'",
            "'",
            "`",
            "/",
            "!",
            "? ",
            "a?",
            "@$",
            "a{b:c}",
            "/*",
            "\"a)\n",
            "{1 2 ",
            "$f(;",
            "$f(,[",
            "a??",
            "<",
            "function(1)<",
            "%.",
            "null.",
            "a[].",
        ] {
            hold(&piece.repeat(100_000));
            for end in [")", "1"] {
                hold(&format!("{}{end}", piece.repeat(10_000)));
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(on_a_small_stack).expect("spawn");
    assert!(thread.join().is_ok());
}

#[test]
fn every_cut_of_every_expression_of_the_suite_is_read() {
    let (mut expressions, mut cuts) = (0, 0);
    for source in suite::expressions() {
        expressions += 1;
        hold(&source);
        let cut_at = source.char_indices().map(|(at, _)| at);
        // A few are as long as books; their beginnings say enough.
        for at in cut_at.take(400) {
            cuts += 1;
            hold(&source[..at]);
        }
    }
    println!("{expressions} expressions, {cuts} cuts");
    assert!(expressions > 0 && cuts > expressions);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_as_compile_reads_it(
        source in generated::expression(),
        cut in any::<prop::sample::Index>(),
        inserted in "[a$.\\[\\](){}+*/%@#:?<>=^&|~!;, '\"`1-]{1,3}",
    ) {
        hold(&source);
        let at = source.char_indices().map(|(at, _)| at).nth(cut.index(source.chars().count().max(1))).unwrap_or(0);
        hold(&format!("{}{inserted}{}", &source[..at], &source[at..]));
        hold(&source[at..]);
    }
}
