//! ConsumerGroupHeartbeat (68), versions 0-1 (KIP-848): joining, staying in and leaving a group whose partitions the broker
//! assigns. Version 1 has topic patterns, and members choose their own ids.
//!
//! What isn't done of the protocol stands in [`crate::group::consumer`].

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::consumer_group_heartbeat::{Assignment, TopicPartitions};
use wire::api::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::Call;
use crate::group::PartitionId;
use crate::group::consumer::{HeartbeatRequest, HeartbeatResponse, Refused};
use crate::node::Node;

/// The first version in which a member chooses its own id.
const OWN_ID_FROM: i16 = 1;

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let ConsumerGroupHeartbeatRequest {
        group_id,
        member_id,
        member_epoch,
        instance_id,
        rack_id,
        rebalance_timeout_ms,
        subscribed_topic_names,
        subscribed_topic_regex,
        server_assignor,
        topic_partitions,
    } = request;
    if call.version >= OWN_ID_FROM && member_id.is_empty() {
        return ConsumerGroupHeartbeatResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("the member id is empty".to_owned()),
            ..Default::default()
        };
    }
    let request = HeartbeatRequest {
        group: group_id,
        member_id,
        epoch: member_epoch,
        instance_id,
        rack_id,
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.peer.ip().to_canonical()),
        rebalance_timeout_ms,
        names: subscribed_topic_names,
        regex: subscribed_topic_regex,
        assignor: server_assignor,
        owned: topic_partitions.map(|topics| topics.into_iter().flat_map(partitions).collect()),
    };
    match node.groups.consumer_heartbeat(request, &node.catalog.topics()).await {
        Ok(HeartbeatResponse { member_id, epoch, interval, assignment, .. }) => {
            ConsumerGroupHeartbeatResponse {
                member_id: Some(member_id),
                member_epoch: epoch,
                heartbeat_interval_ms: i32::try_from(interval.as_millis()).unwrap_or(i32::MAX),
                assignment: assignment
                    .map(|partitions| Assignment { topic_partitions: by_topic(partitions) }),
                ..Default::default()
            }
        }
        Err(Refused { code, message }) => {
            ConsumerGroupHeartbeatResponse { error_code: code, error_message: message, ..Default::default() }
        }
    }
}

fn partitions(topic: TopicPartitions) -> impl Iterator<Item = PartitionId> {
    let TopicPartitions { topic_id, partitions } = topic;
    partitions.into_iter().map(move |partition| PartitionId { topic: topic_id, partition })
}

/// In the order of topics, as they come.
fn by_topic(partitions: std::collections::BTreeSet<PartitionId>) -> Vec<TopicPartitions> {
    let mut found: Vec<TopicPartitions> = Vec::new();
    for PartitionId { topic, partition } in partitions {
        match found.last_mut() {
            Some(last) if last.topic_id == topic => last.partitions.push(partition),
            _ => found.push(TopicPartitions { topic_id: topic, partitions: vec![partition] }),
        }
    }
    found
}
