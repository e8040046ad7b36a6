//! The workbench: a broker, a topic, a connector on it, and hands to produce and to read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connect::kafka::{
    Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, NewTopic, OffsetSpec, Producer,
    ProducerConfig, StartFrom,
};
use resources::{ConnectorPlan, ConnectorState, StageTopics};
use runtime::{Metrics, OnEnd, Shutdown, StageState, StageStatus};
use types::{InstallationId, Record, TopicName, TopicPartition, Uid, names};

pub(crate) const PARTITIONS: i32 = 2;
const SOURCE: &str = "dev.test.orders.enriched";
const DLQ: &str = "dev.test.orders.dlq";
const RETRY: &str = "dev.test.connector-out.retry";

/// What tests wait for comes within this time, or not at all.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) client: ClientConfig,
    pub(crate) plan: ConnectorPlan,
    producer: Producer,
    running: Option<(connect::Handle, Shutdown)>,
    _broker: broker::testing::Guard,
    _dir: tempfile::TempDir,
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

impl Bench {
    /// A broker with the topics, and a plan for a connector that isn't running yet.
    pub(crate) async fn new(config: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (address, broker) = broker::testing::start(dir.path()).unwrap();
        let client = ClientConfig::new(address.to_string(), "bench");
        let admin = Admin::new(&client).unwrap();
        let topics = [SOURCE, DLQ, RETRY].map(|name| NewTopic::new(topic(name), PARTITIONS));
        for (_, made) in admin.create_topics(&topics, false).await.unwrap() {
            made.unwrap();
        }
        let mut config: BTreeMap<String, String> =
            config.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        config.entry("http.addresses.allow".into()).or_insert_with(|| "127.0.0.1".into());
        let plan = ConnectorPlan {
            installation: InstallationId::new(),
            uid: Uid::new(),
            generation: 1,
            workspace: "test".into(),
            name: "out".into(),
            plugin: connectors::http::PLUGIN.into(),
            topics: vec![topic(SOURCE)],
            tasks_max: 1,
            config,
            stage_topics: StageTopics { dlq: [(topic(SOURCE), topic(DLQ))].into(), retry: topic(RETRY) },
            state: ConnectorState::Running,
        };
        let producer =
            Producer::new(&client, ProducerConfig { linger_ms: 0, ..ProducerConfig::default() }).unwrap();
        Self { client, plan, producer, running: None, _broker: broker, _dir: dir }
    }

    /// Starts the connector as planned.
    pub(crate) fn start(&mut self) {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let factories: Vec<Arc<dyn connect::SinkFactory>> = vec![Arc::new(connectors::http::Factory)];
        let (runtime, handle) = connect::Runtime::new(self.client.clone(), 0, factories, &Metrics::new());
        handle.apply(self.plan.clone());
        shutdown.spawn("connectors", OnEnd::Log, runtime.run(shutdown.clone()));
        self.running = Some((handle, shutdown));
    }

    /// Stops it in order: what is under way ends, what is done is committed.
    pub(crate) async fn stop(&mut self) {
        let (_, shutdown) = self.running.take().unwrap();
        shutdown.begin("test");
        shutdown.drain().await.unwrap();
    }

    pub(crate) fn apply(&self, plan: ConnectorPlan) {
        self.running.as_ref().unwrap().0.apply(plan);
    }

    pub(crate) fn status(&self) -> StageStatus {
        self.running.as_ref().unwrap().0.status().remove(0)
    }

    /// Waits until the status is as `wanted` says.
    pub(crate) async fn await_status(&self, wanted: impl Fn(&StageStatus) -> bool) -> StageStatus {
        let deadline = Instant::now() + SOON;
        loop {
            // There is none until the plan was taken.
            let status = self.running.as_ref().unwrap().0.status().pop();
            if let Some(status) = status.clone().filter(&wanted) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn await_state(&self, state: StageState) -> StageStatus {
        self.await_status(|status| status.state == state).await
    }

    /// Produces `key:number` for each pair, in order, to a partition that follows from the key.
    pub(crate) async fn produce(&self, events: &[(&str, u32)]) {
        let mut deliveries = Vec::new();
        for (key, number) in events {
            let mut record = Record {
                key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
                value: Some(format!("{{\"key\":\"{key}\",\"n\":{number}}}").into()),
                ..Record::default()
            };
            record.headers.push(names::EVENT_ID, format!("{key}-{number}"));
            record.headers.push(names::REQUEST_ID, format!("request-{number}"));
            record.headers.push("ce-type", "test");
            record.headers.push("cookie", "not yours");
            deliveries.push(self.producer.send(&topic(SOURCE), None, record).unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }

    /// The dead letters there are, read_committed.
    pub(crate) async fn dead_letters(&self) -> Vec<ConsumedRecord> {
        let admin = Admin::new(&self.client).unwrap();
        let ask: Vec<_> =
            (0..PARTITIONS).map(|p| (TopicPartition::new(topic(DLQ), p), OffsetSpec::Latest)).collect();
        let mut open: BTreeMap<_, _> =
            admin.list_offsets(&ask).await.unwrap().into_iter().filter(|(_, end)| end.offset > 0).collect();
        let start = open.keys().map(|p| (p.clone(), StartFrom::Earliest)).collect();
        let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
        let mut consumer = Consumer::assign(&self.client, start, fetch).unwrap();
        let mut letters = Vec::new();
        while !open.is_empty() {
            match tokio::time::timeout(SOON, consumer.next()).await.unwrap() {
                Event::Records(records) => letters.extend(records),
                Event::EndOfPartition(p, at) if open.get(&p).is_some_and(|end| at >= end.offset) => {
                    open.remove(&p);
                }
                _ => {}
            }
        }
        letters
    }

    /// Waits until so many dead letters are there.
    pub(crate) async fn await_dead_letters(&self, count: usize) -> Vec<ConsumedRecord> {
        let deadline = Instant::now() + SOON;
        loop {
            let letters = self.dead_letters().await;
            if letters.len() >= count {
                assert_eq!(letters.len(), count);
                return letters;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} dead letters; {:#?}",
                letters.len(),
                self.status()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
