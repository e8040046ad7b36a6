//! What the protocol layer asks of groups of the consumer protocol and gets: plain values, no protocol versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use wire::ErrorCode;

use super::{AWAY, JOINING};
use crate::catalog::Topics;
use crate::group::coordinator::Groups;
use crate::group::journal::{PartitionId, Position};

/// ConsumerGroupHeartbeat.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: String,
    /// The client's own choice, or empty to be given one.
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members); else what it was last told.
    pub epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Where the client is; None for no change.
    pub rack_id: Option<String>,
    /// From the request header.
    pub client_id: String,
    /// The peer's address.
    pub client_host: String,
    /// Milliseconds within which it gives up what it is told to; -1 for no change.
    pub rebalance_timeout_ms: i32,
    /// Topics by name; None for no change.
    pub names: Option<Vec<String>>,
    /// Topics by pattern, empty for none; None for no change.
    pub regex: Option<String>,
    /// Its choice of assignor; None for no change.
    pub assignor: Option<String>,
    /// What it owns; None for no change.
    pub owned: Option<Vec<PartitionId>>,
}

impl HeartbeatRequest {
    /// What must hold of a request of any member.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let bad = |message: &str| Err(Refused::new(ErrorCode::INVALID_REQUEST, message));
        if self.epoch < AWAY {
            return bad("member epoch must be -2 or more");
        }
        if self.epoch != JOINING {
            return Ok(());
        }
        if self.rebalance_timeout_ms < 0 {
            return bad("rebalance timeout must be given when joining");
        }
        if self.names.is_none() && self.regex.is_none() {
            return bad("subscribed topic names or a regex must be given when joining");
        }
        if self.owned.as_ref().is_some_and(|owned| !owned.is_empty()) {
            return bad("topic partitions must be empty when joining");
        }
        Ok(())
    }
}

/// The answer to ConsumerGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The member's id.
    pub member_id: String,
    /// Its epoch.
    pub epoch: i32,
    /// How long until its next heartbeat.
    pub interval: Duration,
    /// What it owns from now on; None where that is as before.
    pub assignment: Option<BTreeSet<PartitionId>>,
    pub(super) position: Option<Position>,
}

/// Why a heartbeat is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The protocol's code.
    pub code: ErrorCode,
    /// In words, where the code alone doesn't say.
    pub message: Option<String>,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}

/// A group in ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    /// `Empty`, `Reconciling` or `Stable`.
    pub state: &'static str,
    /// The group's epoch; its targets are of the same one.
    pub epoch: i32,
    /// The assignor in force.
    pub assignor: &'static str,
    /// Its members, by id.
    pub members: Vec<DescribedConsumer>,
}

/// A member in ConsumerGroupDescribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// The member's id.
    pub member_id: String,
    /// Its instance id, for a static member.
    pub instance_id: Option<String>,
    /// Where the client says it is.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// From the header of its last heartbeat.
    pub client_id: String,
    /// The address that came from.
    pub client_host: String,
    /// Topics by name.
    pub names: Vec<String>,
    /// Topics by pattern.
    pub regex: Option<String>,
    /// What it owns.
    pub assignment: BTreeMap<uuid::Uuid, Vec<i32>>,
    /// What it is to own.
    pub target: BTreeMap<uuid::Uuid, Vec<i32>>,
}

impl Groups {
    /// ConsumerGroupHeartbeat. Answered when a new epoch is durable.
    ///
    /// # Errors
    /// `FENCED_MEMBER_EPOCH`, `UNKNOWN_MEMBER_ID`: drop everything and join again; the others say what is wrong.
    pub async fn consumer_heartbeat(
        &self,
        request: HeartbeatRequest,
        topics: &Arc<Topics>,
    ) -> Result<HeartbeatResponse, Refused> {
        if request.group.is_empty() {
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, "the group id is empty"));
        }
        if request.member_id.is_empty() && request.epoch != JOINING {
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, "the member id is empty"));
        }
        let group = request.group.clone();
        // A member of a group that is gone starts over, as one that the group doesn't know.
        let missing = ErrorCode::UNKNOWN_MEMBER_ID;
        let beat = self.with(&group, request.epoch == JOINING, missing, |group, cx| {
            group.consumer_heartbeat(cx, request, topics)
        })??;
        self.settle(beat.position).await?;
        Ok(beat)
    }

    /// ConsumerGroupDescribe, one group; None where it isn't there or is a classic one.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE`: what it would tell can't be made durable.
    pub async fn consumer_describe(&self, group: &str) -> Result<Option<DescribedConsumerGroup>, ErrorCode> {
        let Some(cell) = self.find(group) else { return Ok(None) };
        let (described, position) = {
            let group = cell.lock();
            let Some(consumer) = &group.consumer else { return Ok(None) };
            let members = consumer.members.iter().map(|(id, member)| DescribedConsumer {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                rack_id: member.rack_id.clone(),
                epoch: member.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                names: member.names.iter().cloned().collect(),
                regex: member.pattern.as_ref().map(|pattern| pattern.text.clone()),
                assignment: by_topic(member.owned.keys()),
                target: by_topic(member.target.iter()),
            });
            let described = DescribedConsumerGroup {
                state: group.state_now().name(),
                epoch: group.generation,
                assignor: consumer.assignor.name(),
                members: members.collect(),
            };
            (described, group.position)
        };
        self.settle(position).await?;
        Ok(Some(described))
    }
}

fn by_topic<'a>(partitions: impl Iterator<Item = &'a PartitionId>) -> BTreeMap<uuid::Uuid, Vec<i32>> {
    let mut found: BTreeMap<uuid::Uuid, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        found.entry(partition.topic).or_default().push(partition.partition);
    }
    found
}
