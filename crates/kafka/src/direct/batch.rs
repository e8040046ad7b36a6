//! A batch on its way: records, the sequence that they were given, and what an engine's answer means for it.
//!
//! Invariant: a batch that was sent keeps its producer id, epoch, sequence and bytes until it is told stored or failed, so that the
//! engine recognises it when it is sent again (KIP-98). `uncertain` says that an attempt may have stored it.

use std::time::Instant;

use bytes::Bytes;
use runtime::kill_points::{self, Point};
use tokio::sync::oneshot;
use types::{Partition, Record};
use wire::ErrorCode;
use wire::records::{BatchBuilder, HEADER_BYTES};

use crate::{Delivered, Error, Kind, Result, metrics};

/// Bytes that a record takes beside its key, value and headers, at most: lengths, deltas and attributes.
const RECORD_OVERHEAD_BYTES: usize = 36;
/// And each header: two lengths.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// A record that waits, and its way back to its sender.
pub(super) struct Pending {
    record: Record,
    /// Milliseconds since 1970.
    timestamp_ms: i64,
    /// What the sender asked for.
    pub(super) partition: Option<Partition>,
    /// Bytes in a batch, at most.
    pub(super) weight: usize,
    pub(super) enqueued: Instant,
    tell: oneshot::Sender<Result<Delivered>>,
}

impl Pending {
    pub(super) fn new(
        record: Record,
        partition: Option<Partition>,
        tell: oneshot::Sender<Result<Delivered>>,
    ) -> Self {
        let weight =
            record.payload_bytes() + RECORD_OVERHEAD_BYTES + HEADER_OVERHEAD_BYTES * record.headers.len();
        let timestamp_ms = record.timestamp.unwrap_or_else(now_ms);
        Self { record, timestamp_ms, partition, weight, enqueued: Instant::now(), tell }
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        self.record.key.as_deref()
    }

    pub(super) fn stored(self, at: Delivered, now: Instant) {
        metrics::produced(self.record.payload_bytes(), now.saturating_duration_since(self.enqueued));
        kill_points::pass(Point::ProduceAfter);
        // The sender may have lost interest.
        let _ = self.tell.send(Ok(at));
    }

    pub(super) fn failed(self, error: Error) {
        metrics::produce_error(&error);
        let _ = self.tell.send(Err(error));
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A producer's id and epoch, as the engine gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// See the module.
pub(super) struct Batch {
    pub(super) identity: Identity,
    /// Of its first record.
    pub(super) sequence: i32,
    pub(super) records: Vec<Pending>,
    /// Once it was made.
    encoded: Option<Bytes>,
    /// An attempt may have stored it.
    pub(super) uncertain: bool,
}

impl Batch {
    pub(super) fn new(identity: Identity, sequence: i32, records: Vec<Pending>) -> Self {
        Self { identity, sequence, records, encoded: None, uncertain: false }
    }

    /// How many records, as sequences count.
    pub(super) fn count(&self) -> i32 {
        // A batch's bytes are bounded far below.
        i32::try_from(self.records.len()).unwrap_or(i32::MAX)
    }

    /// The bytes for the engine, the same each time. `builder`: of batches as these are made, and empty.
    pub(super) fn encoded(&mut self, builder: &mut BatchBuilder) -> Result<Bytes> {
        if let Some(bytes) = &self.encoded {
            return Ok(bytes.clone());
        }
        let Identity { id, epoch } = self.identity;
        builder.set_producer(id, epoch, self.sequence);
        builder.reserve(self.records.iter().map(|pending| pending.weight).sum());
        for Pending { record, timestamp_ms, .. } in &self.records {
            let headers = record.headers.iter().map(|h| (h.name.as_bytes(), h.value.as_deref()));
            builder.push_parts(*timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
        }
        let built = builder
            .build_next()
            .map_err(|e| Error::new(Kind::Other, "make a record batch", e.to_string()))?;
        Ok(self.encoded.insert(built.into_bytes()).clone())
    }

    /// Its memory, for other batches: it is over.
    pub(super) fn take_encoded(&mut self) -> Option<Bytes> {
        self.encoded.take()
    }
}

/// Takes records off the front while they fit into a batch of `bytes_max` and `records_max`; one at least.
pub(super) fn fill(
    queue: &mut std::collections::VecDeque<Pending>,
    bytes_max: usize,
    records_max: usize,
) -> Vec<Pending> {
    let mut bytes = HEADER_BYTES;
    let mut fitting = 0;
    for pending in queue.iter().take(records_max) {
        bytes += pending.weight;
        if bytes > bytes_max && fitting > 0 {
            break;
        }
        fitting += 1;
    }
    queue.drain(..fitting).collect()
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log.
    Stored,
    /// Another attempt may succeed. `uncertain`: this one may have stored it.
    Again { uncertain: bool },
    /// Smaller batches may be taken.
    TooLarge,
    /// The engine doesn't know this producer in this partition as the producer knows itself.
    Forgotten,
    /// It is refused, and isn't stored.
    Refused,
    /// Something failed inside the engine: it may be stored.
    Failed,
}

/// What a partition's answer to a produce request means (KIP-98, KIP-360; the messages of Kafka's `Errors`).
pub(super) fn verdict(code: ErrorCode) -> Verdict {
    use ErrorCode as E;
    match code {
        // A retry of what was stored longer ago than the engine remembers offsets.
        E::NONE | E::DUPLICATE_SEQUENCE_NUMBER => Verdict::Stored,
        // Judged before anything is appended.
        E::NOT_ENOUGH_REPLICAS | E::LEADER_NOT_AVAILABLE | E::BROKER_NOT_AVAILABLE | E::CORRUPT_MESSAGE => {
            Verdict::Again { uncertain: false }
        }
        // Some of these also come when the leader changed while replicas were awaited.
        E::NOT_LEADER_OR_FOLLOWER
        | E::UNKNOWN_TOPIC_OR_PARTITION
        | E::REQUEST_TIMED_OUT
        | E::NETWORK_EXCEPTION
        | E::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | E::KAFKA_STORAGE_ERROR
        | E::FENCED_LEADER_EPOCH
        | E::UNKNOWN_LEADER_EPOCH
        | E::COORDINATOR_LOAD_IN_PROGRESS => Verdict::Again { uncertain: true },
        E::MESSAGE_TOO_LARGE | E::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        E::OUT_OF_ORDER_SEQUENCE_NUMBER
        | E::UNKNOWN_PRODUCER_ID
        | E::INVALID_PRODUCER_EPOCH
        | E::PRODUCER_FENCED
        | E::INVALID_PRODUCER_ID_MAPPING => Verdict::Forgotten,
        E::TOPIC_AUTHORIZATION_FAILED
        | E::CLUSTER_AUTHORIZATION_FAILED
        | E::INVALID_TOPIC_EXCEPTION
        | E::INVALID_TIMESTAMP
        | E::INVALID_RECORD
        | E::POLICY_VIOLATION
        | E::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | E::UNSUPPORTED_COMPRESSION_TYPE
        | E::UNSUPPORTED_VERSION => Verdict::Refused,
        _ => Verdict::Failed,
    }
}
