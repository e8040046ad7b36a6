//! Topics in requests are named or given by id, depending on the version: one look-up for both.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;
use wire::ErrorCode;

use crate::catalog::{Topic, Topics};
use crate::group::PartitionId;
use crate::log::Partition;
use crate::node::Node;

/// The topic of a request whose version has ids from `by_id_from` on, names before.
pub(super) fn topic<'a>(
    topics: &'a Topics,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<&'a Arc<Topic>, ErrorCode> {
    if by_id {
        topics.with_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        topics.named(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

/// A partition of a topic.
pub(super) fn partition(node: &Node, topic: &Topic, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    node.log.partition(topic.id, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// A partition by its topic's id, if the topic has it.
pub(super) fn known(topic: &Topic, index: i32) -> Result<PartitionId, ErrorCode> {
    if (0..topic.partitions).contains(&index) {
        Ok(PartitionId { topic: topic.id, partition: index })
    } else {
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

/// Judges the leader epoch that a client believes in (KIP-320); -1 for none.
pub(super) fn leader_epoch(node: &Node, believed: i32) -> Result<(), ErrorCode> {
    match believed {
        -1 => Ok(()),
        epoch if epoch < node.log.leader_epoch() => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > node.log.leader_epoch() => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// What a coordinator said of each partition, or of all of them.
pub(super) struct Codes(Result<HashMap<PartitionId, ErrorCode>, ErrorCode>);

impl Codes {
    pub(super) fn new(answer: Result<Vec<(PartitionId, ErrorCode)>, ErrorCode>) -> Self {
        Self(answer.map(|codes| codes.into_iter().collect()))
    }

    /// The code of a partition, or why it isn't one.
    pub(super) fn of(&self, partition: Result<PartitionId, ErrorCode>) -> ErrorCode {
        match (partition, &self.0) {
            (Err(code), _) => code,
            (Ok(_), Err(code)) => *code,
            (Ok(partition), Ok(codes)) => {
                codes.get(&partition).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR)
            }
        }
    }
}
