//! Functions and constants of the host: names, signatures, values, errors, budgets.

use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Host, HostError, Limit, Output, Program};
use serde_json::{Value, json};

fn host() -> Host {
    let mut host = Host::new();
    host.function("twice", "<n-:n>", |call| Ok(call.arg(0).and_then(Value::as_f64).map(|n| json!(n * 2.0))))
        .expect("twice");
    host.function("echo", "<x?x?:x>", |call| Ok(call.arg(0).cloned())).expect("echo");
    host.function("fail", "<s?:x>", |call| {
        Err(HostError::new(
            "H0007",
            format!("no customer {}", call.arg(0).map_or("", |v| v.as_str().unwrap_or(""))),
        ))
    })
    .expect("fail");
    host.function("work", "<nn:n>", |call| {
        let amount = |i| call.arg(i).and_then(Value::as_u64).unwrap_or(0);
        call.spend(amount(0), amount(1) as usize)?;
        Ok(Some(json!(call.now_millis())))
    })
    .expect("work");
    host.function("deep", "<n:x>", |call| {
        let n = call.arg(0).and_then(Value::as_u64).unwrap_or(0);
        Ok(Some((0..n).fold(Value::Null, |value, _| json!([value]))))
    })
    .expect("deep");
    host.constant("rates", json!({"CZ": 0.21, "list": [1, "two", null, true]})).expect("rates");
    host
}

fn eval(source: &str, input: &str) -> Result<String, EvalError> {
    let program = Program::compile_with(source, &host()).unwrap_or_else(|e| panic!("{source}: {e}"));
    let mut output = Output::new();
    let bindings = Bindings::new(1234, 0);
    Evaluator::new().eval(&program, input.as_bytes(), &bindings, &Budget::default(), &mut output)?;
    Ok(String::from_utf8_lossy(output.as_bytes()).into_owned())
}

#[test]
fn host_functions_and_constants_are_used_by_name() {
    for (source, input, expected) in [
        ("$twice(a)", r#"{"a": 21}"#, "42"),
        ("a.$twice()", r#"{"a": 21}"#, "42"),
        ("a ~> $twice()", r#"{"a": 21}"#, "42"),
        ("$map([1, 2], $twice)", "{}", "[2,4]"),
        ("($t := $twice(?); $t(4))", "{}", "8"),
        ("$twice(missing)", "{}", ""),
        ("$rates.CZ", "{}", "0.21"),
        ("$rates", "{}", r#"{"CZ":0.21,"list":[1,"two",null,true]}"#),
        ("($rates := 1; $rates)", "{}", "1"),
        (
            "$echo($)",
            r#"{"a":[1,{"b":null}],"n":9007199254740993,"s":"ž"}"#,
            r#"{"a":[1,{"b":null}],"n":9007199254740992,"s":"ž"}"#,
        ),
        ("$eval('$twice(4)')", "{}", "8"),
        ("($twice := function($x) { $x }; $twice(3, 4))", "{}", "3"),
        ("$work(1, 1)", "{}", "1234"),
    ] {
        assert_eq!(eval(source, input).unwrap_or_else(|e| panic!("{source}: {e}")), expected, "{source}");
    }
    // Bindings are seen before the host's names.
    let program = Program::compile_with("$rates", &host()).expect("compiles");
    let mut output = Output::new();
    Evaluator::new()
        .eval(
            &program,
            b"{}",
            &Bindings::new(0, 0).with_number("rates", 3.0),
            &Budget::default(),
            &mut output,
        )
        .expect("evaluates");
    assert_eq!(output.as_bytes(), b"3");
}

#[test]
fn calls_that_cannot_succeed_are_refused_when_a_program_is_compiled() {
    for (source, expected) in [
        (
            "1 + $twice('x')",
            "T0410 at line 1, column 11 near \"twice\": argument 1 of \"twice\" has the wrong type: a string",
        ),
        (
            "$twice(1, 2)",
            "T0410 at line 1, column 7 near \"twice\": argument 2 of \"twice\" has the wrong type: a number",
        ),
        (
            "a ~> $twice(a)",
            "T0410 at line 1, column 12 near \"twice\": argument 2 of \"twice\" has the wrong type: one too many",
        ),
        ("$rates()", "T1006 at line 1, column 7 near \"rates\": \"rates\" is not a function"),
    ] {
        let error = Program::compile_with(source, &host()).expect_err(source);
        assert_eq!(error.to_string(), expected, "{source}");
    }
    // What can't be told then is checked when the call is made.
    let error = eval("$twice(a)", r#"{"a": "x"}"#).expect_err("a string");
    assert_eq!(error.code(), "T0410");
}

#[test]
fn a_host_function_fails_with_its_own_code_and_stays_within_the_budget() {
    let error = eval("1 + $fail('c-1')", "{}").expect_err("fails");
    assert_eq!(error.to_string(), "H0007 at line 1, column 10 near \"fail\": no customer c-1");
    let over = |source: &str, input: &str| match eval(source, input).expect_err(source).kind() {
        ErrorKind::OverBudget(over) => over.limit,
        other => panic!("{source}: {other:?}"),
    };
    assert_eq!(over("$work(1e12, 0)", "{}"), Limit::Steps);
    assert_eq!(over("$work(0, 1e12)", "{}"), Limit::Bytes);
    assert_eq!(over("$echo([1..10000000])", "{}"), Limit::Bytes);
    assert_eq!(eval("$deep(129)", "{}").expect_err("deep").code(), "D1905");
    assert!(eval("$deep(100)", "{}").is_ok());
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(eval("$echo($)", &nested).expect_err("deep").code(), "D1905");
}

#[test]
fn names_that_cannot_be_registered_are_refused() {
    let mut host = Host::new();
    host.constant("x", json!(1)).expect("free");
    for (name, signature, reason) in [
        ("sum", "<n:n>", "a built-in function has this name"),
        ("$f", "<n:n>", "a name has letters, digits and _ only, and no $ in front"),
        ("", "<n:n>", "a name has letters, digits and _ only, and no $ in front"),
        ("x", "<n:n>", "it is registered already"),
        ("f", "n:n", "the signature n:n must be in angle brackets, as <s-n?:s>"),
        ("f", "<n<s>:n>", "only functions (f) and arrays (a) have type parameters, not n (at 2)"),
    ] {
        let error = host.function(name, signature, |_| Ok(None)).expect_err(name);
        assert_eq!(error.to_string(), format!("\"{name}\" cannot be registered: {reason}"));
    }
}
