//! A journal in memory, for tests: it keeps every frame, and syncs at once, when told, or never. Invariant: what it
//! says is synced is a prefix of what it was handed.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::journal::{Frame, Journal, JournalError, Position};
use crate::log::Machine;

#[derive(Default)]
struct State {
    frames: Vec<Frame>,
    synced: usize,
    hold: bool,
    busy: bool,
    failed: bool,
}

/// See the module's docs.
#[derive(Default)]
pub(crate) struct MemoryJournal {
    state: Mutex<State>,
    changed: Notify,
}

impl MemoryJournal {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if !state.hold {
            state.synced = state.frames.len();
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Syncs nothing (true) or everything at once (false).
    pub(crate) fn hold(&self, hold: bool) {
        self.change(|state| state.hold = hold);
    }

    /// Refuses frames as busy (true) or not.
    pub(crate) fn busy(&self, busy: bool) {
        self.change(|state| state.busy = busy);
    }

    /// Fails from now on.
    pub(crate) fn fail(&self) {
        self.change(|state| state.failed = true);
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().frames.len()
    }

    /// Frames from `from` on that would survive a crash now.
    pub(crate) fn durable(&self, from: usize) -> Vec<Frame> {
        let state = self.state.lock();
        state.frames[from.min(state.synced)..state.synced].to_vec()
    }

    /// A journal with the same durable frames: the disk after a crash.
    pub(crate) fn after_crash(&self) -> MemoryJournal {
        let frames = self.durable(0);
        let synced = frames.len();
        MemoryJournal {
            state: Mutex::new(State { frames, synced, ..State::default() }),
            changed: Notify::new(),
        }
    }

    /// Replays durable entries from frame `from` on into `machines`.
    pub(crate) fn replay(&self, from: usize, machines: &[&dyn Machine]) {
        for (id, entry) in self.durable(from).iter().flat_map(|frame| &frame.entries) {
            for machine in machines.iter().filter(|machine| machine.id() == *id) {
                machine.replay(entry).expect("own entries are readable");
            }
        }
    }
}

impl Journal for MemoryJournal {
    fn entry(&self, machine: u8, bytes: Vec<u8>) -> Position {
        let frame = Frame { markers: Vec::new(), entries: vec![(machine, bytes)] };
        self.change(|state| state.frames.push(frame));
        Position(self.len() as u64)
    }

    fn frame(&self, frame: Frame) -> Result<Position, JournalError> {
        let (busy, failed) = {
            let state = self.state.lock();
            (state.busy, state.failed)
        };
        if failed {
            return Err(JournalError::Failed { reason: "test".into() });
        }
        if busy {
            return Err(JournalError::Busy);
        }
        self.change(|state| state.frames.push(frame));
        Ok(Position(self.len() as u64))
    }

    fn room(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async {
            loop {
                let changed = self.changed.notified();
                if !self.state.lock().busy {
                    return Ok(());
                }
                changed.await;
            }
        })
    }

    fn synced(&self, position: Position) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                {
                    let state = self.state.lock();
                    if state.failed {
                        return Err(JournalError::Failed { reason: "test".into() });
                    }
                    if state.synced as u64 >= position.0 {
                        return Ok(());
                    }
                }
                changed.await;
            }
        })
    }
}
