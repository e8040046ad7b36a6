//! Which fields of a resource differ, by JSON pointer.

use resources::Resource;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Fields of one resource that are listed.
const FIELDS_MAX: usize = 100;

/// A field before and after; absent: it isn't there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Field {
    /// RFC 6901, into the manifest.
    pub(super) pointer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Value>,
}

/// What a person changes of a resource.
fn shown(resource: &Resource) -> Value {
    let metadata = &resource.metadata;
    json!({
        "metadata": { "labels": metadata.labels, "managedBy": metadata.managed_by },
        "spec": resource.spec,
    })
}

/// The fields that differ, and how many are left out.
pub(super) fn changed(before: Option<&Resource>, after: &Resource) -> (Vec<Field>, usize) {
    let nothing = json!({ "metadata": { "labels": {} }, "spec": {} });
    let mut fields = Vec::new();
    compare(String::new(), &before.map_or(nothing, shown), &shown(after), &mut fields);
    let left_out = fields.len().saturating_sub(FIELDS_MAX);
    fields.truncate(FIELDS_MAX);
    (fields, left_out)
}

fn compare(pointer: String, old: &Value, new: &Value, fields: &mut Vec<Field>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => objects(&pointer, old, new, fields),
        // Of another length nobody can say which element became which.
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                compare(format!("{pointer}/{i}"), old, new, fields);
            }
        }
        (old, new) => fields.push(Field { pointer, old: Some(old.clone()), new: Some(new.clone()) }),
    }
}

fn objects(pointer: &str, old: &Map<String, Value>, new: &Map<String, Value>, fields: &mut Vec<Field>) {
    let child = |name: &str| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
    for (name, value) in new {
        match old.get(name) {
            Some(before) => compare(child(name), before, value, fields),
            None => fields.push(Field { pointer: child(name), old: None, new: Some(value.clone()) }),
        }
    }
    for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        fields.push(Field { pointer: child(name), old: Some(value.clone()), new: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_they_differ() {
        let old = json!({"a": 1, "b": {"c/d": [1, 2], "e": null}, "f": [1], "gone": true});
        let new = json!({"a": 1, "b": {"c/d": [1, 3], "e": null}, "f": [1, 2], "new": "x"});
        let mut fields = Vec::new();
        compare(String::new(), &old, &new, &mut fields);
        let found: Vec<_> = fields
            .iter()
            .map(|field| (field.pointer.as_str(), field.old.clone(), field.new.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("/b/c~1d/1", Some(json!(2)), Some(json!(3))),
                ("/f", Some(json!([1])), Some(json!([1, 2]))),
                ("/new", None, Some(json!("x"))),
                ("/gone", Some(json!(true)), None),
            ]
        );
        fields.clear();
        compare(String::new(), &old, &old, &mut fields);
        assert_eq!(fields, []);
    }
}
