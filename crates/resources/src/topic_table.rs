//! Which topics exist, as ingest must know them: the engine's metadata overlaid with Topic resources.
//!
//! Invariant: reserved topics (`vltava.*`, `__*`) are never in a table, so that nobody can ingest into them.
//! A table is published whole, never changed in place.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use types::TopicName;

use crate::IngestSpec;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicEntry {
    /// At least 1.
    pub partitions: i32,
    /// The topic's `max.message.bytes`: the largest encoded record batch that it takes, in bytes.
    pub max_message_bytes: u64,
    /// How HTTP ingest treats it; the defaults for a topic that is only in the engine.
    pub ingest: IngestSpec,
    /// The workspace whose Topic resource it is; `None`: it is only in the engine.
    pub workspace: Option<String>,
    /// Where its quarantined rejects go, once that topic exists too.
    pub dlq: Option<TopicName>,
}

/// All topics that may be ingested into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicTable {
    topics: HashMap<TopicName, TopicEntry>,
}

impl TopicTable {
    /// Of these topics; reserved ones are left out.
    pub fn new(topics: impl IntoIterator<Item = (TopicName, TopicEntry)>) -> Self {
        Self { topics: topics.into_iter().filter(|(name, _)| !name.is_reserved()).collect() }
    }

    /// The topic of that name.
    pub fn get(&self, topic: &str) -> Option<&TopicEntry> {
        self.topics.get(topic)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicName, &TopicEntry)> {
        self.topics.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_topics_are_never_in_a_table() {
        let entry = TopicEntry {
            partitions: 1,
            max_message_bytes: 1_048_588,
            ingest: IngestSpec::default(),
            workspace: None,
            dlq: None,
        };
        let names = ["orders", "vltava.dlq.settled", "__consumer_offsets"];
        let table = TopicTable::new(names.map(|n| (TopicName::new(n).unwrap(), entry.clone())));
        assert_eq!(table.len(), 1);
        assert!(table.get("orders").is_some());
    }
}
