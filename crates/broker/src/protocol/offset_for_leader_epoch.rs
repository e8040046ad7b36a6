//! OffsetForLeaderEpoch (23), versions 2-4: where a leader epoch ends. Consumers use it after a restart of the broker to
//! see whether what they read was lost; it never is, as only durable records are read.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopicResult};
use wire::api::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Call, names};
use crate::node::Node;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let OffsetForLeaderEpochRequest { replica_id: _, topics } = request;
    let all = node.catalog.topics();
    let topics = topics
        .into_iter()
        .map(|topic| {
            let found = names::topic(&all, false, &topic.topic, uuid::Uuid::nil());
            let partitions = topic
                .partitions
                .into_iter()
                .map(|wanted| {
                    let partition = names::leader_epoch(node, wanted.current_leader_epoch)
                        .and(found)
                        .and_then(|topic| names::partition(node, topic, wanted.partition));
                    let answer = EpochEndOffset { partition: wanted.partition, ..Default::default() };
                    match partition {
                        Err(error_code) => EpochEndOffset { error_code, ..answer },
                        Ok(partition) => match partition.epoch_end(wanted.leader_epoch) {
                            Some((leader_epoch, end_offset)) => EpochEndOffset {
                                error_code: ErrorCode::NONE,
                                leader_epoch,
                                end_offset,
                                ..answer
                            },
                            None => answer,
                        },
                    }
                })
                .collect();
            OffsetForLeaderTopicResult { topic: topic.topic, partitions }
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}
