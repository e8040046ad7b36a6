//! `EXPRESSION\0INPUT`; without the zero byte the input is undefined. Under a small budget an
//! evaluation ends within it, with JSON or with an ordinary error, and ends the same way when it
//! is done again: by an evaluator that has done others before, and by a new one. An input without
//! the fields that the program says it doesn't read gives the same.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program, Reads, Usage};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;
use serde_json::value::RawValue;

/// Small enough that a thousand evaluations a second can use all of it.
fn budget() -> Budget {
    Budget {
        steps: 200_000,
        depth: 500,
        bytes: 4 << 20,
        output_bytes: 256 << 10,
        regex_steps: 200_000,
        // The other limits must end an evaluation long before.
        wall: Duration::from_secs(20),
    }
}

thread_local! {
    static USED: RefCell<Evaluator> = RefCell::new(Evaluator::new());
}

type Ended = (Result<(Outcome, Vec<u8>), EvalError>, Usage);

fn evaluate(evaluator: &mut Evaluator, program: &Program, input: Option<&[u8]>) -> Ended {
    let bindings = Bindings::new(1_500_000_000_000, 42)
        .with_str("key", "k")
        .with_number("offset", 7.0)
        .with_bool("flag", true)
        .with_json("headers", br#"{"x-event-id": "e", "list": [1, {"a": null}]}"#);
    let mut output = Output::new();
    let (result, usage) = evaluator.eval_counted(program, input, &bindings, &budget(), &mut output);
    (result.map(|outcome| (outcome, output.as_bytes().to_vec())), usage)
}

/// The value without the fields that no path leads over.
fn project(value: &Value, paths: &[&[String]]) -> Value {
    if paths.iter().any(|path| path.is_empty()) {
        return value.clone();
    }
    match value {
        Value::Array(list) => list.iter().map(|value| project(value, paths)).collect(),
        Value::Object(object) => {
            let below = |name: &String| -> Vec<&[String]> {
                paths.iter().filter(|path| path[0] == *name).map(|path| &path[1..]).collect()
            };
            let kept = object.iter().filter_map(|(name, value)| {
                let below = below(name);
                (!below.is_empty()).then(|| (name.clone(), project(value, &below)))
            });
            Value::Object(kept.collect())
        }
        scalar => scalar.clone(),
    }
}

fn unread_fields(program: &Program, input: &[u8]) {
    let (Reads::Fields(paths), Ok(value)) = (program.reads(), serde_json::from_slice::<Value>(input)) else {
        return;
    };
    let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
    let less = project(&value, &paths);
    let mut evaluator = Evaluator::new();
    // As text both: a value that was parsed has lost digits.
    let (whole, _) = evaluate(&mut evaluator, program, Some(value.to_string().as_bytes()));
    let (part, _) = evaluate(&mut evaluator, program, Some(less.to_string().as_bytes()));
    let over = |ended: &Result<_, EvalError>| {
        ended.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::OverBudget(_)))
    };
    if !over(&whole) && !over(&part) {
        let code = |error: EvalError| error.code();
        assert_eq!(part.map_err(code), whole.map_err(code), "over {less}, by {paths:?}");
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let source = parts.next().unwrap_or_default();
    let input = parts.next();
    let Ok(source) = std::str::from_utf8(source) else { return Corpus::Reject };
    let Ok(program) = Program::compile(source) else { return Corpus::Reject };

    let (result, usage) = USED.with_borrow_mut(|used| evaluate(used, &program, input));
    let budget = budget();
    assert!(usage.steps <= budget.steps, "{usage:?}");
    assert!(usage.bytes <= budget.bytes, "{usage:?}");
    match &result {
        Ok((Outcome::Undefined, output)) => assert!(output.is_empty()),
        Ok((Outcome::Null, output)) => assert_eq!(output, b"null"),
        Ok((Outcome::Value, output)) => {
            assert!(output.len() <= budget.output_bytes, "{} bytes of output", output.len());
            let text = std::str::from_utf8(output).expect("the output is UTF-8");
            serde_json::from_str::<&RawValue>(text).expect("the output is JSON");
            assert_ne!(text, "null");
        }
        Err(error) => {
            assert_ne!(error.code(), Limit::WallTime.code(), "steps don't bound the time");
            assert!(!error.to_string().is_empty());
            let _ = error.render(source);
        }
    }
    assert_eq!(evaluate(&mut Evaluator::new(), &program, input), (result, usage));
    if let Some(input) = input {
        unread_fields(&program, input);
    }
    Corpus::Keep
});
