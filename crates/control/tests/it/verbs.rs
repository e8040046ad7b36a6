//! What is asked of a resource besides what it is to be: pause and the like, evaluate, patch, cascade, diff.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::plane::{Answer, Plane, connector, path, pipeline, topic, transform};

const RAW: &str = "dev.demo.github.raw";
const ENRICHED: &str = "dev.demo.github.enriched";

impl Plane {
    async fn ask(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::post(format!("/api/v1{path}")).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn patch(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request =
            Request::patch(format!("/api/v1{path}")).header("content-type", "application/merge-patch+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

/// A topic, a transform in two versions, a pipeline and a connector.
async fn flow() -> Plane {
    let plane = Plane::demo().await;
    plane.put("", &topic(RAW, json!({}))).await.is(201);
    plane.put("", &transform("shape", "{\"a\": 1}")).await.is(201);
    plane.put("", &transform("shape", "{\n  \"a\": 1,\n  \"b\": 2\n}")).await.is(200);
    plane.put("", &pipeline("github", RAW, "shape", ENRICHED)).await.is(201);
    let sink = connector("out", ENRICHED, json!({"http.url": "https://example.com/"}));
    plane.put("", &sink).await.is(201);
    plane
}

#[tokio::test]
async fn a_stage_stays_paused_until_it_is_resumed() {
    let plane = flow().await;
    let at = "/workspaces/demo/pipelines/github";
    let before = plane.get(at).await.is(200);
    assert_eq!(before.body["status"]["wantedState"], "RUNNING");
    let paused = plane.ask(&format!("{at}:pause"), &[], "").await.is(200);
    assert_eq!(paused.body["status"]["wantedState"], "PAUSED");
    assert_eq!(paused.body["metadata"]["generation"], 2);
    assert_ne!(paused.header("etag"), before.header("etag"));
    // Asked again: as it was.
    let again = plane.ask(&format!("{at}:pause"), &[], "").await.is(200);
    assert_eq!(again.header("etag"), paused.header("etag"));
    // By the revision that was read, not by an older one.
    let stale = [("if-match", before.header("etag"))];
    plane.ask(&format!("{at}:resume"), &stale, "").await.is(412);

    // A change of the spec leaves it paused; applying the same is no change.
    let mut flow = pipeline("github", RAW, "shape", ENRICHED);
    assert_eq!(plane.put("", &flow).await.is(200).header("x-vltava-change"), "unchanged");
    flow["spec"]["parallelism"] = json!(2);
    let changed = plane.put("", &flow).await.is(200);
    assert_eq!(
        (&changed.body["status"]["wantedState"], &changed.body["metadata"]["generation"]),
        (&json!("PAUSED"), &json!(3))
    );
    let resumed = plane.ask(&format!("{at}:resume"), &[], "").await.is(200);
    assert_eq!(resumed.body["status"]["wantedState"], "RUNNING");
    // Each restart is one.
    plane.ask(&format!("{at}:restart"), &[], "").await.is(200);
    let twice = plane.ask(&format!("{at}:restart"), &[], "").await.is(200);
    assert_eq!(
        (&twice.body["status"]["restarts"], &twice.body["metadata"]["generation"]),
        (&json!(2), &json!(6))
    );

    let out = "/workspaces/demo/connectors/out";
    let stopped = plane.ask(&format!("{out}:stop"), &[], "").await.is(200);
    assert_eq!(stopped.body["status"]["wantedState"], "STOPPED");
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused_by_name() {
    let plane = flow().await;
    for (path, status, code) in [
        ("/workspaces/demo/pipelines/github:stop", 405, "method_not_allowed"),
        (&format!("/workspaces/demo/topics/{RAW}:pause"), 405, "method_not_allowed"),
        ("/workspaces/demo/pipelines/github:fly", 404, "unknown_verb"),
        ("/workspaces/demo/pipelines/github", 404, "unknown_verb"),
        ("/workspaces/demo/pipelines/absent:pause", 404, "resource_not_found"),
        ("/workspaces/demo/pipelines/github:evaluate", 404, "unknown_verb"),
        ("/workspaces/other/pipelines/github:pause", 404, "resource_not_found"),
    ] {
        let refused = plane.ask(path, &[], "{}").await.is(status);
        assert_eq!(refused.body["code"], code, "{path}");
    }
    // Offsets of what runs stay where they are.
    let reset = "/workspaces/demo/pipelines/github:resetOffsets";
    let refused = plane.ask(reset, &[], r#"{"to": "earliest"}"#).await.is(409);
    assert!(refused.body["detail"].as_str().unwrap().contains("github:pause"), "{}", refused.body);
    for bad in [r#"{"to": "yesterday"}"#, r#"{"too": 1}"#, "[", r#"{"to":"latest","topics":["a b"]}"#] {
        plane.ask(reset, &[], bad).await.is(400);
    }
    let other = plane.ask(reset, &[], r#"{"to":"latest","topics":["dev.demo.x.raw"]}"#).await.is(400);
    assert!(other.body["detail"].as_str().unwrap().contains("dev.demo.x.raw"), "{}", other.body);
}

#[tokio::test]
async fn an_expression_is_tried_on_a_sample() {
    let plane = flow().await;
    let at = "/workspaces/demo/transforms/shape:evaluate";
    let of = async |body: Value| plane.ask(at, &[], &body.to_string()).await.is(200).body;

    let whole = plane
        .ask(at, &[], r#"{"expression": "{\"n\": n, \"k\": $key, \"h\": $headers.a}", "input": {"n": 12345678901234567890.10}, "record": {"key": "x", "headers": {"a": "b"}}}"#)
        .await
        .is(200);
    assert_eq!(whole.body["outcome"], "value");
    assert_eq!(whole.body["result"]["k"], "x");
    assert_eq!(whole.body["result"]["h"], "b");
    assert!(whole.body["steps"].as_u64().unwrap() > 0);
    assert_eq!(of(json!({"expression": "absent", "input": {}})).await["outcome"], "undefined");
    assert_eq!(of(json!({"expression": "$"})).await["outcome"], "undefined");
    // Versions: the newest unless said.
    assert_eq!(of(json!({"input": {}})).await["result"], json!({"a": 1, "b": 2}));
    assert_eq!(of(json!({"version": 1, "input": {}})).await["result"], json!({"a": 1}));
    plane.ask(at, &[], r#"{"version": 9}"#).await.is(404);
    plane.ask(at, &[], r#"{"version": 1, "expression": "a"}"#).await.is(400);
    // One that isn't there yet can be tried all the same.
    plane.ask("/workspaces/demo/transforms/new:evaluate", &[], r#"{"expression": "1"}"#).await.is(200);
    plane.ask("/workspaces/demo/transforms/new:evaluate", &[], "{}").await.is(404);

    let failed = of(json!({"expression": "a +\n  \"x\"", "input": {"a": 1}})).await;
    assert_eq!((&failed["outcome"], &failed["error"]["code"]), (&json!("error"), &json!("T2002")));
    assert!(failed["error"]["position"]["line"].as_u64().unwrap() >= 1);
    assert!(failed["error"]["rendered"].as_str().unwrap().contains('^'));
    let broken = of(json!({"expression": "{\"a\": "})).await;
    assert_eq!((&broken["outcome"], &broken["error"]["code"]), (&json!("error"), &json!("S0203")));
    // It ends, and says why.
    let endless = of(json!({"expression": "($f := function($x){$f($x + 1) + 1}; $f(1))"})).await;
    assert_eq!(endless["outcome"], "error");
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let plane = flow().await;
    let at = path(&topic(RAW, json!({})));
    let whole =
        json!({"spec": {"partitions": 16, "config": {"retention.ms": "1d", "cleanup.policy": "compact"}}});
    let patched = plane.patch(&at, &[], &whole).await.is(200);
    assert_eq!(patched.body["spec"]["partitions"], 16);
    assert_eq!(patched.body["spec"]["config"]["retention.ms"], "86400000");
    let etag = patched.header("etag").to_owned();
    let dry = plane
        .patch(&format!("{at}?dryRun=true"), &[], &json!({"metadata": {"labels": {"team": "x"}}}))
        .await
        .is(200);
    assert_eq!(dry.body["metadata"]["labels"]["team"], "x");
    let gone = json!({"spec": {"config": {"cleanup.policy": null}}, "metadata": {"labels": {"team": "x"}}});
    plane.patch(&at, &[("if-match", "\"1\"")], &gone).await.is(412);
    let gone = plane.patch(&at, &[("if-match", &etag)], &gone).await.is(200);
    assert_eq!(gone.body["spec"]["config"], json!({"retention.ms": "86400000"}));
    assert_eq!(
        (&gone.body["spec"]["partitions"], &gone.body["metadata"]["labels"]["team"]),
        (&json!(16), &json!("x"))
    );
    // It is checked as a manifest is.
    let refused = plane.patch(&at, &[], &json!({"spec": {"partitions": "many"}})).await.is(422);
    assert_eq!(refused.pointers(), ["/spec/partitions"]);
    let renamed = plane.patch(&at, &[], &json!({"metadata": {"name": "other"}})).await.is(422);
    assert_eq!(renamed.pointers(), ["/metadata/name"]);
    plane.patch("/workspaces/demo/topics/dev.demo.absent.raw", &[], &json!({})).await.is(404);
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({ "a": deep });
    }
    plane.patch(&at, &[], &deep).await.is(400);
}

#[tokio::test]
async fn a_cascade_is_planned_in_an_order_that_works() {
    let plane = flow().await;
    let plan = async |path: &str| -> Vec<String> {
        let answer = plane.delete(&format!("{path}?cascade=plan")).await.is(200);
        let items = answer.body["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| format!("{} {}", item["kind"].as_str().unwrap(), item["name"].as_str().unwrap()))
            .collect()
    };
    let raw = format!("/workspaces/demo/topics/{RAW}");
    assert_eq!(plan(&raw).await, ["Pipeline github".to_owned(), format!("Topic {RAW}")]);
    assert_eq!(plan("/workspaces/demo/transforms/shape").await, ["Pipeline github", "Transform shape"]);
    assert_eq!(plan("/workspaces/demo/connectors/out").await, ["Connector out"]);
    let all = plan("/workspaces/demo").await;
    assert_eq!((all.len(), all.last().map(String::as_str)), (5, Some("Workspace demo")));
    // Nothing was deleted; in that order everything can be.
    for item in all {
        let (kind, name) = item.split_once(' ').unwrap();
        let path = match kind {
            "Workspace" => "/workspaces/demo".to_owned(),
            kind => format!("/workspaces/demo/{}s/{name}", kind.to_lowercase()),
        };
        plane.get(&path).await.is(200);
        plane.delete(&path).await.is(204);
    }
}

#[tokio::test]
async fn versions_are_compared() {
    let plane = flow().await;
    let at = "/workspaces/demo/transforms/shape/versions";
    let diff = plane.get(&format!("{at}/1/diff?with=2")).await.is(200).body;
    let text = diff["diff"].as_str().unwrap();
    assert!(text.contains("--- shape@1") && text.contains("+++ shape@2"), "{text}");
    assert!(text.contains("-{\"a\": 1}\n") && text.contains("+  \"b\": 2\n"), "{text}");
    assert_eq!(plane.get(&format!("{at}/2/diff?with=2")).await.is(200).body["diff"], "");
    plane.get(&format!("{at}/1/diff?with=7")).await.is(404);
    plane.get(&format!("{at}/1/diff")).await.is(400);
}
