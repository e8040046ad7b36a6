//! The state of one transactional id and its transitions, pure. A transition gives the state that follows, to be
//! written first and assigned only when the journal took it.
//!
//! Invariants:
//! - Only an Ongoing transaction has partitions or groups.
//! - (producer id, epoch) never comes back: each new identity is greater than all before it, so a marker with the
//!   current identity fences every older one.
//! - `last` is the identity before the current one if its owner may still learn of the change (a lost answer, or a
//!   transaction that timed out), and [`Producer::NONE`] once somebody else took over.
//!
//! There are no PrepareCommit and PrepareAbort states: markers, offsets and state are one frame of the log, so a
//! transaction is open or it has ended. What Kafka answers in them, `CONCURRENT_TRANSACTIONS`, is never needed.

use std::collections::BTreeSet;

use wire::ErrorCode;

use super::request::{Producer, TransactionState};
use crate::group::PartitionId;
use crate::log::Outcome;

/// The last epoch that a client is given; the one above is kept for fencing it.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// What is kept of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Txn {
    pub(super) state: TransactionState,
    pub(super) producer: Producer,
    pub(super) last: Producer,
    pub(super) timeout_ms: i32,
    /// Wall time when the open transaction began.
    pub(super) start_ms: i64,
    /// Wall time of the last change of state but the beginning of a transaction (one that is open doesn't expire).
    pub(super) updated_ms: i64,
    pub(super) partitions: BTreeSet<PartitionId>,
    pub(super) groups: BTreeSet<String>,
}

/// What InitProducerId comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The last answer was lost: give it again.
    Repeat,
    /// Raise the epoch.
    Bump,
    /// All epochs are used: take a new producer id.
    NewId,
}

/// What EndTxn comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has ended so already: give the answer again.
    Repeat,
    /// End the open transaction.
    Open,
    /// Nothing is open, but the epoch rises (KIP-890: the client can't know whether its records arrived).
    Nothing,
}

impl Txn {
    /// A transactional id that was never used.
    pub(super) fn unused() -> Txn {
        Txn {
            state: TransactionState::Empty,
            producer: Producer::NONE,
            last: Producer::NONE,
            timeout_ms: 0,
            start_ms: -1,
            updated_ms: 0,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == TransactionState::Ongoing
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.producer.epoch >= EPOCH_MAX
    }

    /// Whether `producer` is the current one.
    pub(super) fn check(&self, producer: Producer) -> Result<(), ErrorCode> {
        if self.state == TransactionState::Dead || self.producer.epoch < 0 || self.producer.id != producer.id
        {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.producer.epoch != producer.epoch { Err(ErrorCode::PRODUCER_FENCED) } else { Ok(()) }
    }

    /// KIP-360: an identity that is given must be the current one, or the one before it if only the answer was
    /// lost. A stale one is fenced and doesn't touch an open transaction.
    pub(super) fn init(&self, expected: Producer) -> Result<Init, ErrorCode> {
        let fresh = self.producer.epoch < 0;
        if expected != Producer::NONE && !fresh && expected != self.producer {
            let lost = expected == self.last && !self.is_open();
            return if lost { Ok(Init::Repeat) } else { Err(ErrorCode::PRODUCER_FENCED) };
        }
        Ok(if fresh || self.is_exhausted() { Init::NewId } else { Init::Bump })
    }

    /// After InitProducerId; `new_id` where [`Init::NewId`] asked for one.
    pub(super) fn initialized(
        &self,
        new_id: Option<i64>,
        expected: Producer,
        timeout_ms: i32,
        now_ms: i64,
    ) -> Txn {
        let producer = match new_id {
            Some(id) => Producer { id, epoch: 0 },
            None => Producer { id: self.producer.id, epoch: self.producer.epoch + 1 },
        };
        let last = if expected == Producer::NONE { Producer::NONE } else { self.producer };
        Txn { producer, last, timeout_ms, updated_ms: now_ms, ..Txn::unused() }
    }

    /// Whether EndTxn may go on. Version 5 and later (`bumps_epoch`) tells a repeated request by its old epoch;
    /// before, by the state alone.
    pub(super) fn end(
        &self,
        producer: Producer,
        outcome: Outcome,
        bumps_epoch: bool,
    ) -> Result<End, ErrorCode> {
        let ended_so = match outcome {
            Outcome::Commit => TransactionState::CompleteCommit,
            Outcome::Abort => TransactionState::CompleteAbort,
        };
        if bumps_epoch
            && self.last != Producer::NONE
            && producer == self.last
            && self.state != TransactionState::Dead
        {
            return match self.state {
                TransactionState::Ongoing => Err(ErrorCode::PRODUCER_FENCED),
                state if state == ended_so => Ok(End::Repeat),
                _ => Err(ErrorCode::INVALID_TXN_STATE),
            };
        }
        self.check(producer)?;
        match (self.state, outcome) {
            (TransactionState::Ongoing, _) => Ok(End::Open),
            (_, Outcome::Abort) if bumps_epoch => Ok(End::Nothing),
            (state, _) if state == ended_so && !bumps_epoch => Ok(End::Repeat),
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// After the end of a transaction under the same identity.
    pub(super) fn ended(&self, outcome: Outcome, now_ms: i64) -> Txn {
        let state = match outcome {
            Outcome::Commit => TransactionState::CompleteCommit,
            Outcome::Abort => TransactionState::CompleteAbort,
        };
        let Txn { producer, last, timeout_ms, .. } = *self;
        Txn { state, producer, last, timeout_ms, updated_ms: now_ms, ..Txn::unused() }
    }

    /// After an end that fences: the epoch rises, or where all are used a new producer id starts; the producer may
    /// learn of it, so its old identity is kept as `last`.
    pub(super) fn ended_and_bumped(&self, outcome: Outcome, new_id: Option<i64>, now_ms: i64) -> Txn {
        let producer = match new_id {
            Some(id) => Producer { id, epoch: 0 },
            None => self.fenced(),
        };
        Txn { producer, last: self.producer, ..self.ended(outcome, now_ms) }
    }

    /// The identity just above the current one: markers with it fence the current one.
    pub(super) fn fenced(&self) -> Producer {
        Producer { id: self.producer.id, epoch: self.producer.epoch.saturating_add(1) }
    }

    /// Begins a transaction if none is open, and adds to it.
    pub(super) fn add(&mut self, partitions: &[PartitionId], group: Option<&str>, now_ms: i64) {
        if !self.is_open() {
            self.state = TransactionState::Ongoing;
            self.start_ms = now_ms;
            self.partitions.clear();
            self.groups.clear();
        }
        self.partitions.extend(partitions);
        self.groups.extend(group.map(str::to_owned));
    }

    /// When the open transaction is aborted, wall time.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        self.is_open().then(|| self.start_ms.saturating_add(i64::from(self.timeout_ms)))
    }
}
