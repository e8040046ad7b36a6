//! Groups as a state machine of the log. Invariant: after restore and replay the groups are what they were when
//! the last durable entry was written, but for rebalances half way, which members start again.

use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use parking_lot::Mutex;

use super::coordinator::{Cell, Groups};
use super::journal::GROUPS_MACHINE;
use super::persist::{self, Entry, SnapshotWriter};
use super::request::GroupState;
use super::state::Group;
use crate::log::{Machine, MachineError};

impl Machine for Groups {
    fn id(&self) -> u8 {
        GROUPS_MACHINE
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = SnapshotWriter::new();
        for cell in self.cells() {
            let group = cell.lock();
            if group.state != GroupState::Dead && !group.is_vacant() {
                writer.group(&group);
            }
        }
        writer.finish()
    }

    fn restore(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        let groups = persist::read_snapshot(snapshot)?;
        let mut table = self.table.write();
        table.clear();
        table.extend(groups.into_iter().map(|group| (group.id.clone(), Arc::new(Mutex::new(group)))));
        Ok(())
    }

    fn replay(&self, entry: &[u8]) -> Result<(), MachineError> {
        match Entry::decode(entry)? {
            Entry::Membership { group, body } => {
                let cell = self.replayed(&group);
                persist::apply_membership(&mut cell.lock(), body)?;
            }
            Entry::Committed { group, offsets } => {
                self.replayed(&group).lock().offsets.committed.extend(offsets);
            }
            Entry::RemovedOffsets { group, partitions } => {
                self.replayed(&group).lock().offsets.remove(&partitions);
            }
            Entry::Pending { group, producer_id, offsets } => {
                self.replayed(&group).lock().offsets.add_pending(producer_id, offsets);
            }
            Entry::TransactionEnded { group, producer_id, offsets } => {
                self.replayed(&group).lock().offsets.end_transaction(producer_id, offsets);
            }
            Entry::TopicForgotten { group, topic } => {
                self.replayed(&group).lock().offsets.forget_topic(topic);
            }
            Entry::GroupRemoved { group } => {
                self.table.write().remove(group.as_str());
            }
        }
        Ok(())
    }
}

impl Groups {
    /// The group that an entry is about; limits don't count here: what was accepted once is kept.
    fn replayed(&self, group: &str) -> Cell {
        let mut table = self.table.write();
        match table.entry(Arc::from(group)) {
            Slot::Occupied(slot) => slot.get().clone(),
            Slot::Vacant(slot) => {
                let cell = Arc::new(Mutex::new(Group::new(slot.key().clone())));
                slot.insert(cell).clone()
            }
        }
    }
}
