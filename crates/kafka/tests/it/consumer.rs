use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kafka::{
    AssignedPartition, Consumer, ConsumerConfig, Event, FetchConfig, Kind, Producer, ProducerConfig,
    StartFrom,
};
use types::{Record, TopicName, TopicPartition};

use crate::engine::Engine;

pub(crate) fn member(group: &str, topic: &TopicName) -> ConsumerConfig {
    ConsumerConfig::new(group, vec![(topic.clone(), StartFrom::Earliest)])
}

/// The next event, soon.
pub(crate) async fn next(consumer: &mut Consumer) -> Event {
    tokio::time::timeout(Duration::from_secs(15), consumer.next()).await.expect("an event")
}

pub(crate) async fn assigned(consumer: &mut Consumer) -> Vec<AssignedPartition> {
    match next(consumer).await {
        Event::Assigned(partitions) => partitions,
        other => panic!("{other:?}"),
    }
}

async fn records(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        match next(consumer).await {
            Event::Records(records) => {
                got.extend(
                    records.iter().map(|r| String::from_utf8_lossy(r.value.as_ref().unwrap()).into_owned()),
                );
            }
            Event::Assigned(_) => {}
            other => panic!("{other:?}"),
        }
    }
    got
}

async fn fill(engine: &Engine, topic: &TopicName, partition: i32, values: impl IntoIterator<Item = String>) {
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    for value in values {
        let record = Record { value: Some(value.into()), ..Record::default() };
        drop(producer.send(topic, Some(partition), record).unwrap());
    }
    producer.flush(Duration::from_secs(10)).await.unwrap();
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_member_goes_on_where_it_committed() {
    let engine = Engine::start().await;
    let topic = engine.topic("c", 1).await;
    fill(&engine, &topic, 0, numbers(0..10)).await;
    let group = engine.name("g");
    let tp = TopicPartition::new(topic.clone(), 0);

    let mut consumer = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    let first = assigned(&mut consumer).await;
    assert_eq!(first, [AssignedPartition { tp: tp.clone(), committed: None, start: None, assignment: 1 }]);
    assert_eq!(records(&mut consumer, 10).await, numbers(0..10));
    consumer.commit(&[(tp.clone(), 4, "{\"v\":1}".into())]).await.unwrap();
    consumer.close(Duration::from_secs(10)).await.unwrap();

    let mut consumer = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    let again = assigned(&mut consumer).await;
    let committed = again[0].committed.as_ref().unwrap();
    assert_eq!((committed.offset, committed.metadata.as_str(), again[0].start), (4, "{\"v\":1}", Some(4)));
    assert_eq!(records(&mut consumer, 6).await, numbers(4..10));
    assert_eq!(consumer.lag(&tp, 4), Some(6));
}

#[tokio::test]
async fn without_a_commit_it_begins_as_told() {
    let engine = Engine::start().await;
    let topic = engine.topic("b", 1).await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    let send = async |text: &str, at: i64| {
        let record = Record { value: Some(text.to_owned().into()), timestamp: Some(at), ..Record::default() };
        producer.send(&topic, Some(0), record).unwrap().await.unwrap();
    };
    send("old", 1_000_000).await;
    send("new", 2_000_000).await;
    let start = async |name: &str, from: StartFrom| {
        let config = ConsumerConfig::new(engine.name(name), vec![(topic.clone(), from)]);
        let mut consumer = Consumer::subscribe(&engine.client, config).unwrap();
        let start = assigned(&mut consumer).await[0].start;
        (consumer, start)
    };
    let (mut latest, at) = start("latest", StartFrom::Latest).await;
    assert_eq!(at, Some(2));
    let (mut timed, at) = start("timed", StartFrom::Timestamp(1_500_000)).await;
    assert_eq!(at, Some(1));
    let (mut beyond, at) = start("beyond", StartFrom::Timestamp(9_000_000)).await;
    assert_eq!(at, Some(2));
    send("next", 3_000_000).await;
    assert_eq!(records(&mut latest, 1).await, ["next"]);
    assert_eq!(records(&mut timed, 2).await, ["new", "next"]);
    assert_eq!(records(&mut beyond, 1).await, ["next"]);
}

#[tokio::test]
async fn a_rebalance_waits_until_the_owner_has_committed() {
    let engine = Engine::start().await;
    let topic = engine.topic("r", 2).await;
    for p in 0..2 {
        fill(&engine, &topic, p, numbers(0..10)).await;
    }
    let group = engine.name("g");
    let mut first = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    assert_eq!(assigned(&mut first).await.len(), 2);
    let mut second = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    // Records may come first; the revocation comes all the same, without taking them all.
    let (revoked, done) = loop {
        match next(&mut first).await {
            Event::Revoked { partitions, done, lost } => {
                assert!(!lost);
                break (partitions, done);
            }
            Event::Records(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(revoked.len(), 1, "cooperative: only what moves");
    // The owner takes its time; the second member gets nothing meanwhile.
    let early = tokio::time::timeout(Duration::from_millis(1_500), async {
        loop {
            match second.next().await {
                Event::Assigned(partitions) if partitions.is_empty() => {}
                other => return other,
            }
        }
    })
    .await;
    assert!(early.is_err(), "{early:?}");
    first.commit(&[(revoked[0].clone(), 7, "handed over".into())]).await.unwrap();
    done.done();
    let taken = loop {
        let taken = assigned(&mut second).await;
        if !taken.is_empty() {
            break taken;
        }
    };
    assert_eq!(taken[0].tp, revoked[0]);
    assert_eq!(taken[0].start, Some(7));
    assert_eq!(records(&mut second, 3).await, numbers(7..10));
    // What it kept goes on.
    fill(&engine, &topic, 1 - revoked[0].partition, vec!["more".into()]).await;
    let mut last = String::new();
    while last != "more" {
        last = records(&mut first, 1).await.pop().unwrap();
    }
}

/// What was read of a partition before it went is never committed after it came again, though the member then has a
/// generation that the engine takes.
#[tokio::test]
async fn a_generation_is_given_only_for_what_was_held_without_a_break() {
    let engine = Engine::start().await;
    let topic = engine.topic("h", 2).await;
    let group = engine.name("g");
    let mut first = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    let all: Vec<_> = assigned(&mut first).await.into_iter().map(|p| (p.tp, p.assignment)).collect();
    let both: Vec<_> = all.iter().map(|(tp, _)| tp.clone()).collect();
    let before = all[0].1;
    first.group_metadata(&both, before).await.unwrap();
    let mut second = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    let (gone, done) = loop {
        if let Event::Revoked { partitions, done, .. } = next(&mut first).await {
            break (partitions, done);
        }
    };
    let kept: Vec<_> = both.iter().filter(|tp| !gone.contains(tp)).cloned().collect();
    // While the owner isn't done with it, it may commit.
    first.group_metadata(&both, before).await.unwrap();
    done.done();
    while assigned(&mut second).await.is_empty() {}
    let refused = |error: kafka::Error| {
        assert_eq!(error.code(), Some(22), "{error:?}");
        assert!(error.to_string().contains("taken away"), "{error}");
    };
    refused(first.group_metadata(&both, before).await.err().unwrap());
    first.group_metadata(&kept, before).await.unwrap();
    second.close(Duration::from_secs(10)).await.unwrap();
    let again = loop {
        let again = assigned(&mut first).await;
        if !again.is_empty() {
            break again;
        }
    };
    assert_eq!(again[0].tp, gone[0]);
    refused(first.group_metadata(&gone, before).await.err().unwrap());
    first.group_metadata(&both, again[0].assignment).await.unwrap();
}

#[tokio::test]
async fn a_revocation_that_nobody_acknowledges_goes_on_at_its_deadline() {
    let engine = Engine::start().await;
    let topic = engine.topic("d", 2).await;
    let group = engine.name("g");
    let config = || ConsumerConfig { revoke_timeout_ms: 300, ..member(&group, &topic) };
    let mut first = Consumer::subscribe(&engine.client, config()).unwrap();
    assigned(&mut first).await;
    let mut second = Consumer::subscribe(&engine.client, config()).unwrap();
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = assigned(&mut second).await;
    }
    // It was told, and sits on it.
    assert!(matches!(first.try_next(), Some(Event::Revoked { .. })));
}

#[tokio::test]
async fn a_paused_partition_waits_and_the_others_flow() {
    let engine = Engine::start().await;
    let topic = engine.topic("z", 2).await;
    let mut consumer = Consumer::subscribe(&engine.client, member(&engine.name("g"), &topic)).unwrap();
    assigned(&mut consumer).await;
    let paused = TopicPartition::new(topic.clone(), 0);
    consumer.pause(std::slice::from_ref(&paused));
    fill(&engine, &topic, 0, vec!["slow".into()]).await;
    fill(&engine, &topic, 1, numbers(0..100)).await;
    assert_eq!(records(&mut consumer, 100).await, numbers(0..100));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(consumer.try_next().is_none());
    consumer.resume(std::slice::from_ref(&paused));
    assert_eq!(records(&mut consumer, 1).await, ["slow"]);
}

#[tokio::test]
async fn offsets_are_moved_only_while_nobody_is_in_the_group() {
    let engine = Engine::start().await;
    let topic = engine.topic("moved", 1).await;
    fill(&engine, &topic, 0, numbers(0..10)).await;
    let group = engine.name("g");
    let to = [(TopicPartition::new(topic.clone(), 0), 7)];
    engine.admin.alter_group_offsets(&group, &to).await.unwrap();
    let mut consumer = Consumer::subscribe(&engine.client, member(&group, &topic)).unwrap();
    assigned(&mut consumer).await;
    assert_eq!(records(&mut consumer, 3).await, numbers(7..10));
    let to = [(TopicPartition::new(topic.clone(), 0), 2)];
    let error = engine.admin.alter_group_offsets(&group, &to).await.unwrap_err();
    assert_eq!(error.kind(), &Kind::GroupInUse, "{error}");
    let committed = engine.admin.group_offsets(&group).await.unwrap();
    assert_eq!(committed[&to[0].0].offset, 7);
    consumer.close(Duration::from_secs(10)).await.unwrap();
    engine.admin.alter_group_offsets(&group, &to).await.unwrap();
    assert_eq!(engine.admin.group_offsets(&group).await.unwrap()[&to[0].0].offset, 2);
}

#[tokio::test]
async fn seek_goes_back_and_forth() {
    let engine = Engine::start().await;
    let topic = engine.topic("k", 1).await;
    fill(&engine, &topic, 0, numbers(0..100)).await;
    let tp = TopicPartition::new(topic.clone(), 0);
    let fetch = FetchConfig { records_max: 7, ..FetchConfig::default() };
    let mut consumer =
        Consumer::assign(&engine.client, vec![(tp.clone(), StartFrom::Offset(50))], fetch).unwrap();
    assert_eq!(assigned(&mut consumer).await[0].start, Some(50));
    assert_eq!(records(&mut consumer, 7).await, numbers(50..57));
    consumer.seek(&tp, StartFrom::Offset(10)).await.unwrap();
    assert_eq!(records(&mut consumer, 7).await, numbers(10..17));
    consumer.seek(&tp, StartFrom::Earliest).await.unwrap();
    assert_eq!(records(&mut consumer, 7).await, numbers(0..7));
    let other = TopicPartition::new(topic, 3);
    assert!(consumer.seek(&other, StartFrom::Earliest).await.is_err());
}

#[tokio::test]
async fn an_offset_that_is_gone_stops_the_partition_until_a_seek() {
    let engine = Engine::start().await;
    let topic = engine.topic("gone", 1).await;
    fill(&engine, &topic, 0, numbers(0..5)).await;
    let tp = TopicPartition::new(topic.clone(), 0);
    let mut consumer = Consumer::assign(
        &engine.client,
        vec![(tp.clone(), StartFrom::Offset(4_000))],
        FetchConfig::default(),
    )
    .unwrap();
    assigned(&mut consumer).await;
    let error = match next(&mut consumer).await {
        Event::Error(error) => error,
        other => panic!("{other:?}"),
    };
    let kind = Kind::OffsetOutOfRange { tp: tp.clone(), wanted: Some(4_000), available: Some((0, 5)) };
    assert_eq!(error.kind(), &kind, "{error}");
    assert!(error.to_string().contains("4000"), "{error}");
    let quiet = tokio::time::timeout(Duration::from_millis(700), consumer.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    consumer.seek(&tp, StartFrom::Offset(3)).await.unwrap();
    assert_eq!(records(&mut consumer, 2).await, numbers(3..5));
}

#[tokio::test]
async fn a_slow_owner_holds_little_and_loses_nothing() {
    let engine = Engine::start().await;
    let topic = engine.topic("slow", 1).await;
    let big = |n: usize| format!("{n}-{}", "x".repeat(1_000));
    fill(&engine, &topic, 0, (0..3_000).map(big)).await;
    let fetch = FetchConfig { buffer_bytes_max: 64 << 10, records_max: 10, ..FetchConfig::default() };
    let config = ConsumerConfig { fetch, ..member(&engine.name("g"), &topic) };
    let mut consumer = Consumer::subscribe(&engine.client, config).unwrap();
    assigned(&mut consumer).await;
    let mut got = 0;
    while got < 3_000 {
        match next(&mut consumer).await {
            Event::Records(records) => {
                assert!(records.len() <= 10);
                for record in records {
                    assert_eq!(record.offset, got as i64);
                    assert_eq!(record.value.as_deref(), Some(big(got).as_bytes()));
                    got += 1;
                }
                if got % 500 == 0 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_end_is_told_when_asked_for() {
    let engine = Engine::start().await;
    let topic = engine.topic("e", 3).await;
    fill(&engine, &topic, 1, numbers(0..3)).await;
    let tps = (0..3).map(|p| (TopicPartition::new(topic.clone(), p), StartFrom::Earliest)).collect();
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(&engine.client, tps, fetch).unwrap();
    let mut ends = BTreeSet::new();
    let mut seen = 0;
    while ends.len() < 3 {
        match next(&mut consumer).await {
            Event::EndOfPartition(tp, offset) => {
                assert_eq!(offset, if tp.partition == 1 { 3 } else { 0 });
                assert!(tp.partition != 1 || seen == 3, "the end comes after the records");
                ends.insert(tp.partition);
            }
            Event::Records(records) => seen += records.len(),
            Event::Assigned(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_and_fences_its_twin() {
    let engine = Engine::start().await;
    let topic = engine.topic("st", 2).await;
    let group = engine.name("g");
    let config =
        |n: u32| ConsumerConfig { group_instance_id: Some(format!("{group}.{n}")), ..member(&group, &topic) };
    let mut other = Consumer::subscribe(&engine.client, config(1)).unwrap();
    assert_eq!(assigned(&mut other).await.len(), 2);
    let mut first = Consumer::subscribe(&engine.client, config(0)).unwrap();
    let mut moved = 0;
    while moved == 0 {
        tokio::select! {
            event = other.next() => drop(event),
            event = first.next() => if let Event::Assigned(partitions) = event { moved = partitions.len() },
        }
    }
    let mut twin = Consumer::subscribe(&engine.client, config(0)).unwrap();
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = assigned(&mut twin).await;
    }
    assert_eq!(taken.len(), 1);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        match next(&mut first).await {
            Event::Error(error) if error.is_fenced() => {
                assert!(error.is_fatal());
                break;
            }
            _ => assert!(Instant::now() < deadline),
        }
    }
    // The third saw none of it.
    while let Some(event) = other.try_next() {
        assert!(!matches!(event, Event::Revoked { lost: true, .. }), "{event:?}");
    }
}
