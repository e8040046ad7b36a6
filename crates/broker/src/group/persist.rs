//! What of groups is kept: journal entries and snapshots. Invariants: entries carry absolute values, so a
//! replay of one whose effect is there already converges on the same state; the membership that is kept is
//! the last one that was complete (Stable or Empty), never a rebalance half way, so that no member can be
//! given an assignment that its leader didn't write. All protocols of a member are kept, not just the chosen one
//! (as Kafka does), so that after a restart the group still takes members who share another one.
//!
//! Format: version, kind, fields (`codec`). A snapshot is version, then every group: id, membership, committed
//! offsets, pending offsets by producer id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::codec::{Error, Reader, Writer, check_version};
use super::journal::PartitionId;
use super::member::Member;
use super::offsets::{OffsetMap, Offsets, read_offsets, write_offsets};
use super::request::GroupState;
use super::state::Group;

const ENTRY_VERSION: u8 = 1;
const SNAPSHOT_VERSION: u8 = 1;

const MEMBERSHIP: u8 = 1;
const COMMITTED: u8 = 2;
const REMOVED_OFFSETS: u8 = 3;
const PENDING: u8 = 4;
const TRANSACTION_ENDED: u8 = 5;
const GROUP_REMOVED: u8 = 6;
const TOPIC_FORGOTTEN: u8 = 7;

/// A decoded journal entry.
pub(super) enum Entry {
    /// The group's generation and members.
    Membership { group: String, body: Vec<u8> },
    /// Offsets that count from now on.
    Committed { group: String, offsets: OffsetMap },
    /// Offsets that are gone.
    RemovedOffsets { group: String, partitions: Vec<PartitionId> },
    /// Offsets that wait for a transaction.
    Pending { group: String, producer_id: i64, offsets: OffsetMap },
    /// A transaction ended: nothing of it waits any more, and these offsets count.
    TransactionEnded { group: String, producer_id: i64, offsets: OffsetMap },
    /// The group is gone with all it had.
    GroupRemoved { group: String },
    /// A topic is gone, and the group's offsets in it.
    TopicForgotten { group: String, topic: Uuid },
}

fn entry(kind: u8) -> Writer {
    let mut w = Writer::new();
    w.u8(ENTRY_VERSION);
    w.u8(kind);
    w
}

/// Also remembers the membership as the one to put into snapshots.
pub(super) fn membership_entry(group: &mut Group) -> Vec<u8> {
    let body = membership_body(group);
    let mut w = entry(MEMBERSHIP);
    w.string(&group.id);
    w.bytes(&body);
    group.persisted = body;
    w.finish()
}

pub(super) fn committed_entry(group: &str, offsets: &OffsetMap) -> Vec<u8> {
    let mut w = entry(COMMITTED);
    w.string(group);
    write_offsets(&mut w, offsets);
    w.finish()
}

pub(super) fn removed_offsets_entry(group: &str, partitions: &[PartitionId]) -> Vec<u8> {
    let mut w = entry(REMOVED_OFFSETS);
    w.string(group);
    w.list(partitions.iter(), |w, partition| w.partition(*partition));
    w.finish()
}

pub(super) fn pending_entry(group: &str, producer_id: i64, offsets: &OffsetMap) -> Vec<u8> {
    let mut w = entry(PENDING);
    w.string(group);
    w.signed(producer_id);
    write_offsets(&mut w, offsets);
    w.finish()
}

pub(super) fn transaction_ended_entry(group: &str, producer_id: i64, offsets: &OffsetMap) -> Vec<u8> {
    let mut w = entry(TRANSACTION_ENDED);
    w.string(group);
    w.signed(producer_id);
    write_offsets(&mut w, offsets);
    w.finish()
}

pub(super) fn group_removed_entry(group: &str) -> Vec<u8> {
    let mut w = entry(GROUP_REMOVED);
    w.string(group);
    w.finish()
}

pub(super) fn topic_forgotten_entry(group: &str, topic: Uuid) -> Vec<u8> {
    let mut w = entry(TOPIC_FORGOTTEN);
    w.string(group);
    w.uuid(topic);
    w.finish()
}

impl Entry {
    pub(super) fn decode(bytes: &[u8]) -> Result<Entry, Error> {
        let r = &mut Reader::new(bytes);
        check_version(r, "group entry", ENTRY_VERSION)?;
        let kind = r.u8("kind of group entry")?;
        let group = r.string("group")?;
        match kind {
            MEMBERSHIP => Ok(Entry::Membership { group, body: r.bytes("membership")?.to_vec() }),
            COMMITTED => Ok(Entry::Committed { group, offsets: read_offsets(r)? }),
            REMOVED_OFFSETS => {
                Ok(Entry::RemovedOffsets { group, partitions: r.list("partitions", |r| r.partition())? })
            }
            PENDING => {
                let producer_id = r.signed("producer id")?;
                Ok(Entry::Pending { group, producer_id, offsets: read_offsets(r)? })
            }
            TRANSACTION_ENDED => {
                let producer_id = r.signed("producer id")?;
                Ok(Entry::TransactionEnded { group, producer_id, offsets: read_offsets(r)? })
            }
            TOPIC_FORGOTTEN => Ok(Entry::TopicForgotten { group, topic: r.uuid("topic id")? }),
            GROUP_REMOVED => Ok(Entry::GroupRemoved { group }),
            found => Err(Error::Kind { what: "group entry", found }),
        }
    }
}

pub(super) fn membership_body(group: &Group) -> Vec<u8> {
    let mut w = Writer::new();
    w.signed(i64::from(group.generation));
    w.optional_string(group.protocol_type.as_deref());
    w.optional_string(group.protocol.as_deref());
    w.optional_string(group.leader.as_deref());
    w.signed(group.empty_since_ms);
    w.list(group.members.iter(), |w, (id, member)| {
        w.string(id);
        w.optional_string(member.instance_id.as_deref());
        w.string(&member.client_id);
        w.string(&member.client_host);
        w.unsigned(millis(member.session_timeout));
        w.unsigned(millis(member.rebalance_timeout));
        w.list(member.protocols.iter(), |w, (name, metadata)| {
            w.string(name);
            w.bytes(metadata);
        });
        w.bytes(&member.assignment);
    });
    w.finish()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sets a group's membership to what `body` says; sessions start when the timer does.
pub(super) fn apply_membership(group: &mut Group, body: Vec<u8>) -> Result<(), Error> {
    let r = &mut Reader::new(&body);
    group.generation = r.i32("generation")?;
    group.protocol_type = r.optional_string("protocol type")?;
    group.protocol = r.optional_string("protocol")?;
    group.leader = r.optional_string("leader")?;
    group.empty_since_ms = r.signed("empty since")?;
    let members = r.list("members", |r| {
        let id = r.string("member id")?;
        let instance_id = r.optional_string("instance id")?;
        let client_id = r.string("client id")?;
        let client_host = r.string("client host")?;
        let session_timeout = Duration::from_millis(r.unsigned("session timeout")?);
        let rebalance_timeout = Duration::from_millis(r.unsigned("rebalance timeout")?);
        let protocols = r.list("protocols", |r| Ok((r.string("protocol")?, r.owned_bytes("metadata")?)))?;
        let assignment = r.owned_bytes("assignment")?;
        let member = Member {
            instance_id,
            client_id,
            client_host,
            session_timeout,
            rebalance_timeout,
            protocols,
            assignment,
            join: None,
            sync: None,
            synced: true,
            expires: None,
        };
        Ok((id, member))
    })?;
    group.members = members.into_iter().collect();
    let instances =
        group.members.iter().filter_map(|(id, member)| Some((member.instance_id.clone()?, id.clone())));
    group.static_members = instances.collect();
    group.state = if group.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
    group.persisted = body;
    Ok(())
}

/// Writes a snapshot, group by group, each under its own lock.
pub(super) struct SnapshotWriter {
    w: Writer,
}

impl SnapshotWriter {
    pub(super) fn new() -> SnapshotWriter {
        let mut w = Writer::new();
        w.u8(SNAPSHOT_VERSION);
        SnapshotWriter { w }
    }

    /// Groups come and go while others are written, so each is preceded by a mark instead of a count.
    pub(super) fn group(&mut self, group: &Group) {
        self.w.u8(1);
        self.w.string(&group.id);
        self.w.bytes(&group.persisted);
        let Offsets { committed, pending } = &group.offsets;
        write_offsets(&mut self.w, committed);
        self.w.list(pending.iter(), |w, (producer_id, offsets)| {
            w.signed(*producer_id);
            write_offsets(w, offsets);
        });
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.w.u8(0);
        self.w.finish()
    }
}

/// Reads a snapshot.
pub(super) fn read_snapshot(bytes: &[u8]) -> Result<Vec<Group>, Error> {
    let r = &mut Reader::new(bytes);
    check_version(r, "group snapshot", SNAPSHOT_VERSION)?;
    let mut groups = Vec::new();
    while r.bool("mark of a group")? {
        let mut group = Group::new(Arc::from(r.string("group")?));
        apply_membership(&mut group, r.bytes("membership")?.to_vec())?;
        group.offsets.committed = read_offsets(r)?;
        let pending = r.list("pending offsets", |r| Ok((r.signed("producer id")?, read_offsets(r)?)))?;
        group.offsets.pending = pending.into_iter().collect::<BTreeMap<_, _>>();
        groups.push(group);
    }
    if r.is_empty() { Ok(groups) } else { Err(r.invalid("end of group snapshot")) }
}
