//! JSON values as YAML for people and their diffs: block style, texts of several lines as they are.
//!
//! Invariant: what is written reads back as the same value, or isn't written: [`Manifest::to_yaml`] looks.

use serde_json::{Map, Value};

use crate::envelope::{Manifest, Origin};
use crate::yaml::{FILE_BYTES_MAX, documents};

/// Spaces of one level.
const INDENT: usize = 2;

/// Fields that are tried out when a manifest is made shorter; those beyond stay, which means the same.
const TRIED_MAX: usize = 500;

/// Levels under the spec whose fields are tried. What lies deeper is data of transforms' tests.
const TRIED_DEPTH: usize = 4;

/// Words that some reader of YAML takes for something else than text.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

impl Manifest {
    /// As a body of the API, without the fields whose absence means the same: what a person would have written.
    pub fn to_short_value(&self) -> Value {
        let mut value = self.to_value();
        let mut tries = TRIED_MAX;
        self.shorten(&mut value, "/spec", TRIED_DEPTH, &mut tries);
        value
    }

    /// Takes away what can go below a place.
    fn shorten(&self, value: &mut Value, pointer: &str, depth: usize, tries: &mut usize) {
        let names: Vec<String> = match value.pointer(pointer) {
            Some(Value::Object(object)) => object.keys().cloned().collect(),
            Some(Value::Array(list)) => {
                for i in 0..list.len() {
                    if depth > 0 {
                        self.shorten(value, &format!("{pointer}/{i}"), depth - 1, tries);
                    }
                }
                return;
            }
            _ => return,
        };
        for name in names {
            if *tries == 0 {
                return;
            }
            *tries -= 1;
            let mut without = value.clone();
            if let Some(Value::Object(object)) = without.pointer_mut(pointer) {
                // Not `remove`, which changes the order of the rest.
                object.shift_remove(&name);
            }
            if Self::decode(&without, Origin::File).as_ref() == Ok(self) {
                *value = without;
            } else if depth > 0 {
                self.shorten(value, &crate::problem::child(pointer, &name), depth - 1, tries);
            }
        }
    }

    /// As a file of its own that reads back as this manifest. `None`: as YAML it would be more than is read (bytes, nodes,
    /// the length of a key).
    pub fn to_yaml(&self) -> Option<String> {
        let text = text(&self.to_short_value());
        let read = (text.len() <= FILE_BYTES_MAX).then(|| documents(&text).ok())??;
        let [document] = read.as_slice() else { return None };
        (Self::decode(&document.value, Origin::File).as_ref() == Ok(self)).then_some(text)
    }
}

/// A document; ends with a line's end.
fn text(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) if !object.is_empty() => map(object, 0, &mut out),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut out),
        value => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn map(object: &Map<String, Value>, indent: usize, out: &mut String) {
    for (i, (name, value)) in object.iter().enumerate() {
        // The first stands behind what begins the map.
        if i > 0 {
            pad(indent, out);
        }
        plain_or_quoted(name, out);
        out.push(':');
        match value {
            Value::Object(object) if !object.is_empty() => {
                out.push('\n');
                pad(indent + INDENT, out);
                map(object, indent + INDENT, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(indent + INDENT, out);
                list(items, indent + INDENT, out);
            }
            value => {
                out.push(' ');
                scalar(value, indent + INDENT, out);
                out.push('\n');
            }
        }
    }
}

fn list(items: &[Value], indent: usize, out: &mut String) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(object) if !object.is_empty() => map(object, indent + INDENT, out),
            Value::Array(items) if !items.is_empty() => list(items, indent + INDENT, out),
            item => {
                scalar(item, indent + INDENT, out);
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Without a line's end behind it. `indent`: of a block's lines.
fn scalar(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::String(text) if is_block(text) => block(text, indent, out),
        Value::String(text) => plain_or_quoted(text, out),
        // Empty maps and lists, numbers, true, false and null are written as in JSON.
        value => out.push_str(&value.to_string()),
    }
}

/// Texts that quoting would make hard to read, and that a block holds as they are.
fn is_block(text: &str) -> bool {
    let gains = text.contains(['\n', '"', '\\']);
    let begins = !text.starts_with([' ', '\t', '\n']);
    // A line of spaces alone, or what ends in one, is where readers differ.
    let lines = text.split('\n').all(|line| line.is_empty() || !line.trim().is_empty());
    gains && begins && lines && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
}

fn block(text: &str, indent: usize, out: &mut String) {
    let content = text.trim_end_matches('\n');
    out.push_str(match text.len() - content.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
}

/// What YAML allows to stand as it is, of one line.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn plain_or_quoted(text: &str, out: &mut String) {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reads_back(value: &Value) -> bool {
        documents(&text(value)).is_ok_and(|read| read.len() == 1 && read[0].value == *value)
    }

    #[test]
    fn manifests_are_short_and_easy_to_compare() {
        let value = json!({
            "apiVersion": "vltava/v1", "kind": "Transform", "metadata": {"name": "t", "workspace": "demo"},
            "spec": {"language": "jsonata", "expression": "{\n  \"a\": a\n}\n",
                "tests": [{"name": "one", "input": {"a": [1, []]}, "expected": {"a": "yes"}}]},
        });
        let manifest = Manifest::decode(&value, Origin::File).unwrap();
        let expected = "apiVersion: vltava/v1\nkind: Transform\nmetadata:\n  name: t\n  workspace: demo\nspec:\n  \
            expression: |\n    {\n      \"a\": a\n    }\n  tests:\n    - name: one\n      input:\n        a:\n          \
            - 1\n          - []\n      expected:\n        a: \"yes\"\n";
        assert_eq!(manifest.to_yaml().unwrap(), expected);
    }

    #[test]
    fn defaults_are_left_out_and_what_is_not_one_stays() {
        let of = |spec: Value| {
            let value = json!({"apiVersion": "vltava/v1", "kind": "Topic",
                "metadata": {"name": "dev.w.a.raw", "workspace": "w"}, "spec": spec});
            Manifest::decode(&value, Origin::File).unwrap().to_short_value()
        };
        assert_eq!(of(json!({"partitions": 12, "ingest": {"arrays": "split"}}))["spec"], json!({}));
        let spec = json!({"partitions": 3, "ingest": {"quarantine": true}});
        assert_eq!(of(spec.clone())["spec"], spec);
    }

    #[test]
    fn texts_read_back_whatever_is_in_them() {
        let parts = [
            "a", " ", "\n", "\t", "\"", "'", "\\", "#", ": ", "- ", "|", "%", "---", "...", "\r", "\u{0}",
            "\u{85}", "\u{2028}", "\u{feff}", "ž", "😀", "{", "}", "&", "*", "!", "?", "~", "1", "true", ",",
            "@", "`",
        ];
        // Of up to three parts, each of them.
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            let longer: Vec<String> =
                texts.iter().flat_map(|text| parts.iter().map(move |part| format!("{text}{part}"))).collect();
            texts.extend(longer);
            texts.sort();
            texts.dedup();
        }
        let wrong: Vec<&String> =
            texts.iter().filter(|text| !reads_back(&json!({"a": text, "b": [text, {"c": text}]}))).collect();
        assert!(wrong.is_empty(), "{} of {}: {:?}", wrong.len(), texts.len(), &wrong[..wrong.len().min(40)]);
        let keys: Vec<&String> = texts
            .iter()
            .filter(|text| text.len() < 5)
            .filter(|text| !reads_back(&json!({ text.as_str(): 1 })))
            .collect();
        assert!(keys.is_empty(), "{:?}", &keys[..keys.len().min(40)]);
    }

    #[test]
    fn numbers_and_empty_things_read_back() {
        for value in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!(1e30),
            json!(1e-30),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(null),
            json!({}),
            json!([]),
            json!([[]]),
            json!([[1, [2]], {"a": {}}]),
            json!(true),
            json!(-0.0),
            json!(1.0),
        ] {
            assert!(reads_back(&json!({ "a": value })), "{value}");
        }
    }

    #[test]
    fn what_yaml_readers_refuse_is_not_written() {
        let value = json!({
            "apiVersion": "vltava/v1", "kind": "Transform", "metadata": {"name": "t", "workspace": "demo"},
            "spec": {"expression": "a", "tests": [{"name": "x", "input": {"k".repeat(2000): 1}, "expected": 1}]},
        });
        assert_eq!(Manifest::decode(&value, Origin::Api).unwrap().to_yaml(), None);
    }
}
