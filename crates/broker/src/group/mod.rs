//! Consumer groups, of the classic protocol and of the consumer protocol (KIP-848, [`consumer`]). Invariant: a reply that promises something (an assignment, a
//! committed offset, a deletion) goes out after the entry behind it is durable, and nothing is shown before it is.
//!
//! [`Groups`] is the coordinator: the protocol layer calls one method a request. One [`state`] machine a group,
//! each under its own lock; [`offsets`] beside it, with those that wait for a transaction; [`persist`] and
//! [`machine`] keep them over restarts; one [`timer`] for all. `clock`, `codec`, `journal` and `timer` serve
//! `txn` as well.
//!
//! What is deliberately not here:
//! - Share groups: their API keys aren't advertised.
//! - `offsets.retention` for topics that a group with members no longer subscribes to: they expire when the group
//!   is empty, or are deleted by OffsetDelete.
//! - A plain OffsetCommit made while a transaction holds an offset of the same partition doesn't outlive the
//!   transaction's commit: the later event wins.
//! - More than one broker: there is no fencing of coordinators against each other.

mod clock;
pub(crate) mod codec;
mod config;
pub mod consumer;
mod coordinator;
mod journal;
mod log_journal;
mod machine;
mod member;
mod offset_api;
mod offsets;
mod persist;
mod request;
mod state;
mod subscription;
pub(crate) mod timer;

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use config::Config;
pub use coordinator::Groups;
pub use journal::{Frame, GROUPS_MACHINE, Journal, JournalError, Marker, PartitionId, TRANSACTIONS_MACHINE};
pub use log_journal::LogJournal;
pub use request::{
    CommitRequest, DescribedGroup, DescribedMember, FetchRequest, FetchedOffset, GroupState, JoinRequest,
    JoinResponse, JoinedMember, Leaving, ListedGroup, MemberRef, OffsetToCommit, PartitionCode, SyncRequest,
    SyncResponse, TxnCommitRequest,
};
