//! ConsumerGroupDescribe (69), versions 0-1 (KIP-848). Classic groups are GROUP_ID_NOT_FOUND, for which clients go on to
//! DescribeGroups; so is a group without members that was one of this protocol.
//! No authorizer: authorized operations are all, where asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use wire::ErrorCode;
use wire::api::consumer_group_describe::{Assignment, DescribedGroup, Member, TopicPartitions};
use wire::api::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::Call;
use super::describe_groups::GROUP_OPERATIONS;
use super::metadata::NO_OPERATIONS;
use crate::catalog::Topics;
use crate::group::consumer::{DescribedConsumer, DescribedConsumerGroup};
use crate::node::Node;

/// The type of a member of this protocol.
const CONSUMER: i8 = 1;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let ConsumerGroupDescribeRequest { group_ids, include_authorized_operations } = request;
    let topics = node.catalog.topics();
    let mut groups = Vec::with_capacity(group_ids.len());
    for group_id in group_ids {
        let answer = DescribedGroup { group_id, authorized_operations: NO_OPERATIONS, ..Default::default() };
        groups.push(match node.groups.consumer_describe(&answer.group_id).await {
            Ok(Some(DescribedConsumerGroup { state, epoch, assignor, members })) => DescribedGroup {
                group_state: state.to_owned(),
                group_epoch: epoch,
                assignment_epoch: epoch,
                assignor_name: assignor.to_owned(),
                members: members.into_iter().map(|one| member(&topics, one)).collect(),
                authorized_operations: if include_authorized_operations {
                    GROUP_OPERATIONS
                } else {
                    NO_OPERATIONS
                },
                ..answer
            },
            Ok(None) => DescribedGroup {
                error_code: ErrorCode::GROUP_ID_NOT_FOUND,
                error_message: Some(format!("group '{}' has no members of this protocol", answer.group_id)),
                ..answer
            },
            Err(error_code) => DescribedGroup { error_code, ..answer },
        });
    }
    ConsumerGroupDescribeResponse { groups, ..Default::default() }
}

fn member(topics: &Topics, member: DescribedConsumer) -> Member {
    let DescribedConsumer {
        member_id,
        instance_id,
        rack_id,
        epoch,
        client_id,
        client_host,
        names,
        regex,
        assignment,
        target,
    } = member;
    Member {
        member_id,
        instance_id,
        rack_id,
        member_epoch: epoch,
        client_id,
        client_host,
        subscribed_topic_names: names,
        subscribed_topic_regex: regex,
        assignment: named(topics, assignment),
        target_assignment: named(topics, target),
        member_type: CONSUMER,
    }
}

/// Topics that are gone have no name to be told by.
fn named(topics: &Topics, partitions: BTreeMap<Uuid, Vec<i32>>) -> Assignment {
    let one = |(topic_id, partitions)| {
        let topic = topics.with_id(topic_id)?;
        Some(TopicPartitions { topic_id, topic_name: topic.name.clone(), partitions })
    };
    Assignment { topic_partitions: partitions.into_iter().filter_map(one).collect() }
}
