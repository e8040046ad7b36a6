//! What can go wrong in the log, said once: each variant names the file, offset or producer it is about.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

/// A failure of the log itself: opening it, or waiting for its durability.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A write or sync failed earlier. Nothing is accepted until the process starts again: after a failed
    /// fsync the kernel may have dropped the pages, so that a second fsync which succeeds proves nothing.
    #[error("the log is read-only since a failure: {reason}")]
    ReadOnly {
        /// The failure that made it so.
        reason: Arc<str>,
    },
    /// The disk is full. What is queued waits for space, and is then written; nothing new is accepted meanwhile.
    #[error("the disk of the log is full; free some space, and it goes on by itself: {reason}")]
    Full {
        /// The write that didn't fit.
        reason: Arc<str>,
    },
    /// The log was closed while something waited for it.
    #[error("the log is closed")]
    Closed,
    /// An operating system error on a path.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried, as a verb: `open`, `read`, `sync`...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The file was written by a newer version of the program: it is refused, never guessed at.
    #[error(
        "{path} has format version {found}, this program knows up to {known}: start the newer program, or restore a backup"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// Bytes that were durable once don't read back as they were written.
    #[error("{path} is damaged: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found.
        what: String,
    },
    /// A state machine refused its own snapshot or entry while the log was opened.
    #[error("state machine {machine} can't take what the log holds for it")]
    Machine {
        /// [`super::Machine::id`].
        machine: u8,
        /// The machine's own error.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The log holds entries of a state machine that [`super::Log::open`] wasn't given.
    #[error("the log holds entries of state machine {machine}, which this program doesn't have")]
    UnknownMachine {
        /// [`super::Machine::id`].
        machine: u8,
    },
    /// A setting is out of its range.
    #[error("{field} is {value}: {rule}")]
    Config {
        /// The field of [`super::Config`] or [`super::PartitionConfig`].
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl Error {
    /// Wraps an operating system error with what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// Whether a write, or the creation of a file, was refused for want of space. Not a sync: after that, what became of
    /// earlier writes is unknown.
    pub(crate) fn is_write_without_space(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { action: "write" | "create", source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Durable bytes at `path` are not what they must be.
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), what: what.into() }
    }
}

/// Why a batch or marker was not appended. Nothing of it was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER: a batch before this one is missing.
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The sequence that would have continued its last batch.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// Kafka's INVALID_PRODUCER_EPOCH: a newer instance of this producer has written or was fenced in.
    #[error("producer {producer_id} has epoch {found}, the partition has seen {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// The newest epoch seen.
        current: i16,
        /// The batch's epoch.
        found: i16,
    },
    /// Kafka's INVALID_TXN_STATE: a non-transactional batch inside an open transaction of its producer.
    #[error("producer {producer_id} has an open transaction here and sent a batch outside of it")]
    InvalidTxnState {
        /// The producer.
        producer_id: i64,
    },
    /// Kafka's TRANSACTION_COORDINATOR_FENCED: the marker comes from an older coordinator.
    #[error("marker from coordinator epoch {found}, the partition has seen {current}")]
    CoordinatorFenced {
        /// The newest coordinator epoch seen for this producer.
        current: i32,
        /// The marker's.
        found: i32,
    },
    /// Kafka's MESSAGE_TOO_LARGE.
    #[error("the batch has {bytes} bytes, max.message.bytes is {max}")]
    RecordTooLarge {
        /// The batch with its header, bytes.
        bytes: usize,
        /// The topic's limit.
        max: usize,
    },
    /// Kafka's INVALID_TIMESTAMP: too far from now, by the topic's own limits.
    #[error("timestamp {timestamp} ms is out of the topic's range {min}..={max} ms")]
    InvalidTimestamp {
        /// Milliseconds since 1970.
        timestamp: i64,
        /// The oldest accepted.
        min: i64,
        /// The newest accepted.
        max: i64,
    },
    /// The write-ahead log's queue is full: wait for [`super::Log::room`] and try again.
    #[error("the write-ahead log is full of work that isn't synced yet")]
    Busy,
    /// The topic was dropped while the caller held its partition.
    #[error("partition {partition} of topic {topic_id} was dropped")]
    Dropped {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// A frame names the same partition twice; each frame is one batch or marker a partition.
    #[error("a frame names partition {partition} of topic {topic_id} twice")]
    PartitionTwice {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// The frame is larger than the write-ahead log can take.
    #[error("a frame of {bytes} bytes, the limit is {max}")]
    FrameTooLarge {
        /// Its size.
        bytes: usize,
        /// [`super::Config::frame_bytes_max`].
        max: usize,
    },
    /// The disk or the log failed: Kafka's KAFKA_STORAGE_ERROR.
    #[error("the batch could not be stored")]
    Storage(#[source] Error),
}

/// Why nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Kafka's OFFSET_OUT_OF_RANGE.
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The log start offset.
        start: i64,
        /// The log end offset.
        end: i64,
    },
    /// The topic was dropped while the caller held its partition.
    #[error("partition {partition} of topic {topic_id} was dropped")]
    Dropped {
        /// The topic.
        topic_id: Uuid,
        /// The partition.
        partition: i32,
    },
    /// The disk failed, or gave back other bytes than were written: Kafka's KAFKA_STORAGE_ERROR.
    #[error("the partition could not be read")]
    Storage(#[source] Error),
}
