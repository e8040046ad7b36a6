//! What the protocol layer asks and gets. Topics are resolved to ids before; unknown ones are the protocol
//! layer's to refuse (`UNKNOWN_TOPIC_OR_PARTITION`, the others `OPERATION_NOT_ATTEMPTED`).

use wire::{ApiKey, ErrorCode};

use crate::group::PartitionId;

/// A producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The producer id, -1 for none.
    pub id: i64,
    /// The epoch, -1 for none.
    pub epoch: i16,
}

impl Producer {
    /// No identity yet.
    pub const NONE: Producer = Producer { id: -1, epoch: -1 };
}

/// InitProducerId.
#[derive(Debug, Clone)]
pub struct InitRequest {
    /// `None` for a producer that is only idempotent.
    pub transactional_id: Option<String>,
    /// Milliseconds that a transaction of this producer may take.
    pub timeout_ms: i32,
    /// The identity that the producer wants to go on from (version 3 and later, KIP-360), else `Producer::NONE`.
    pub expected: Producer,
}

/// EndTxn.
#[derive(Debug, Clone)]
pub struct EndRequest {
    /// The transactional id.
    pub transactional_id: String,
    /// Who ends it.
    pub producer: Producer,
    /// Commit, or abort.
    pub commit: bool,
    /// Version 5 and later (KIP-890): the epoch rises with each transaction, and the answer carries it.
    pub bumps_epoch: bool,
}

/// A claim of Produce to write transactional records.
#[derive(Debug, Clone, Copy)]
pub struct ProduceClaim<'a> {
    /// The request's transactional id.
    pub transactional_id: &'a str,
    /// The batch's producer.
    pub producer: Producer,
    /// The batch's partition.
    pub partition: PartitionId,
    /// Version 12 and later (KIP-890): the partition is added to the transaction by producing to it.
    pub adds: bool,
}

/// The state of a transactional id, by the names of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// Nothing was done under this identity yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
    /// Unknown or expired.
    Dead,
}

impl TransactionState {
    /// The name in DescribeTransactions and ListTransactions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
            TransactionState::Dead => "Dead",
        }
    }
}

/// A transactional id in DescribeTransactions and ListTransactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The transactional id.
    pub transactional_id: String,
    /// Its state.
    pub state: TransactionState,
    /// Its current producer.
    pub producer: Producer,
    /// Milliseconds that a transaction may take.
    pub timeout_ms: i32,
    /// When the open transaction began, ms since the epoch; -1 without one.
    pub start_ms: i64,
    /// The open transaction's partitions.
    pub partitions: Vec<PartitionId>,
}

/// `PRODUCER_FENCED` is unknown to older clients: below version 2 of AddPartitionsToTxn, AddOffsetsToTxn and
/// EndTxn, and below version 4 of InitProducerId, they are told `INVALID_PRODUCER_EPOCH` (KIP-588).
#[must_use]
pub fn code_for_version(api: ApiKey, version: i16, code: ErrorCode) -> ErrorCode {
    let since = match api {
        ApiKey::AddPartitionsToTxn | ApiKey::AddOffsetsToTxn | ApiKey::EndTxn => 2,
        ApiKey::InitProducerId => 4,
        _ => return code,
    };
    if code == ErrorCode::PRODUCER_FENCED && version < since {
        ErrorCode::INVALID_PRODUCER_EPOCH
    } else {
        code
    }
}
