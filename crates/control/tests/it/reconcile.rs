//! The reconciler over an engine in memory: what it asks for, what it hands out, what it says while it can't.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use control::{Config, Created, Engine, EngineError, EngineTopic, NewTopic, Reconciler, Stages};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use resources::{ConnectorPlan, PipelinePlan, TopicTable};
use runtime::{Health, Shutdown, StageStatus};
use serde_json::{Value, json};
use tokio::sync::watch;
use types::{TopicName, Uid};

use crate::plane::{Plane, connector, path, pipeline, topic, transform, workspace};

const RAW: &str = "dev.demo.github.raw";
const ENRICHED: &str = "dev.demo.github.enriched";

/// Kafka's topics as far as the reconciler sees them.
#[derive(Default)]
struct Memory {
    topics: Mutex<BTreeMap<TopicName, EngineTopic>>,
    away: Mutex<bool>,
    refuses: Mutex<Vec<String>>,
    asked: Mutex<usize>,
}

impl Memory {
    fn answer<T>(
        &self,
        answer: impl FnOnce(&mut BTreeMap<TopicName, EngineTopic>) -> T,
    ) -> Result<T, EngineError> {
        if *self.away.lock() {
            return Err(EngineError { message: "nobody listens".into(), exists: false });
        }
        Ok(answer(&mut self.topics.lock()))
    }

    fn topic(&self, name: &str) -> EngineTopic {
        self.topics.lock().get(name).cloned().unwrap_or_else(|| panic!("{name} isn't there"))
    }
}

impl Engine for Memory {
    fn topics(&self) -> BoxFuture<'_, Result<BTreeMap<TopicName, EngineTopic>, EngineError>> {
        Box::pin(async { self.answer(|topics| topics.clone()) })
    }

    fn create<'a>(&'a self, new: &'a [NewTopic]) -> BoxFuture<'a, Result<Created, EngineError>> {
        Box::pin(async move {
            *self.asked.lock() += 1;
            let refuses = self.refuses.lock().clone();
            self.answer(|topics| {
                let mut answers = BTreeMap::new();
                for new in new {
                    let answer = if topics.contains_key(&new.name) {
                        Err(EngineError { message: "exists".into(), exists: true })
                    } else if refuses.contains(&new.name.to_string()) {
                        Err(EngineError { message: "policy violation".into(), exists: false })
                    } else {
                        let mut config =
                            BTreeMap::from([("retention.ms".to_owned(), "604800000".to_owned())]);
                        config.extend(new.config.clone());
                        let set = new.config.keys().cloned().collect();
                        let partitions = new.partitions.unwrap();
                        topics.insert(new.name.clone(), EngineTopic { partitions, config, set });
                        Ok(())
                    };
                    answers.insert(new.name.clone(), answer);
                }
                answers
            })
        })
    }

    fn grow<'a>(&'a self, topic: &'a TopicName, partitions: i32) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            *self.asked.lock() += 1;
            self.answer(|topics| topics.get_mut(topic).unwrap().partitions = partitions)
        })
    }

    fn configure<'a>(
        &'a self,
        topic: &'a TopicName,
        changes: &'a [(String, Option<String>)],
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            *self.asked.lock() += 1;
            self.answer(|topics| {
                for (name, value) in changes {
                    topics.get_mut(topic).unwrap().config.insert(name.clone(), value.clone().unwrap());
                }
            })
        })
    }
}

/// What was handed out.
#[derive(Default)]
struct Handed {
    pipelines: Mutex<Vec<PipelinePlan>>,
    connectors: Mutex<Vec<ConnectorPlan>>,
    removed: Mutex<Vec<Uid>>,
}

impl Stages for Handed {
    fn apply_pipeline(&self, plan: PipelinePlan) {
        self.pipelines.lock().push(plan);
    }
    fn apply_connector(&self, plan: ConnectorPlan) {
        self.connectors.lock().push(plan);
    }
    fn remove(&self, uid: Uid) {
        self.removed.lock().push(uid);
    }
    fn status(&self) -> Vec<StageStatus> {
        Vec::new()
    }
}

struct Running {
    plane: Plane,
    engine: Arc<Memory>,
    handed: Arc<Handed>,
    table: watch::Receiver<Arc<TopicTable>>,
    health: Health,
    shutdown: Shutdown,
}

impl Running {
    async fn start() -> Self {
        let handed = Arc::new(Handed::default());
        let config = Config { reconcile_interval: Duration::from_millis(50), ..Config::default() };
        let plane = Plane::with(config, Arc::clone(&handed) as Arc<dyn Stages>).await;
        plane.put("", &workspace("demo")).await.is(201);
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let health = Health::new("test", "0", shutdown.clone());
        let engine = Arc::new(Memory::default());
        let (reconciler, table) =
            Reconciler::new(Arc::clone(&plane.control), Arc::clone(&engine) as _, health.check("engine"));
        shutdown.spawn("reconciler", runtime::OnEnd::Log, reconciler.run(shutdown.clone()));
        Self { plane, engine, handed, table, health, shutdown }
    }

    /// Waits until it is so; the reconciler looks every 50 ms.
    async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let waited = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), waited).await.is_ok(), "never: {what}");
    }

    async fn status_of(&self, manifest: &Value, state: &str) -> Value {
        let mut status = Value::Null;
        for _ in 0..2000 {
            status = self.plane.get(&path(manifest)).await.is(200).body["status"].clone();
            if status["state"] == state {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {state}: {status}");
    }

    async fn stop(self) {
        self.shutdown.begin("the test is over");
        self.shutdown.drain().await.unwrap();
    }
}

#[tokio::test]
async fn a_flow_gets_its_topics_and_then_its_plans() {
    let running = Running::start().await;
    let Running { plane, engine, handed, .. } = &running;
    plane
        .put("", &topic(RAW, json!({"partitions": 3, "config": {"max.message.bytes": "2000000"}})))
        .await
        .is(201);
    plane.put("", &transform("shape", "{\"a\": a}")).await.is(201);
    let flow = pipeline("github", RAW, "shape", ENRICHED);
    let uid = plane.put("", &flow).await.is(201).body["metadata"]["uid"].clone();
    // Reads what the pipeline makes, without a Topic of its own.
    plane.put("", &connector("crm", ENRICHED, json!({"http.url": "${env:CRM}"}))).await.is(201);
    running
        .until("both plans", |r| {
            r.handed.connectors.lock().len() == 1 && r.handed.pipelines.lock().len() == 1
        })
        .await;

    let plan = handed.pipelines.lock()[0].clone();
    assert_eq!(json!(plan.uid), uid);
    assert_eq!(plan.installation, plane.store.installation());
    let step = |plan: &resources::PipelinePlan| plan.steps[0].kind.transform().unwrap().clone();
    assert_eq!((step(&plan).version, step(&plan).expression.as_str()), (1, "{\"a\": a}"));
    assert_eq!(plan.topics.retry.as_str(), "dev.demo.pipeline-github.retry");
    assert_eq!(plan.topics.dlq[RAW].as_str(), "dev.demo.github.dlq");
    assert_eq!(plan.topics.dlq[plan.topics.retry.as_str()].as_str(), "dev.demo.github.dlq");
    assert_eq!(handed.connectors.lock()[0].config["http.url"], "${env:CRM}", "unresolved");

    for name in [
        RAW,
        ENRICHED,
        "dev.demo.github.dlq",
        "dev.demo.pipeline-github.retry",
        "dev.demo.connector-crm.retry",
    ] {
        assert_eq!(engine.topic(name).partitions, 3, "{name}");
    }
    let extra = (2_000_000 + (64 << 10)).to_string();
    assert_eq!(engine.topic("dev.demo.github.dlq").config["max.message.bytes"], extra);
    assert_eq!(engine.topic("dev.demo.pipeline-github.retry").config["max.message.bytes"], extra);
    let settled = engine.topic("vltava.dlq.settled");
    assert_eq!((settled.partitions, settled.config["cleanup.policy"].as_str()), (1, "compact"));

    // Nothing changed, nothing is asked, nothing is handed out again.
    running.status_of(&topic(RAW, json!({})), "Ready").await;
    let asked = *engine.asked.lock();
    let before = plane.get("/status").await.is(200).body["reconciler"]["lastSuccess"].clone();
    for _ in 0..2000 {
        if plane.get("/status").await.body["reconciler"]["lastSuccess"] != before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((*engine.asked.lock(), handed.pipelines.lock().len()), (asked, 1));

    // A new version, applied with the pipeline, is a new plan of the same uid.
    plane.put("", &transform("shape", "{\"b\": a}")).await.is(200);
    plane.put("", &flow).await.is(200);
    running.until("the second plan", |r| r.handed.pipelines.lock().len() == 2).await;
    let second = handed.pipelines.lock()[1].clone();
    assert_eq!((second.uid, second.generation, step(&second).version), (plan.uid, 2, 2));

    plane.delete(&path(&flow)).await.is(204);
    running.until("the removal", |r| *r.handed.removed.lock() == [plan.uid]).await;
    assert_eq!(engine.topic(RAW).partitions, 3, "records stay");
    running.stop().await;
}

#[tokio::test]
async fn what_is_asked_of_stages_is_in_their_plans() {
    let running = Running::start().await;
    let Running { plane, handed, .. } = &running;
    plane.put("", &topic(RAW, json!({}))).await.is(201);
    plane.put("", &transform("shape", "a")).await.is(201);
    plane.put("", &pipeline("github", RAW, "shape", ENRICHED)).await.is(201);
    plane.put("", &connector("crm", ENRICHED, json!({"http.url": "https://example.com/"}))).await.is(201);
    running
        .until("both plans", |r| {
            r.handed.connectors.lock().len() == 1 && r.handed.pipelines.lock().len() == 1
        })
        .await;
    let ask = async |of: &str| {
        let request = http::Request::post(format!("/api/v1/workspaces/demo/{of}"));
        plane.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200);
    };
    let last = |h: &Handed| h.pipelines.lock().last().map(|p| (p.generation, p.paused, p.restarts)).unwrap();
    ask("pipelines/github:pause").await;
    running.until("paused", |r| last(&r.handed) == (2, true, 0)).await;
    ask("pipelines/github:restart").await;
    running.until("paused still", |r| last(&r.handed) == (3, true, 1)).await;
    ask("pipelines/github:resume").await;
    running.until("resumed", |r| last(&r.handed) == (4, false, 1)).await;
    ask("connectors/crm:stop").await;
    let state = |h: &Handed| h.connectors.lock().last().map(|c| (c.generation, c.state)).unwrap();
    running.until("stopped", |r| state(&r.handed) == (2, resources::ConnectorState::Stopped)).await;
    ask("connectors/crm:resume").await;
    running.until("running", |r| state(&r.handed) == (3, resources::ConnectorState::Running)).await;
    assert_eq!(handed.removed.lock().len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn topics_grow_change_and_drift() {
    let running = Running::start().await;
    let Running { plane, engine, .. } = &running;
    let spec = |partitions: i32, retention: &str| {
        topic(RAW, json!({"partitions": partitions, "config": {"retention.ms": retention}}))
    };
    plane.put("", &spec(2, "1000")).await.is(201);
    running.status_of(&spec(2, "1000"), "Ready").await;
    plane.put("", &spec(4, "2000")).await.is(200);
    running.until("growth", |r| r.engine.topic(RAW).partitions == 4).await;
    running.until("retention", |r| r.engine.topic(RAW).config["retention.ms"] == "2000").await;
    // Somebody changes it behind our back: a setting is put back, partitions can't be.
    engine.topics.lock().get_mut(RAW).unwrap().partitions = 9;
    engine.topics.lock().get_mut(RAW).unwrap().config.insert("retention.ms".into(), "5".into());
    let status = running.status_of(&spec(4, "2000"), "Drifted").await;
    assert!(status["reason"].as_str().unwrap().contains("9 partitions"), "{status}");
    assert_eq!(status["partitions"], 9);
    running.until("retention again", |r| r.engine.topic(RAW).config["retention.ms"] == "2000").await;
    running.stop().await;
}

#[tokio::test]
async fn what_somebody_changes_in_the_engine_is_shown_and_put_back_where_that_can_be() {
    let running = Running::start().await;
    let Running { plane, engine, .. } = &running;
    let spec = |retention: &str| topic(RAW, json!({"partitions": 2, "config": {"retention.ms": retention}}));
    plane.put("", &spec("1000")).await.is(201);
    plane.put("", &topic(ENRICHED, json!({"partitions": 1}))).await.is(201);
    running.status_of(&spec("1000"), "Ready").await;
    running.status_of(&topic(ENRICHED, json!({})), "Ready").await;
    // What people change by the spec is no drift.
    plane.put("", &spec("2000")).await.is(200);
    running.until("retention", |r| r.engine.topic(RAW).config["retention.ms"] == "2000").await;
    // Two passes later it is settled.
    for _ in 0..2 {
        let before = plane.get("/status").await.body["reconciler"]["lastSuccess"].clone();
        while plane.get("/status").await.body["reconciler"]["lastSuccess"] == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let all = plane.get("/workspaces/demo/drift").await.is(200).body;
    assert_eq!((&all["items"], &all["leftOut"], &all["error"]), (&json!([]), &json!(0), &Value::Null));
    assert!(all["lookedAt"].is_string(), "{all}");

    {
        let mut topics = engine.topics.lock();
        let raw = topics.get_mut(RAW).unwrap();
        raw.partitions = 9;
        raw.config.insert("retention.ms".into(), "5".into());
        raw.config.insert("segment.bytes".into(), "1048576".into());
        raw.set = vec!["retention.ms".into(), "segment.bytes".into()];
    }
    running.status_of(&spec("2000"), "Drifted").await;
    running.until("retention again", |r| r.engine.topic(RAW).config["retention.ms"] == "2000").await;
    let one = plane.get(&format!("/workspaces/demo/topics/{RAW}/drift")).await.is(200).body;
    let all = plane.get("/workspaces/demo/drift").await.is(200).body;
    assert_eq!(one["items"], all["items"], "the other topic has none");
    let item = &all["items"][0];
    let drift: Vec<(&Value, &Value, &Value, &Value)> = item["drift"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["kind"], &one["pointer"], &one["wanted"], &one["found"]))
        .collect();
    let expected = [
        (json!("differs"), json!("/spec/partitions"), json!("2"), json!("9")),
        (json!("unmanaged"), json!("/spec/config/segment.bytes"), Value::Null, json!("1048576")),
    ];
    assert_eq!(drift, expected.iter().map(|(a, b, c, d)| (a, b, c, d)).collect::<Vec<_>>());
    let reverted = item["reverted"].as_array().unwrap();
    assert_eq!(reverted.len(), 1, "{item}");
    assert_eq!(
        (&reverted[0]["pointer"], &reverted[0]["wanted"], &reverted[0]["found"]),
        (&json!("/spec/config/retention.ms"), &json!("2000"), &json!("5"))
    );

    // A topic that is deleted is made again, and that is said too.
    engine.topics.lock().remove(ENRICHED);
    running.until("made again", |r| r.engine.topics.lock().contains_key(ENRICHED)).await;
    running.status_of(&topic(ENRICHED, json!({})), "Ready").await;
    let one = plane.get(&format!("/workspaces/demo/topics/{ENRICHED}/drift")).await.is(200).body;
    assert_eq!(one["items"][0]["reverted"][0]["pointer"], "", "{one}");
    plane.get("/workspaces/nobody/drift").await.is(404);
    plane.get("/workspaces/demo/topics/dev.demo.nothing.raw/drift").await.is(404);
    running.stop().await;
}

#[tokio::test]
async fn a_stage_waits_for_its_topics_and_says_for_which() {
    let running = Running::start().await;
    let Running { plane, engine, handed, .. } = &running;
    plane.put("", &transform("shape", "a")).await.is(201);
    let flow = pipeline("github", RAW, "shape", ENRICHED);
    plane.put("", &flow).await.is(201);
    let held = running.status_of(&flow, "Failed").await;
    assert!(held["reason"].as_str().unwrap().contains(RAW), "{held}");
    let stages = plane.get("/status").await.is(200).body["stages"].clone();
    assert_eq!((&stages[0]["name"], &stages[0]["state"]), (&json!("github"), &json!("Failed")));
    assert!(
        engine.topics.lock().keys().all(|name| name.as_str() == "vltava.dlq.settled"),
        "nothing is made for it"
    );

    // Made by anybody, by Kafka's protocol too; then a topic that the engine refuses.
    engine.refuses.lock().push("dev.demo.github.dlq".into());
    let made = EngineTopic { partitions: 1, ..EngineTopic::default() };
    engine.topics.lock().insert(TopicName::new(RAW).unwrap(), made);
    for _ in 0..2000 {
        let reason = running.status_of(&flow, "Failed").await["reason"].to_string();
        if reason.contains("policy violation") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(handed.pipelines.lock().is_empty());
    engine.refuses.lock().clear();
    running.until("the plan", |r| r.handed.pipelines.lock().len() == 1).await;
    running.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_away_is_waited_for_with_a_reason() {
    let running = Running::start().await;
    let Running { plane, engine, health, .. } = &running;
    running.until("ready", |r| r.health.is_ready()).await;
    *engine.away.lock() = true;
    running.until("not ready", |r| !r.health.is_ready()).await;
    assert!(health.report().checks[0].reason.as_ref().unwrap().contains("nobody listens"));
    // The API goes on without it.
    plane.put("", &topic(RAW, json!({"partitions": 1}))).await.is(201);
    let status = plane.get("/status").await.is(200).body;
    assert!(status["reconciler"]["error"].as_str().unwrap().contains("nobody listens"));
    *engine.away.lock() = false;
    running.status_of(&topic(RAW, json!({})), "Ready").await;
    running.until("ready again", |r| r.health.is_ready()).await;
    running.stop().await;
}

#[tokio::test]
async fn ingest_is_told_which_topics_there_are() {
    let mut running = Running::start().await;
    let by_hand = EngineTopic { partitions: 2, ..EngineTopic::default() };
    for name in ["by-hand", "vltava.audit"] {
        running.engine.topics.lock().insert(TopicName::new(name).unwrap(), by_hand.clone());
    }
    let ingest = json!({"key": "/id", "quarantine": true});
    let spec = json!({"partitions": 5, "ingest": ingest, "config": {"max.message.bytes": "5000"}});
    running.plane.put("", &topic(RAW, spec)).await.is(201);
    let found = tokio::time::timeout(
        Duration::from_secs(10),
        running.table.wait_for(|table| table.get(RAW).is_some_and(|entry| entry.dlq.is_some())),
    );
    let table = Arc::clone(&*found.await.unwrap().unwrap());
    let raw = table.get(RAW).unwrap();
    assert_eq!((raw.partitions, raw.max_message_bytes, raw.workspace.as_deref()), (5, 5000, Some("demo")));
    assert_eq!(raw.ingest.key.as_deref(), Some("/id"));
    assert_eq!(raw.dlq.as_ref().unwrap().as_str(), "dev.demo.github.dlq");
    let by_hand = table.get("by-hand").unwrap();
    assert_eq!(
        (by_hand.partitions, by_hand.max_message_bytes, by_hand.workspace.as_deref()),
        (2, 1_048_588, None)
    );
    assert!(table.get("vltava.audit").is_none());
    running.stop().await;
}
