//! Fetch (1), versions 4-18: batches from many partitions, up to the high watermark, or for read_committed the last stable
//! offset with the list of aborted transactions.
//!
//! A long poll: with fewer than `min_bytes` there, it waits up to `max_wait_ms` for a partition's watermark to move. Limits:
//! the request's, and the broker's own on the response; the first batch is sent whole even where it is larger (KIP-74).
//!
//! Fetch sessions (KIP-227) are declined: the session id is always 0, so clients name all partitions each time.
//! Not done: fetching as a follower; diverging epochs (KIP-595); zstd for versions below 10, refused per partition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wire::ErrorCode;
use wire::api::fetch::{
    AbortedTransaction, FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData,
};
use wire::api::{FetchRequest, FetchResponse};
use wire::records::{BatchHeader, Compression};

use super::{Call, Reply, names};
use crate::catalog::Topics;
use crate::log::{Aborted, Isolation, Waiter};
use crate::node::{Node, read_code};
use crate::server::Refusal;
use crate::server::memory::FetchMemory;

/// The first version with topic ids.
const IDS_FROM: i16 = 13;
/// The first version in which a client knows zstd (KIP-110).
const ZSTD_FROM: i16 = 10;

pub(super) async fn begin(node: &Arc<Node>, call: Call, request: FetchRequest) -> Result<Reply, Refusal> {
    let node = node.clone();
    Ok(Reply::Later(
        async move {
            let (response, held) = fetch(&node, &call, request).await;
            call.frame(&response).map(|frame| (frame, held))
        }
        .boxed(),
    ))
}

async fn fetch(
    node: &Node,
    call: &Call,
    request: FetchRequest,
) -> (FetchResponse, Option<OwnedSemaphorePermit>) {
    let FetchRequest {
        cluster_id: _,
        replica_id: _,
        replica_state: _,
        max_wait_ms,
        min_bytes,
        max_bytes,
        isolation_level,
        session_id,
        session_epoch,
        topics,
        forgotten_topics_data: _,
        rack_id: _,
    } = request;
    // A session that goes on: none was ever opened.
    if session_id != 0 && session_epoch > 0 {
        let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return (FetchResponse { error_code, ..Default::default() }, None);
    }
    let limits = &node.config.limits;
    let isolation = if isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let wait = Duration::from_millis(u64::try_from(max_wait_ms).unwrap_or(0)).min(limits.fetch_wait_max);
    let deadline = Instant::now() + wait;
    let bytes_max = usize::try_from(max_bytes).unwrap_or(0).min(limits.fetch_bytes_max);
    let bytes_min = usize::try_from(min_bytes).unwrap_or(0).min(bytes_max);
    loop {
        let waiter = Waiter::new();
        let mut held = node.fetch_memory.reserve(bytes_max).await;
        let read = read_all(node, call, &topics, isolation, bytes_max, &waiter);
        if read.bytes >= bytes_min || read.failed || Instant::now() >= deadline || node.stop.is_cancelled() {
            if let Some(held) = &mut held {
                FetchMemory::shrink(held, read.bytes);
            }
            node.metrics.fetched.inc_by(read.bytes as u64);
            return (FetchResponse { responses: read.topics, ..Default::default() }, held);
        }
        drop((read, held));
        tokio::select! {
            () = waiter.wait() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = node.stop.cancelled() => {}
        }
    }
}

struct Read {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// A partition has an error: it is told at once.
    failed: bool,
}

fn read_all(
    node: &Node,
    call: &Call,
    wanted: &[FetchTopic],
    isolation: Isolation,
    bytes_max: usize,
    waiter: &Waiter,
) -> Read {
    let all = node.catalog.topics();
    let mut read = Read { topics: Vec::with_capacity(wanted.len()), bytes: 0, failed: false };
    for topic in wanted {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let left = bytes_max.saturating_sub(read.bytes);
            let data =
                match read_one(node, call, &all, topic, wanted, isolation, left, read.bytes == 0, waiter) {
                    Ok(data) => data,
                    Err(error_code) => {
                        read.failed = true;
                        PartitionData {
                            partition_index: wanted.partition,
                            error_code,
                            high_watermark: -1,
                            records: Some(Bytes::new()),
                            ..Default::default()
                        }
                    }
                };
            read.bytes += data.records.as_ref().map_or(0, Bytes::len);
            partitions.push(data);
        }
        read.topics.push(FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    read
}

#[expect(
    clippy::too_many_arguments,
    reason = "one partition's part of a request, each argument from another place"
)]
fn read_one(
    node: &Node,
    call: &Call,
    all: &Topics,
    topic: &FetchTopic,
    wanted: &FetchPartition,
    isolation: Isolation,
    left: usize,
    first: bool,
    waiter: &Waiter,
) -> Result<PartitionData, ErrorCode> {
    let topic = names::topic(all, call.version >= IDS_FROM, &topic.topic, topic.topic_id)?;
    names::leader_epoch(node, wanted.current_leader_epoch)?;
    let partition = names::partition(node, topic, wanted.partition)?;
    // Before the read: what comes after it wakes the waiter.
    partition.watch(waiter);
    let partition_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
    let read = partition
        .read(wanted.fetch_offset, partition_max.min(left), first, isolation)
        .map_err(|error| read_code(&error))?;
    if call.version < ZSTD_FROM && has_zstd(&read.bytes) {
        return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    }
    let aborted_transactions = (isolation == Isolation::ReadCommitted).then(|| {
        let aborted =
            |Aborted { producer_id, first_offset }: Aborted| AbortedTransaction { producer_id, first_offset };
        read.aborted.into_iter().map(aborted).collect()
    });
    Ok(PartitionData {
        partition_index: wanted.partition,
        error_code: ErrorCode::NONE,
        high_watermark: read.visible.high_watermark,
        last_stable_offset: read.visible.last_stable_offset,
        log_start_offset: read.visible.log_start_offset,
        aborted_transactions,
        records: Some(read.bytes),
        ..Default::default()
    })
}

fn has_zstd(mut bytes: &[u8]) -> bool {
    while let Ok(header) = BatchHeader::parse(bytes) {
        if header.compression() == Ok(Compression::Zstd) {
            return true;
        }
        bytes = bytes.get(header.size..).unwrap_or_default();
    }
    false
}
