//! A client of a few lines: one connection, one request at a time unless told otherwise.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use broker::testing::Guard;
use bytes::Bytes;
use wire::api::*;
use wire::header::{read_response, request_frame};
use wire::records::{BatchBuilder, Compression, RawBatch, Record, batches};
use wire::{ErrorCode, Message, Request};

/// A broker on a directory of its own.
pub(crate) struct Started {
    pub(crate) addr: SocketAddr,
    pub(crate) guard: Guard,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn start() -> Started {
    start_with(|_| {})
}

pub(crate) fn start_with(change: impl FnOnce(&mut broker::Config)) -> Started {
    let dir = tempfile::tempdir().unwrap();
    let mut config = broker::Config::new(dir.path());
    config.flush = broker::log::Flush::Os;
    change(&mut config);
    let (addr, guard) = broker::testing::start_with(config).unwrap();
    Started { addr, guard, dir }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation: 0 }
    }

    /// Sends a request; the correlation id is what [`Client::receive`] wants.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        let frame = request_frame(version, self.correlation, "test", request).unwrap();
        self.stream.write_all(&frame).unwrap();
        self.correlation
    }

    pub(crate) fn receive<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        read_response::<R>(self.receive_frame().unwrap(), version, correlation).unwrap()
    }

    pub(crate) fn receive_frame(&mut self) -> std::io::Result<Bytes> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix)?;
        let mut frame = vec![0; i32::from_be_bytes(prefix) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.send(version, request);
        self.receive::<R>(version, correlation)
    }

    /// In the last declared version.
    pub(crate) fn ask<R: Request>(&mut self, request: &R) -> R::Response {
        self.call(<R as Message>::VERSIONS.1, request)
    }

    pub(crate) fn create(&mut self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: config
                .iter()
                .map(|(name, value)| create_topics::CreatableTopicConfig {
                    name: (*name).into(),
                    value: Some((*value).into()),
                })
                .collect(),
            ..Default::default()
        };
        let response = self.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{:?}", response.topics[0].error_message);
    }

    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> produce::PartitionProduceResponse {
        self.produce_as(9, None, topic, partition, batch)
    }

    pub(crate) fn produce_as(
        &mut self,
        version: i16,
        transactional_id: Option<&str>,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> produce::PartitionProduceResponse {
        let request = produce_request(transactional_id, -1, topic, partition, batch);
        let mut response = self.call(version, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        committed: bool,
    ) -> fetch::PartitionData {
        let request = fetch_request(topic, partition, offset, committed, 0);
        let mut response = self.call(12, &request);
        response.responses.remove(0).partitions.remove(0)
    }

    pub(crate) fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        committed: bool,
    ) -> (i64, i64) {
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: i8::from(committed),
            topics: vec![list_offsets::ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![list_offsets::ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let response = self.ask(&request);
        let one = &response.topics[0].partitions[0];
        assert_eq!(one.error_code, ErrorCode::NONE);
        (one.offset, one.timestamp)
    }
}

pub(crate) fn produce_request(
    transactional_id: Option<&str>,
    acks: i16,
    topic: &str,
    partition: i32,
    batch: Bytes,
) -> ProduceRequest {
    ProduceRequest {
        transactional_id: transactional_id.map(Into::into),
        acks,
        timeout_ms: 10_000,
        topic_data: vec![produce::TopicProduceData {
            name: topic.into(),
            partition_data: vec![produce::PartitionProduceData { index: partition, records: Some(batch) }],
            ..Default::default()
        }],
    }
}

pub(crate) fn fetch_request(
    topic: &str,
    partition: i32,
    offset: i64,
    committed: bool,
    wait_ms: i32,
) -> FetchRequest {
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        isolation_level: i8::from(committed),
        topics: vec![fetch::FetchTopic {
            topic: topic.into(),
            partitions: vec![fetch::FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

pub(crate) fn builder(codec: Compression, values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    push(&mut builder, values);
    builder
}

pub(crate) fn push(builder: &mut BatchBuilder, values: &[&str]) {
    for value in values {
        builder.push(&Record {
            timestamp_ms: now_ms(),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        });
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    builder(Compression::None, values).build().unwrap().into_bytes()
}

/// The records of a fetched partition that aren't control records, as (offset, value).
pub(crate) fn values(data: &fetch::PartitionData) -> Vec<(i64, String)> {
    assert_eq!(data.error_code, ErrorCode::NONE);
    batches(data.records.clone().unwrap_or_default())
        .map(|batch: Result<RawBatch, _>| batch.unwrap())
        .filter(|batch| !batch.header().is_control())
        .flat_map(|batch| batch.records(1 << 20).unwrap())
        .map(|record| (record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()))
        .collect()
}
