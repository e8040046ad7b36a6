//! DeleteRecords (21), versions 0-2: raises the start of partitions. Answered when durable.
//!
//! The space comes back segment by segment, with retention.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use wire::api::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Call, names};
use crate::log::Position;
use crate::node::{Node, read_code};

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let DeleteRecordsRequest { topics, timeout_ms: _ } = request;
    let all = node.catalog.topics();
    let mut last = Position::default();
    let mut results: Vec<DeleteRecordsTopicResult> = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = names::topic(&all, false, &topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let deleted = found
                .and_then(|topic| names::partition(node, topic, wanted.partition_index))
                .and_then(|partition| partition.delete_records(wanted.offset).map_err(|e| read_code(&e)));
            let (error_code, low_watermark) = match deleted {
                Ok((start, position)) => {
                    last = last.max(position);
                    (ErrorCode::NONE, start)
                }
                Err(code) => (code, -1),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark,
                error_code,
            });
        }
        results.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    if node.log.synced(last).await.is_err() {
        for result in
            results.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|p| p.error_code.is_ok())
        {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.low_watermark = -1;
        }
    }
    DeleteRecordsResponse { topics: results, ..Default::default() }
}
