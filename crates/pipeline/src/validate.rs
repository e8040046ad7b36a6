//! Holding values against a JSON Schema.
//!
//! Invariants: nothing is fetched: a reference leads into the schema itself, or the schema is refused. What a pattern takes is
//! linear in the text. No message shows what stands in a value.

use jsonschema::{Draft, PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

/// Violations that a dead letter tells.
const VIOLATIONS_MAX: usize = 3;

/// A schema made ready.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

/// Why a schema can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SchemaError {
    /// JSON pointer into the schema; empty: the whole of it.
    pub at: String,
    /// For people.
    pub message: String,
}

/// Why a value isn't let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is no JSON.
    Json(String),
    /// It breaks the schema: the first violations, each with its JSON pointer.
    Violations(String),
}

/// Refuses whatever isn't in the schema itself.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} isn't in the schema, and nothing is fetched: put it into $defs").into())
    }
}

/// Checks that a schema can be used by a `validate` step.
pub fn check_schema(schema: &Value) -> Result<(), SchemaError> {
    Schema::new(schema).map(drop)
}

impl Schema {
    /// Of the draft that `$schema` names, else 2020-12.
    pub(crate) fn new(schema: &Value) -> Result<Self, SchemaError> {
        let draft = Draft::default().detect(schema);
        jsonschema::options()
            .with_draft(draft)
            .with_retriever(Nowhere)
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map(Self)
            .map_err(|error| SchemaError {
                at: error.instance_path().to_string(),
                message: error.to_string(),
            })
    }

    pub(crate) fn check(&self, json: &[u8]) -> Result<(), Refused> {
        let value: Value = serde_json::from_slice(json).map_err(|error| Refused::Json(error.to_string()))?;
        if self.0.is_valid(&value) {
            return Ok(());
        }
        let mut errors = self.0.iter_errors(&value);
        let told: Vec<String> = errors
            .by_ref()
            .take(VIOLATIONS_MAX)
            .map(|error| match error.instance_path().as_str() {
                "" => format!("the value: {}", error.masked()),
                at => format!("{at}: {}", error.masked()),
            })
            .collect();
        let more = if errors.next().is_some() { "; and more" } else { "" };
        Err(Refused::Violations(format!("{}{more}", told.join("; "))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value, json: &str) -> String {
        match Schema::new(schema).unwrap().check(json.as_bytes()) {
            Err(Refused::Violations(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn violations_are_told_with_their_places_and_without_values() {
        let schema = json!({"type": "object", "required": ["id"], "additionalProperties": false,
            "properties": {"id": {"type": "integer"}, "mail": {"type": "string", "maxLength": 3},
                "items": {"type": "array", "items": {"type": "number"}}}});
        assert_eq!(Schema::new(&schema).unwrap().check(br#"{"id":1,"mail":"a@b"}"#), Ok(()));
        let text = refused(&schema, r#"{"id":"s3cret","mail":"s3cret@x","items":[1,"s3cret"]}"#);
        assert!(text.contains("/id: ") && text.contains("/mail: ") && text.contains("/items/1: "), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(refused(&schema, "{}").starts_with("the value: "));
        let many = refused(&json!({"items": false}), "[1,2,3,4,5]");
        assert!(many.ends_with("; and more"), "{many}");
        assert!(matches!(Schema::new(&schema).unwrap().check(b"{"), Err(Refused::Json(_))));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let recursive = Schema::new(&json!({"items": {"$ref": "#"}})).unwrap();
        assert!(matches!(recursive.check(deep.as_bytes()), Err(Refused::Json(_))));
    }

    #[test]
    fn references_stay_inside_and_patterns_are_linear() {
        let inside =
            json!({"$defs": {"id": {"type": "integer"}}, "properties": {"id": {"$ref": "#/$defs/id"}}});
        check_schema(&inside).unwrap();
        for outside in ["http://127.0.0.1:1/x.json", "file:///etc/passwd"] {
            let error = check_schema(&json!({"$ref": outside})).unwrap_err();
            assert!(error.to_string().contains("nothing is fetched"), "{error}");
        }
        assert!(check_schema(&json!({"$ref": "other.json"})).is_err());
        let slow = Schema::new(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(slow.check(format!("\"{}!\"", "a".repeat(50_000)).as_bytes()).is_err());
        // A reference that leads to itself says nothing, and goes round no further.
        if let Ok(round) = Schema::new(&json!({"$ref": "#"})) {
            assert_eq!(round.check(b"1"), Ok(()));
        }
        let wrong = check_schema(&json!({"properties": {"a": {"type": "nmber"}}})).unwrap_err();
        assert_eq!(wrong.at, "/properties/a/type");
        assert!(check_schema(&json!({"pattern": "("})).is_err());
    }
}
