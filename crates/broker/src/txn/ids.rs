//! Producer ids. Invariant: an id is given out once in the life of the data directory: a block of ids is reserved
//! in the journal first, and no answer with an id of it goes out before that is durable. A restart skips what is
//! left of the block.

use parking_lot::Mutex;

use crate::group::{Journal, TRANSACTIONS_MACHINE};
use crate::log::Position;

use super::persist;

/// Ids that one journal entry reserves.
const BLOCK: i64 = 1_000;

#[derive(Default)]
struct Block {
    next: i64,
    /// The first id that isn't reserved.
    end: i64,
    position: Option<Position>,
}

/// Gives out producer ids.
#[derive(Default)]
pub(super) struct ProducerIds(Mutex<Block>);

impl ProducerIds {
    /// An id, and what must be durable before it is shown.
    pub(super) fn take(&self, journal: &dyn Journal) -> (i64, Option<Position>) {
        let mut block = self.0.lock();
        if block.next == block.end {
            block.end += BLOCK;
            block.position = Some(journal.entry(TRANSACTIONS_MACHINE, persist::ids_entry(block.end)));
        }
        let id = block.next;
        block.next += 1;
        (id, block.position)
    }

    /// The first id that isn't reserved: what a snapshot keeps.
    pub(super) fn reserved(&self) -> i64 {
        self.0.lock().end
    }

    /// From a snapshot or an entry: all below `end` may be in use.
    pub(super) fn restore(&self, end: i64) {
        let mut block = self.0.lock();
        block.end = block.end.max(end);
        block.next = block.end;
    }
}
