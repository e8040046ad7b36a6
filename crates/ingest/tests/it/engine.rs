//! On a real engine: what was answered 202 is read back, byte for byte, once, in order for each key, and where
//! Java's partitioner would have put it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingest::{Config, Producers};
use kafka::{
    Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, NewTopic, ProducerConfig, StartFrom,
};
use resources::{IngestSpec, TopicEntry, TopicTable};
use runtime::http::Limits;
use types::{TopicName, TopicPartition, Uid};

use crate::client::{Gateway, Request};

/// The embedded broker, or the engine that the environment names: nothing else differs.
struct Engine {
    client: ClientConfig,
    _embedded: Option<(tempfile::TempDir, broker::testing::Guard)>,
}

impl Engine {
    fn start() -> Self {
        let (bootstrap, embedded) = match std::env::var("VLTAVA_TEST_BOOTSTRAP") {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let dir = tempfile::tempdir().unwrap();
                let (addr, guard) = broker::testing::start(dir.path()).unwrap();
                (addr.to_string(), Some((dir, guard)))
            }
        };
        Self { client: ClientConfig::new(bootstrap, "ingest-test"), _embedded: embedded }
    }

    /// A new topic, under a name of its own: an engine may be shared by tests.
    async fn topic(&self, what: &str, partitions: i32, max_message_bytes: u64) -> TopicName {
        let name = TopicName::new(&format!("ingest-test.{what}.{}", Uid::new())).unwrap();
        let topic =
            NewTopic::new(name.clone(), partitions).with("max.message.bytes", max_message_bytes.to_string());
        let admin = Admin::new(&self.client).unwrap();
        for (_, made) in admin.create_topics(&[topic], false).await.unwrap() {
            made.unwrap();
        }
        admin.await_topics(std::slice::from_ref(&name), Duration::from_secs(10)).await.unwrap();
        name
    }

    fn gateway(&self, topic: &TopicName, partitions: i32, max_message_bytes: u64) -> Gateway {
        let producers = Producers::open(self.client.clone(), ProducerConfig::default()).unwrap();
        let gateway = Gateway::with(Config::default(), Limits::default(), producers);
        let entry = TopicEntry {
            partitions,
            max_message_bytes,
            ingest: IngestSpec::default(),
            workspace: None,
            dlq: None,
        };
        gateway.topics.send_replace(Arc::new(TopicTable::new([(topic.clone(), entry)])));
        gateway
    }

    /// All that the topic holds, by partition, in order.
    async fn read(&self, topic: &TopicName, partitions: i32) -> BTreeMap<i32, Vec<ConsumedRecord>> {
        let all =
            (0..partitions).map(|p| (TopicPartition::new(topic.clone(), p), StartFrom::Earliest)).collect();
        let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
        let mut consumer = Consumer::assign(&self.client, all, fetch).unwrap();
        let mut records: BTreeMap<i32, Vec<ConsumedRecord>> = BTreeMap::new();
        let mut ended = std::collections::BTreeSet::new();
        while ended.len() < partitions as usize {
            let event = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
            match event.expect("the end of the partitions in time") {
                Event::Records(batch) => records.entry(batch[0].tp.partition).or_default().extend(batch),
                Event::EndOfPartition(tp, _) => {
                    ended.insert(tp.partition);
                }
                Event::Error(error) => assert!(!error.is_fatal(), "{error}"),
                Event::Assigned(_) | Event::Revoked { .. } => {}
            }
        }
        consumer.close(Duration::from_secs(5)).await.unwrap();
        records
    }
}

fn text(bytes: &Option<Bytes>) -> &str {
    std::str::from_utf8(bytes.as_ref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_is_read_back_once_and_in_order() {
    const PARTITIONS: i32 = 6;
    const KEYS: usize = 8;
    const EACH: usize = 30;
    let engine = Engine::start();
    let topic = engine.topic("orders", PARTITIONS, 1_048_588).await;
    let gateway = Arc::new(engine.gateway(&topic, PARTITIONS, 1_048_588));
    // A sender for each key, one request after the other; every third request is a batch of two.
    let senders = (0..KEYS).map(|key| {
        let (gateway, topic) = (gateway.clone(), topic.clone());
        tokio::spawn(async move {
            let mut connection = gateway.connect().await;
            let mut sent = Vec::new();
            for n in 0..EACH {
                let one =
                    |part: &str| format!("{{ \"key\": {key}, \"n\": {n}, \"part\": \"{part} \\u00e9 é\" }}");
                let (body, values) = if n % 3 == 0 {
                    (format!("[ {} ,\n{}]", one("a"), one("b")), vec![one("a"), one("b")])
                } else {
                    (one("whole"), vec![one("whole")])
                };
                let request = Request::to(topic.as_str(), body)
                    .header("x-entity-key", &format!("key-{key}"))
                    .header("x-event-id", &format!("e-{key}-{n}"))
                    .header("ce-type", "a")
                    .header("ce-type", "b");
                connection.write(&request.bytes()).await;
                let answer = connection.answer().await;
                assert_eq!(answer.status, 202, "{answer:?}");
                sent.extend(values);
            }
            sent
        })
    });
    let sent = futures::future::join_all(senders).await;
    let stored = engine.read(&topic, PARTITIONS).await;
    assert_eq!(stored.values().map(Vec::len).sum::<usize>(), KEYS * (EACH + EACH / 3));
    for (key, sent) in sent.into_iter().enumerate() {
        let name = format!("key-{key}");
        let records: Vec<_> = stored.values().flatten().filter(|r| text(&r.key) == name).collect();
        assert_eq!(records.iter().map(|r| text(&r.value)).collect::<Vec<_>>(), sent.unwrap());
        let partition = murmur2(name.as_bytes()) & 0x7fff_ffff;
        assert!(records.iter().all(|r| r.tp.partition as u32 == partition % PARTITIONS as u32), "{name}");
        assert_eq!(records[0].headers.get_str("x-event-id"), Some(&*format!("e-{key}-0.0")));
        let types: Vec<_> =
            records[0].headers.iter().filter(|h| &*h.name == "ce-type").map(|h| text(&h.value)).collect();
        assert_eq!(types, ["a", "b"]);
    }
    // The event API names the place.
    let path = format!("/api/v1/events/{topic}");
    let answer = gateway
        .send(&Request::to("", "{\"last\":1}").path(&path).header("x-entity-key", "key-0"))
        .await
        .json();
    let partition = answer["partition"].as_i64().unwrap() as i32;
    assert_eq!(answer["offset"].as_u64().unwrap() as usize, stored[&partition].len());
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_agrees_about_what_fits() {
    const LIMIT: u64 = 1000;
    let engine = Engine::start();
    let topic = engine.topic("small", 1, LIMIT).await;
    let gateway = Arc::new(engine.gateway(&topic, 1, LIMIT));
    // Digits of no pattern, so that compression makes nothing fit.
    let body = |bytes: usize| {
        let mut state = 1u64;
        let mut digits = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + 2 + ((state >> 33) % 56) as u8)
        };
        format!("{{\"a\":\"{}\"}}", (0..bytes - 8).map(|_| digits()).collect::<String>())
    };
    let to = |bytes: usize| {
        Request::to(topic.as_str(), body(bytes))
            .header("x-request-id", "r")
            .header("x-event-id", "e")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    };
    let refused = gateway.send(&to(1000)).await;
    assert_eq!(refused.status, 413);
    let fits = 1000 - (refused.problem()["value"].as_u64().unwrap() - LIMIT) as usize;
    let answer = gateway.send(&to(fits)).await;
    assert_eq!(answer.status, 202, "the engine refuses what was counted as {LIMIT} bytes: {answer:?}");
    assert_eq!(gateway.send(&to(fits + 1)).await.status, 413);
    // Many at once are gathered into batches: none of those may exceed the limit, which each record keeps.
    let many = (0..100).map(|_| {
        let (gateway, request) = (gateway.clone(), to(fits / 2));
        tokio::spawn(async move { gateway.send(&request).await.status })
    });
    for status in futures::future::join_all(many).await {
        assert_eq!(status.unwrap(), 202);
    }
    assert_eq!(engine.read(&topic, 1).await[&0].len(), 101);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_a_503_within_the_delivery_timeout() {
    // A port that nothing listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = ProducerConfig { delivery_timeout_ms: 500, ..ProducerConfig::default() };
    let producers = Producers::open(ClientConfig::new(free.to_string(), "ingest-test"), config).unwrap();
    let gateway = Gateway::with(Config::default(), Limits::default(), producers);
    for (body, elements) in [("{\"a\":1}", None), ("[{\"a\":1},{\"a\":2}]", Some(2))] {
        let answer = gateway.send(&Request::to("orders", body)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
        let problem = answer.problem();
        assert_eq!(problem["code"], "engine_unavailable");
        assert_eq!(problem["elements"].as_array().map(Vec::len), elements);
    }
    gateway.stop().await;
}

/// Kafka's hash (`org.apache.kafka.common.utils.Utils.murmur2`), from its definition.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}
