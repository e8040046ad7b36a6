//! ListOffsets (2), versions 1-11: the ends of a partition, and the first record at or after a time.
//!
//! Timestamps: -1 latest (the high watermark, or the last stable offset for read_committed), -2 and -4 earliest, -3 the
//! record with the greatest timestamp; -5 and -6 ask for tiers of storage that aren't here and get no offset (-1).
//! Nothing past the high watermark is ever named.

use std::sync::Arc;

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use wire::api::{ListOffsetsRequest, ListOffsetsResponse};
use wire::records::{self, RawBatch};

use super::{Call, names};
use crate::catalog::Topic;
use crate::log::{Isolation, TimestampMatch};
use crate::node::{Node, read_code};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let ListOffsetsRequest { replica_id: _, isolation_level, topics, timeout_ms: _ } = request;
    let isolation = if isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let all = node.catalog.topics();
    let topics = topics
        .into_iter()
        .map(|topic| {
            let found = names::topic(&all, false, &topic.name, uuid::Uuid::nil());
            let partitions = topic
                .partitions
                .into_iter()
                .map(|wanted| {
                    let partition_index = wanted.partition_index;
                    let listed = found.and_then(|topic| list(node, topic, &wanted, isolation));
                    match listed {
                        Ok((offset, timestamp)) => ListOffsetsPartitionResponse {
                            partition_index,
                            error_code: ErrorCode::NONE,
                            timestamp,
                            offset,
                            leader_epoch: if offset >= 0 { node.log.leader_epoch() } else { -1 },
                        },
                        Err(error_code) => {
                            ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() }
                        }
                    }
                })
                .collect();
            ListOffsetsTopicResponse { name: topic.name, partitions }
        })
        .collect();
    ListOffsetsResponse { topics, ..Default::default() }
}

/// Offset and timestamp; -1 for none.
fn list(
    node: &Node,
    topic: &Topic,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<(i64, i64), ErrorCode> {
    names::leader_epoch(node, wanted.current_leader_epoch)?;
    let partition = names::partition(node, topic, wanted.partition_index)?;
    let visible = partition.visible();
    match wanted.timestamp {
        LATEST => Ok(match isolation {
            Isolation::ReadCommitted => (visible.last_stable_offset, -1),
            Isolation::ReadUncommitted => (visible.high_watermark, -1),
        }),
        EARLIEST | EARLIEST_LOCAL => Ok((visible.log_start_offset, -1)),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok((-1, -1)),
        MAX_TIMESTAMP => {
            let found = partition.find_max_timestamp().map_err(|e| read_code(&e))?;
            found.map_or(Ok((-1, -1)), |found| record_at(node, &found, found.header.max_timestamp))
        }
        timestamp if timestamp >= 0 => {
            let found = partition.find_timestamp(timestamp, isolation).map_err(|e| read_code(&e))?;
            found.map_or(Ok((-1, -1)), |found| record_at(node, &found, timestamp))
        }
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

enum Stop {
    Found(i64, i64),
    Broken,
}

impl From<records::Error> for Stop {
    fn from(_: records::Error) -> Self {
        Self::Broken
    }
}

/// The first record of a batch at or after a time.
fn record_at(node: &Node, found: &TimestampMatch, timestamp: i64) -> Result<(i64, i64), ErrorCode> {
    let batch =
        RawBatch::take(&mut Bytes::clone(&found.batch)).map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
    let visited = batch.visit(node.config.limits.decompressed_bytes_max, |record| {
        if record.timestamp_ms >= timestamp {
            Err(Stop::Found(record.offset, record.timestamp_ms))
        } else {
            Ok(())
        }
    });
    match visited {
        Err(Stop::Found(offset, timestamp)) => Ok((offset, timestamp)),
        Err(Stop::Broken) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        // The batch's header promised such a record; its first offset is the nearest true answer.
        Ok(()) => Ok((batch.header().base_offset, batch.header().max_timestamp)),
    }
}
