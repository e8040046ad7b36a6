//! What stands in the metadata of an offset commit: which generation of the plan, and so which versions,
//! made everything up to that offset.
//!
//! Invariant: it is written in the transaction that writes the outputs, so it is never ahead of them or behind.
//! Whoever gets the partition next reads it and goes on from there; a plan that is older than what stands
//! there doesn't run.

use serde::{Deserialize, Serialize};

/// Kafka's default `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// The metadata of one committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The plan's generation.
    pub(crate) generation: u64,
    /// `NAME@VERSION` of each step, in order. Empty where they would not fit.
    #[serde(default)]
    pub(crate) versions: Vec<String>,
}

impl Position {
    /// As it is committed; at most 4,096 bytes.
    pub(crate) fn encode(&self) -> String {
        let text = encode(self);
        if text.len() <= METADATA_BYTES_MAX {
            return text;
        }
        encode(&Self { generation: self.generation, versions: Vec::new() })
    }

    /// Reads what was committed. `None` for what isn't ours: an operator may set offsets by Kafka's own tools,
    /// which write empty metadata, and that must not stop a pipeline.
    pub(crate) fn decode(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok()
    }
}

fn encode(position: &Position) -> String {
    serde_json::to_string(position).expect("a number and strings are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_fits() {
        let position = Position { generation: 7, versions: vec!["enrich@3".into()] };
        assert_eq!(position.encode(), r#"{"generation":7,"versions":["enrich@3"]}"#);
        assert_eq!(Position::decode(&position.encode()), Some(position));

        let long = Position { generation: 8, versions: vec!["x".repeat(200); 100] };
        assert!(long.encode().len() <= METADATA_BYTES_MAX);
        assert_eq!(Position::decode(&long.encode()), Some(Position { generation: 8, versions: vec![] }));
    }

    #[test]
    fn foreign_metadata_is_none_and_later_fields_are_skipped() {
        assert_eq!(Position::decode(""), None);
        assert_eq!(Position::decode("by hand"), None);
        let later = r#"{"generation":9,"versions":["a@1"],"rollout":{"share":10}}"#;
        assert_eq!(Position::decode(later).map(|p| p.generation), Some(9));
    }
}
