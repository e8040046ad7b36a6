//! What the tests share: an engine, topics of their own, instances of the runtime that can be stopped, or killed as
//! a process is, and readers that see only what is committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::{
    Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, NewTopic, OffsetSpec, Producer,
};
use pipeline::{Config, Deps, Handle, Runtime};
use resources::{
    ContentHash, OnError, PipelinePlan, Source, StageTopics, StartFrom, StepKind, StepPlan, TransformPlan,
};
use runtime::{Shutdown, StageState, StageStatus};
use types::{InstallationId, Record, TopicName, TopicPartition, Uid};

use crate::engine::Engine;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// One pipeline's topics on an engine.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) plan: PipelinePlan,
    pub(crate) source: TopicName,
    pub(crate) target: TopicName,
    pub(crate) dlq: TopicName,
    pub(crate) retry: TopicName,
    pub(crate) partitions: i32,
    producer: std::sync::OnceLock<Producer>,
}

/// One instance: a runtime on threads of its own, so that it can be dropped as a kill drops it.
pub(crate) struct Node {
    pub(crate) handle: Handle,
    shutdown: Shutdown,
    threads: Option<tokio::runtime::Runtime>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Rig {
    /// Topics with so many partitions, and a plan with one step of this expression.
    pub(crate) async fn new(partitions: i32, expression: &str) -> Self {
        Self::with_target(partitions, expression, &[]).await
    }

    pub(crate) async fn with_target(partitions: i32, expression: &str, target: &[(&str, &str)]) -> Self {
        let engine = Engine::start().await;
        let run = uuid::Uuid::now_v7().simple().to_string();
        let of = |variant: &str| topic(&format!("dev.demo.s{run}.{variant}"));
        let (source, target_topic, dlq, retry) = (of("raw"), of("enriched"), of("dlq"), of("retry"));
        let mut target_topic_spec = NewTopic::new(target_topic.clone(), partitions);
        for (name, value) in target {
            target_topic_spec = target_topic_spec.with(name, *value);
        }
        let news = [
            NewTopic::new(source.clone(), partitions),
            NewTopic::new(dlq.clone(), partitions).with("max.message.bytes", "1114124"),
            NewTopic::new(retry.clone(), partitions).with("max.message.bytes", "1114124"),
            target_topic_spec,
        ];
        create(&engine.admin(), &news).await;
        let plan = PipelinePlan {
            installation: InstallationId::new(),
            uid: Uid::new(),
            generation: 1,
            workspace: "demo".into(),
            name: "orders".into(),
            sources: vec![Source { topic: source.clone(), from: StartFrom::Earliest }],
            steps: vec![step("enrich", 1, expression)],
            target: target_topic.clone(),
            target_key: None,
            on_error: OnError::DeadLetter,
            fan_out: false,
            parallelism: 2,
            topics: StageTopics {
                dlq: BTreeMap::from([(source.clone(), dlq.clone()), (retry.clone(), dlq.clone())]),
                retry: retry.clone(),
            },
            paused: false,
            restarts: 0,
        };
        Self {
            engine,
            plan,
            source,
            target: target_topic,
            dlq,
            retry,
            partitions,
            producer: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::new(self.engine.bootstrap(), "test")
    }

    /// The next generation, with one step of this version and expression.
    pub(crate) fn next(&self, generation: u64, version: u32, expression: &str) -> PipelinePlan {
        PipelinePlan { generation, steps: vec![step("enrich", version, expression)], ..self.plan.clone() }
    }

    /// An instance with the plan.
    pub(crate) fn node(&self, slot: u32) -> Node {
        self.node_with(Config { slot, ..test_config() }, Some(self.plan.clone()))
    }

    pub(crate) fn node_with(&self, config: Config, plan: Option<PipelinePlan>) -> Node {
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let deps = Deps { client: self.client(), metrics: runtime::Metrics::new() };
        let runtime = Runtime::new(config, deps).unwrap();
        let handle = runtime.handle();
        if let Some(plan) = plan {
            handle.apply(plan);
        }
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let (tell, ended) = tokio::sync::oneshot::channel();
        let scope = shutdown.clone();
        threads.spawn(async move {
            runtime.run(scope).await;
            let _ = tell.send(());
        });
        Node { handle, shutdown, threads: Some(threads), ended }
    }

    pub(crate) async fn produce(&self, to: &TopicName, records: Vec<Record>) {
        let open = || Producer::new(&self.client(), kafka::ProducerConfig::default()).unwrap();
        let producer = self.producer.get_or_init(open);
        let mut sent = Vec::new();
        for record in records {
            sent.push(producer.send(to, None, record).unwrap());
        }
        for delivery in sent {
            delivery.await.unwrap();
        }
    }

    /// All that is committed in a topic now, by partition and offset.
    pub(crate) async fn read(&self, from: &TopicName) -> Vec<ConsumedRecord> {
        read(&self.engine, from, self.partitions).await
    }

    /// Waits until target and DLQ together have as many committed records.
    pub(crate) async fn settled(&self, count: usize) -> (Vec<ConsumedRecord>, Vec<ConsumedRecord>) {
        let started = Instant::now();
        loop {
            let (target, dlq) = (self.read(&self.target).await, self.read(&self.dlq).await);
            if target.len() + dlq.len() >= count {
                return (target, dlq);
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{} of {count} came: {} in the target, {} dead-lettered",
                target.len() + dlq.len(),
                target.len(),
                dlq.len()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Node {
    pub(crate) fn status(&self) -> StageStatus {
        self.handle.status().into_iter().next().expect("a pipeline was applied")
    }

    /// Waits for a state whose reason contains the text.
    pub(crate) async fn state(&self, state: StageState, reason: &str) -> StageStatus {
        let started = Instant::now();
        loop {
            let status = self.status();
            if status.state == state && status.reason.as_deref().unwrap_or("").contains(reason) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "not {state:?} ({reason:?}) but {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until(&self, what: &str, is: impl Fn(&StageStatus) -> bool) -> StageStatus {
        let started = Instant::now();
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "never {what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(mut self) {
        self.shutdown.begin("the test is over");
        let ended = tokio::time::timeout(Duration::from_secs(12), &mut self.ended).await;
        assert!(ended.is_ok(), "the runtime didn't stop in time: {:?}", self.shutdown.running());
    }

    /// As near to SIGKILL as a thread comes: every task is dropped where it stands.
    pub(crate) fn kill(mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

pub(crate) fn test_config() -> Config {
    Config {
        batch_time_max_ms: 20,
        session_timeout_ms: 6_000,
        drain_time_max_ms: 3_000,
        restart_backoff_min_ms: 200,
        restart_backoff_max_ms: 1_000,
        ..Config::default()
    }
}

pub(crate) fn step(transform: &str, version: u32, expression: &str) -> StepPlan {
    StepPlan {
        name: transform.into(),
        kind: StepKind::Transform(TransformPlan {
            transform: transform.into(),
            version,
            hash: ContentHash::of(&[expression.as_bytes()]),
            expression: expression.into(),
        }),
    }
}

pub(crate) async fn create(admin: &Admin, topics: &[NewTopic]) {
    for (name, result) in admin.create_topics(topics, false).await.unwrap() {
        result.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let names: Vec<_> = topics.iter().map(|t| t.name.clone()).collect();
    admin.await_topics(&names, PATIENCE).await.unwrap();
}

pub(crate) async fn read(engine: &Engine, from: &TopicName, partitions: i32) -> Vec<ConsumedRecord> {
    let all: Vec<_> = (0..partitions).map(|p| TopicPartition::new(from.clone(), p)).collect();
    let asked: Vec<_> = all.iter().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
    let ends = engine.admin().list_offsets(&asked).await.unwrap();
    let mut open: BTreeMap<_, _> =
        ends.into_iter().filter(|(_, end)| end.offset > 0).map(|(tp, end)| (tp, end.offset)).collect();
    let assigned: Vec<_> = open.keys().map(|tp| (tp.clone(), kafka::StartFrom::Earliest)).collect();
    if assigned.is_empty() {
        return Vec::new();
    }
    let client = ClientConfig::new(engine.bootstrap(), "reader");
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(&client, assigned, fetch).unwrap();
    let mut found = Vec::new();
    let started = Instant::now();
    while !open.is_empty() {
        assert!(started.elapsed() < PATIENCE, "{from}: {open:?} are not read to their ends");
        let Ok(event) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await else { continue };
        match event {
            Event::Records(records) => {
                if let Some(last) = records.last()
                    && open.get(&last.tp).is_some_and(|end| last.offset + 1 >= *end)
                {
                    open.remove(&last.tp);
                }
                found.extend(records);
            }
            // The last offsets of a partition may be control records, which nobody reads.
            Event::EndOfPartition(tp, offset) => {
                if open.get(&tp).is_some_and(|end| offset >= *end) {
                    open.remove(&tp);
                }
            }
            Event::Assigned(_) | Event::Revoked { .. } => {}
            Event::Error(error) => assert!(error.is_retriable(), "{error}"),
        }
    }
    found.sort_by_key(|r| (r.tp.partition, r.offset));
    found
}

pub(crate) fn json(key: &str, value: &str) -> Record {
    Record { key: Some(key.to_owned().into()), value: Some(value.to_owned().into()), ..Record::default() }
}

/// Records `{"id": n, "key": k}` over so many keys.
pub(crate) fn numbered(range: std::ops::Range<u32>, keys: u32) -> Vec<Record> {
    range
        .map(|n| json(&format!("k{}", n % keys), &format!(r#"{{"id":{n},"key":"k{}"}}"#, n % keys)))
        .collect()
}

pub(crate) fn value(record: &ConsumedRecord) -> serde_json::Value {
    serde_json::from_slice(record.value.as_deref().expect("no tombstone")).expect("outputs are JSON")
}

pub(crate) fn id(record: &ConsumedRecord) -> u32 {
    u32::try_from(value(record)["id"].as_u64().expect("an id")).unwrap()
}

/// Every one of `0..count` exactly once, and by key in order.
pub(crate) fn assert_exactly_once(records: &[ConsumedRecord], count: u32) {
    let mut seen = vec![0; count as usize];
    let mut last: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for record in records {
        let id = id(record);
        seen[id as usize] += 1;
        let key = record.key.as_deref().expect("a key").to_vec();
        if let Some(before) = last.insert(key.clone(), id) {
            assert!(before < id, "{} after {before} under key {}", id, String::from_utf8_lossy(&key));
        }
    }
    let lost: Vec<_> = (0..count).filter(|n| seen[*n as usize] == 0).collect();
    let doubled: Vec<_> = (0..count).filter(|n| seen[*n as usize] > 1).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "lost {lost:?}, doubled {doubled:?}");
}
