use std::time::{Duration, Instant};

use kafka::{ClientConfig, Consumer, Event, FetchConfig, Kind, Producer, ProducerConfig, StartFrom};
use types::{Headers, Record, TopicName, TopicPartition};

use crate::engine::Engine;

/// Reads `count` records of partition 0.
pub(crate) async fn read(engine: &Engine, topic: &TopicName, count: usize) -> Vec<kafka::ConsumedRecord> {
    let tp = TopicPartition::new(topic.clone(), 0);
    let mut consumer =
        Consumer::assign(&engine.client, vec![(tp, StartFrom::Earliest)], FetchConfig::default()).unwrap();
    let mut records = Vec::new();
    let all = async {
        while records.len() < count {
            match consumer.next().await {
                Event::Records(more) => records.extend(more),
                Event::Error(error) => panic!("{error}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("records");
    records
}

#[tokio::test]
async fn what_is_sent_is_read_byte_by_byte() {
    let engine = Engine::start().await;
    let topic = engine.topic("p", 1).await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    let mut headers = Headers::new();
    headers.push("a", "1");
    headers.push("b", vec![0, 255]);
    headers.push("a", "2");
    headers.push_nullable("null", None);
    headers.push("empty", "");
    headers.push("", "no name");
    let sent = [
        Record {
            key: Some("k".into()),
            value: Some("v".into()),
            headers: headers.clone(),
            timestamp: Some(1_700_000_000_123),
        },
        Record { key: Some("".into()), value: Some("".into()), ..Record::default() },
        Record { key: None, value: None, ..Record::default() },
    ];
    let deliveries: Vec<_> =
        sent.iter().map(|record| producer.send(&topic, None, record.clone()).unwrap()).collect();
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, offset as i64);
    }
    let got = read(&engine, &topic, 3).await;
    assert_eq!(got[0].to_record(), sent[0]);
    assert_eq!((&got[1].key, &got[1].value), (&sent[1].key, &sent[1].value));
    assert_eq!((&got[2].key, &got[2].value), (&None, &None));
    let age = jiff_now_ms() - got[1].timestamp_ms;
    assert!((0..60_000).contains(&age), "{age}");
}

fn jiff_now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test]
async fn keys_go_where_the_java_clients_put_them() {
    let engine = Engine::start().await;
    let topic = engine.topic("m", 12).await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    // Utils.toPositive(Utils.murmur2(key)) % 12, computed from the definition of MurmurHash2 with Kafka's seed.
    for key in ["a", "kafka", "order-17", "žluťoučký"] {
        let record = Record { key: Some(key.as_bytes().to_vec().into()), ..Record::default() };
        let delivered = producer.send(&topic, None, record).unwrap().await.unwrap();
        assert_eq!(delivered.partition, (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % 12, "{key}");
    }
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[tokio::test]
async fn the_order_of_sends_is_the_order_in_the_log() {
    let engine = Engine::start().await;
    let topic = engine.topic("ord", 1).await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    let deliveries: Vec<_> = (0..5_000)
        .map(|n| {
            let record = Record { value: Some(n.to_string().into()), ..Record::default() };
            producer.send(&topic, Some(0), record).unwrap()
        })
        .collect();
    producer.flush(Duration::from_secs(10)).await.unwrap();
    assert_eq!(producer.in_flight(), 0);
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, n as i64);
    }
    let got = read(&engine, &topic, 5_000).await;
    for (n, record) in got.iter().enumerate() {
        assert_eq!(record.value.as_deref(), Some(n.to_string().as_bytes()));
    }
}

#[tokio::test]
async fn a_record_over_the_topics_limit_is_too_large() {
    let engine = Engine::start().await;
    let topic = engine.topic_with("small", 1, &[("max.message.bytes", "2000")]).await;
    let wide = engine.topic_with("wide", 1, &[("max.message.bytes", "5000000")]).await;
    let config = ProducerConfig { compression: "none".into(), ..ProducerConfig::default() };
    let producer = Producer::new(&engine.client, config).unwrap();
    let record = |size: usize| Record { value: Some(vec![b'x'; size].into()), ..Record::default() };
    let error = producer.send(&topic, None, record(3_000)).unwrap().await.unwrap_err();
    assert_eq!(error.kind(), &Kind::TooLarge, "{error}");
    producer.send(&topic, None, record(1_000)).unwrap().await.unwrap();
    producer.send(&wide, None, record(4_000_000)).unwrap().await.unwrap();
    assert_eq!(read(&engine, &wide, 1).await[0].value.as_ref().unwrap().len(), 4_000_000);
}

#[tokio::test]
async fn a_full_queue_is_told_at_once_and_a_missing_engine_after_the_timeout() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = ClientConfig::new(format!("127.0.0.1:{port}"), "test");
    let config =
        ProducerConfig { queue_messages_max: 2, delivery_timeout_ms: 1_000, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config).unwrap();
    let topic = TopicName::new("t").unwrap();
    let send = || producer.send(&topic, Some(0), Record::default());
    let (first, _second) = (send().unwrap(), send().unwrap());
    let begun = Instant::now();
    let error = send().unwrap_err();
    assert_eq!(error.kind(), &Kind::QueueFull);
    // At once: not after the second that the queued ones have.
    assert!(error.is_retriable() && begun.elapsed() < Duration::from_millis(900));
    let error = first.await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(error.to_string().contains(&client.bootstrap), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_unknown_topic_is_told() {
    let engine = Engine::start().await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    let topic = TopicName::new(&engine.name("nowhere")).unwrap();
    let error = producer.send(&topic, None, Record::default()).unwrap().await.unwrap_err();
    assert_eq!(error.kind(), &Kind::UnknownTopic, "{error}");
}
