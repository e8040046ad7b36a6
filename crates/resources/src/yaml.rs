//! YAML into JSON values that know their lines.
//!
//! Invariant: what a text costs is bounded before it is built: bytes, depth, nodes, aliases and what they
//! expand to have limits of their own. Tags run nothing; keys are strings and are given once.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::problem::child;

/// The longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;

/// Nodes of one file: its scalars, lists and maps.
pub const NODES_MAX: usize = 100_000;

/// Nesting.
pub const DEPTH_MAX: usize = 64;

/// What all aliases of a file may expand to, in events: a bomb is made of these.
pub const ALIAS_EVENTS_MAX: usize = 20_000;

/// Documents of one file.
pub const DOCUMENTS_MAX: usize = 1_000;

/// A document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// By JSON pointer: the line, from 1.
    lines: HashMap<String, u64>,
}

impl Document {
    /// A value whose lines nobody knows.
    pub(crate) fn without_lines(value: Value) -> Self {
        Self { value, lines: HashMap::new() }
    }

    /// The line of a place, or of what is around it where the place itself isn't there (a missing field).
    pub(crate) fn line(&self, pointer: &str) -> Option<u64> {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return Some(*line);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// A text isn't YAML, or is too much of it.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) line: Option<u64>,
    pub(crate) message: String,
}

/// All documents of a text; empty ones are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_documents: DOCUMENTS_MAX,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: NODES_MAX,
            max_recorded_anchor_bytes: FILE_BYTES_MAX,
            max_total_scalar_bytes: 2 * FILE_BYTES_MAX,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_EVENTS_MAX,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    let nodes =
        serde_saphyr::from_multiple_with_options::<Spanned<Node>>(text, options).map_err(|error| {
            let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
            YamlError { line, message: error.without_snippet().to_string() }
        })?;
    Ok(nodes
        .into_iter()
        .filter(|node| !matches!(node.value, Node::Scalar(Value::Null)))
        .map(|node| {
            let mut lines = HashMap::new();
            let value = plain(node, String::new(), &mut lines);
            Document { value, lines }
        })
        .collect())
}

/// A value whose parts know their lines.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element::<Spanned<Node>>()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut map: Vec<(String, Spanned<Node>)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if key.len() > 1024 {
                return Err(A::Error::custom("a key has more than 1024 bytes"));
            }
            map.push((key, access.next_value()?));
        }
        Ok(Node::Map(map))
    }
}

fn plain(node: Spanned<Node>, pointer: String, lines: &mut HashMap<String, u64>) -> Value {
    let line = node.referenced.line();
    let value = match node.value {
        Node::Scalar(value) => value,
        Node::List(list) => Value::Array(
            list.into_iter()
                .enumerate()
                .map(|(i, node)| plain(node, format!("{pointer}/{i}"), lines))
                .collect(),
        ),
        Node::Map(map) => {
            let mut object = Map::new();
            for (key, node) in map {
                let value = plain(node, child(&pointer, &key), lines);
                object.insert(key, value);
            }
            Value::Object(object)
        }
    };
    if line > 0 {
        lines.insert(pointer, line);
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_know_their_lines() {
        let text = "a: 1\nb:\n  - x\n  - {c: true, d: ~}\n---\n# nothing\n---\ne: |\n  two\n  lines\nf: 1.5\ng: no\n";
        let documents = documents(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].value, json!({"a": 1, "b": ["x", {"c": true, "d": null}]}));
        assert_eq!(documents[1].value, json!({"e": "two\nlines\n", "f": 1.5, "g": "no"}));
        assert_eq!(documents[0].line("/b/1/c"), Some(4));
        assert_eq!(documents[0].line("/b/1/zzz"), Some(4));
        assert_eq!(documents[1].line("/f"), Some(11));
    }

    #[test]
    fn bombs_and_nonsense_are_refused_with_their_line() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(documents(&bomb).is_err());
        assert!(documents(&"[".repeat(10_000)).is_err());
        assert!(documents(&"- ".repeat(10_000)).is_err());
        assert!(documents(&"- a\n".repeat(NODES_MAX + 1)).is_err());
        for bad in ["a: 1\na: 2\n", "a: [1\n", "a: b: c\n", "a: .inf\n", "*nobody\n", "? [a]\n: b\n"] {
            assert!(documents(bad).is_err(), "{bad}");
        }
        assert_eq!(documents("a: 1\nb: 2\na: 2\n").unwrap_err().line, Some(3));
    }
}
