//! The control plane on an engine that speaks Kafka: the embedded broker, or, with
//! `VLTAVA_TEST_KAFKA=host:port`, any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use control::{Config, KafkaEngine, NoStages, Reconciler, Stages};
use deadletter::{Failure, Reason, Stage, dead_letter};
use http::Request;
use jiff::Timestamp;
use kafka::{Admin, ClientConfig, ConsumedRecord, OffsetSpec, Producer, ProducerConfig};
use runtime::{Health, OnEnd, Shutdown};
use serde_json::{Value, json};
use types::{Headers, TopicName, TopicPartition};

use crate::plane::{Answer, Plane, path, pipeline, topic, transform};

pub(crate) struct OnEngine {
    pub(crate) plane: Plane,
    pub(crate) admin: Admin,
    pub(crate) client: ClientConfig,
    /// Of this test alone: tests may share an engine.
    pub(crate) stream: String,
    _broker: Option<(broker::testing::Guard, tempfile::TempDir)>,
}

impl OnEngine {
    async fn new() -> Self {
        Self::with(|_| Arc::new(NoStages)).await
    }

    /// With runtimes of stages that reach the engine at an address.
    pub(crate) async fn with(stages: impl FnOnce(&str) -> Arc<dyn Stages>) -> Self {
        let (bootstrap, broker) = match std::env::var("VLTAVA_TEST_KAFKA") {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let folder = tempfile::tempdir().unwrap();
                let (address, guard) = broker::testing::start(folder.path()).unwrap();
                (address.to_string(), Some((guard, folder)))
            }
        };
        let config = Config { reconcile_interval: Duration::from_millis(100), ..Config::default() };
        let plane = Plane::on(&bootstrap, config, stages(&bootstrap)).await;
        let client = ClientConfig::new(&bootstrap, "test");
        let admin = Admin::new(&client).unwrap();
        let stream = format!("s{}", uuid::Uuid::new_v4().simple());
        Self { plane, admin, client, stream, _broker: broker }
    }

    pub(crate) fn topic(&self, variant: &str) -> TopicName {
        TopicName::new(&format!("dev.demo.{}.{variant}", self.stream)).unwrap()
    }

    pub(crate) fn retry(&self) -> TopicName {
        TopicName::new(&format!("dev.demo.pipeline-{}.retry", self.stream)).unwrap()
    }

    /// A process that reconciles, until its scope is stopped.
    pub(crate) fn reconcile(&self) -> Shutdown {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let health = Health::new("test", "0", shutdown.clone());
        let engine = Arc::new(KafkaEngine::new(self.admin.clone()));
        let (reconciler, _) =
            Reconciler::new(Arc::clone(&self.plane.control), engine, health.check("engine"));
        shutdown.spawn("reconciler", OnEnd::Log, reconciler.run(shutdown.clone()));
        shutdown
    }

    /// A pipeline of this test's stream, whose topics are there: two partitions each.
    async fn flow(&self) {
        self.flow_of("a").await;
    }

    pub(crate) async fn flow_of(&self, expression: &str) {
        self.plane.put("", &transform("shape", expression)).await;
        let (raw, enriched) = (self.topic("raw"), self.topic("enriched"));
        let source = topic(raw.as_str(), json!({"partitions": 2, "config": {"retention.ms": "1h"}}));
        self.plane.put("", &source).await.is(201);
        self.plane.put("", &pipeline(&self.stream, raw.as_str(), "shape", enriched.as_str())).await.is(201);
        let wanted = [raw, enriched, self.topic("dlq"), self.retry()];
        self.admin.await_topics(&wanted, Duration::from_secs(20)).await.unwrap();
        for _ in 0..1000 {
            if self.plane.get(&path(&source)).await.body["status"]["state"] == "Ready" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never ready");
    }

    /// Letters of a pipeline of that workspace, in turn over the partitions.
    async fn letters(&self, workspace: &str, count: i64) {
        let producer = Producer::new(&self.client, ProducerConfig::default()).unwrap();
        let stage = Stage::pipeline(workspace, &self.stream, "only", 1);
        let failure = Failure::new(Reason::TransformError, "T2001 at 1:5");
        for i in 0..count {
            let record = ConsumedRecord {
                tp: TopicPartition::new(self.topic("raw"), (i % 2) as i32),
                offset: i / 2,
                timestamp_ms: 1_700_000_000_000 + i,
                key: Some(format!("k{i}").into()),
                value: Some(format!("{{\"i\": {i}}}").into()),
                headers: Headers::default(),
            };
            let letter = dead_letter(&record, &self.retry(), &stage, &failure, 1, Timestamp::now());
            producer.send(&self.topic("dlq"), Some((i % 2) as i32), letter).unwrap().await.unwrap();
        }
    }

    async fn begin(&self, body: Value) -> Answer {
        let uri = format!("/api/v1/workspaces/demo/dlq/{}/redrive", self.topic("dlq"));
        let request = Request::post(uri).header("content-type", "application/json");
        self.plane.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    async fn run_until(&self, run: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        for _ in 0..3000 {
            status = self.plane.get(&format!("/workspaces/demo/redrives/{run}")).await.is(200).body["status"]
                .clone();
            if so(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}: {status}");
    }

    /// Records of a topic, by the ends of its partitions (transactions' markers count too, so: by reading).
    async fn keys(&self, topic: &TopicName) -> Vec<String> {
        let mut asked = Vec::new();
        for partition in 0..2 {
            let tp = TopicPartition::new(topic.clone(), partition);
            asked.extend([(tp.clone(), OffsetSpec::Latest)]);
        }
        let ends: BTreeMap<_, _> = self.admin.list_offsets(&asked).await.unwrap();
        let from = asked.iter().map(|(tp, _)| (tp.clone(), kafka::StartFrom::Earliest)).collect();
        let fetch = kafka::FetchConfig { end_of_partition: true, ..kafka::FetchConfig::default() };
        let mut consumer = kafka::Consumer::assign(&self.client, from, fetch).unwrap();
        let mut open: Vec<_> =
            asked.iter().map(|(tp, _)| tp.clone()).filter(|tp| ends[tp].offset > 0).collect();
        let mut keys = Vec::new();
        while !open.is_empty() {
            match tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.unwrap() {
                kafka::Event::Records(records) => {
                    let text =
                        |r: &ConsumedRecord| String::from_utf8(r.key.clone().unwrap().to_vec()).unwrap();
                    keys.extend(records.iter().map(text));
                }
                kafka::Event::EndOfPartition(tp, _) => open.retain(|other| *other != tp),
                kafka::Event::Error(error) => panic!("{error}"),
                _ => {}
            }
        }
        keys.sort();
        keys
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_grown_and_configured_in_the_engine() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    let names = [on.topic("raw"), on.topic("enriched"), on.topic("dlq"), on.retry()];
    let found = on.admin.describe_topics(&names).await.unwrap();
    assert!(found.values().all(|topic| topic.partitions.len() == 2));
    let config = |all: &BTreeMap<TopicName, BTreeMap<String, kafka::ConfigEntry>>,
                  of: &TopicName,
                  name: &str| { all[of][name].value.clone().unwrap() };
    let configs = on.admin.describe_configs(&names).await.unwrap();
    assert_eq!(config(&configs, &on.topic("raw"), "retention.ms"), "3600000");
    assert_eq!(config(&configs, &on.topic("dlq"), "retention.ms"), "3600000");
    assert_eq!(config(&configs, &on.topic("dlq"), "max.message.bytes"), (1_048_588 + (64 << 10)).to_string());

    let raw = topic(on.topic("raw").as_str(), json!({"partitions": 3, "config": {"retention.ms": "2h"}}));
    on.plane.put("", &raw).await.is(200);
    for _ in 0..1000 {
        let found = on.admin.describe_topics(&names).await.unwrap();
        let configs = on.admin.describe_configs(&names).await.unwrap();
        let grown =
            [on.topic("raw"), on.topic("dlq"), on.retry()].iter().all(|t| found[t].partitions.len() == 3);
        let kept = [on.topic("raw"), on.topic("dlq")]
            .iter()
            .all(|t| config(&configs, t, "retention.ms") == "7200000");
        if grown && kept {
            process.begin("the test is over");
            process.drain().await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never grown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_moved_while_a_stage_is_paused() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    let producer = Producer::new(&on.client, ProducerConfig::default()).unwrap();
    for i in 0..20 {
        let record = types::Record { value: Some("{}".into()), ..types::Record::default() };
        producer.send(&on.topic("raw"), Some(i % 2), record).unwrap().await.unwrap();
    }
    let at = format!("/workspaces/demo/pipelines/{}", on.stream);
    let ask = async |verb: &str, body: Value| {
        let request = Request::post(format!("/api/v1{at}:{verb}")).header("content-type", "application/json");
        on.plane.send(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let places = |answer: &Answer| -> Vec<(Value, Value)> {
        let partitions = answer.body["partitions"].as_array().unwrap();
        partitions.iter().map(|p| (p["from"].clone(), p["to"].clone())).collect()
    };
    // While it runs it is only said what would be.
    ask("resetOffsets", json!({"to": "latest"})).await.is(409);
    let dry = ask("resetOffsets?dryRun=true", json!({"to": "latest"})).await.is(200);
    assert_eq!(places(&dry), [(Value::Null, json!(10)), (Value::Null, json!(10))]);
    ask("pause", json!({})).await.is(200);
    ask("resetOffsets", json!({"to": "latest"})).await.is(200);
    let back = ask("resetOffsets", json!({"shift": -4})).await.is(200);
    assert_eq!(places(&back), [(json!(10), json!(6)), (json!(10), json!(6))]);
    let uid = on.plane.get(&at).await.body["metadata"]["uid"].as_str().unwrap().to_owned();
    let group = format!("vltava.{}.{uid}", on.plane.store.installation());
    let committed = on.admin.group_offsets(&group).await.unwrap();
    assert_eq!(committed.values().map(|c| c.offset).collect::<Vec<_>>(), [6, 6]);
    process.begin("the test is over");
    process.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_go_back_once_to_the_stage_that_failed_them() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    on.letters("demo", 6).await;
    // Another workspace's stage, by a header that anybody may have written.
    on.letters("other", 2).await;

    let dlq = format!("/workspaces/demo/dlq/{}", on.topic("dlq"));
    let summary = on.plane.get(&dlq).await.is(200).body;
    assert_eq!((&summary["letters"], &summary["unsettled"]), (&json!(8), &json!(8)));
    let list =
        on.plane.get(&format!("{dlq}/letters?limit=3&stage=pipeline/demo/{}", on.stream)).await.is(200).body;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["matched"]), (3, &json!(6)));
    let letter = on.plane.get(&format!("{dlq}/letters/1/0")).await.is(200).body;
    assert_eq!(
        (&letter["reason"], &letter["value"]["text"]),
        (&json!("transform_error"), &json!("{\"i\": 1}"))
    );
    assert_eq!(letter["origin"]["topic"], on.topic("raw").as_str());
    on.plane.get(&format!("{dlq}/letters/1/999")).await.is(404);

    let dry = on.begin(json!({"dryRun": true})).await.is(200).body;
    assert_eq!(
        (&dry["plan"]["routable"], &dry["plan"]["unroutable"], &dry["run"]),
        (&json!(6), &json!(2), &json!(null))
    );
    assert_eq!(on.plane.get("/workspaces/demo/redrives").await.is(200).body["items"], json!([]));

    let begun = on.begin(json!({})).await.is(202);
    let run = begun.body["run"].as_str().unwrap().to_owned();
    assert_eq!(begun.header("location"), format!("/api/v1/workspaces/demo/redrives/{run}"));
    let done = on.run_until(&run, "done", |status| status["state"] == "Done").await;
    assert_eq!(done["progress"]["settled"], 6, "{done}");
    assert_eq!(on.keys(&on.retry()).await, ["k0", "k1", "k2", "k3", "k4", "k5"]);

    // What is settled isn't meant any more.
    let again = on.begin(json!({"dryRun": true})).await.is(200).body;
    assert_eq!((&again["plan"]["routable"], &again["plan"]["unroutable"]), (&json!(0), &json!(2)));
    assert_eq!(on.plane.get(&dlq).await.is(200).body["unsettled"], 2);
    on.plane.delete(&format!("/workspaces/demo/redrives/{run}")).await.is(204);
    process.begin("the test is over");
    process.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_goes_on_after_a_restart_and_ends_where_it_was_planned_to() {
    let on = OnEngine::new().await;
    let first = on.reconcile();
    on.flow().await;
    on.letters("demo", 20).await;
    let run = on.begin(json!({"rate": 5})).await.is(202).body["run"].as_str().unwrap().to_owned();
    // Comes later: not part of the run.
    on.letters("demo", 2).await;
    on.run_until(&run, "begun", |status| status["progress"]["settled"].as_u64().is_some_and(|n| n > 0)).await;
    first.begin("a restart");
    first.drain().await.unwrap();
    let between = on.run_until(&run, "planned", |status| status["state"] == "Planned").await;
    assert_eq!(between["progress"], json!(null), "{between}");
    let before = on.keys(&on.retry()).await.len();
    assert!((1..20).contains(&before), "{before}");

    let second = on.reconcile();
    let done = on.run_until(&run, "done", |status| status["state"] == "Done").await;
    assert_eq!(done["progress"]["settled"], 20, "{done}");
    let mut keys = on.keys(&on.retry()).await;
    assert_eq!(keys.len(), 20, "none lost, none doubled, none that came later");
    keys.dedup();
    assert_eq!(keys.len(), 20);
    second.begin("the test is over");
    second.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_deleted_stops_and_another_gives_back_the_rest() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    on.letters("demo", 12).await;
    let run = on.begin(json!({"rate": 2})).await.is(202).body["run"].as_str().unwrap().to_owned();
    on.run_until(&run, "begun", |status| status["progress"]["settled"].as_u64().is_some_and(|n| n > 0)).await;
    on.plane.delete(&format!("/workspaces/demo/redrives/{run}")).await.is(204);
    // Waits for the other's end: one run at a time a DLQ.
    let begun = on.begin(json!({})).await.is(202).body;
    let rest = begun["plan"]["routable"].as_u64().unwrap();
    assert!((1..12).contains(&rest), "{rest}");
    on.run_until(begun["run"].as_str().unwrap(), "done", |status| status["state"] == "Done").await;
    let mut keys = on.keys(&on.retry()).await;
    assert_eq!(keys.len(), 12, "none lost, none doubled");
    keys.dedup();
    assert_eq!(keys.len(), 12);
    process.begin("the test is over");
    process.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_is_paused_resumed_and_cancelled() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    on.letters("demo", 20).await;
    let run = on.begin(json!({"rate": 5})).await.is(202).body["run"].as_str().unwrap().to_owned();
    let ask = async |verb: &str| {
        let uri = format!("/api/v1/workspaces/demo/redrives/{run}:{verb}");
        on.plane.send(Request::post(uri).body(Body::empty()).unwrap()).await
    };
    on.run_until(&run, "begun", |status| status["progress"]["settled"].as_u64().is_some_and(|n| n > 0)).await;
    ask("pause").await.is(200);
    let paused =
        on.run_until(&run, "paused", |s| s["state"] == "Paused" && s["progress"]["settled"].is_u64()).await;
    let settled = paused["progress"]["settled"].as_u64().unwrap();
    assert!((1..20).contains(&settled), "{paused}");
    // It has ended, and committed what it said.
    assert_eq!(on.keys(&on.retry()).await.len() as u64, settled);
    ask("pause").await.is(200);

    ask("resume").await.is(200);
    on.run_until(&run, "running", |s| s["progress"]["settled"].as_u64().is_some_and(|n| n > settled)).await;
    ask("cancel").await.is(200);
    let cancelled = on.run_until(&run, "cancelled", |s| {
        s["state"] == "Cancelled" && s["progress"]["settled"].as_u64().is_some_and(|n| n > settled)
    });
    let settled = cancelled.await["progress"]["settled"].as_u64().unwrap();
    assert_eq!(on.keys(&on.retry()).await.len() as u64, settled);
    ask("resume").await.is(409);
    ask("explode").await.is(404);
    let rest = on.begin(json!({"dryRun": true})).await.is(200).body;
    assert_eq!(rest["plan"]["routable"], 20 - settled);
    process.begin("the test is over");
    process.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_what_would_be_sent_and_what_the_pipeline_would_make_of_it() {
    let on = OnEngine::new().await;
    let process = on.reconcile();
    on.flow().await;
    on.letters("demo", 3).await;
    // The pipeline's expression is `a`.
    let asked =
        json!({"dryRun": true, "selection": {"where": "i < 2"}, "repair": {"value": "i = 0 ? {'a': i}"}});
    let dry = on.begin(asked).await.is(200).body;
    let plan = &dry["plan"];
    assert_eq!((&plan["routable"], &plan["unrepaired"]), (&json!(1), &json!(1)), "{dry}");
    let samples = dry["samples"].as_array().unwrap();
    let of = |key: &str| samples.iter().find(|s| s["letter"]["key"]["text"] == key).unwrap();
    assert_eq!(of("k0")["sent"]["value"]["text"], "{\"a\":0}");
    assert_eq!((&of("k0")["made"]["outcome"], &of("k0")["made"]["result"]), (&json!("value"), &json!(0)));
    assert!(of("k1")["stays"].as_str().unwrap().contains("no result"), "{dry}");
    let unmended = on.begin(json!({"dryRun": true})).await.is(200).body;
    assert_eq!(unmended["samples"][0]["made"]["outcome"], "undefined", "{unmended}");

    let origin = on.begin(json!({"dryRun": true, "action": {"kind": "redriveToOrigin"}})).await.is(200).body;
    assert_eq!(origin["plan"]["stages"][0]["to"], on.topic("raw").as_str());
    assert!(origin["readers"][on.topic("raw").as_str()].is_array(), "{origin}");

    let dlq = format!("/workspaces/demo/dlq/{}", on.topic("dlq"));
    let found = on.plane.get(&format!("{dlq}/letters?where=i%20%3D%202")).await.is(200).body;
    assert_eq!((&found["matched"], &found["items"][0]["key"]["text"]), (&json!(1), &json!("k2")));
    let wrong = on.plane.get(&format!("{dlq}/letters?where=i%20%3D")).await.is(400).body;
    assert_eq!((&wrong["field"], &wrong["value"]), (&json!("where"), &json!("i =")));
    on.plane.get(&format!("{dlq}/letters?header=novalue")).await.is(400);
    process.begin("the test is over");
    process.drain().await.unwrap();
}
