//! Produce (0), versions 0-13: appends one batch to each partition.
//!
//! Answered when every batch is durable, with acks=1 as with acks=all: what is acknowledged is what can be read. acks=0 gets
//! no answer; where such a request fails, its connection is closed. A batch is read whole before it is appended (its
//! records must be what its header says, decompressed within a limit) and stored as it came, unless the topic's
//! `compression.type` demands otherwise. Versions 0-2 carry message sets, which become one batch.
//!
//! A transactional batch is appended only to a partition that is part of its producer's open transaction, whatever the
//! client's version (KIP-890, part 1); from version 12 on it brings its partition into the transaction (part 2), which
//! clients do where `transaction.version` 2 is finalised.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tracing::warn;
use wire::ErrorCode;
use wire::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, TopicProduceResponse,
};
use wire::api::{ProduceRequest, ProduceResponse};
use wire::records::{self, BatchBuilder, Compression, RawBatch};

use super::{Call, Reply, names};
use crate::catalog::{Topic, TopicConfig};
use crate::group::PartitionId;
use crate::log::{AppendError, AppendInfo, Position};
use crate::node::{Node, append_code, chain};
use crate::server::Refusal;
use crate::txn::{ProduceClaim, Producer};

/// The first version with batches.
const BATCHES_FROM: i16 = 3;
/// The first version that brings partitions into a transaction.
const ADDS_FROM: i16 = 12;
/// The first version with topic ids.
const IDS_FROM: i16 = 13;
/// The first version in which a client knows zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// Why a partition's batch is refused.
struct Refused {
    code: ErrorCode,
    message: String,
    /// Which record, where it is one.
    record: Option<usize>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record: None }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.to_string())
    }
}

impl From<records::Error> for Refused {
    fn from(error: records::Error) -> Self {
        let (code, record) = match &error {
            records::Error::Crc { .. }
            | records::Error::Truncated { .. }
            | records::Error::Length(_)
            | records::Error::Decompress { .. } => (ErrorCode::CORRUPT_MESSAGE, None),
            records::Error::Magic(_) => (ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, None),
            records::Error::Compression(_) => (ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, None),
            records::Error::TooLarge { .. } => (ErrorCode::MESSAGE_TOO_LARGE, None),
            records::Error::Header(_) => (ErrorCode::INVALID_RECORD, None),
            records::Error::Record { index, .. } => (ErrorCode::INVALID_RECORD, Some(*index)),
        };
        Self { code, message: error.to_string(), record }
    }
}

pub(super) async fn begin(node: &Arc<Node>, call: Call, request: ProduceRequest) -> Result<Reply, Refusal> {
    let ProduceRequest { transactional_id, acks, timeout_ms, topic_data } = request;
    let acks_known = matches!(acks, -1..=1);
    let all = node.catalog.topics();
    let mut last = Position::default();
    let mut responses = Vec::with_capacity(topic_data.len());
    for topic in topic_data {
        let found = names::topic(&all, call.version >= IDS_FROM, &topic.name, topic.topic_id);
        let config = found.map(|topic| TopicConfig::parse(&topic.config));
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        for PartitionProduceData { index, records } in topic.partition_data {
            let appended = match (&found, &config) {
                _ if !acks_known => Err(Refused::new(
                    ErrorCode::INVALID_REQUIRED_ACKS,
                    format!("acks={acks} is none of -1, 0, 1"),
                )),
                (Ok(topic), Ok(Ok(config))) => {
                    append(node, &call, topic, config, index, records, transactional_id.as_deref()).await
                }
                (Err(code), _) => Err((*code).into()),
                (_, Ok(Err(error))) => Err(Refused::new(ErrorCode::INVALID_CONFIG, error.to_string())),
                (_, Err(code)) => Err((*code).into()),
            };
            partition_responses.push(match appended {
                Ok(info) => {
                    last = last.max(info.position);
                    PartitionProduceResponse {
                        index,
                        base_offset: info.base_offset,
                        log_append_time_ms: info.log_append_time,
                        log_start_offset: info.log_start_offset,
                        ..Default::default()
                    }
                }
                Err(Refused { code, message, record }) => PartitionProduceResponse {
                    index,
                    error_code: code,
                    base_offset: -1,
                    record_errors: record
                        .and_then(|record| i32::try_from(record).ok())
                        .map(|batch_index| BatchIndexAndErrorMessage {
                            batch_index,
                            batch_index_error_message: Some(message.clone()),
                        })
                        .into_iter()
                        .collect(),
                    error_message: Some(message),
                    ..Default::default()
                },
            });
        }
        responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    if acks == 0 {
        let failed = responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter().map(move |p| (&topic.name, p)))
            .find(|(_, partition)| !partition.error_code.is_ok());
        return match failed {
            None => Ok(Reply::None),
            Some((topic, partition)) => Err(Refusal::Unacknowledged(format!(
                "{topic}-{}: {}",
                partition.index,
                partition.error_message.as_deref().unwrap_or_default()
            ))),
        };
    }
    let node = node.clone();
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1));
    Ok(Reply::Later(
        async move {
            let failed = match tokio::time::timeout(timeout, node.log.synced(last)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    let message = chain(&error);
                    warn!(client = call.client_id, error = message, "records were not stored");
                    Some((ErrorCode::KAFKA_STORAGE_ERROR, message))
                }
                Err(_) => Some((
                    ErrorCode::REQUEST_TIMED_OUT,
                    format!("the records are not durable after {timeout:?}; they may be later"),
                )),
            };
            if let Some((code, message)) = failed {
                let partitions = responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
                for partition in partitions.filter(|partition| partition.error_code.is_ok()) {
                    partition.error_code = code;
                    partition.error_message = Some(message.clone());
                    partition.base_offset = -1;
                }
            }
            let response = ProduceResponse { responses, ..Default::default() };
            call.frame(&response).map(|frame| (frame, None))
        }
        .boxed(),
    ))
}

async fn append(
    node: &Node,
    call: &Call,
    topic: &Topic,
    config: &TopicConfig,
    index: i32,
    records: Option<Bytes>,
    transactional_id: Option<&str>,
) -> Result<AppendInfo, Refused> {
    let partition = names::partition(node, topic, index)?;
    let bytes = records
        .filter(|bytes| !bytes.is_empty())
        .ok_or_else(|| Refused::new(ErrorCode::INVALID_RECORD, "no records"))?;
    let batch = prepare(node, call, config, bytes)?;
    let header = *batch.header();
    let claim = match (header.is_transactional(), transactional_id) {
        (false, _) => None,
        (true, Some(transactional_id)) => Some(ProduceClaim {
            transactional_id,
            producer: Producer { id: header.producer_id, epoch: header.producer_epoch },
            partition: PartitionId { topic: topic.id, partition: index },
            adds: call.version >= ADDS_FROM,
        }),
        (true, None) => {
            let message = "a transactional batch in a request without a transactional id";
            return Err(Refused::new(ErrorCode::INVALID_TXN_STATE, message));
        }
    };
    let batch = crate::log::RawBatch::parse(batch.into_bytes())
        .map_err(|error| Refused::new(ErrorCode::INVALID_RECORD, error.to_string()))?;
    loop {
        let appended = match claim {
            None => partition.append(batch.clone()),
            // Under the transaction's lock: it can't end between the check and the append.
            Some(claim) => {
                node.transactions.produce(claim, || partition.append(batch.clone())).map_err(|code| {
                    Refused::new(code, format!("transactional id '{}': {code}", claim.transactional_id))
                })?
            }
        };
        match appended {
            Ok(info) => return Ok(info),
            // The disk is slower than the clients: they wait, connection by connection.
            Err(AppendError::Busy) => {
                let room = node.log.room().await;
                room.map_err(|error| Refused::new(ErrorCode::KAFKA_STORAGE_ERROR, chain(&error)))?;
            }
            Err(error) => return Err(Refused::new(append_code(&error), chain(&error))),
        }
    }
}

/// The batch as it is to be stored.
fn prepare(node: &Node, call: &Call, config: &TopicConfig, bytes: Bytes) -> Result<RawBatch, Refused> {
    let limit = node.config.limits.decompressed_bytes_max;
    let batch = match records::magic(&bytes) {
        Some(2) if call.version >= BATCHES_FROM => RawBatch::only(bytes)?,
        Some(0 | 1) if call.version < BATCHES_FROM => {
            records::legacy::convert(&bytes, node.config.log.clock.now_ms(), limit)?
        }
        Some(magic) => {
            return Err(Refused::new(
                ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
                format!("record format {magic} in version {} of Produce", call.version),
            ));
        }
        None => return Err(Refused::new(ErrorCode::CORRUPT_MESSAGE, "the records are shorter than a batch")),
    };
    if batch.header().is_control() {
        return Err(Refused::new(ErrorCode::INVALID_RECORD, "control records are the broker's to write"));
    }
    let codec = batch.header().compression()?;
    if codec == Compression::Zstd && call.version < ZSTD_FROM {
        return Err(Refused::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            format!("zstd in version {} of Produce, {ZSTD_FROM} is the first that has it", call.version),
        ));
    }
    batch.validate(limit)?;
    if config.compacted {
        let mut index = 0;
        batch.visit(limit, |record| {
            if record.key.is_none() {
                return Err(records::Error::Record {
                    index,
                    reason: "has no key, and the topic is compacted",
                });
            }
            index += 1;
            Ok(())
        })?;
    }
    match config.compression {
        Some(wanted) if wanted != codec => Ok(recompress(&batch, wanted, limit)?),
        _ => Ok(batch),
    }
}

/// The same records in another codec.
fn recompress(batch: &RawBatch, codec: Compression, limit: usize) -> Result<RawBatch, records::Error> {
    let header = batch.header();
    let mut builder = BatchBuilder::new(codec);
    if header.is_idempotent() {
        builder = builder.producer(header.producer_id, header.producer_epoch, header.base_sequence);
    }
    if header.is_transactional() {
        builder = builder.transactional();
    }
    batch.visit(limit, |record| {
        let headers: Vec<_> = record.headers().collect();
        builder.push_parts(record.timestamp_ms, record.key, record.value, headers.into_iter());
        Ok::<(), records::Error>(())
    })?;
    builder.build()
}
