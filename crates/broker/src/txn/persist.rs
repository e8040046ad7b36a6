//! What of transactions is kept. Invariants as of `group::persist`: absolute values, so that replaying an entry
//! whose effect is there already converges; one version byte an entry and a snapshot.

use std::sync::Arc;

use super::request::{Producer, TransactionState};
use super::state::Txn;
use crate::group::PartitionId;
use crate::group::codec::{Error, Reader, Writer, check_version};

const ENTRY_VERSION: u8 = 1;
const SNAPSHOT_VERSION: u8 = 1;

const IDS: u8 = 1;
const STATE: u8 = 2;
const ADDED: u8 = 3;
const REMOVED: u8 = 4;

/// A decoded journal entry.
pub(super) enum Entry {
    /// Producer ids below this may be in use.
    Ids { end: i64 },
    /// The whole state of a transactional id.
    State { id: String, txn: Txn },
    /// Partitions and groups that came into the open transaction, which began at `start_ms`.
    Added { id: String, producer: Producer, start_ms: i64, partitions: Vec<PartitionId>, groups: Vec<String> },
    /// The transactional id expired.
    Removed { id: String },
}

fn entry(kind: u8) -> Writer {
    let mut w = Writer::new();
    w.u8(ENTRY_VERSION);
    w.u8(kind);
    w
}

pub(super) fn ids_entry(end: i64) -> Vec<u8> {
    let mut w = entry(IDS);
    w.signed(end);
    w.finish()
}

pub(super) fn state_entry(id: &str, txn: &Txn) -> Vec<u8> {
    let mut w = entry(STATE);
    w.string(id);
    write_txn(&mut w, txn);
    w.finish()
}

pub(super) fn added_entry(
    id: &str,
    producer: Producer,
    start_ms: i64,
    partitions: &[PartitionId],
    group: Option<&str>,
) -> Vec<u8> {
    let mut w = entry(ADDED);
    w.string(id);
    write_producer(&mut w, producer);
    w.signed(start_ms);
    w.list(partitions.iter(), |w, partition| w.partition(*partition));
    w.list(group.into_iter(), |w, group| w.string(group));
    w.finish()
}

pub(super) fn removed_entry(id: &str) -> Vec<u8> {
    let mut w = entry(REMOVED);
    w.string(id);
    w.finish()
}

impl Entry {
    pub(super) fn decode(bytes: &[u8]) -> Result<Entry, Error> {
        let r = &mut Reader::new(bytes);
        check_version(r, "transaction entry", ENTRY_VERSION)?;
        match r.u8("kind of transaction entry")? {
            IDS => Ok(Entry::Ids { end: r.signed("producer ids")? }),
            STATE => Ok(Entry::State { id: r.string("transactional id")?, txn: read_txn(r)? }),
            ADDED => Ok(Entry::Added {
                id: r.string("transactional id")?,
                producer: read_producer(r)?,
                start_ms: r.signed("start")?,
                partitions: r.list("partitions", |r| r.partition())?,
                groups: r.list("groups", |r| r.string("group"))?,
            }),
            REMOVED => Ok(Entry::Removed { id: r.string("transactional id")? }),
            found => Err(Error::Kind { what: "transaction entry", found }),
        }
    }
}

fn write_producer(w: &mut Writer, producer: Producer) {
    let Producer { id, epoch } = producer;
    w.signed(id);
    w.signed(i64::from(epoch));
}

fn read_producer(r: &mut Reader<'_>) -> Result<Producer, Error> {
    Ok(Producer { id: r.signed("producer id")?, epoch: r.i16("producer epoch")? })
}

fn write_txn(w: &mut Writer, txn: &Txn) {
    let Txn { state, producer, last, timeout_ms, start_ms, updated_ms, partitions, groups } = txn;
    w.u8(match state {
        TransactionState::Empty => 0,
        TransactionState::Ongoing => 1,
        TransactionState::CompleteCommit => 2,
        TransactionState::CompleteAbort => 3,
        TransactionState::Dead => 4,
    });
    write_producer(w, *producer);
    write_producer(w, *last);
    w.signed(i64::from(*timeout_ms));
    w.signed(*start_ms);
    w.signed(*updated_ms);
    w.list(partitions.iter(), |w, partition| w.partition(*partition));
    w.list(groups.iter(), |w, group| w.string(group));
}

fn read_txn(r: &mut Reader<'_>) -> Result<Txn, Error> {
    let state = match r.u8("state")? {
        0 => TransactionState::Empty,
        1 => TransactionState::Ongoing,
        2 => TransactionState::CompleteCommit,
        3 => TransactionState::CompleteAbort,
        4 => TransactionState::Dead,
        found => return Err(Error::Kind { what: "transaction state", found }),
    };
    Ok(Txn {
        state,
        producer: read_producer(r)?,
        last: read_producer(r)?,
        timeout_ms: r.i32("timeout")?,
        start_ms: r.signed("start")?,
        updated_ms: r.signed("last change")?,
        partitions: r.list("partitions", |r| r.partition())?.into_iter().collect(),
        groups: r.list("groups", |r| r.string("group"))?.into_iter().collect(),
    })
}

/// Writes a snapshot, one transactional id after the other, each under its own lock.
pub(super) struct SnapshotWriter(Writer);

impl SnapshotWriter {
    pub(super) fn new(ids_reserved: i64) -> SnapshotWriter {
        let mut w = Writer::new();
        w.u8(SNAPSHOT_VERSION);
        w.signed(ids_reserved);
        SnapshotWriter(w)
    }

    pub(super) fn txn(&mut self, id: &str, txn: &Txn) {
        self.0.u8(1);
        self.0.string(id);
        write_txn(&mut self.0, txn);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.u8(0);
        self.0.finish()
    }
}

/// What a snapshot holds.
pub(super) struct Snapshot {
    pub(super) ids_reserved: i64,
    /// By transactional id.
    pub(super) txns: Vec<(Arc<str>, Txn)>,
}

pub(super) fn read_snapshot(bytes: &[u8]) -> Result<Snapshot, Error> {
    let r = &mut Reader::new(bytes);
    check_version(r, "transaction snapshot", SNAPSHOT_VERSION)?;
    let ids_reserved = r.signed("producer ids")?;
    let mut txns = Vec::new();
    while r.bool("mark of a transactional id")? {
        let id = Arc::from(r.string("transactional id")?);
        txns.push((id, read_txn(r)?));
    }
    if r.is_empty() {
        Ok(Snapshot { ids_reserved, txns })
    } else {
        Err(r.invalid("end of transaction snapshot"))
    }
}
