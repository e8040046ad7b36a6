//! Transactions, whole. Invariant: a transaction's records, offsets and state end in one frame of the log, or not at
//! all; and no record is written outside of an open transaction that knows its partition.
//!
//! [`Transactions`] is the coordinator: the protocol layer calls one method a request, and wraps each transactional
//! append into [`Transactions::produce`]. One [`state`] a transactional id, each under its own lock; `ids` gives out
//! producer ids; `persist` and `machine` keep all over restarts.
//!
//! Both flavours of the protocol are served: the one in which the client adds partitions and groups first, and that
//! of KIP-890 (feature `transaction.version` 2), in which producing adds them and EndTxn raises the epoch. Which one
//! a request belongs to is its version's to say (`adds`, `bumps_epoch`).
//!
//! What is deliberately not here:
//! - Two-phase commit (KIP-939: InitProducerId version 6, `enable2Pc`, `keepPreparedTxn`).
//! - `CONCURRENT_TRANSACTIONS`: the end of a transaction takes effect at once for later requests, because the log
//!   keeps their order, so there is no time in which a client would have to come back.
//! - WriteTxnMarkers and verification requests between brokers (AddPartitionsToTxn from version 4): there is one broker.
//!
//! Better than Kafka where nobody can tell but the one who gains: a producer whose transaction timed out may go on by
//! InitProducerId with its old identity, as long as nobody else took its transactional id (KIP-588 meant it so).

mod config;
mod coordinator;
mod ids;
mod machine;
mod persist;
mod request;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use coordinator::Transactions;
pub use request::{
    Described, EndRequest, InitRequest, ProduceClaim, Producer, TransactionState, code_for_version,
};
