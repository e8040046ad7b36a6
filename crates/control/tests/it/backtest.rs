//! Backtests on an engine: what is counted, that nothing is written, and what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use control::Stages;
use http::{Request, StatusCode};
use kafka::{OffsetSpec, Producer, ProducerConfig, TransactionalProducer, TxnConfig};
use pipeline::backtest::Backtests;
use resources::{ConnectorPlan, PipelinePlan};
use runtime::{Metrics, Shutdown, StageStatus};
use serde_json::{Value, json};
use types::{Record, TopicPartition, Uid};

use crate::engine::OnEngine;
use crate::plane::{Answer, Plane, pipeline as manifest, transform};

/// A runtime of pipelines that runs none.
struct Runtimes(pipeline::Handle);

impl Stages for Runtimes {
    fn apply_pipeline(&self, _: PipelinePlan) {}
    fn apply_connector(&self, _: ConnectorPlan) {}
    fn remove(&self, _: Uid) {}
    fn status(&self) -> Vec<StageStatus> {
        Vec::new()
    }
    fn backtests(&self) -> Option<Backtests> {
        Some(self.0.backtests())
    }
}

async fn on_engine() -> OnEngine {
    OnEngine::with(|bootstrap| {
        let client = kafka::ClientConfig::new(bootstrap, "test");
        let deps = pipeline::Deps { client, metrics: Metrics::new() };
        let runtime = pipeline::Runtime::new(pipeline::Config::default(), deps).unwrap();
        Arc::new(Runtimes(runtime.handle()))
    })
    .await
}

fn record(value: &str) -> Record {
    Record { key: Some("k".into()), value: Some(value.to_owned().into()), ..Record::default() }
}

async fn produce(on: &OnEngine, values: impl IntoIterator<Item = String>) {
    let producer = Producer::new(&on.client, ProducerConfig::default()).unwrap();
    for (i, value) in values.into_iter().enumerate() {
        producer.send(&on.topic("raw"), Some((i % 2) as i32), record(&value)).unwrap().await.unwrap();
    }
}

fn request(pipeline: &str, body: &Value) -> Request<Body> {
    let uri = format!("/api/v1/workspaces/demo/pipelines/{pipeline}:backtest");
    let request = Request::post(uri).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

async fn ask(on: &OnEngine, body: Value) -> Answer {
    on.plane.send(request(&on.stream, &body)).await
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The report of one that succeeds; before it comes progress that doesn't go back.
async fn report(on: &OnEngine, body: Value) -> Value {
    let answer = ask(on, body).await.is(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let mut lines = lines(answer.body.as_str().unwrap());
    let last = lines.pop().unwrap();
    let done: Vec<u64> = lines.iter().map(|line| line["progress"]["done"].as_u64().unwrap()).collect();
    assert!(!done.is_empty() && done.is_sorted(), "{done:?}");
    assert!(last["report"].is_object(), "{last}");
    last["report"].clone()
}

/// All ends there are, and all groups that read anything of the flow.
async fn written(on: &OnEngine) -> BTreeMap<String, i64> {
    let topics = [on.topic("raw"), on.topic("enriched"), on.topic("dlq"), on.retry()];
    let tps = topics.iter().flat_map(|topic| (0..2).map(|p| TopicPartition::new(topic.clone(), p)));
    let asked: Vec<_> = tps.map(|tp| (tp, OffsetSpec::HighWatermark)).collect();
    let ends = on.admin.list_offsets(&asked).await.unwrap();
    let mut all: BTreeMap<String, i64> = ends.iter().map(|(tp, end)| (tp.to_string(), end.offset)).collect();
    for topic in &topics {
        for group in on.admin.groups_reading(topic).await.unwrap() {
            all.insert(format!("{topic} by {group}"), 0);
        }
    }
    all
}

async fn stop(process: Shutdown) {
    process.begin("the test is over");
    process.drain().await.unwrap();
}

const ACTIVE: &str = "a = 'none' ? $nothing : {'v': a = 'fail' ? $error('no') : a}";
const CANDIDATE: &str =
    "b = 'none' ? $nothing : {'v': b = 'fail' ? $error('no') : b = 'other' ? $number('x') : b}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_category_is_counted_and_nothing_is_written() {
    let on = on_engine().await;
    let process = on.reconcile();
    on.flow_of(ACTIVE).await;
    let of = |a: &str, b: &str| format!(r#"{{"a":"{a}","b":"{b}"}}"#);
    let mut values = Vec::new();
    for (count, a, b) in [
        (40, "x", "x"),
        (2, "x", "y"),
        (3, "x", "fail"),
        (4, "fail", "y"),
        (5, "fail", "fail"),
        (6, "fail", "other"),
        (7, "x", "none"),
        (8, "none", "y"),
        (9, "none", "none"),
    ] {
        values.extend(std::iter::repeat_n(of(a, b), count));
    }
    values.push("{".into());
    let all = values.len();
    produce(&on, values).await;
    // What was aborted was never there.
    let id = format!("t-{}", on.stream);
    let mut producer = TransactionalProducer::open(&on.client, &id, TxnConfig::default()).await.unwrap();
    let transaction = producer.begin().await.unwrap();
    transaction.send(&on.topic("raw"), Some(0), &record("{\"a\":\"x\",\"b\":\"y\"}")).unwrap();
    transaction.abort().await.unwrap();
    let before = written(&on).await;

    let report = report(&on, json!({"expression": CANDIDATE, "last": 1000, "samples": 2})).await;
    assert_eq!(
        report["counts"],
        json!({"same": 40, "changed": 2, "newFailures": 3, "fixedFailures": 4, "stillFailing": 12,
            "stillFailingOtherwise": 6, "newlyDropped": 7, "newlyMade": 8, "stillDropped": 9})
    );
    let records = &report["records"];
    assert_eq!((&records["read"], &records["compared"]), (&json!(all), &json!(all)), "{records}");
    assert_eq!((&records["done"], &records["leftOut"]), (&records["planned"], &json!(0)), "{records}");
    assert_eq!(report["complete"], true);
    assert_eq!(report["places"], json!([{"part": "value", "path": "/v", "records": 2}]));
    let steps = &report["steps"][0];
    assert_eq!(
        (&steps["step"], &steps["version"], &steps["candidate"]),
        (&json!("only"), &json!(1), &Value::Null)
    );
    assert_eq!(report["active"]["failures"], json!({"transform_error": 15, "invalid_json": 1}));
    assert!(
        report["candidate"]["steps"].as_u64() > Some(0) && report["active"]["timeMs"].as_f64() > Some(0.0)
    );

    let samples = report["samples"].as_array().unwrap();
    let of = |category: &str| samples.iter().filter(|s| s["category"] == category).collect::<Vec<_>>();
    for category in ["changed", "newFailure", "fixedFailure", "stillFailing", "newlyDropped", "newlyMade"] {
        assert_eq!(of(category).len(), 2, "{category}");
    }
    let changed = of("changed")[0];
    assert_eq!(changed["topic"], on.topic("raw").as_str());
    assert_eq!(changed["key"]["text"], "k");
    assert_eq!(changed["input"]["text"], r#"{"a":"x","b":"y"}"#);
    assert_eq!(changed["active"]["outputs"][0]["value"]["text"], r#"{"v":"x"}"#);
    assert_eq!(
        changed["differences"],
        json!([{"output": 0, "part": "value", "pointer": "/v", "active": "\"x\"", "candidate": "\"y\""}])
    );
    let error = &of("newFailure")[0]["candidate"]["error"];
    assert_eq!((&error["code"], &error["step"]), (&json!("D3137"), &json!("only")), "{error}");
    assert_eq!(error["position"]["line"], 1, "{error}");

    assert_eq!(written(&on).await, before, "nothing is written, and nobody reads in a group");
    stop(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_input_is_selected_and_the_time_is_limited() {
    let on = on_engine().await;
    let process = on.reconcile();
    on.flow_of("n").await;
    produce(&on, (0..50).map(|n| format!("{{\"n\":{n}}}"))).await;
    let counts = async |body: Value| {
        let report = report(&on, body).await;
        let of = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap();
        (of("/records/read"), of("/records/compared"), of("/counts/same"), of("/counts/changed"))
    };
    let candidate = "n >= 40 ? -n : n";
    assert_eq!(counts(json!({"expression": candidate})).await, (50, 50, 40, 10));
    assert_eq!(counts(json!({"expression": candidate, "last": 20})).await, (20, 20, 10, 10));
    assert_eq!(
        counts(json!({"expression": candidate, "last": 20, "where": "n < 41"})).await,
        (20, 11, 10, 1)
    );
    assert_eq!(
        counts(json!({"expression": candidate, "where": "n >= 39 and $partition = 1"})).await,
        (50, 6, 1, 5)
    );
    assert_eq!(counts(json!({"expression": candidate, "since": "1h"})).await, (50, 50, 40, 10));
    assert_eq!(counts(json!({"expression": candidate, "since": "2100-01-01T00:00:00Z"})).await, (0, 0, 0, 0));

    // A version that is stored and that no pipeline runs.
    on.plane.put("", &transform("shape", candidate)).await.is(200);
    assert_eq!(counts(json!({"version": 2})).await, (50, 50, 40, 10));
    assert_eq!(counts(json!({"version": 1})).await, (50, 50, 50, 0));

    let slow = json!({"expression": "n ~> |$|{}| ? $count([1..20000].($ * 2)) : n", "timeLimit": "1ms"});
    let report = report(&on, slow).await;
    assert_eq!(report["complete"], false);
    assert!(report["records"]["read"].as_u64() < Some(50), "{report}");
    stop(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_the_client_and_with_the_process_and_few_run_at_once() {
    let on = on_engine().await;
    let process = on.reconcile();
    on.flow_of("n").await;
    produce(&on, (0..200).map(|n| format!("{{\"n\":{n}}}"))).await;
    // A second a record and more.
    let slow = json!({"expression": "$count([1..2000000].($ * 2)) > 0 ? n"});
    let open = async || on.plane.open(request(&on.stream, &slow)).await;
    let (first, second) = (open().await, open().await);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let refused = ask(&on, slow.clone()).await.is(429);
    assert_eq!((&refused.body["code"], refused.header("retry-after")), (&json!("busy"), "2"));
    drop(first);
    let mut third = request(&on.stream, &slow);
    let listener = Shutdown::new(Duration::from_secs(5));
    third.extensions_mut().insert(listener.clone());
    let third = on.plane.open(third).await;
    assert_eq!(third.status(), StatusCode::OK, "whoever went away makes room");
    listener.begin("the test stops it");
    let text = axum::body::to_bytes(third.into_body(), 1 << 20).await.unwrap();
    let lines = lines(std::str::from_utf8(&text).unwrap());
    let last = lines.last().unwrap();
    assert!(last["error"]["detail"].as_str().unwrap().contains("stops"), "{last}");
    drop(second);
    stop(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_is_refused_with_its_place() {
    let on = on_engine().await;
    let process = on.reconcile();
    on.flow_of("a").await;
    let plane: &Plane = &on.plane;
    let wrong = json!({"expression": "a.[", "step": "other", "last": 0, "where": "b +", "since": "soon",
        "samples": 1000, "lines": 7});
    let answer = ask(&on, wrong).await.is(422);
    assert_eq!(
        answer.pointers(),
        ["/expression", "/last", "/since", "/where", "/samples", "/lines", "/step"],
        "{}",
        answer.body
    );
    assert!(answer.body.to_string().contains("only (transform shape)"), "{}", answer.body);
    assert_eq!(ask(&on, json!({})).await.is(422).pointers(), ["/expression"]);
    assert_eq!(ask(&on, json!({"version": 9})).await.is(422).pointers(), ["/version"]);
    let other = json!({"expression": "a", "transform": "other"});
    assert_eq!(ask(&on, other).await.is(422).pointers(), ["/transform"]);
    ask(&on, json!("a")).await.is(422);
    let not_json = Request::post(format!("/api/v1/workspaces/demo/pipelines/{}:backtest", on.stream))
        .body(Body::from("a"))
        .unwrap();
    plane.send(not_json).await.is(415);
    let nobody = plane.send(request("nobody", &json!({"expression": "a"}))).await.is(404);
    assert_eq!(nobody.body["value"], "nobody");

    // Two steps: which one is meant must be said, or whose transform.
    let (raw, twice) = (on.topic("raw"), on.topic("twice"));
    let mut two = manifest("two", raw.as_str(), "shape", twice.as_str());
    two["spec"]["steps"] =
        json!([{"name": "first", "transform": "shape"}, {"name": "second", "transform": "shape"}]);
    plane.put("", &two).await.is(201);
    let of = async |body: Value| plane.send(request("two", &body)).await;
    assert_eq!(of(json!({"expression": "a"})).await.is(422).pointers(), ["/step"]);
    let retry = types::TopicName::new("dev.demo.pipeline-two.retry").unwrap();
    on.admin.await_topics(&[twice, retry], Duration::from_secs(20)).await.unwrap();
    for (mut body, meant) in [(json!({"step": "second"}), 1), (json!({"transform": "shape"}), 2)] {
        body["expression"] = json!("$");
        let answered = of(body).await.is(200);
        let last = lines(answered.body.as_str().unwrap()).pop().unwrap();
        assert_eq!(last["report"]["steps"].as_array().unwrap().len(), meant);
    }

    // What isn't recorded can't be read.
    plane.put("", &manifest("early", "nobody.writes", "shape", on.topic("twice").as_str())).await.is(201);
    let early = plane.send(request("early", &json!({"expression": "a"}))).await.is(409);
    assert!(early.body["detail"].as_str().unwrap().contains("nobody.writes"), "{}", early.body);
    // Connectors have no versions.
    let verb = Request::post("/api/v1/workspaces/demo/connectors/sink:backtest").body(Body::empty()).unwrap();
    plane.send(verb).await.is(404);
    stop(process).await;
}

#[tokio::test]
async fn a_process_without_pipelines_says_so() {
    let plane = Plane::demo().await;
    plane.put("", &transform("shape", "a")).await.is(201);
    plane.put("", &manifest("p", "in", "shape", "out")).await.is(201);
    let uri = "/api/v1/workspaces/demo/pipelines/p:backtest";
    let request = Request::post(uri).header("content-type", "application/json");
    let answer = plane.send(request.body(Body::from(r#"{"expression":"a"}"#)).unwrap()).await.is(409);
    assert!(answer.body["detail"].as_str().unwrap().contains("runs no pipelines"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_comes_into_force_only_with_the_backtest_that_is_required() {
    let on = on_engine().await;
    let process = on.reconcile();
    on.flow_of("a").await;
    produce(&on, (0..10).map(|n| format!("{{\"a\":{n}}}"))).await;
    let plane: &Plane = &on.plane;
    let (raw, enriched) = (on.topic("raw"), on.topic("enriched"));
    let with = |backtest: Value| {
        let mut manifest = manifest(&on.stream, raw.as_str(), "shape", enriched.as_str());
        manifest["spec"]["rollout"] = json!({"require": {"backtest": backtest}});
        manifest
    };
    let version = async || {
        let got = plane.get(&format!("/workspaces/demo/pipelines/{}", on.stream)).await.is(200);
        got.body["spec"]["steps"][0]["version"].as_u64().unwrap()
    };
    // What is required is no version itself.
    plane.put("", &with(json!({"maxChanged": 2}))).await.is(200);
    plane.put("", &transform("shape", "a >= 7 ? -a : a")).await.is(200);

    for (query, asked) in [
        ("", with(json!({"maxChanged": 2}))),
        ("?dryRun=true", with(json!({"maxChanged": 2}))),
        // Not by leaving it out in the same breath.
        ("", manifest(&on.stream, raw.as_str(), "shape", enriched.as_str())),
    ] {
        let refused = plane.put(query, &asked).await.is(409);
        assert_eq!(refused.body["code"], "backtest_refused");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("3 of 10 records changed, and maxChanged is 2"), "{detail}");
        assert!(detail.contains("--version 2 --step only` shows them"), "{detail}");
        let report = &refused.body["report"];
        assert_eq!((&report["counts"]["changed"], &report["counts"]["same"]), (&json!(3), &json!(7)));
        assert_eq!(report["samples"][0]["differences"][0]["candidate"], "-8", "{report}");
        assert_eq!(
            (&report["steps"][0]["version"], &report["steps"][0]["candidate"]),
            (&json!(1), &json!(2))
        );
    }
    assert_eq!(version().await, 1);
    let put = plane.put("", &with(json!({"maxChanged": "30%"}))).await.is(200);
    assert_eq!((version().await, put.header("x-vltava-warning")), (2, ""));
    let again = plane.put("", &with(json!({"maxChanged": "30%"}))).await.is(200);
    assert_eq!(again.header("x-vltava-change"), "unchanged");

    plane.put("", &transform("shape", "a = 3 ? $error('no') : a >= 7 ? -a : a")).await.is(200);
    let refused = plane.put("", &with(json!({"maxChanged": "30%"}))).await.is(409);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("1 of 10 records fail that don't now, and maxFailed is 0"), "{detail}");
    let skipped = plane.put("?skipBacktest=true", &with(json!({"maxChanged": "30%"}))).await.is(200);
    assert!(skipped.header("x-vltava-warning").contains("was skipped"), "{skipped:?}");
    assert_eq!(version().await, 3);
    let wrong = plane.put("", &with(json!({"maxChanged": "some", "last": 0}))).await.is(422);
    let at = "/spec/rollout/require/backtest";
    assert_eq!(wrong.pointers(), [format!("{at}/maxChanged"), format!("{at}/last")]);

    // Where nothing is recorded, nothing can change.
    let mut early = manifest("early", &format!("nobody.{}", on.stream), "shape", on.topic("early").as_str());
    early["spec"]["rollout"] = json!({"require": {"backtest": {}}});
    plane.put("", &early).await.is(201);
    plane.put("", &transform("shape", "a * 2")).await.is(200);
    let put = plane.put("", &early).await.is(200);
    assert!(put.header("x-vltava-warning").contains("nothing is recorded"), "{put:?}");
    stop(process).await;
}

#[tokio::test]
async fn what_can_not_be_tried_is_not_let_through() {
    let plane = Plane::demo().await;
    let mut required = manifest("p", "in", "shape", "out");
    required["spec"]["rollout"] = json!({"require": {"backtest": {}}});
    plane.put("", &transform("shape", "a")).await.is(201);
    plane.put("", &required).await.is(201);
    plane.put("", &required).await.is(200);
    plane.put("", &transform("shape", "b")).await.is(200);
    let refused = plane.put("", &required).await.is(409);
    assert!(refused.body["detail"].as_str().unwrap().contains("runs no pipelines"), "{}", refused.body);
    plane.put("?skipBacktest=true", &required).await.is(200);
}
