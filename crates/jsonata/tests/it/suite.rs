//! The reference suite of jsonata-js. Every case runs; what is known to fail is listed in
//! `known_failures.txt`, and the test fails when a case that is not listed fails, or when one
//! that is listed passes. Where the suite is absent the project's own cases run instead, and the
//! output says so.

use std::path::{Path, PathBuf};

use jsonata::{Bindings, Budget, ErrorKind, Evaluator, Limit, Outcome, Output, Program};
use serde_json::Value;

/// This crate's folder: asked at run time, since a clone may run what another clone built.
fn crate_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

fn suite_dir() -> Option<PathBuf> {
    let dir = crate_dir().join("../../../shared/jsonata-suite");
    dir.join("groups").is_dir().then_some(dir)
}

/// Reads JSON that may have lone surrogates: a Rust string has none, so they are left escaped,
/// and in an expression mean the same as an escape of the language.
fn read_json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    parse_json(&text)
}

fn parse_json(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        let unit = |s: &str, from: usize| {
            s.get(from..from + 6)
                .filter(|e| e.starts_with("\\u"))
                .and_then(|e| u16::from_str_radix(&e[2..], 16).ok())
        };
        let (first, second) = (unit(rest, at), unit(rest, at + 6));
        let (lone, used) = match (first, second) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (false, 12),
            (Some(0xd800..0xe000), _) => (true, 6),
            _ => (false, 2),
        };
        out.push_str(&rest[..at]);
        if lone {
            out.push('\\');
        }
        out.push_str(&rest[at..at + used]);
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    serde_json::from_str(&out).map_err(|e| e.to_string())
}

fn same(a: &Value, b: &Value, unordered: bool) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len()
                && if unordered {
                    let mut rest: Vec<&Value> = b.iter().collect();
                    a.iter().all(|x| {
                        rest.iter().position(|y| same(x, y, unordered)).map(|i| rest.remove(i)).is_some()
                    })
                } else {
                    a.iter().zip(b).all(|(a, b)| same(a, b, unordered))
                }
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w, unordered)))
        }
        _ => a == b,
    }
}

/// Runs one case; an error says what is wrong.
fn run(evaluator: &mut Evaluator, case: &Value, case_file: &Path, datasets: &Path) -> Result<(), String> {
    let expr = match (case.get("expr"), case.get("expr-file")) {
        (Some(Value::String(expr)), _) => expr.clone(),
        (_, Some(Value::String(file))) => {
            let path = case_file.parent().ok_or("no directory")?.join(file);
            std::fs::read_to_string(path).map_err(|e| e.to_string())?
        }
        _ => return Err("no expression".to_owned()),
    };
    let input = match (case.get("data"), case.get("dataset")) {
        (Some(data), _) => Some(data.to_string()),
        (None, Some(Value::String(name))) => {
            Some(std::fs::read_to_string(datasets.join(format!("{name}.json"))).map_err(|e| e.to_string())?)
        }
        _ => None,
    };
    let expected_code = case.get("code").or_else(|| case.get("error").and_then(|e| e.get("code")));
    let expected_token = case.get("token").or_else(|| case.get("error").and_then(|e| e.get("token")));
    let fail = |code: &str, token: Option<&str>, shown: String| {
        if expected_code.and_then(Value::as_str) != Some(code) {
            return Err(format!("got {shown}, expected {}", expectation(case)));
        }
        if let Some(wanted) = expected_token
            && wanted.as_str() != token
        {
            return Err(format!("got token {token:?}, expected {wanted}"));
        }
        Ok(())
    };
    let program = match Program::compile(&expr) {
        Ok(program) => program,
        Err(e) => return fail(e.code(), e.token(), e.to_string()),
    };
    let mut bindings = Bindings::new(1_500_000_000_000, 42);
    if let Some(Value::Object(values)) = case.get("bindings") {
        for (name, value) in values {
            bindings.set_json(name, value.to_string().as_bytes());
        }
    }
    let mut budget = Budget::default();
    if let Some(depth) = case.get("depth").and_then(Value::as_u64) {
        budget.depth = depth as u32;
    }
    let mut output = Output::new();
    let result = match &input {
        Some(input) => evaluator.eval(&program, input.as_bytes(), &bindings, &budget, &mut output),
        None => evaluator.eval_undefined(&program, &bindings, &budget, &mut output),
    };
    match result {
        Err(e) => match e.kind() {
            // The suite's own code for a test harness that cuts an evaluation short.
            ErrorKind::OverBudget(o) if matches!(o.limit, Limit::Depth | Limit::Steps | Limit::Bytes) => {
                fail("U1001", None, e.to_string())
            }
            ErrorKind::Expression(x) => fail(x.code, x.token.as_deref(), e.to_string()),
            _ => fail(e.code(), None, e.to_string()),
        },
        Ok(Outcome::Undefined) => {
            if case.get("undefinedResult").is_some() {
                Ok(())
            } else {
                Err(format!("got undefined, expected {}", expectation(case)))
            }
        }
        Ok(_) => {
            let text = String::from_utf8_lossy(output.as_bytes()).into_owned();
            let value = parse_json(&text).map_err(|e| format!("output is not JSON: {e}: {text}"))?;
            let unordered = case.get("unordered").is_some();
            match case.get("result") {
                Some(expected) if same(&value, expected, unordered) => Ok(()),
                _ => Err(format!("got {text}, expected {}", expectation(case))),
            }
        }
    }
}

fn expectation(case: &Value) -> String {
    for key in ["result", "code", "error"] {
        if let Some(value) = case.get(key) {
            return format!("{key} {value}");
        }
    }
    "undefined".to_owned()
}

fn cases_in(path: &Path) -> Vec<Result<Value, String>> {
    match read_json(path) {
        Ok(Value::Array(cases)) => cases.into_iter().map(Ok).collect(),
        Ok(case) => vec![Ok(case)],
        Err(e) => vec![Err(e)],
    }
}

/// The expressions of the suite, or of the project's own cases where it is absent.
pub(crate) fn expressions() -> Vec<String> {
    expressions_with_input().into_iter().map(|(expr, _)| expr).collect()
}

/// A case's expression and its input, `None` where it has none.
pub(crate) fn expressions_with_input() -> Vec<(String, Option<Value>)> {
    let dir = suite_dir().unwrap_or_else(|| crate_dir().join("tests/it/cases"));
    let mut out = Vec::new();
    for file in case_files(&dir) {
        for case in cases_in(&file).into_iter().flatten() {
            let expr = match (case.get("expr"), case.get("expr-file")) {
                (Some(Value::String(expr)), _) => expr.clone(),
                (_, Some(Value::String(name))) => {
                    std::fs::read_to_string(file.with_file_name(name)).expect("an expression")
                }
                _ => panic!("{} has a case without an expression", file.display()),
            };
            let input = match (case.get("data"), case.get("dataset")) {
                (Some(data), _) => Some(data.clone()),
                (None, Some(Value::String(name))) => {
                    Some(read_json(&dir.join("datasets").join(format!("{name}.json"))).expect("a dataset"))
                }
                _ => None,
            };
            out.push((expr, input));
        }
    }
    out
}

fn case_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for group in std::fs::read_dir(dir.join("groups")).expect("groups").flatten() {
        files.extend(std::fs::read_dir(group.path()).expect("group").flatten().map(|e| e.path()));
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    files
}

struct Tally {
    found: usize,
    run: usize,
    failures: Vec<(String, String)>,
}

fn run_all(dir: &Path) -> Tally {
    let mut tally = Tally { found: 0, run: 0, failures: Vec::new() };
    let mut evaluator = Evaluator::new();
    for file in case_files(dir) {
        let group =
            file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (i, case) in cases_in(&file).into_iter().enumerate() {
            tally.found += 1;
            let name = format!("{group}/{stem}#{i}");
            let result = case.and_then(|case| {
                tally.run += 1;
                run(&mut evaluator, &case, &file, &dir.join("datasets"))
            });
            if let Err(e) = result {
                tally.failures.push((name, e));
            }
        }
    }
    tally
}

#[test]
fn reference_suite() {
    let dir = suite_dir().unwrap_or_else(|| {
        println!("../shared/jsonata-suite is absent: the project's own cases run instead");
        crate_dir().join("tests/it/cases")
    });
    let tally = run_all(&dir);
    let failed = tally.failures.len();
    println!(
        "jsonata suite: found {} run {} passed {} failed {failed}",
        tally.found,
        tally.run,
        tally.run - failed
    );
    for (name, why) in &tally.failures {
        println!("FAILED {name}: {}", why.chars().take(400).collect::<String>());
    }
    assert!(tally.found > 0, "no cases found");
    assert_eq!(tally.run, tally.found, "every case that was found is run");
    assert_eq!(failed, 0, "{failed} cases fail");
}

#[test]
fn own_cases() {
    let tally = run_all(&crate_dir().join("tests/it/cases"));
    println!("own cases: found {} run {} failed {}", tally.found, tally.run, tally.failures.len());
    assert!(tally.found > 0 && tally.failures.is_empty(), "{:#?}", tally.failures);
}
