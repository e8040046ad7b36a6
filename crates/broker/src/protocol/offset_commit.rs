//! OffsetCommit (8), versions 2-10. Answered when durable. Partitions that don't exist are refused one by one.

use std::sync::Arc;

use wire::api::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use wire::api::{OffsetCommitRequest, OffsetCommitResponse};

use super::{Call, names};
use crate::group::{CommitRequest, MemberRef, OffsetToCommit};
use crate::node::Node;

/// The first version with topic ids.
const IDS_FROM: i16 = 10;

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch,
        member_id,
        group_instance_id,
        retention_time_ms,
        topics,
    } = request;
    let all = node.catalog.topics();
    let mut offsets = Vec::new();
    // The answer in the request's order; what is to be committed gets its code below.
    let mut answer = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = names::topic(&all, call.version >= IDS_FROM, &topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for one in topic.partitions {
            let known = found.and_then(|found| names::known(found, one.partition_index));
            if let Ok(partition) = known {
                offsets.push(OffsetToCommit {
                    partition,
                    offset: one.committed_offset,
                    leader_epoch: one.committed_leader_epoch,
                    metadata: one.committed_metadata.unwrap_or_default(),
                });
            }
            partitions.push((one.partition_index, known));
        }
        answer.push((topic.name, topic.topic_id, partitions));
    }
    let committed = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        let member = MemberRef {
            member_id,
            instance_id: group_instance_id,
            generation: generation_id_or_member_epoch,
        };
        let retention_ms = (retention_time_ms >= 0).then_some(retention_time_ms);
        node.groups.commit_offsets(CommitRequest { group: group_id, member, retention_ms, offsets }).await
    };
    let codes = names::Codes::new(committed);
    let topics = answer
        .into_iter()
        .map(|(name, topic_id, partitions)| OffsetCommitResponseTopic {
            name,
            topic_id,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, known)| OffsetCommitResponsePartition {
                    partition_index,
                    error_code: codes.of(known),
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse { topics, ..Default::default() }
}
