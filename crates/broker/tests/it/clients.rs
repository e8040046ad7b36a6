//! librdkafka, in this process: what its own logic asks of a broker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{Client, Started, start};

const WAIT: Duration = Duration::from_secs(20);

fn client<T: FromClientConfig>(started: &Started, settings: &[(&str, &str)]) -> T {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", started.addr.to_string());
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

fn consumer(started: &Started, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut all = vec![
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "200"),
        ("fetch.wait.max.ms", "50"),
    ];
    all.extend(settings);
    let consumer: BaseConsumer = client(started, &all);
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

fn produce(producer: &BaseProducer, values: impl IntoIterator<Item = String>) {
    for value in values {
        producer.send(BaseRecord::to("t").key(&value).payload(&value)).map_err(|(e, _)| e).unwrap();
    }
}

/// Reads until `count` records came.
fn read(consumer: &BaseConsumer, count: usize) -> Vec<String> {
    let deadline = Instant::now() + WAIT;
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", found.len());
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
    }
    found
}

#[test]
fn every_codec_goes_through_idempotently() {
    let started = start();
    Client::connect(started.addr).create("t", 3, &[]);
    let mut expected: Vec<String> = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer: BaseProducer = client(
            &started,
            &[("compression.type", codec), ("enable.idempotence", "true"), ("linger.ms", "5")],
        );
        let values: Vec<String> = (0..200).map(|i| format!("{codec} {i} {}", "pad ".repeat(20))).collect();
        produce(&producer, values.clone());
        producer.flush(WAIT).unwrap();
        assert_eq!(producer.in_flight_count(), 0);
        expected.extend(values);
    }
    let mut found = read(&consumer(&started, "g", &[]), expected.len());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn two_members_share_what_one_had_and_one_takes_over_again() {
    for strategy in ["range", "cooperative-sticky"] {
        let started = start();
        Client::connect(started.addr).create("t", 4, &[]);
        let settings = [("partition.assignment.strategy", strategy)];
        let first = consumer(&started, "g", &settings);
        let assigned = |consumer: &BaseConsumer| consumer.assignment().unwrap().count();
        let until = |done: &mut dyn FnMut() -> bool| {
            let deadline = Instant::now() + WAIT;
            while !done() {
                assert!(Instant::now() < deadline, "no rebalance in {WAIT:?} ({strategy})");
            }
        };
        let poll = |consumer: &BaseConsumer| {
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(20)) {
                panic!("{error}");
            }
        };
        until(&mut || {
            poll(&first);
            assigned(&first) == 4
        });
        let second = consumer(&started, "g", &settings);
        until(&mut || {
            poll(&first);
            poll(&second);
            assigned(&first) == 2 && assigned(&second) == 2
        });
        drop(second);
        until(&mut || {
            poll(&first);
            assigned(&first) == 4
        });
    }
}

#[test]
fn offsets_are_where_they_were_committed() {
    let started = start();
    Client::connect(started.addr).create("t", 1, &[]);
    let producer: BaseProducer = client(&started, &[]);
    produce(&producer, (0..10).map(|i| i.to_string()));
    producer.flush(WAIT).unwrap();
    {
        let consumer = consumer(&started, "g", &[]);
        assert_eq!(read(&consumer, 10).len(), 10);
        let mut offsets = rdkafka::TopicPartitionList::new();
        offsets.add_partition_offset("t", 0, rdkafka::Offset::Offset(7)).unwrap();
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
    }
    assert_eq!(read(&consumer(&started, "g", &[]), 3), ["7", "8", "9"]);
}

#[test]
fn exactly_once_with_offsets_in_the_transaction() {
    let started = start();
    let mut admin = Client::connect(started.addr);
    admin.create("t", 2, &[]);
    admin.create("out", 2, &[]);
    let source: BaseProducer = client(&started, &[]);
    produce(&source, (0..40).map(|i| format!("{i:02}")));
    source.flush(WAIT).unwrap();

    let txn = [("transactional.id", "loop"), ("transaction.timeout.ms", "10000")];
    let producer: BaseProducer = client(&started, &txn);
    producer.init_transactions(WAIT).unwrap();
    let consumer = consumer(&started, "g", &[("isolation.level", "read_committed")]);
    let mut done = 0;
    let mut round = 0;
    let mut seen: HashMap<String, usize> = HashMap::new();
    while done < 40 {
        let batch: Vec<_> = {
            let mut batch = Vec::new();
            let deadline = Instant::now() + WAIT;
            while batch.len() < 10 {
                assert!(Instant::now() < deadline);
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    let message = message.unwrap();
                    let value = String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
                    batch.push((message.partition(), message.offset(), value));
                }
            }
            batch
        };
        producer.begin_transaction().unwrap();
        let mut offsets = rdkafka::TopicPartitionList::new();
        let mut last: HashMap<i32, i64> = HashMap::new();
        for (partition, offset, value) in &batch {
            producer.send(BaseRecord::to("out").key(value).payload(value)).map_err(|(e, _)| e).unwrap();
            last.insert(*partition, offset + 1);
        }
        for (partition, offset) in last {
            offsets.add_partition_offset("t", partition, rdkafka::Offset::Offset(offset)).unwrap();
        }
        let metadata = consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&offsets, &metadata, WAIT).unwrap();
        round += 1;
        // Delivery reports are polled here: ending a transaction doesn't poll for them.
        producer.flush(WAIT).unwrap();
        if round % 2 == 1 {
            // Every other round is thrown away and read again.
            producer.abort_transaction(WAIT).unwrap();
            let mut back = rdkafka::TopicPartitionList::new();
            let mut first: HashMap<i32, i64> = HashMap::new();
            for (partition, offset, _) in batch.iter().rev() {
                first.insert(*partition, *offset);
            }
            for (partition, offset) in first {
                back.add_partition_offset("t", partition, rdkafka::Offset::Offset(offset)).unwrap();
            }
            consumer.seek_partitions(back, WAIT).unwrap();
        } else {
            producer.commit_transaction(WAIT).unwrap();
            done += batch.len();
        }
    }
    let reader: BaseConsumer = client(
        &started,
        &[
            ("group.id", "reader"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", "true"),
        ],
    );
    reader.subscribe(&["out"]).unwrap();
    let mut ends = 0;
    let deadline = Instant::now() + WAIT;
    while ends < 2 {
        assert!(Instant::now() < deadline);
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                *seen.entry(String::from_utf8(message.payload().unwrap().to_vec()).unwrap()).or_default() +=
                    1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
}

#[test]
fn a_second_producer_of_the_id_fences_the_first() {
    let started = start();
    Client::connect(started.addr).create("t", 1, &[]);
    let txn = [("transactional.id", "slot"), ("transaction.timeout.ms", "10000")];
    let old: BaseProducer = client(&started, &txn);
    old.init_transactions(WAIT).unwrap();
    old.begin_transaction().unwrap();
    produce(&old, ["left open".to_owned()]);
    old.flush(WAIT).unwrap();
    let new: BaseProducer = client(&started, &txn);
    new.init_transactions(WAIT).unwrap();
    let error = old.commit_transaction(WAIT).unwrap_err();
    let KafkaError::Transaction(error) = error else { panic!("{error}") };
    assert!(error.is_fatal(), "{error}");
    assert_eq!(old.client().fatal_error().map(|(code, _)| code), Some(RDKafkaErrorCode::Fenced));
    new.begin_transaction().unwrap();
    produce(&new, ["new".to_owned()]);
    new.commit_transaction(WAIT).unwrap();
    let reader = consumer(&started, "g", &[("isolation.level", "read_committed")]);
    assert_eq!(read(&reader, 1), ["new"]);
}
