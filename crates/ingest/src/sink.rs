//! Where records go. The gateway sees of the engine only this.

use std::future::Future;

use types::{Offset, Partition, Record, TopicName};

/// Where a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The partition.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
}

/// What became of a record that isn't known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The queue of records is full. Nothing was sent.
    #[error("the queue of records is full")]
    QueueFull,
    /// The topic doesn't take a record of that size. Nothing was stored.
    #[error("the record is too large for the topic")]
    TooLarge,
    /// The topic is gone. Nothing was stored.
    #[error("the topic doesn't exist")]
    UnknownTopic,
    /// The engine can't be reached, or didn't answer in time: the record may be stored, or become it yet.
    #[error("the engine doesn't answer: {0}")]
    Unavailable(String),
    /// The engine refused it, or the client broke. It may be stored.
    #[error("the engine refused the record: {0}")]
    Failed(String),
}

/// The gateway calls [`send`](Sink::send) once a record, for all records of a request in their order, before it
/// awaits the first one; it answers 202 only after all of them are `Ok`.
pub trait Sink: Clone + Send + Sync + 'static {
    /// Resolves to `Ok` when the record is stored as durably as the engine's acks=all says. Dropping it must
    /// not take the record back.
    type Delivery: Future<Output = Result<Stored, SinkError>> + Send;

    /// Enqueues without waiting. `max_message_bytes` is the topic's limit for a batch of records. An error means that
    /// nothing was sent.
    fn send(
        &self,
        topic: &TopicName,
        max_message_bytes: u64,
        record: Record,
    ) -> Result<Self::Delivery, SinkError>;
}
