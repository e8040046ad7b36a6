//! The interface: outcomes, bindings, errors with their places, elements of the output.

use jsonata::{Bindings, Budget, ERROR_CODES, ErrorKind, Evaluator, Outcome, Output, Program};

fn run(source: &str, input: &str, bindings: &Bindings) -> (Outcome, String) {
    let program = Program::compile(source).expect(source);
    let mut output = Output::new();
    let outcome = Evaluator::new()
        .eval(&program, input.as_bytes(), bindings, &Budget::default(), &mut output)
        .unwrap_or_else(|e| panic!("{source}: {e}"));
    (outcome, String::from_utf8_lossy(output.as_bytes()).into_owned())
}

#[test]
fn undefined_null_and_a_value_are_told_apart() {
    let bindings = Bindings::new(0, 0);
    assert_eq!(run("missing", "{}", &bindings), (Outcome::Undefined, String::new()));
    assert_eq!(run("a", r#"{"a": null}"#, &bindings), (Outcome::Null, "null".to_owned()));
    assert_eq!(run("a", r#"{"a": 0}"#, &bindings), (Outcome::Value, "0".to_owned()));
    assert_eq!(run("$uppercase", "{}", &bindings).0, Outcome::Undefined);
}

#[test]
fn bindings_are_what_they_were_given_as() {
    let mut bindings = Bindings::new(1_521_801_216_617, 1)
        .with_str("topic", "orders")
        .with_number("partition", 3.0)
        .with_bool("retry", false)
        .with_json("headers", br#"{"x-id": ["a", 1.10]}"#);
    bindings.set_null("key");
    let (_, text) = run(
        "{'t': $topic, 'p': $partition, 'r': $retry, 'h': $headers.`x-id`, 'k': $key, 'n': $now(), 'm': $millis()}",
        "{}",
        &bindings,
    );
    assert_eq!(
        text,
        r#"{"t":"orders","p":3,"r":false,"h":["a",1.10],"k":null,"n":"2018-03-23T10:33:36.617Z","m":1521801216617}"#
    );
    // Digits that are copied end with their own text.
    let numbers = Bindings::new(0, 0).with_json("a", b"1.10").with_json("b", b"2.20").with_json("c", b"-3");
    assert_eq!(run("[$a, $b, $c]", "{}", &numbers).1, "[1.10,2.20,-3]");
    bindings.clear(0, 0);
    assert_eq!(run("$topic", "{}", &bindings).0, Outcome::Undefined);
    let (_, first) = run("[$random(), $shuffle([1..9])]", "{}", &Bindings::new(0, 5));
    let (_, again) = run("[$random(), $shuffle([1..9])]", "{}", &Bindings::new(0, 5));
    let (_, other) = run("[$random(), $shuffle([1..9])]", "{}", &Bindings::new(0, 6));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn errors_say_where_and_what() {
    let program = Program::compile("(\n  $a := 1;\n  $a + name\n)").expect("compiles");
    let error = Evaluator::new()
        .eval(&program, br#"{"name": "x"}"#, &Bindings::new(0, 0), &Budget::default(), &mut Output::new())
        .expect_err("adds a string");
    assert_eq!(
        error.to_string(),
        "T2002 at line 3, column 6 near \"+\": the right side of \"+\" must be a number, not \"x\""
    );
    let ErrorKind::Expression(e) = error.kind() else { panic!("{error}") };
    assert_eq!((e.position.offset, e.position.line, e.position.column), (19, 3, 6));
    assert_eq!(error.render(program.source()).lines().last(), Some("  |      ^"));
    // Inside a function: jsonata-js' position is that of the call, the origin is where it is.
    let program = Program::compile("($f := function($x) { $x + 'a' }; $f(1))").expect("compiles");
    let error = Evaluator::new()
        .eval(&program, b"{}", &Bindings::new(0, 0), &Budget::default(), &mut Output::new())
        .expect_err("adds a string");
    let ErrorKind::Expression(e) = error.kind() else { panic!("{error}") };
    assert_eq!((e.position.offset, e.origin.offset), (37, 26));
    let error = Program::compile("a.b.\n(c").expect_err("no bracket");
    assert_eq!(
        error.to_string(),
        "S0203 at line 2, column 3 near \"(end)\": the expression ends where ) is expected"
    );
    assert!(error.render("a.b.\n(c").ends_with("2 | (c\n  |   ^"));
}

#[test]
fn the_caret_stands_under_the_place_whatever_the_line() {
    let shown = |source: &str| {
        let error = Program::compile(source).expect_err(source);
        error.render(source).lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(shown("a b"), ["1 | a b", "  |   ^"]);
    // Tabs are shown as spaces; characters are as wide as a terminal shows them.
    assert_eq!(shown("\t\t'x' y"), ["1 |   'x' y", "  |       ^"]);
    assert_eq!(shown("'日本語' y"), ["1 | '日本語' y", "  |          ^"]);
    assert_eq!(shown("'e\u{301}😀' y"), ["1 | 'e\u{301}😀' y", "  |       ^"]);
    // The line of many.
    let source = format!("{}  a b\n+ 1", "(1;\n".repeat(99));
    assert_eq!(shown(&source), ["100 |   a b", "    |     ^"]);
    assert_eq!(shown("1 +\r\n2 3\r\n"), ["2 | 2 3", "  |   ^"]);
    assert_eq!(shown("(\n"), ["2 | ", "  | ^"]);
    // A long line is cut on both sides.
    let source = format!("{}x y{}", "1 + ".repeat(500), " + 1".repeat(500));
    let lines = shown(&source);
    assert!(lines[0].starts_with("1 | …") && lines[0].ends_with('…') && lines[0].chars().count() < 200);
    let under = lines[1].chars().position(|c| c == '^').expect("a caret");
    assert_eq!(lines[0].chars().nth(under), Some('y'));
}

#[test]
fn an_error_is_one_line() {
    for (source, expected) in [
        ("$error('a\\nb')", "D3137 at line 1, column 7 near \"error\": a b"),
        (
            "1 +\n'x\\ny'",
            "T2002 at line 1, column 3 near \"+\": the right side of \"+\" must be a number, not \"x\\ny\"",
        ),
    ] {
        let program = Program::compile(source).expect(source);
        let error = Evaluator::new()
            .eval(&program, b"{}", &Bindings::new(0, 0), &Budget::default(), &mut Output::new())
            .expect_err(source);
        assert_eq!(error.to_string(), expected);
    }
    // Values are shown, and cut short.
    let program = Program::compile("$ + 1").expect("compiles");
    let long = format!("\"{}\"", "é".repeat(100_000));
    let error = Evaluator::new()
        .eval(&program, long.as_bytes(), &Bindings::new(0, 0), &Budget::default(), &mut Output::new())
        .expect_err("a string");
    let text = error.to_string();
    assert!(text.contains("\"éééééé") && text.chars().count() < 250, "{text}");
}

/// String literals in the crate's sources that have the form of a code.
fn codes_in(dir: &std::path::Path, but: &str, into: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            codes_in(&path, but, into);
        } else if !path.ends_with(but) {
            let text = std::fs::read_to_string(&path).expect("a source");
            into.extend(text.split('"').filter(|word| is_code(word)).map(str::to_owned));
        }
    }
}

fn is_code(word: &str) -> bool {
    word.len() == 5 && word.starts_with(['S', 'T', 'D', 'U']) && word[1..].bytes().all(|b| b.is_ascii_digit())
}

#[test]
fn the_codes_that_can_be_given_are_those_that_are_listed() {
    let src =
        std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src");
    let mut given = std::collections::BTreeSet::new();
    codes_in(&src, "messages.rs", &mut given);
    let listed: std::collections::BTreeSet<String> =
        ERROR_CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert!(given.len() > 80, "{given:?}");
    assert_eq!(given, listed);
}

#[test]
fn containers_are_in_an_array_if_they_are_the_very_same() {
    // As jsonata-js 2.2.2 answers.
    for (source, expected) in [
        ("a in [a]", "true"),
        ("a in b", "false"),
        ("b[0] in b", "true"),
        ("$ in [$]", "true"),
        ("{'x': 1} in [{'x': 1}]", "false"),
        ("($o := {'x': 1}; $o in [$o])", "true"),
        ("a in [b, a]", "true"),
        ("c in [[c]]", "false"),
        ("c[0] in c", "true"),
        ("c[1] in c", "true"),
        ("$lookup($, 'a') in [a]", "true"),
        ("($x := a; a in [$x])", "true"),
        ("(a ~> |$|{'y': 1}|) in [a]", "false"),
        ("b[x = 1] in b", "true"),
        ("$count(b[$ in $$.b])", "2"),
        ("d.e in [d.e]", "false"),
        ("*[0] in [a]", "true"),
        ("f in [f]", "false"),
        ("$reverse(b)[1] in b", "true"),
        ("$each($, function($v) { $v })[0] in [a]", "true"),
        ("a in a", "true"),
        ("$spread(a) in [a]", "false"),
    ] {
        let input = r#"{"a": {"x": 1}, "b": [{"x": 1}, {"x": 2}], "c": [[1], [2]], "d": {"e": [{"g": 1}]}, "f": [1, 2]}"#;
        assert_eq!(run(source, input, &Bindings::new(0, 0)).1, expected, "{source}");
    }
}

#[test]
fn every_code_has_a_message_of_its_own() {
    let mut codes: Vec<&str> = ERROR_CODES.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    let n = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), n);
    assert!(ERROR_CODES.iter().all(|(_, text)| !text.is_empty()));
}

#[test]
fn elements_of_an_array_can_be_taken_apart() {
    let program = Program::compile("items.{'id': id}").expect("compiles");
    let mut output = Output::new();
    let mut evaluator = Evaluator::new();
    let bindings = Bindings::new(0, 0);
    let mut elements = |input: &str| {
        evaluator
            .eval(&program, input.as_bytes(), &bindings, &Budget::default(), &mut output)
            .expect("evaluates");
        output.elements().map(|e| e.map(|b| String::from_utf8_lossy(b).into_owned()).collect::<Vec<_>>())
    };
    assert_eq!(
        elements(r#"{"items": [{"id": 1}, {"id": "a,b"}]}"#),
        Some(vec![r#"{"id":1}"#.to_owned(), r#"{"id":"a,b"}"#.to_owned()])
    );
    assert_eq!(elements(r#"{"items": {"id": 1}}"#), None);
}

#[test]
fn programs_go_between_threads() {
    fn is_send_sync<T: Send + Sync + Clone>(_: &T) {}
    let program = Program::compile("$match(a, /x(.)/).groups").expect("compiles");
    is_send_sync(&program);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let program = program.clone();
            scope.spawn(move || {
                let mut output = Output::new();
                let input = br#"{"a": "axb"}"#;
                let outcome = Evaluator::new().eval(
                    &program,
                    input,
                    &Bindings::new(0, 0),
                    &Budget::default(),
                    &mut output,
                );
                assert_eq!(outcome.expect("evaluates"), Outcome::Value);
                assert_eq!(output.as_bytes(), br#"["b"]"#);
            });
        }
    });
}
