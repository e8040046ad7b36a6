//! What every request handler has at hand. Invariant: built whole before the first connection is accepted; what changes
//! in it is behind the parts' own locks.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wire::ErrorCode;

use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::group::Groups;
use crate::log::{AppendError, Log, ReadError};
use crate::metrics::Metrics;
use crate::server::memory::{FetchMemory, Memory};
use crate::txn::Transactions;

/// The one broker's id.
pub(crate) const NODE_ID: i32 = 1;

/// The broker, as its handlers see it.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) cluster_id: String,
    pub(crate) log: Arc<Log>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) metrics: Metrics,
    pub(crate) memory: Memory,
    pub(crate) fetch_memory: FetchMemory,
    /// Cancelled when the broker stops: long polls end.
    pub(crate) stop: CancellationToken,
    /// `advertised`, taken apart.
    pub(crate) advertised: Option<(String, u16)>,
}

impl Node {
    /// Where the client that connected to `local` is to connect.
    pub(crate) fn address(&self, local: SocketAddr) -> (String, i32) {
        match &self.advertised {
            Some((host, port)) => (host.clone(), i32::from(*port)),
            None => (local.ip().to_canonical().to_string(), i32::from(local.port())),
        }
    }
}

/// What the protocol calls a catalog's refusal.
pub(crate) fn catalog_code(error: &catalog::Error) -> ErrorCode {
    match error {
        catalog::Error::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        catalog::Error::Unknown(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        catalog::Error::Name { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        catalog::Error::Partitions { .. } => ErrorCode::INVALID_PARTITIONS,
        catalog::Error::Config(_) => ErrorCode::INVALID_CONFIG,
        catalog::Error::Storage(error) => append_code(error),
    }
}

/// What the protocol calls an append's refusal.
pub(crate) fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        AppendError::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TRANSACTION_COORDINATOR_FENCED,
        AppendError::RecordTooLarge { .. } | AppendError::FrameTooLarge { .. } => {
            ErrorCode::MESSAGE_TOO_LARGE
        }
        AppendError::InvalidTimestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
        AppendError::PartitionTwice { .. } => ErrorCode::INVALID_REQUEST,
        AppendError::Dropped { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AppendError::Busy | AppendError::Storage(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// What the protocol calls a read's refusal.
pub(crate) fn read_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        ReadError::Dropped { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::Storage(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// An error with what caused it, in one line: for the message that goes to a client or a log line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
