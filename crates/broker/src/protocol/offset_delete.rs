//! OffsetDelete (47), version 0. Answered when durable. A partition of a topic that a member subscribes to is refused.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::offset_delete::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use wire::api::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::{Call, names};
use crate::node::Node;

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let OffsetDeleteRequest { group_id, topics } = request;
    let all = node.catalog.topics();
    let mut wanted = Vec::new();
    let mut answer = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = names::topic(&all, false, &topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for one in topic.partitions {
            let known = found.and_then(|found| names::known(found, one.partition_index));
            if let Ok(partition) = known {
                wanted.push((topic.name.clone(), partition));
            }
            partitions.push((one.partition_index, known));
        }
        answer.push((topic.name, partitions));
    }
    let deleted = node.groups.delete_offsets(&group_id, &wanted).await;
    let error_code = deleted.as_ref().err().copied().unwrap_or(ErrorCode::NONE);
    let codes = names::Codes::new(deleted);
    let topics = answer
        .into_iter()
        .map(|(name, partitions)| OffsetDeleteResponseTopic {
            name,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, known)| OffsetDeleteResponsePartition {
                    partition_index,
                    error_code: codes.of(known),
                })
                .collect(),
        })
        .collect();
    OffsetDeleteResponse { error_code, topics, ..Default::default() }
}
