use std::time::Duration;

use kafka::{Consumer, Event, FetchConfig, OffsetSpec, StartFrom, TransactionalProducer, TxnConfig};
use types::{Record, TopicName, TopicPartition};

use crate::consumer::{assigned, member, next};
use crate::engine::Engine;

fn value(text: &str) -> Record {
    Record { value: Some(text.to_owned().into()), ..Record::default() }
}

/// All that a read_committed reader sees of partition 0, up to its end.
pub(crate) async fn visible(engine: &Engine, topic: &TopicName) -> Vec<String> {
    let tp = TopicPartition::new(topic.clone(), 0);
    let end = engine.admin.list_offsets(&[(tp.clone(), OffsetSpec::Latest)]).await.unwrap()[&tp].offset;
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(&engine.client, vec![(tp, StartFrom::Earliest)], fetch).unwrap();
    let mut seen = Vec::new();
    loop {
        match next(&mut consumer).await {
            Event::Records(records) => {
                seen.extend(
                    records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()),
                );
            }
            Event::EndOfPartition(_, offset) => {
                assert!(offset >= end, "{offset} {end}");
                return seen;
            }
            Event::Assigned(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn only_what_is_committed_is_read() {
    let engine = Engine::start().await;
    let topic = engine.topic("t", 1).await;
    let id = engine.name("id");
    let mut producer = TransactionalProducer::open(&engine.client, &id, TxnConfig::default()).await.unwrap();
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("a")).unwrap();
    txn.send(&topic, Some(0), &value("b")).unwrap();
    txn.commit().await.unwrap();
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("aborted")).unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    txn.abort().await.unwrap();
    // Dropped without an end: the next one aborts it.
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("dropped")).unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    drop(txn);
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("c")).unwrap();
    txn.commit().await.unwrap();
    assert_eq!(visible(&engine, &topic).await, ["a", "b", "c"]);
    // An empty one is fine.
    producer.begin().await.unwrap().commit().await.unwrap();
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_is_quick() {
    let engine = Engine::start().await;
    let topic = engine.topic("q", 1).await;
    let mut producer =
        TransactionalProducer::open(&engine.client, &engine.name("id"), TxnConfig::default()).await.unwrap();
    let mut took = Vec::new();
    for n in 0..12 {
        let begun = std::time::Instant::now();
        let txn = producer.begin().await.unwrap();
        txn.send(&topic, Some(0), &value(&n.to_string())).unwrap();
        txn.commit().await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    println!("{took:?}");
    // librdkafka's binding would wait 100 ms in each commit for its event queue, on the fastest
    // machine; on a loaded one the disk alone may take as long, but not every time.
    assert!(took[0] < Duration::from_millis(80), "{took:?}");
}

#[tokio::test]
async fn a_second_owner_of_the_id_fences_the_first() {
    let engine = Engine::start().await;
    let topic = engine.topic("f", 1).await;
    let id = engine.name("id");
    let open = || TransactionalProducer::open(&engine.client, &id, TxnConfig::default());
    let mut first = open().await.unwrap();
    let txn = first.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("of the first")).unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    let mut second = open().await.unwrap();
    let error = txn.commit().await.unwrap_err();
    assert!(error.is_fenced() && error.needs_reopen(), "{error:?}");
    assert!(!first.is_usable());
    assert!(first.begin().await.err().unwrap().is_fatal());
    let txn = second.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("of the second")).unwrap();
    txn.commit().await.unwrap();
    assert_eq!(visible(&engine, &topic).await, ["of the second"]);
}

#[tokio::test]
async fn an_owner_that_was_fenced_between_transactions_is_told_so() {
    let engine = Engine::start().await;
    let topic = engine.topic("f2", 1).await;
    let id = engine.name("id");
    let open = || TransactionalProducer::open(&engine.client, &id, TxnConfig::default());
    let mut first = open().await.unwrap();
    first.begin().await.unwrap().commit().await.unwrap();
    let _second = open().await.unwrap();
    let txn = first.begin().await.unwrap();
    // The engine says it when the partition is added: then these records are purged, which isn't what is told.
    txn.send(&topic, Some(0), &value("late")).unwrap();
    let error = txn.commit().await.unwrap_err();
    assert!(error.is_fenced(), "{error:?}");
    assert!(!first.is_usable());
}

#[tokio::test]
async fn offsets_and_records_are_one() {
    let engine = Engine::start().await;
    let (source, target) = (engine.topic("s", 1).await, engine.topic("x", 1).await);
    let group = engine.name("g");
    let mut consumer = Consumer::subscribe(&engine.client, member(&group, &source)).unwrap();
    assigned(&mut consumer).await;
    let tp = TopicPartition::new(source.clone(), 0);
    let mut producer =
        TransactionalProducer::open(&engine.client, &engine.name("id"), TxnConfig::default()).await.unwrap();
    for (text, offset, commit) in [("one", 5, true), ("two", 9, false)] {
        let metadata = consumer.group_metadata(std::slice::from_ref(&tp), 1).await.unwrap();
        let txn = producer.begin().await.unwrap();
        txn.send(&target, Some(0), &value(text)).unwrap();
        txn.send_offsets(&[(tp.clone(), offset, "mine".into())], &metadata).await.unwrap();
        if commit {
            txn.commit().await.unwrap()
        } else {
            txn.abort().await.unwrap()
        }
        let committed = consumer.committed(std::slice::from_ref(&tp)).await.unwrap()[0].clone().unwrap();
        assert_eq!((committed.offset, committed.metadata.as_str()), (5, "mine"));
    }
    assert_eq!(engine.admin.group_offsets(&group).await.unwrap()[&tp].offset, 5);
    assert_eq!(visible(&engine, &target).await, ["one"]);
}

#[tokio::test]
async fn a_failed_delivery_aborts_at_the_commit() {
    let engine = Engine::start().await;
    let topic = engine.topic_with("small", 1, &[("max.message.bytes", "2000")]).await;
    let mut config = TxnConfig::default();
    config.producer.compression = "none".into();
    let mut producer = TransactionalProducer::open(&engine.client, &engine.name("id"), config).await.unwrap();
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("fits")).unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    txn.send(&topic, Some(0), &value(&"x".repeat(3_000))).unwrap();
    let error = txn.commit().await.unwrap_err();
    assert_eq!(error.kind(), &kafka::Kind::TooLarge, "{error}");
    assert!(error.requires_abort() && !error.needs_reopen(), "{error}");
    let txn = producer.begin().await.unwrap();
    txn.send(&topic, Some(0), &value("after")).unwrap();
    txn.commit().await.unwrap();
    assert_eq!(visible(&engine, &topic).await, ["after"]);
}
