//! A DLQ with letters, and what came of them, on an embedded broker a test, in this process.
//! `VLTAVA_TEST_KAFKA=host:port` runs the tests on another engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deadletter::{
    Action, Dlq, Ended, Error, Failure, Plan, Reason, Redrive, Repair, Resolve, SETTLED_TOPIC, Sample,
    Selection, Stage, Way, dead_letter,
};
use jiff::Timestamp;
use kafka::{
    Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, Kind, NewTopic, OffsetSpec, Producer,
    ProducerConfig, StartFrom,
};
use tokio_util::sync::CancellationToken;
use types::{Headers, InstallationId, TopicName, TopicPartition};

pub(crate) struct Desk {
    pub(crate) client: ClientConfig,
    pub(crate) admin: Admin,
    pub(crate) dlq: TopicName,
    /// Of `pipeline/demo/p/...`.
    pub(crate) retry: TopicName,
    pub(crate) installation: InstallationId,
    producer: Producer,
    name: String,
    /// Dropped last.
    _broker: Option<(broker::testing::Guard, tempfile::TempDir)>,
}

pub(crate) fn settled_topic() -> TopicName {
    TopicName::new(SETTLED_TOPIC).unwrap()
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter(filter).try_init();
        let (bootstrap, broker) = match std::env::var("VLTAVA_TEST_KAFKA") {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let dir = tempfile::tempdir().unwrap();
                let (address, guard) = broker::testing::start(dir.path()).unwrap();
                (address.to_string(), Some((guard, dir)))
            }
        };
        let client = ClientConfig::new(bootstrap, "test");
        let admin = Admin::new(&client).unwrap();
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let topic = |of: &str| TopicName::new(&format!("{name}.{of}")).unwrap();
        let desk = Self {
            producer: Producer::new(&client, ProducerConfig::default()).unwrap(),
            dlq: topic("dlq"),
            retry: topic("retry"),
            installation: InstallationId::new(),
            client,
            admin,
            name,
            _broker: broker,
        };
        desk.create(NewTopic::new(desk.dlq.clone(), 2)).await;
        desk.create(NewTopic::new(desk.retry.clone(), 2)).await;
        desk.create(NewTopic::new(settled_topic(), 1).with("cleanup.policy", "compact")).await;
        desk
    }

    pub(crate) fn topic(&self, of: &str) -> TopicName {
        TopicName::new(&format!("{}.{of}", self.name)).unwrap()
    }

    pub(crate) async fn create(&self, topic: NewTopic) {
        let name = topic.name.clone();
        let made = self.admin.create_topics(&[topic], false).await.unwrap().remove(&name).unwrap();
        assert!(made.as_ref().err().is_none_or(|e| *e.kind() == Kind::TopicExists), "{made:?}");
        self.admin.await_topics(&[name], Duration::from_secs(10)).await.unwrap();
    }

    /// Letters `from..to`, each with its number as event id, in turn over the partitions.
    pub(crate) async fn letters(&self, numbers: std::ops::Range<usize>, stage: &str, reason: Reason) {
        let stage: Stage = stage.parse().unwrap();
        let deliveries: Vec<_> = numbers
            .map(|n| {
                let mut headers = Headers::new();
                headers.push("x-event-id", n.to_string());
                let failed = ConsumedRecord {
                    tp: TopicPartition::new(self.topic("src"), 0),
                    offset: n as i64,
                    timestamp_ms: 1_000 + n as i64,
                    key: Some(format!("k{}", n % 5).into()),
                    value: Some(format!("{{\"n\":{n}}}").into()),
                    headers,
                };
                let failure = Failure::new(reason, format!("failed at {n}"));
                let letter = dead_letter(&failed, &self.retry, &stage, &failure, 1, Timestamp::now());
                self.producer.send(&self.dlq, Some((n % 2) as i32), letter).unwrap()
            })
            .collect();
        for delivery in deliveries {
            delivery.await.unwrap();
        }
    }

    pub(crate) fn dlq(&self) -> Dlq {
        Dlq::new(&self.client, self.dlq.clone()).unwrap()
    }

    /// Stages of pipeline `p` and no others.
    pub(crate) fn resolve(&self) -> Resolve {
        let way = Way { retry: self.retry.clone(), sources: [self.topic("src")].into() };
        Arc::new(move |stage| match stage {
            Stage::Pipeline { workspace, name, .. } if workspace == "demo" && name == "p" => {
                Some(way.clone())
            }
            _ => None,
        })
    }

    pub(crate) async fn plan(&self, run: &str, action: Action, selection: Selection) -> Plan {
        self.plan_with(run, action, selection, Repair::default()).await.unwrap().0
    }

    pub(crate) async fn plan_with(
        &self,
        run: &str,
        action: Action,
        selection: Selection,
        repair: Repair,
    ) -> Result<(Plan, Vec<Sample>), Error> {
        self.dlq().plan(run, action, selection, repair, &self.resolve()).await
    }

    pub(crate) fn redrive(&self, plan: &Plan, rate: Option<u32>) -> Redrive {
        Redrive::new(&self.client, self.installation, plan.clone(), rate, self.resolve()).unwrap()
    }

    pub(crate) async fn run(&self, plan: &Plan) -> Result<(Ended, deadletter::Progress), Error> {
        let mut last = deadletter::Progress::default();
        let stop = CancellationToken::new();
        let ended = self.redrive(plan, None).run(&stop, |progress| last = progress.clone()).await?;
        Ok((ended, last))
    }

    /// What a read_committed reader sees of a topic up to its end.
    pub(crate) async fn read(&self, topic: &TopicName) -> Vec<ConsumedRecord> {
        let found = self.admin.describe_topics(std::slice::from_ref(topic)).await.unwrap();
        let tps: Vec<_> =
            found[topic].partitions.iter().map(|p| TopicPartition::new(topic.clone(), p.partition)).collect();
        let asked: Vec<_> = tps.iter().map(|tp| (tp.clone(), OffsetSpec::HighWatermark)).collect();
        let mut ends = self.admin.list_offsets(&asked).await.unwrap();
        ends.retain(|_, end| end.offset > 0);
        let from = tps.into_iter().map(|tp| (tp, StartFrom::Earliest)).collect();
        let fetch = FetchConfig { end_of_partition: true, wait_max_ms: 20, ..FetchConfig::default() };
        let mut consumer = Consumer::assign(&self.client, from, fetch).unwrap();
        let mut records = Vec::new();
        while !ends.is_empty() {
            match tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.expect("the end") {
                Event::Records(more) => records.extend(more),
                Event::EndOfPartition(tp, at) => {
                    if ends.get(&tp).is_some_and(|end| at >= end.offset) {
                        ends.remove(&tp);
                    }
                }
                Event::Error(error) => panic!("{error}"),
                Event::Assigned(_) | Event::Revoked { .. } => {}
            }
        }
        records
    }

    /// How often each event is in a topic.
    pub(crate) async fn events(&self, topic: &TopicName) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for record in self.read(topic).await {
            *counts.entry(record.headers.get_str("x-event-id").unwrap().parse().unwrap()).or_default() += 1;
        }
        counts
    }
}

pub(crate) fn once(numbers: impl IntoIterator<Item = usize>) -> BTreeMap<usize, usize> {
    numbers.into_iter().map(|n| (n, 1)).collect()
}
