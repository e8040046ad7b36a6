//! What the coordinators need of the log, and nothing else. Invariant: entries become durable in the order
//! they were handed over, as one prefix: if an entry survives a crash, every earlier one did too, and a frame
//! survives whole or not at all. So state may change in memory at once, as long as every reply that promises
//! something waits until the entry behind it is synced.

use futures::future::BoxFuture;
use uuid::Uuid;

/// The state machine of groups, in the log's entries.
pub const GROUPS_MACHINE: u8 = 2;
/// The state machine of transactions and producer ids, in the log's entries.
pub const TRANSACTIONS_MACHINE: u8 = 3;

/// A partition by its topic's id: a topic that is deleted and made again under its name is another one, and
/// takes over neither offsets nor transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number, from 0.
    pub partition: i32,
}

pub(crate) use crate::log::{Outcome, Position};

/// A control record that ends a transaction in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Where it is written. A partition that no longer exists is skipped.
    pub partition: PartitionId,
    /// The producer whose transaction ends.
    pub producer_id: i64,
    /// The epoch to write; above the producer's own when it is fenced by this marker.
    pub producer_epoch: i16,
    /// Commit or abort.
    pub outcome: Outcome,
}

/// Markers and entries that become durable together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Control records, in the order to append.
    pub markers: Vec<Marker>,
    /// (machine, entry), in the order to replay.
    pub entries: Vec<(u8, Vec<u8>)>,
}

/// Why a frame was not taken, or will never be durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The log has as much unsynced work as it allows: wait for [`Journal::room`] and try again.
    #[error("the log is full of work that isn't synced yet")]
    Busy,
    /// A part of the frame isn't acceptable: it never will be.
    #[error("the log refused the frame: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The log failed or is closed; nothing can be written until the process starts again.
    #[error("the log takes no more writes: {reason}")]
    Failed {
        /// What stopped it.
        reason: String,
    },
}

/// Durable writes. `broker::log` is behind it; unit tests have one in memory.
///
/// `entry` and `frame` are called under the lock of the state that they change, so that entries stand in the
/// order of the changes. They don't wait and don't call back into a coordinator.
pub trait Journal: Send + Sync + 'static {
    /// Hands over one entry. It is never refused: a failure shows in [`Journal::synced`].
    fn entry(&self, machine: u8, bytes: Vec<u8>) -> Position;

    /// Hands over a frame.
    ///
    /// # Errors
    /// Nothing of the frame was taken; the caller changes nothing then.
    fn frame(&self, frame: Frame) -> Result<Position, JournalError>;

    /// Resolves when there is room after [`JournalError::Busy`].
    fn room(&self) -> BoxFuture<'_, Result<(), JournalError>>;

    /// Resolves when everything up to `position` is durable; at once if it is already.
    fn synced(&self, position: Position) -> BoxFuture<'_, Result<(), JournalError>>;
}
