//! What [`Admin`](super::Admin) asks with and answers.

use std::collections::BTreeMap;

use types::{Offset, Partition, TimestampMs, TopicName};
use uuid::Uuid;
use wire::api::metadata;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// `None`: the engine's default.
    pub partitions: Option<i32>,
    /// `None`: the engine's default.
    pub replication_factor: Option<i16>,
    /// Kafka's topic settings, e.g. `cleanup.policy`.
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// With the engine's defaults but for the partitions.
    pub fn new(name: TopicName, partitions: i32) -> Self {
        Self { name, partitions: Some(partitions), replication_factor: None, config: BTreeMap::new() }
    }

    /// With a setting more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.config.insert(name.to_owned(), value.into());
        self
    }
}

/// A topic as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its identity: made again under the same name, it has another. Nil on engines before Kafka 2.8.
    pub id: Uuid,
    /// Kafka's own, such as `__consumer_offsets`.
    pub internal: bool,
    /// By number, from 0.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: Partition,
    /// Who takes its records; `None` while nobody does.
    pub leader: Option<i32>,
    /// Brokers that should have it.
    pub replicas: Vec<i32>,
    /// Brokers that have it whole.
    pub in_sync: Vec<i32>,
}

impl TopicDescription {
    pub(super) fn of(topic: &metadata::MetadataResponseTopic) -> Option<Self> {
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| PartitionDescription {
                partition: p.partition_index,
                leader: (p.leader_id >= 0).then_some(p.leader_id),
                replicas: p.replica_nodes.clone(),
                in_sync: p.isr_nodes.clone(),
            })
            .collect();
        partitions.sort_by_key(|p| p.partition);
        Some(Self {
            name: TopicName::new(topic.name.as_deref()?).ok()?,
            id: topic.topic_id,
            internal: topic.is_internal,
            partitions,
        })
    }
}

/// A topic's setting.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// `None` where it is sensitive.
    pub value: Option<String>,
    /// Set on the topic itself, not by a default.
    pub is_set_on_topic: bool,
    /// Its value isn't told.
    pub is_sensitive: bool,
    /// Can't be changed.
    pub is_read_only: bool,
}

impl std::fmt::Debug for ConfigEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.is_sensitive { Some("***") } else { self.value.as_deref() };
        f.debug_struct("ConfigEntry").field("value", &value).field("set", &self.is_set_on_topic).finish()
    }
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest record's.
    Earliest,
    /// The one after the last record that is stable: no transaction before it is open.
    Latest,
    /// The one after the last record, also of transactions that are open.
    HighWatermark,
    /// The first record's of this time or later.
    Timestamp(TimestampMs),
}

impl OffsetSpec {
    /// ListOffsets' isolation level: 1 is read_committed.
    pub(super) fn isolation(self) -> i8 {
        i8::from(self != Self::HighWatermark)
    }

    /// As ListOffsets says it.
    pub(super) fn timestamp(self) -> i64 {
        match self {
            Self::Latest | Self::HighWatermark => -1,
            Self::Earliest => -2,
            Self::Timestamp(at) => at.max(0),
        }
    }
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// -1: no record of that time or later.
    pub offset: Offset,
    /// The record's timestamp where one was asked for, else -1.
    pub timestamp_ms: TimestampMs,
}

/// A broker's address as it tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
}

/// The engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: Option<String>,
    /// The controller's.
    pub controller: Option<i32>,
    /// Its brokers.
    pub brokers: Vec<Broker>,
}
