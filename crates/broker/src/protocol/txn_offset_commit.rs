//! TxnOffsetCommit (28), versions 0-5: a group's offsets that hold when the producer's transaction commits. Answered when
//! durable. From version 5 on (KIP-890) it brings the group into the transaction by itself.

use std::sync::Arc;

use wire::api::txn_offset_commit::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use wire::api::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{Call, names};
use crate::group::{MemberRef, OffsetToCommit, TxnCommitRequest};
use crate::node::Node;

/// The first version that adds the group.
const ADDS_FROM: i16 = 5;

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let TxnOffsetCommitRequest {
        transactional_id,
        group_id,
        producer_id,
        producer_epoch,
        generation_id,
        member_id,
        group_instance_id,
        topics,
    } = request;
    let all = node.catalog.topics();
    let mut offsets = Vec::new();
    let mut answer = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = names::topic(&all, false, &topic.name, uuid::Uuid::nil());
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
        answer.push((topic.name, partitions));
    }
    let committed = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        let member = MemberRef { member_id, instance_id: group_instance_id, generation: generation_id };
        let request = TxnCommitRequest { group: group_id, member, producer_id, offsets };
        let adds = call.version >= ADDS_FROM;
        node.transactions.commit_offsets(&transactional_id, producer_epoch, adds, request).await
    };
    let codes = names::Codes::new(committed);
    let topics = answer
        .into_iter()
        .map(|(name, partitions)| TxnOffsetCommitResponseTopic {
            name,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, known)| TxnOffsetCommitResponsePartition {
                    partition_index,
                    error_code: codes.of(known),
                })
                .collect(),
        })
        .collect();
    TxnOffsetCommitResponse { topics, ..Default::default() }
}
