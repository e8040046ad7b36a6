//! Produce, Fetch, ListOffsets: offsets, sequences, codecs, long polls, limits.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use wire::ErrorCode;
use wire::api::*;
use wire::records::{BatchBuilder, Compression, Record};

use crate::support::{
    Client, batch, builder, fetch_request, now_ms, produce_request, push, start, start_with, values,
};

#[test]
fn records_come_back_in_every_codec_and_version() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let mut offset = 0;
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let bytes = builder(codec, &["a", "b"]).build().unwrap().into_bytes();
        for version in 3..=12 {
            if codec == Compression::Zstd && version < 7 {
                let refused = client.produce_as(version, None, "t", 0, bytes.clone());
                assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
                continue;
            }
            let produced = client.produce_as(version, None, "t", 0, bytes.clone());
            assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, offset), "{version}");
            offset += 2;
        }
        let request = fetch_request("t", 0, offset - 2, false, 0);
        for version in 4..=12 {
            let mut response = client.call(version, &request);
            let data = response.responses.remove(0).partitions.remove(0);
            if codec == Compression::Zstd && version < 10 {
                assert_eq!(data.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
                continue;
            }
            assert_eq!(values(&data), [(offset - 2, "a".to_owned()), (offset - 1, "b".to_owned())]);
            assert_eq!(data.high_watermark, offset);
        }
    }
}

#[test]
fn topics_are_known_by_id_too() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let id = client.ask(&MetadataRequest { topics: None, ..Default::default() }).topics[0].topic_id;
    let mut request = produce_request(None, -1, "", 0, batch(&["a"]));
    request.topic_data[0].topic_id = id;
    let response = client.call(13, &request);
    assert_eq!(response.responses[0].topic_id, id);
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    let mut request = fetch_request("", 0, 0, false, 0);
    request.topics[0].topic_id = id;
    for version in 13..=18 {
        let response = client.call(version, &request);
        assert_eq!(values(&response.responses[0].partitions[0]), [(0, "a".to_owned())]);
    }
    request.topics[0].topic_id = uuid::Uuid::from_u128(5);
    let response = client.call(18, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn old_message_sets_are_stored_as_batches() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    for magic in [0i8, 1] {
        let mut body = BytesMut::new();
        body.put_i8(magic);
        body.put_i8(0);
        if magic == 1 {
            body.put_i64(now_ms());
        }
        body.put_i32(-1);
        body.put_i32(3);
        body.put_slice(b"old");
        let mut set = BytesMut::new();
        set.put_i64(0);
        set.put_i32(4 + body.len() as i32);
        set.put_u32(crc32fast_of(&body));
        set.put_slice(&body);
        for version in 0..=2 {
            let produced = client.produce_as(version, None, "t", 0, set.clone().freeze());
            assert_eq!(produced.error_code, ErrorCode::NONE);
        }
        let produced = client.produce_as(3, None, "t", 0, set.freeze());
        assert_eq!(produced.error_code, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
    let found = values(&client.fetch("t", 0, 0, false));
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|(_, value)| value == "old"));
}

/// CRC-32 (IEEE), bit by bit: what old message sets have.
fn crc32fast_of(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn what_is_broken_is_refused_and_nothing_is_stored() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    client.create("compacted", 1, &[("cleanup.policy", "compact")]);
    let good = batch(&["a"]);
    let mut flipped = BytesMut::from(&good[..]);
    flipped[65] ^= 1;
    let two = [good.clone(), good.clone()].concat();
    let mut keyless = BatchBuilder::new(Compression::None);
    keyless.push(&Record {
        timestamp_ms: now_ms(),
        value: Some(Bytes::from_static(b"v")),
        ..Record::default()
    });
    let keyless = keyless.build().unwrap().into_bytes();
    let control = wire::records::control_batch(wire::records::Marker::Commit, 1, 0, 0, now_ms()).into_bytes();
    let future = {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(&Record { timestamp_ms: now_ms() + 86_400_000, ..Record::default() });
        builder.build().unwrap().into_bytes()
    };
    let cases: Vec<(&str, i32, Bytes, ErrorCode)> = vec![
        ("t", 0, flipped.freeze(), ErrorCode::CORRUPT_MESSAGE),
        ("t", 0, good.slice(..40), ErrorCode::CORRUPT_MESSAGE),
        ("t", 0, good.slice(..5), ErrorCode::CORRUPT_MESSAGE),
        ("t", 0, Bytes::new(), ErrorCode::INVALID_RECORD),
        ("t", 0, two.into(), ErrorCode::INVALID_RECORD),
        ("t", 0, control, ErrorCode::INVALID_RECORD),
        ("t", 0, future, ErrorCode::INVALID_TIMESTAMP),
        ("compacted", 0, keyless, ErrorCode::INVALID_RECORD),
        ("t", 1, good.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("t", -1, good.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("none", 0, good.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    for (number, (topic, partition, bytes, expected)) in cases.into_iter().enumerate() {
        let refused = client.produce(topic, partition, bytes);
        assert_eq!(refused.error_code, expected, "case {number}: {:?}", refused.error_message);
        assert!(refused.error_message.is_some());
    }
    let odd = client.call(9, &produce_request(None, 2, "t", 0, good));
    assert_eq!(odd.responses[0].partition_responses[0].error_code, ErrorCode::INVALID_REQUIRED_ACKS);
    assert_eq!(client.list_offset("t", 0, -1, false).0, 0);
}

#[test]
fn sequences_make_producers_idempotent() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let identity =
        client.call(5, &InitProducerIdRequest { transaction_timeout_ms: 1000, ..Default::default() });
    assert_eq!(identity.error_code, ErrorCode::NONE);
    let send = |client: &mut Client, epoch: i16, sequence: i32, values: &[&str]| {
        let mut builder = BatchBuilder::new(Compression::Lz4).producer(identity.producer_id, epoch, sequence);
        push(&mut builder, values);
        client.produce("t", 0, builder.build().unwrap().into_bytes())
    };
    assert_eq!(send(&mut client, 0, 0, &["a", "b"]).base_offset, 0);
    let again = send(&mut client, 0, 0, &["a", "b"]);
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0), "a retry has its first offset");
    assert_eq!(send(&mut client, 0, 3, &["d"]).error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(&mut client, 0, 2, &["c"]).base_offset, 2);
    assert_eq!(send(&mut client, 1, 0, &["d"]).base_offset, 3);
    assert_eq!(send(&mut client, 0, 3, &["x"]).error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    let found: Vec<String> =
        values(&client.fetch("t", 0, 0, false)).into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, ["a", "b", "c", "d"]);
}

#[test]
fn a_topic_can_demand_its_codec_and_its_time() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[("compression.type", "zstd"), ("message.timestamp.type", "LogAppendTime")]);
    let old = Record { timestamp_ms: 1000, value: Some(Bytes::from_static(b"v")), ..Record::default() };
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.push(&old);
    let produced = client.produce("t", 0, builder.build().unwrap().into_bytes());
    assert_eq!(produced.error_code, ErrorCode::NONE);
    assert!(produced.log_append_time_ms > 1000);
    let data = client.fetch("t", 0, 0, false);
    let stored = wire::records::batches(data.records.unwrap()).next().unwrap().unwrap();
    assert_eq!(stored.header().compression(), Ok(Compression::Zstd));
    assert_eq!(stored.records(1 << 20).unwrap()[0].timestamp_ms, produced.log_append_time_ms);
}

#[test]
fn a_long_poll_ends_with_the_record_or_with_its_time() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 2, &[]);
    let began = Instant::now();
    let response = client.call(12, &fetch_request("t", 0, 0, false, 300));
    assert!(values(&response.responses[0].partitions[0]).is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));

    let began = Instant::now();
    let correlation = client.send(12, &fetch_request("t", 0, 0, false, 15_000));
    let mut other = Client::connect(started.addr);
    other.produce("t", 1, batch(&["elsewhere"]));
    other.produce("t", 0, batch(&["here"]));
    let response = client.receive::<FetchRequest>(12, correlation);
    assert_eq!(values(&response.responses[0].partitions[0]), [(0, "here".to_owned())]);
    assert!(began.elapsed() < Duration::from_secs(10));

    // Out of range is told at once, with what there is.
    let data = client.fetch("t", 0, 17, false);
    assert_eq!(data.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    // So are sessions that were never opened, and epochs of another time.
    let mut request = fetch_request("t", 0, 0, false, 15_000);
    (request.session_id, request.session_epoch) = (5, 1);
    assert_eq!(client.call(12, &request).error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    let mut request = fetch_request("t", 0, 0, false, 15_000);
    request.topics[0].partitions[0].current_leader_epoch = 1_000_000;
    let response = client.call(12, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
}

#[test]
fn fetch_keeps_to_its_limits_and_still_gets_on() {
    let started = start_with(|config| config.limits.fetch_bytes_max = 3000);
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let value = "x".repeat(1000);
    for _ in 0..8 {
        client.produce("t", 0, batch(&[&value]));
    }
    let data = client.fetch("t", 0, 0, false);
    assert_eq!(values(&data).len(), 2, "the broker's own limit");
    let mut request = fetch_request("t", 0, 3, false, 0);
    request.max_bytes = 10;
    let response = client.call(12, &request);
    assert_eq!(values(&response.responses[0].partitions[0]).len(), 1, "the first batch comes whole");
}

#[test]
fn offsets_are_found_by_time() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let base = now_ms() - 100_000;
    for codec in [Compression::None, Compression::Lz4] {
        let mut builder = BatchBuilder::new(codec);
        for i in 0..3 {
            let timestamp_ms = base + i * 10 + if codec == Compression::None { 0 } else { 1000 };
            builder.push(&Record { timestamp_ms, ..Record::default() });
        }
        client.produce("t", 0, builder.build().unwrap().into_bytes());
    }
    assert_eq!(client.list_offset("t", 0, -2, false).0, 0);
    assert_eq!(client.list_offset("t", 0, -1, false).0, 6);
    assert_eq!(client.list_offset("t", 0, -3, false), (5, base + 1020));
    assert_eq!(client.list_offset("t", 0, 0, false), (0, base));
    assert_eq!(client.list_offset("t", 0, base + 11, false), (2, base + 20));
    assert_eq!(client.list_offset("t", 0, base + 1005, false), (4, base + 1010));
    assert_eq!(client.list_offset("t", 0, base + 5000, false), (-1, -1));

    let deleted = client.ask(&DeleteRecordsRequest {
        topics: vec![delete_records::DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![delete_records::DeleteRecordsPartition { partition_index: 0, offset: 3 }],
        }],
        ..Default::default()
    });
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 3);
    assert_eq!(client.list_offset("t", 0, -2, false).0, 3);
    assert_eq!(client.fetch("t", 0, 1, false).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn requests_are_answered_in_order_and_acks_zero_not_at_all() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    client.send(9, &produce_request(None, 0, "t", 0, batch(&["silent"])));
    let sent: Vec<i32> = (0..50)
        .map(|i| client.send(9, &produce_request(None, -1, "t", 0, batch(&[&i.to_string()]))))
        .collect();
    for (i, correlation) in sent.into_iter().enumerate() {
        let response = client.receive::<ProduceRequest>(9, correlation);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, i as i64 + 1);
    }
    // What failed without an answer is told by closing the connection.
    client.send(9, &produce_request(None, 0, "t", 7, batch(&["lost"])));
    assert!(client.receive_frame().is_err());
}

#[test]
fn a_sequence_without_a_producer_id_says_nothing() {
    // KafkaJS and aiokafka leave 0 in it.
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    for value in ["a", "b"] {
        let mut builder = BatchBuilder::new(Compression::None).producer(-1, -1, 0);
        push(&mut builder, &[value]);
        let produced = client.produce("t", 0, builder.build().unwrap().into_bytes());
        assert_eq!(produced.error_code, ErrorCode::NONE, "{:?}", produced.error_message);
    }
    // Nobody's sequence: the same one again is no duplicate.
    assert_eq!(values(&client.fetch("t", 0, 0, false)), [(0, "a".to_owned()), (1, "b".to_owned())]);
}
