//! Expressions and inputs that mean harm: each must end in a result or an ordinary error, soon,
//! within its budget, on a small stack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program};

/// A budget that is used up quickly also by a build without optimisation.
fn small() -> Budget {
    Budget {
        steps: 2_000_000,
        depth: 2_000,
        bytes: 16 * 1024 * 1024,
        output_bytes: 1024 * 1024,
        regex_steps: 1_000_000,
        wall: Duration::from_secs(60),
    }
}

fn eval(source: &str, input: &[u8]) -> Result<(Outcome, Vec<u8>), EvalError> {
    let program = Program::compile(source).unwrap_or_else(|e| panic!("{source:.80}: {e}"));
    let mut output = Output::new();
    let outcome = Evaluator::new().eval(&program, input, &Bindings::new(0, 0), &small(), &mut output)?;
    Ok((outcome, output.as_bytes().to_vec()))
}

fn over(source: &str, input: &[u8], limits: &[Limit]) {
    let started = Instant::now();
    let error = eval(source, input).expect_err(source);
    match error.kind() {
        ErrorKind::OverBudget(o) => assert!(limits.contains(&o.limit), "{source:.80}: {:?}", o.limit),
        _ => panic!("{source:.80}: {error}"),
    }
    assert!(error.is_deterministic());
    assert!(started.elapsed() < Duration::from_secs(20), "{source:.80} took {:?}", started.elapsed());
}

/// Runs on a stack as small as any thread's.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(f).expect("spawn");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn growth_ends_at_the_budget() {
    use Limit::{Bytes, Depth, OutputBytes, RegexSteps, Steps};
    let all = [Bytes, Steps, OutputBytes, Depth];
    for source in [
        "$pad('x', 1e15)",
        "$pad('x', -1e300)",
        "$map([1..1e7], function($v) { [1..1e7] })",
        "[1..1e6].[1..1e6]",
        "$join($map([1..1e6], function($v) { $pad('x', 1000) }))",
        "($d := function($x, $n) { $n = 0 ? $x : $d($x & $x, $n - 1) }; $d('x', 60))",
        "($d := function($x, $n) { $n = 0 ? $x : $d([$x, $x], $n - 1) }; $string($d('x', 60)))",
        "($d := function($x, $n) { $n = 0 ? $x : $d({'a': $x, 'b': $x}, $n - 1) }; $d('x', 60))",
        "($d := function($x, $n) { $n = 0 ? $x : $d({'a': $x, 'b': $x}, $n - 1) }; $d('x', 60) = $d('x', 60))",
        "($d := function($x, $n) { $n = 0 ? $x : $d({'a': $x, 'b': $x}, $n - 1) }; $count($d('x', 60).**))",
        "($f := function($n) { $f($n + 1) }; $f(0))",
        "($f := function($n) { 1 + $f($n + 1) }; $f(0))",
        "($f := function($n) { [$g($n)] }; $g := function($n) { {'a': $f($n)} }; $f(0))",
        "($f := function($x) { $map([1, 2], $f) }; $f(1))",
        "($e := '$eval($e)'; $eval($e))",
        "($e := '$eval($e) + 1'; $eval($e))",
        "$reduce([1..1e6], function($a, $v) { [$a] })",
        "$replace($pad('', 100000, 'a'), 'a', $pad('', 10000, 'b'))",
        "$formatInteger(1e18, 'I')",
        "$string([1..1e6], true)",
        "$split($pad('', 10000000, 'a'), '')",
        "$formatInteger(1, $pad('0', 3000000, '0'))",
        "$sort([1..1000000], function($a, $b) { $random() > 0.5 })",
        "$distinct([1..100000].{'a': $})",
        "$merge([1..1000000].{$string($): $})",
        "$zip([1..1000000], [1..1000000])",
        "$keys($merge([1..1000000].{$string($): 1}))",
        "[1..1000000]{$string($): $}",
        "$shuffle([1..1e7])",
    ] {
        over(source, b"null", &all);
    }
    over("$contains($pad('', 10000, 'a'), /(?=a)(a+)+$b/)", b"null", &[RegexSteps]);
    over("$match($pad('', 100000, 'ab'), /(.*)\\1$x/)", b"null", &[RegexSteps]);
    over("$pad('x', 2000000)", b"null", &[OutputBytes]);
}

#[test]
fn recursion_is_bounded_on_a_small_stack() {
    on_a_small_stack(|| {
        over("($f := function($n) { 1 + $f($n) }; $f(0))", b"null", &[Limit::Depth]);
        over("($f := function($x) { $map([$x], $f) }; $f(1))", b"null", &[Limit::Depth]);
        over(
            "($f := function($x, $y) { $reduce([$x, $y], $f) }; $f(1, 2))",
            b"null",
            &[Limit::Depth, Limit::Steps, Limit::Bytes],
        );
        over("($f := function($x) { $replace('a', /a/, $f) }; $f(1))", b"null", &[Limit::Depth]);
        // Tail calls take no depth.
        let (_, bytes) =
            eval("($f := function($n) { $n = 0 ? 'end' : $f($n - 1) }; $f(20000))", b"null").expect("tail");
        assert_eq!(bytes, b"\"end\"");
    });
}

#[test]
fn deep_syntax_is_refused_or_evaluated() {
    on_a_small_stack(|| {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{'a':", "1", "}"),
            ("-", "1", ""),
            ("function($x){", "1", "}"),
            ("$f(", "1", ")"),
            ("a[", "1", "]"),
            ("1+", "1", ""),
            ("1?", "1", ":2"),
            ("a.", "b", ""),
            ("a??", "b", ""),
            ("a?:", "b", ""),
            ("|a|", "b", "|"),
            ("a^(", "b", ")"),
            ("", "a", "[]"),
            ("", "a", ".b"),
            ("", "1", "&1"),
            ("%.", "a", ""),
            ("a@$x.", "b", ""),
        ] {
            for n in [100, 1_000, 100_000] {
                let source = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
                match Program::compile(&source) {
                    Ok(program) => {
                        let mut output = Output::new();
                        let bindings = Bindings::new(0, 0);
                        let _ = Evaluator::new().eval(&program, b"{}", &bindings, &small(), &mut output);
                        assert!(n < 100_000 || !open.contains('('), "{open} nested {n} times");
                    }
                    Err(e) => assert!(n >= 1_000 || e.code() != "S0901", "{open}: {e}"),
                }
            }
        }
        // Copying the left side of ?: as jsonata-js does would double it at each level.
        let source = (0..500).fold("a".to_owned(), |s, _| format!("({s} ?: 1)"));
        assert!(Program::compile(&source).is_ok());
    });
}

#[test]
fn deep_input_is_read_and_left_alone() {
    on_a_small_stack(|| {
        let n = 100_000;
        let deep = [vec![b'['; n], vec![b']'; n]].concat();
        let (_, bytes) = eval("$count($)", &deep).expect("count");
        assert_eq!(bytes, b"1");
        over("$", &deep, &[Limit::Depth]);
        over("$string($)", &deep, &[Limit::Depth]);
        over("**", &deep, &[Limit::Depth]);
        over("$ = [$, 1][0]", &deep, &[Limit::Depth, Limit::Steps]);
        over("$ ~> |$|{}|", &deep, &[Limit::Depth]);
        let objects = format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        over("$", objects.as_bytes(), &[Limit::Depth]);
        let (_, bytes) = eval("$exists(a.a.a)", objects.as_bytes()).expect("exists");
        assert_eq!(bytes, b"true");
    });
}

#[test]
fn a_value_within_itself_is_only_deep() {
    over("$ ~> |$|{'self': $}|", br#"{"a": 1}"#, &[Limit::Depth]);
}

#[test]
fn strange_text_is_kept_or_refused() {
    let same = |source: &str, input: &str, expected: &str| {
        let (_, bytes) = eval(source, input.as_bytes()).expect(source);
        assert_eq!(String::from_utf8_lossy(&bytes), expected, "{source}");
    };
    same("$", r#""\ud800""#, r#""\ud800""#);
    same("$ & '\\udc00'", r#""\ud800""#, "\"\u{10000}\"");
    same("$length($)", r#""\ud83d\ude00x""#, "2");
    same("a", r#"{"a": 1, "a": 2}"#, "2");
    same("$", r#"{"a": 1, "b": 0, "a": 2}"#, r#"{"a":2,"b":0}"#);
    same("$keys($)", r#"{"b": 1, "10": 2, "9": 3, "a": 4}"#, r#"["9","10","b","a"]"#);
    same("`__proto__`", r#"{"__proto__": {"x": 1}}"#, r#"{"x":1}"#);
    same("toString ?? 'none'", "{}", "\"none\"");
    same("$uppercase('ß\\ud800')", "null", "\"SS\\ud800\"");
    for input in [&b"\xff"[..], b"\"\xc3\"", b"", b"{", b"[1,]", b"nul", b"1 2", b"\"\\ud8\""] {
        let error = eval("$", input).expect_err("not JSON");
        assert!(matches!(error.kind(), ErrorKind::InvalidJson(_)), "{error}");
    }
}

#[test]
fn numbers_that_are_copied_keep_their_digits() {
    let same = |source: &str, input: &str, expected: &str| {
        let (_, bytes) = eval(source, input.as_bytes()).expect(source);
        assert_eq!(String::from_utf8_lossy(&bytes), expected, "{source}");
    };
    same(
        "{'id': id, 'price': p}",
        r#"{"id": 12345678901234567890, "p": 10.10}"#,
        r#"{"id":12345678901234567890,"price":10.10}"#,
    );
    same("$^(-x).x", r#"[{"x": 1.0}, {"x": 9007199254740993}]"#, "[9007199254740993,1.0]");
    same("id + 0", r#"{"id": 9007199254740993}"#, "9007199254740992");
    same("$string(p)", r#"{"p": 10.10}"#, "\"10.1\"");
    same("x", r#"{"x": 1e400}"#, "1e400");
}

#[test]
fn the_same_evaluation_costs_the_same_again() {
    let source = "($f := function($n) { $n < 2 ? 1 : $f($n - 1) + $f($n - 2) }; {'f': $f(12), 'r': $random(), 's': $sort([3, 1, 2]), 't': $now()})";
    let program = Program::compile(source).expect("compiles");
    let bindings = Bindings::new(1_700_000_000_000, 7);
    let run = |evaluator: &mut Evaluator| {
        let mut output = Output::new();
        let (result, usage) = evaluator.eval_counted(&program, Some(b"{}"), &bindings, &small(), &mut output);
        result.expect("evaluates");
        (output.as_bytes().to_vec(), usage)
    };
    let mut used = Evaluator::new();
    let big = Program::compile("[1..200000].{'a': $}").expect("compiles");
    let _ = used.eval(&big, b"1", &bindings, &small(), &mut Output::new());
    let first = run(&mut Evaluator::new());
    assert_eq!(run(&mut used), first);
    assert_eq!(run(&mut used), first);
    // One step less than it takes is not enough; exactly as many are.
    let (_, usage) = first;
    let mut output = Output::new();
    let exact = Budget { steps: usage.steps, bytes: usage.bytes, ..small() };
    assert!(used.eval(&program, b"{}", &bindings, &exact, &mut output).is_ok());
    for budget in
        [Budget { steps: usage.steps - 1, ..exact.clone() }, Budget { bytes: usage.bytes - 1, ..exact }]
    {
        let error = used.eval(&program, b"{}", &bindings, &budget, &mut output).expect_err("too little");
        assert!(matches!(error.kind(), ErrorKind::OverBudget(_)));
        assert!(output.as_bytes().is_empty());
    }
}

#[test]
fn wall_time_ends_an_evaluation_and_is_no_property_of_the_record() {
    let program = Program::compile("($f := function($n) { $f($n + 1) }; $f(0))").expect("compiles");
    let budget =
        Budget { steps: u64::MAX, bytes: usize::MAX / 2, wall: Duration::from_millis(20), ..small() };
    let error = Evaluator::new()
        .eval(&program, b"1", &Bindings::new(0, 0), &budget, &mut Output::new())
        .expect_err("endless");
    assert!(matches!(error.kind(), ErrorKind::OverBudget(o) if o.limit == Limit::WallTime));
    assert!(!error.is_deterministic());
}

#[test]
fn an_evaluation_ends_when_its_flag_is_set() {
    let flag = Arc::new(AtomicBool::new(true));
    let mut evaluator = Evaluator::new().stopped_by(Arc::clone(&flag));
    let program = Program::compile("$sum([1..100000].($ * 2))").expect("compiles");
    let bindings = Bindings::new(0, 0);
    let mut eval = || evaluator.eval(&program, b"1", &bindings, &Budget::default(), &mut Output::new());
    let error = eval().expect_err("stopped");
    assert!(matches!(error.kind(), ErrorKind::OverBudget(o) if o.limit == Limit::WallTime));
    flag.store(false, Ordering::Relaxed);
    assert_eq!(eval().expect("goes on"), Outcome::Value);
}
