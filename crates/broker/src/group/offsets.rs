//! The offsets of one group: those that count, and those that wait in an open transaction. Invariant: an
//! offset of a transaction is seen by nobody before the transaction commits, and `unstable` says where one
//! waits; ending the transaction, either way, leaves nothing of it behind.

use std::collections::BTreeMap;

use super::codec::{Error, Reader, Writer};
use super::journal::{Outcome, PartitionId};

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    /// Wall time of the commit, for retention.
    pub(crate) at_ms: i64,
    /// When it expires, if the client said so itself (OffsetCommit versions 2 to 4).
    pub(crate) expires_ms: Option<i64>,
}

/// Bytes of an offset in the journal without its metadata, at most.
const OFFSET_BYTES: usize = 64;

impl Committed {
    /// Bytes in the journal, at most.
    pub(crate) fn weight(&self) -> usize {
        OFFSET_BYTES + self.metadata.len()
    }
}

/// Offsets by partition.
pub(crate) type OffsetMap = BTreeMap<PartitionId, Committed>;

/// The offsets of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) committed: OffsetMap,
    /// By producer id: one open transaction each.
    pub(crate) pending: BTreeMap<i64, OffsetMap>,
}

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Whether a transaction that is still open commits an offset here.
    pub(crate) fn unstable(&self, partition: &PartitionId) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(partition))
    }

    /// How many there would be with `more` added, at most.
    pub(crate) fn count_with(&self, more: usize) -> usize {
        self.committed.len() + self.pending.values().map(BTreeMap::len).sum::<usize>() + more
    }

    /// What a transaction's offsets weigh in the journal, at most, bytes.
    pub(crate) fn pending_bytes(&self, producer_id: i64) -> usize {
        self.pending.get(&producer_id).into_iter().flatten().map(|(_, committed)| committed.weight()).sum()
    }

    pub(crate) fn add_pending(&mut self, producer_id: i64, offsets: OffsetMap) {
        self.pending.entry(producer_id).or_default().extend(offsets);
    }

    /// What the end of a transaction makes of its offsets: the ones to count from now on. A commit wins over
    /// plain commits made meanwhile: it is the later event.
    pub(crate) fn outcome_of(&self, producer_id: i64, outcome: Outcome) -> OffsetMap {
        match outcome {
            Outcome::Commit => self.pending.get(&producer_id).cloned().unwrap_or_default(),
            Outcome::Abort => OffsetMap::new(),
        }
    }

    /// Ends a transaction with what [`Offsets::outcome_of`] said.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, offsets: OffsetMap) {
        self.pending.remove(&producer_id);
        self.committed.extend(offsets);
    }

    pub(crate) fn remove(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            self.committed.remove(partition);
        }
    }

    /// Drops every trace of a deleted topic.
    pub(crate) fn forget_topic(&mut self, topic: uuid::Uuid) {
        self.committed.retain(|partition, _| partition.topic != topic);
        for offsets in self.pending.values_mut() {
            offsets.retain(|partition, _| partition.topic != topic);
        }
        self.pending.retain(|_, offsets| !offsets.is_empty());
    }

    pub(crate) fn has_topic(&self, topic: uuid::Uuid) -> bool {
        let maps = self.pending.values().chain([&self.committed]);
        maps.flat_map(BTreeMap::keys).any(|partition| partition.topic == topic)
    }
}

pub(crate) fn write_offsets(w: &mut Writer, offsets: &OffsetMap) {
    w.list(offsets.iter(), |w, (partition, committed)| {
        let Committed { offset, leader_epoch, metadata, at_ms, expires_ms } = committed;
        w.partition(*partition);
        w.signed(*offset);
        w.signed(i64::from(*leader_epoch));
        w.string(metadata);
        w.signed(*at_ms);
        w.u8(u8::from(expires_ms.is_some()));
        if let Some(expires_ms) = expires_ms {
            w.signed(*expires_ms);
        }
    });
}

pub(crate) fn read_offsets(r: &mut Reader<'_>) -> Result<OffsetMap, Error> {
    let offsets = r.list("offsets", |r| {
        let partition = r.partition()?;
        let offset = r.signed("offset")?;
        let leader_epoch = r.i32("leader epoch")?;
        let metadata = r.string("offset metadata")?;
        let at_ms = r.signed("commit time")?;
        let expires_ms = if r.bool("expiry")? { Some(r.signed("expiry")?) } else { None };
        Ok((partition, Committed { offset, leader_epoch, metadata, at_ms, expires_ms }))
    })?;
    Ok(offsets.into_iter().collect())
}
