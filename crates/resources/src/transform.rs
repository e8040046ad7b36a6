//! The Transform: an expression with its tests. Every change of what it computes is a new immutable version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ContentHash;
use crate::decode::At;
use crate::problem::Problems;

/// In bytes; an expression that is longer wasn't written by a person.
pub const EXPRESSION_BYTES_MAX: usize = 256 << 10;

/// Tests of one transform.
pub const TESTS_MAX: usize = 200;

/// What an expression is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Language {
    /// JSONata 2.
    #[default]
    Jsonata,
}

/// An input and what must come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransformTest {
    /// What it shows.
    pub name: String,
    /// The record's value.
    pub input: Value,
    /// The result; `null` for one that yields nothing.
    pub expected: Value,
}

/// What a transform computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransformSpec {
    /// What the expression is written in.
    #[serde(default)]
    pub language: Language,
    /// The text.
    pub expression: String,
    /// Subject of the input's schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_subject: Option<String>,
    /// Subject of the output's schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_subject: Option<String>,
    /// They run when the transform is applied; one that fails refuses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TransformTest>,
}

impl TransformSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let language = object
            .field("language")
            .and_then(|at| at.word(&[("jsonata", Language::Jsonata)], problems))
            .unwrap_or_default();
        let expression = object
            .required("expression", problems)
            .and_then(|at| at.some_text(EXPRESSION_BYTES_MAX, problems))
            .map(String::from);
        let mut text =
            |name| object.field(name).and_then(|at| at.some_text(1024, problems)).map(String::from);
        let (input_subject, output_subject) = (text("inputSubject"), text("outputSubject"));
        let mut tests: Vec<TransformTest> = Vec::new();
        for at in object.field("tests").and_then(|at| at.list(TESTS_MAX, problems)).unwrap_or_default() {
            let Some(mut object) = at.object(problems) else { continue };
            let name = object.required("name", problems).and_then(|at| at.some_text(200, problems));
            // `null` is a value here: an input can be null, and an expression can yield nothing.
            let mut value = |field: &'static str, problems: &mut Problems| {
                let found = object.field(field).map(|at| at.value.clone());
                let given = at.value.get(field).is_some();
                if !given {
                    problems.add(
                        format!("{}/{field}", at.pointer),
                        "missing_field",
                        format!("{field} is missing"),
                    );
                }
                found.or(given.then_some(Value::Null))
            };
            let (input, expected) = (value("input", problems), value("expected", problems));
            object.finish(problems);
            let (Some(name), Some(input), Some(expected)) = (name, input, expected) else { continue };
            if tests.iter().any(|test| test.name == name) {
                problems.add(
                    format!("{}/name", at.pointer),
                    "duplicate",
                    format!("another test is named {name:?} too"),
                );
            }
            tests.push(TransformTest { name: name.into(), input, expected });
        }
        object.finish(problems);
        Some(Self { language, expression: expression?, input_subject, output_subject, tests })
    }

    /// Of what the transform computes: its language, expression and subjects. A changed test is no new version.
    pub fn content_hash(&self) -> ContentHash {
        let Self { language, expression, input_subject, output_subject, tests: _ } = self;
        let language = match language {
            Language::Jsonata => "jsonata",
        };
        let subject = |subject: &Option<String>| subject.clone().unwrap_or_default();
        ContentHash::of(&[
            language.as_bytes(),
            expression.as_bytes(),
            subject(input_subject).as_bytes(),
            subject(output_subject).as_bytes(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(value: &Value) -> Result<TransformSpec, Problems> {
        let mut problems = Problems::new();
        let spec = TransformSpec::decode(&At { value, pointer: "/spec".into() }, &mut problems);
        problems.or(spec)
    }

    #[test]
    fn tests_are_no_part_of_the_content() {
        let bare = decode(&json!({"expression": "a.b"})).unwrap();
        let tested =
            decode(&json!({"expression": "a.b", "tests": [{"name": "t", "input": null, "expected": 1}]}))
                .unwrap();
        assert_eq!(bare.content_hash(), tested.content_hash());
        assert_eq!(tested.tests[0].input, Value::Null);
        assert_ne!(bare.content_hash(), decode(&json!({"expression": "a.c"})).unwrap().content_hash());
    }

    #[test]
    fn what_is_missing_is_named() {
        let problems = decode(&json!({
            "language": "xslt", "tests": [{"name": "t"}, {"name": "u", "input": 1, "expected": 1, "skip": true}]
        }))
        .unwrap_err();
        let places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        assert_eq!(
            places,
            [
                "/spec/language",
                "/spec/expression",
                "/spec/tests/0/input",
                "/spec/tests/0/expected",
                "/spec/tests/1/skip",
            ]
        );
    }
}
