//! What the protocol layer asks and gets: plain values, no protocol versions. Where an answer depends on the
//! version, the request says what the client understands (`skips_assignment`, `knows_member_ids`).

use bytes::Bytes;
use wire::ErrorCode;

use super::journal::PartitionId;

/// JoinGroup.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The group.
    pub group: String,
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// From the request header; part of a new member's id.
    pub client_id: String,
    /// The peer's address, for DescribeGroups.
    pub client_host: String,
    /// Milliseconds without a heartbeat until the member is dropped.
    pub session_timeout_ms: i32,
    /// Milliseconds that a rebalance waits for this member; version 0 has none: pass the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ...
    pub protocol_type: String,
    /// (name, metadata) in the member's order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// Version 4 and later: the client repeats its join with the id it is given (KIP-394).
    pub knows_member_ids: bool,
    /// Version 9 and later: the client understands `skip_assignment` (KIP-814).
    pub skips_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub member_id: String,
    /// Its instance id, for a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinResponse {
    /// `NONE`, or why the member isn't in.
    pub error: ErrorCode,
    /// The generation, -1 with an error.
    pub generation: i32,
    /// The group's protocol type (version 7 and later).
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// The leader is to keep the assignment that stands (KIP-814).
    pub skip_assignment: bool,
    /// The member's id; with `MEMBER_ID_REQUIRED` the one to come back with.
    pub member_id: String,
    /// All members for the leader, empty for the others.
    pub members: Vec<JoinedMember>,
}

impl JoinResponse {
    pub(crate) fn failed(error: ErrorCode, member_id: impl Into<String>) -> JoinResponse {
        JoinResponse {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// Who speaks: what all requests of a member carry.
#[derive(Debug, Clone, Default)]
pub struct MemberRef {
    /// The member's id; empty for none.
    pub member_id: String,
    /// Its instance id, if it is a static member.
    pub instance_id: Option<String>,
    /// The generation it believes in; -1 for none.
    pub generation: i32,
}

/// SyncGroup.
#[derive(Debug, Clone)]
pub struct SyncRequest {
    /// The group.
    pub group: String,
    /// Who asks.
    pub member: MemberRef,
    /// Checked when given (version 5 and later).
    pub protocol_type: Option<String>,
    /// Checked when given (version 5 and later).
    pub protocol: Option<String>,
    /// (member id, assignment) from the leader, else empty.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncResponse {
    /// `NONE`, or why there is no assignment.
    pub error: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The chosen protocol.
    pub protocol: Option<String>,
    /// What the member is assigned, as the leader wrote it.
    pub assignment: Bytes,
}

impl SyncResponse {
    pub(crate) fn failed(error: ErrorCode) -> SyncResponse {
        SyncResponse { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// One member of LeaveGroup.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Empty: the member is named by its instance id alone (an administrator removes it).
    pub member_id: String,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
}

/// An offset to commit.
#[derive(Debug, Clone)]
pub struct OffsetToCommit {
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: i32,
    /// Free text of the client.
    pub metadata: String,
}

/// OffsetCommit.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The group.
    pub group: String,
    /// Who commits; `MemberRef { generation: -1, .. }` without a member id is a simple consumer.
    pub member: MemberRef,
    /// Versions 2 to 4: how long these offsets are kept; `None` (or -1 on the wire): the broker's retention.
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub offsets: Vec<OffsetToCommit>,
}

/// The part of TxnOffsetCommit that concerns the group; `txn` checks the rest.
#[derive(Debug, Clone)]
pub struct TxnCommitRequest {
    /// The group.
    pub group: String,
    /// The consumer whose offsets they are (KIP-447); versions below 3 have none: the default with generation -1.
    pub member: MemberRef,
    /// The producer in whose transaction the offsets wait.
    pub producer_id: i64,
    /// What to commit.
    pub offsets: Vec<OffsetToCommit>,
}

/// The answer for one partition of OffsetCommit, TxnOffsetCommit and OffsetDelete.
pub type PartitionCode = (PartitionId, ErrorCode);

/// OffsetFetch of one group.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The group.
    pub group: String,
    /// `None`: all partitions that have an offset.
    pub partitions: Option<Vec<PartitionId>>,
    /// Answer `UNSTABLE_OFFSET_COMMIT` where a transaction is open (KIP-447).
    pub require_stable: bool,
}

/// One partition of OffsetFetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The committed offset, -1 for none.
    pub offset: i64,
    /// The leader epoch that was committed, -1 for none.
    pub leader_epoch: i32,
    /// The metadata that was committed.
    pub metadata: String,
    /// `NONE` or `UNSTABLE_OFFSET_COMMIT`.
    pub error: ErrorCode,
}

/// The state of a group, by the names of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; it may have offsets.
    Empty,
    /// Members are joining the next generation.
    PreparingRebalance,
    /// The leader is assigning.
    CompletingRebalance,
    /// Every member has an assignment.
    Stable,
    /// Members of the consumer protocol give up or wait for partitions. Only told, never a group's own state.
    Reconciling,
    /// Unknown or deleted.
    Dead,
}

impl GroupState {
    /// The name in DescribeGroups and ListGroups.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Reconciling => "Reconciling",
            GroupState::Dead => "Dead",
        }
    }
}

/// A member in DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member's id.
    pub member_id: String,
    /// Its instance id, for a static member.
    pub instance_id: Option<String>,
    /// The client id it joined with.
    pub client_id: String,
    /// The address it joined from.
    pub client_host: String,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// A group in DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// The group.
    pub group: String,
    /// `Dead` for a group that doesn't exist (with `GROUP_ID_NOT_FOUND` from version 6 on).
    pub state: GroupState,
    /// Empty for a simple consumer's group.
    pub protocol_type: String,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A group in ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: String,
    /// Empty for a simple consumer's group.
    pub protocol_type: String,
    /// Its state.
    pub state: GroupState,
    /// Its members are of the consumer protocol.
    pub is_consumer: bool,
}
