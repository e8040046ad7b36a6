//! A transform's test: what its record is, and when a result is the expected one. The same for whoever runs
//! it: the control plane before it takes a transform, and the command line.
//!
//! A test's record has no key and no headers, lies at partition 0, offset 0 of no topic, and its timestamp is
//! 1970-01-01T00:00:00Z: `$key` is undefined, `$headers` is `{}`, `$now()` is that time. That is [`Sample`]'s default.

use jsonata::{EvalError, Evaluator, Output, Program};
use resources::TransformTest;
use serde_json::Value;

use crate::admit::{Sample, sample_bindings, sample_budget};

/// How a test ended.
#[derive(Debug)]
pub enum Outcome {
    /// With the expected result.
    Passed,
    /// Without a result.
    Failed(EvalError),
    /// With a result that can't be compared: it nests too deeply, or a number in it is no double. Why.
    Unreadable(String),
    /// With another result; `null` where it yielded nothing.
    Differs(Value),
}

/// Runs one test under a budget of its own.
pub fn run(program: &Program, evaluator: &mut Evaluator, test: &TransformTest) -> Outcome {
    let (bindings, budget) = (sample_bindings(&Sample::default()), sample_budget());
    let mut output = Output::new();
    let found = match evaluator.eval_value(program, &test.input, &bindings, &budget, &mut output) {
        Err(error) => return Outcome::Failed(error),
        Ok(jsonata::Outcome::Undefined) => Value::Null,
        // A result may nest deeper than serde_json goes, or hold a number that is no double.
        Ok(jsonata::Outcome::Null | jsonata::Outcome::Value) => {
            match serde_json::from_slice(output.as_bytes()) {
                Ok(found) => found,
                Err(error) => return Outcome::Unreadable(error.to_string()),
            }
        }
    };
    if same(&test.expected, &found) { Outcome::Passed } else { Outcome::Differs(found) }
}

/// Whether two values are the same to a test: the order of an object's members doesn't count, and 1 and 1.0
/// are one number in JSON.
pub fn same(expected: &Value, found: &Value) -> bool {
    difference("", expected, found).is_none()
}

/// The first place at which two values differ, in words.
pub(crate) fn first_difference(expected: &Value, found: &Value) -> String {
    let (place, expected, found) = difference("", expected, found).unwrap_or_default();
    let place = if place.is_empty() { "the result".into() } else { place };
    format!("{place} is {found}, but {expected} is expected")
}

/// The first place at which two values differ, and both values there.
fn difference(place: &str, expected: &Value, found: &Value) -> Option<(String, String, String)> {
    const SHOWN_MAX: usize = 80;
    let shown = |value: &Value| {
        let text = value.to_string();
        match text.char_indices().nth(SHOWN_MAX) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    };
    let differ = || Some((place.to_owned(), shown(expected), shown(found)));
    match (expected, found) {
        // 1 and 1.0 are one number in JSON.
        (Value::Number(a), Value::Number(b)) if a == b || a.as_f64() == b.as_f64() => None,
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&format!("{place}/{i}"), a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let missing = a.iter().find(|(name, _)| !b.contains_key(*name));
            let extra = b.iter().find(|(name, _)| !a.contains_key(*name));
            if let Some((name, value)) = missing {
                return Some((format!("{place}/{name}"), shown(value), "nothing".into()));
            }
            if let Some((name, value)) = extra {
                return Some((format!("{place}/{name}"), "nothing".into(), shown(value)));
            }
            a.iter().find_map(|(name, a)| difference(&format!("{place}/{name}"), a, b.get(name)?))
        }
        (a, b) if a == b => None,
        _ => differ(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_place() {
        assert_eq!(difference("", &json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})), None);
        assert_eq!(difference("", &json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})), None);
        let place = |a: Value, b: Value| difference("", &a, &b).unwrap().0;
        assert_eq!(place(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 3]}})), "/a/b/1");
        assert_eq!(place(json!({"a": 1}), json!({})), "/a");
        assert_eq!(place(json!({}), json!({"a": null})), "/a");
        assert_eq!(place(json!([1]), json!([1, 2])), "");
        assert_eq!(place(json!("1"), json!(1)), "");
    }
}
