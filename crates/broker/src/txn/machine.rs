//! Transactions as a state machine of the log. Invariant: after restore and replay every transactional id is what it
//! was when the last durable entry was written; an open transaction is open again, and ends by its producer, by
//! its timeout (counted from when it began) or by fencing.

use std::collections::hash_map::Entry as Place;
use std::sync::Arc;

use super::coordinator::{Cell, Slot, Transactions};
use super::persist::{self, Entry, Snapshot, SnapshotWriter};
use super::request::TransactionState;
use super::state::Txn;
use crate::group::TRANSACTIONS_MACHINE;
use crate::log::{Machine, MachineError};

impl Machine for Transactions {
    fn id(&self) -> u8 {
        TRANSACTIONS_MACHINE
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(self.ids.reserved());
        for (id, cell) in self.cells() {
            let slot = cell.lock();
            // An id that was looked up and never initialised isn't worth keeping.
            if slot.txn.state != TransactionState::Dead && slot.txn.producer.epoch >= 0 {
                writer.txn(&id, &slot.txn);
            }
        }
        writer.finish()
    }

    fn restore(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        let Snapshot { ids_reserved, txns } = persist::read_snapshot(snapshot)?;
        self.ids.restore(ids_reserved);
        let mut table = self.table.write();
        table.clear();
        table.extend(txns.into_iter().map(|(id, txn)| (id, Slot::new(txn))));
        Ok(())
    }

    fn replay(&self, entry: &[u8]) -> Result<(), MachineError> {
        match Entry::decode(entry)? {
            Entry::Ids { end } => self.ids.restore(end),
            Entry::State { id, txn } => self.replayed(&id).lock().txn = txn,
            Entry::Added { id, producer, start_ms, partitions, groups } => {
                let cell = self.replayed(&id);
                let txn = &mut cell.lock().txn;
                if txn.is_open() && txn.producer != producer {
                    txn.partitions.clear();
                    txn.groups.clear();
                }
                txn.producer = producer;
                txn.add(&partitions, None, start_ms);
                txn.groups.extend(groups);
                txn.start_ms = start_ms;
            }
            Entry::Removed { id } => {
                self.table.write().remove(id.as_str());
            }
        }
        Ok(())
    }
}

impl Transactions {
    fn replayed(&self, id: &str) -> Cell {
        let mut table = self.table.write();
        match table.entry(Arc::from(id)) {
            Place::Occupied(place) => place.get().clone(),
            Place::Vacant(place) => place.insert(Slot::new(Txn::unused())).clone(),
        }
    }
}
