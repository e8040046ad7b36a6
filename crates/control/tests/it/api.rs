//! Resources over HTTP: preconditions, idempotence, versions, rules over several resources.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::plane::{Plane, connector, path, pipeline, topic, transform, workspace};

const RAW: &str = "dev.demo.github.raw";
const ENRICHED: &str = "dev.demo.github.enriched";

#[tokio::test]
async fn a_resource_is_made_changed_and_deleted_by_its_revision() {
    let plane = Plane::demo().await;
    let mut raw = topic(RAW, json!({"partitions": 3}));
    let at = path(&raw);

    plane.get(&at).await.is(404);
    let dry = plane.put("?dryRun=true", &raw).await.is(201);
    assert_eq!((dry.header("x-vltava-change"), dry.header("etag")), ("created", ""));
    plane.get(&at).await.is(404);

    let made = plane.put("", &raw).await.is(201);
    let first = made.header("etag").to_owned();
    assert_eq!(made.body["metadata"]["generation"], 1);
    assert_eq!(made.body["metadata"]["managedBy"], "api");
    assert_eq!(format!("\"{}\"", made.body["metadata"]["revision"]), first);
    let uid = made.body["metadata"]["uid"].clone();

    // As it was: no revision, whatever spelling.
    raw["spec"] = json!({"partitions": 3, "config": {}, "ingest": {}});
    let same = plane.put("", &raw).await.is(200);
    assert_eq!((same.header("x-vltava-change"), same.header("etag")), ("unchanged", first.as_str()));

    raw["spec"] = json!({"partitions": 4, "config": {"retention.ms": "1d"}});
    plane.put_at(&at, &[("if-match", "\"999999\"")], &raw).await.is(412);
    plane.put_at(&at, &[("if-none-match", "*")], &raw).await.is(412);
    let changed = plane.put_at(&at, &[("if-match", &first)], &raw).await.is(200);
    assert_eq!(changed.header("x-vltava-change"), "changed");
    assert_eq!(changed.body["metadata"]["generation"], 2);
    assert_eq!(changed.body["metadata"]["uid"], uid);
    assert_eq!(changed.body["spec"]["config"]["retention.ms"], "86400000");
    let conflict = plane.put_at(&at, &[("if-match", &first)], &raw).await.is(412);
    assert_eq!(conflict.body["code"], "revision_conflict");
    assert_eq!(conflict.body["revision"], changed.body["metadata"]["revision"]);

    // What was read can be put back; labels alone are no new generation.
    let mut read = plane.get(&at).await.is(200).body;
    read["metadata"]["labels"] = json!({"team": "x"});
    let labelled = plane.put("", &read).await.is(200);
    assert_eq!(labelled.header("x-vltava-change"), "changed");
    assert_eq!(labelled.body["metadata"]["generation"], 2);

    let request = Request::delete(format!("/api/v1{at}")).header("if-match", &first);
    plane.send(request.body(Body::empty()).unwrap()).await.is(412);
    plane.delete(&format!("{at}?dryRun=true")).await.is(204);
    plane.delete(&at).await.is(204);
    plane.delete(&at).await.is(404);
    plane.put_at(&at, &[("if-match", "*")], &raw).await.is(412);
    let again = plane.put_at(&at, &[("if-none-match", "*")], &raw).await.is(201);
    assert_ne!(again.body["metadata"]["uid"], uid, "made again, it is another");
    assert_ne!(again.header("etag"), first);
}

#[tokio::test]
async fn bad_requests_are_answered_with_what_is_wrong() {
    let plane = Plane::demo().await;
    let raw = topic(RAW, json!({}));
    let at = path(&raw);
    let code = async |request: Request<Body>, status: u16| {
        plane.send(request).await.is(status).body["code"].as_str().unwrap_or("?").to_owned()
    };
    let put = |content_type: &str, body: &str| {
        Request::put(format!("/api/v1{at}"))
            .header("content-type", content_type)
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    assert_eq!(code(put("text/yaml", "a: 1"), 415).await, "unsupported_media_type");
    assert_eq!(code(put("application/json", "{"), 400).await, "invalid_json");
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    assert_eq!(code(put("application/json", &large), 413).await, "body_too_large");
    let deep = "[".repeat(100_000);
    assert_eq!(code(put("application/json", &deep), 400).await, "invalid_json");
    let get = |path: &str| Request::get(format!("/api/v1{path}")).body(Body::empty()).unwrap();
    assert_eq!(code(get("/workspaces/demo/things"), 404).await, "unknown_kind");
    assert_eq!(code(get("/workspaces/demo/workspaces/demo"), 404).await, "unknown_kind");
    assert_eq!(code(get("/workspaces/none/topics"), 404).await, "workspace_not_found");
    assert_eq!(code(get("/workspaces/demo/topics?limit=0"), 400).await, "limit_invalid");
    plane.get("/workspaces/demo/topics?colour=red").await.is(400);

    let wrong = json!({"apiVersion": "vltava/v1", "kind": "Pipeline", "metadata": {"name": "x", "workspace": "other"},
        "spec": {"sources": []}});
    let refused = plane.put_at(&at, &[], &wrong).await.is(422);
    assert_eq!(refused.body["code"], "invalid_resource");
    assert_eq!(
        refused.pointers(),
        ["/kind", "/metadata/name", "/metadata/workspace", "/spec/sources", "/spec/steps", "/spec/target"]
    );
    plane.put("", &workspace("No")).await.is(422);
    let redrive = json!({"kind": "Redrive"});
    plane.put_at("/workspaces/demo/redrives/x", &[], &redrive).await.is(405);
}

#[tokio::test]
async fn lists_are_bounded_and_go_on() {
    let plane = Plane::demo().await;
    plane.put("", &workspace("other")).await.is(201);
    for i in 0..5 {
        plane.put("", &topic(&format!("dev.demo.s{i}.raw"), json!({"partitions": 1}))).await.is(201);
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = plane.get(&format!("/workspaces/demo/topics?limit=2{cursor}")).await.is(200).body;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), 5);
    assert!(names.is_sorted());
    assert_eq!(plane.get("/workspaces/other/topics").await.is(200).body["items"], json!([]));
    let first = plane.get("/workspaces?limit=1").await.is(200).body;
    assert_eq!(
        (&first["items"][0]["metadata"]["name"], &first["nextCursor"]),
        (&json!("demo"), &json!("demo"))
    );
    let second = plane.get("/workspaces?limit=1&cursor=demo").await.is(200).body;
    assert_eq!(
        (&second["items"][0]["metadata"]["name"], &second["nextCursor"]),
        (&json!("other"), &json!(null))
    );
}

#[tokio::test]
async fn topics_keep_their_workspaces_rules() {
    let plane = Plane::demo().await;
    for bad in ["orders", "dev.other.github.raw", "prod.demo.github.raw"] {
        let refused = plane.put("", &topic(bad, json!({}))).await.is(422);
        assert_eq!(refused.body["problems"][0]["code"], "naming_policy", "{bad}");
    }
    assert_eq!(plane.put("", &topic("vltava.audit", json!({}))).await.is(422).pointers(), ["/metadata/name"]);
    // System suffixes are within the policy.
    plane.put("", &topic("dev.demo.github.dlq", json!({}))).await.is(201);
    plane.put("", &topic("dev.demo.pipeline-github.retry", json!({}))).await.is(201);

    let made = plane.put("", &topic(RAW, json!({"partitions": 3, "replicationFactor": 3}))).await.is(201);
    assert!(made.header("x-vltava-warning").contains("becomes 1"));
    assert_eq!(
        plane.put("", &topic(RAW, json!({"partitions": 2}))).await.is(422).pointers(),
        ["/spec/partitions"]
    );
    let own = json!({"partitions": 3, "deadLetter": RAW});
    assert_eq!(plane.put("", &topic(RAW, own)).await.is(422).pointers(), ["/spec/deadLetter"]);

    // A name has one owner, also where policies don't keep workspaces apart.
    let mut any = workspace("any");
    any["spec"] = json!({"topicNaming": "any"});
    plane.put("", &any).await.is(201);
    let mut orders = topic("orders", json!({}));
    orders["metadata"]["workspace"] = json!("any");
    plane.put("", &orders).await.is(201);
    any["metadata"]["name"] = json!("any2");
    plane.put("", &any).await.is(201);
    orders["metadata"]["workspace"] = json!("any2");
    let taken = plane.put("", &orders).await.is(422);
    assert_eq!(taken.body["problems"][0]["code"], "taken");
    assert!(!taken.body.to_string().contains("workspace any "), "it doesn't say whose");
    let mut foreign = topic(RAW, json!({}));
    foreign["metadata"]["workspace"] = json!("any2");
    assert_eq!(plane.put("", &foreign).await.is(422).body["problems"][0]["code"], "taken");
}

#[tokio::test]
async fn versions_are_numbered_frozen_and_never_change() {
    let plane = Plane::demo().await;
    plane.put("", &topic(RAW, json!({}))).await.is(201);
    let flow = pipeline("github", RAW, "shape", ENRICHED);
    assert_eq!(plane.put("", &flow).await.is(422).pointers(), ["/spec/steps/0/transform"]);

    let made = plane.put("", &transform("shape", "{\"a\": 1}")).await.is(201);
    assert_eq!(made.body["status"]["version"], 1);
    let hash = made.body["status"]["hash"].clone();
    let first = plane.put("", &flow).await.is(201);
    assert_eq!(first.body["spec"]["steps"][0]["version"], 1);
    assert_eq!(plane.put("", &flow).await.is(200).header("x-vltava-change"), "unchanged");

    // A test is no new version; a changed expression is.
    let mut tested = transform("shape", "{\"a\": 1}");
    tested["spec"]["tests"] = json!([{"name": "one", "input": {}, "expected": {"a": 1}}]);
    let tested = plane.put("", &tested).await.is(200);
    assert_eq!((&tested.body["status"]["version"], tested.header("x-vltava-change")), (&json!(1), "changed"));
    assert_eq!(plane.put("", &transform("shape", "{\"a\": 2}")).await.is(200).body["status"]["version"], 2);

    // The pipeline runs what it ran until it is applied again.
    let kept = plane.get("/workspaces/demo/pipelines/github").await.is(200).body;
    assert_eq!(kept["spec"]["steps"][0]["version"], 1);
    let moved = plane.put("", &flow).await.is(200);
    assert_eq!(
        (&moved.body["spec"]["steps"][0]["version"], &moved.body["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );

    // Back by number, or by content; the same content again is a new version.
    let mut back = flow.clone();
    back["spec"]["steps"][0]["version"] = json!(1);
    assert_eq!(plane.put("", &back).await.is(200).body["spec"]["steps"][0]["version"], 1);
    back["spec"]["steps"][0]["version"] = hash;
    assert_eq!(plane.put("", &back).await.is(200).header("x-vltava-change"), "unchanged");
    for bad in [json!(3), json!(format!("sha256:{}", "0".repeat(64)))] {
        back["spec"]["steps"][0]["version"] = bad;
        assert_eq!(plane.put("", &back).await.is(422).pointers(), ["/spec/steps/0/version"]);
    }
    assert_eq!(plane.put("", &transform("shape", "{\"a\": 1}")).await.is(200).body["status"]["version"], 3);

    let versions = plane.get("/workspaces/demo/transforms/shape/versions").await.is(200).body;
    let numbers: Vec<u64> =
        versions["items"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1]);
    let second = plane.get("/workspaces/demo/transforms/shape/versions/2").await.is(200).body;
    assert_eq!(second["spec"]["expression"], "{\"a\": 2}");
    plane.get("/workspaces/demo/transforms/shape/versions/4").await.is(404);
}

#[tokio::test]
async fn a_transform_is_taken_only_if_it_compiles_and_its_tests_pass() {
    let plane = Plane::demo().await;
    let broken = plane.put("", &transform("shape", "{\"a\": ")).await.is(422);
    assert_eq!(broken.pointers(), ["/spec/expression"]);
    assert_eq!(broken.body["problems"][0]["code"], "expression_invalid");

    let mut tested = transform("shape", "{\"total\": $sum(items.price), \"at\": $fromMillis($timestamp)}");
    tested["spec"]["tests"] = json!([
        {"name": "right", "input": {"items": [{"price": 1.5}, {"price": 2.5}]},
         "expected": {"at": "1970-01-01T00:00:00.000Z", "total": 4.0}},
        {"name": "wrong", "input": {"items": [{"price": 1}]}, "expected": {"at": "1970-01-01T00:00:00.000Z", "total": 2}},
        {"name": "fails", "input": {"items": [{"price": "x"}]}, "expected": 1},
    ]);
    let refused = plane.put("", &tested).await.is(422);
    assert_eq!(refused.pointers(), ["/spec/tests/1", "/spec/tests/2"]);
    let first = refused.body["problems"][0]["message"].as_str().unwrap();
    assert!(first.contains("/total is 1, but 2 is expected"), "{first}");
    plane.get("/workspaces/demo/transforms/shape").await.is(404);
    tested["spec"]["tests"].as_array_mut().unwrap().truncate(1);
    plane.put("", &tested).await.is(201);
    // What yields nothing is written null.
    let mut nothing = transform("nothing", "absent");
    nothing["spec"]["tests"] = json!([{"name": "n", "input": {}, "expected": null}]);
    plane.put("", &nothing).await.is(201);

    let mut keyed = pipeline("p", RAW, "shape", ENRICHED);
    keyed["spec"]["target"]["key"] = json!("id[");
    assert_eq!(plane.put("", &keyed).await.is(422).pointers(), ["/spec/target/key"]);
}

#[tokio::test]
async fn steps_of_all_kinds_are_compiled_and_named_where_they_are_wrong() {
    let plane = Plane::demo().await;
    let mut mixed = pipeline("p", RAW, "shape", ENRICHED);
    mixed["spec"]["steps"] = json!([
        {"name": "ok", "filter": "a > 1"},
        {"name": "open", "filter": "a >\n  "},
        {"name": "by", "key": "("},
        {"name": "tag", "headers": {"set": {"fine": "a", "a/b": "]"}}},
        {"name": "check", "validate": {"schema": {"properties": {"a": {"type": "nmber"}}}}},
        {"name": "shape", "transform": "shape"},
    ]);
    let refused = plane.put("", &mixed).await.is(422).body;
    let problems = refused["problems"].as_array().unwrap();
    let found: Vec<_> =
        problems.iter().map(|p| (p["pointer"].as_str().unwrap(), p["code"].as_str().unwrap())).collect();
    let all = [
        ("/spec/steps/1/filter", "expression_invalid"),
        ("/spec/steps/2/key", "expression_invalid"),
        ("/spec/steps/3/headers/set/a~1b", "expression_invalid"),
        ("/spec/steps/4/validate/schema/properties/a/type", "schema_invalid"),
        ("/spec/steps/5/transform", "not_found"),
    ];
    assert_eq!(found, all);
    assert!(problems[0]["message"].as_str().unwrap().contains("line 2"), "{refused}");

    // Without a transform there is nothing to wait for, and nothing that a backtest could try.
    mixed["spec"]["steps"] = json!([{"name": "ok", "filter": "a > 1"}]);
    let put = plane.put("", &mixed).await.is(201).body;
    assert_eq!(put["spec"]["steps"], mixed["spec"]["steps"]);

    let mut deleted = mixed.clone();
    deleted["spec"]["steps"] = json!([{"name": "ok", "filter": "a > 2"}]);
    assert_eq!(plane.put("", &deleted).await.is(200).body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_route_chooses_topics_of_its_workspace_which_stay_while_they_are_named() {
    let plane = Plane::demo().await;
    plane.put("", &workspace("other")).await.is(201);
    plane.put("", &topic("dev.demo.big.raw", json!({}))).await.is(201);
    let mut routed = pipeline("r", RAW, "shape", ENRICHED);
    let route = |topics: Value| json!([{"name": "to", "route": {"topics": topics, "to": "kind"}}]);
    routed["spec"]["steps"] =
        route(json!(["dev.other.x.raw", "dev.demo.github.dlq", "dev.demo.pipeline-r.retry"]));
    let refused = plane.put("", &routed).await.is(422);
    assert_eq!(refused.pointers(), [0, 1, 2].map(|n| format!("/spec/steps/0/route/topics/{n}")));
    routed["spec"]["steps"] = route(json!(["dev.demo.big.raw"]));
    plane.put("", &routed).await.is(201);
    plane.delete("/workspaces/demo/topics/dev.demo.big.raw").await.is(409);
}

#[tokio::test]
async fn what_is_named_stays() {
    let plane = Plane::demo().await;
    plane.put("", &topic(RAW, json!({}))).await.is(201);
    plane.put("", &transform("shape", "a")).await.is(201);
    plane.put("", &pipeline("github", RAW, "shape", ENRICHED)).await.is(201);
    for named in [format!("/workspaces/demo/topics/{RAW}"), "/workspaces/demo/transforms/shape".into()] {
        let refused = plane.delete(&named).await.is(409);
        assert_eq!(refused.body["dependants"], json!(["Pipeline github"]));
    }
    let refused = plane.delete("/workspaces/demo").await.is(409);
    assert_eq!(refused.body["dependants"].as_array().unwrap().len(), 3);
    plane.delete("/workspaces/demo/pipelines/github").await.is(204);
    plane.delete("/workspaces/demo/transforms/shape").await.is(204);
    plane.delete(&format!("/workspaces/demo/topics/{RAW}")).await.is(204);
    plane.delete("/workspaces/demo").await.is(204);
    plane.get("/workspaces/demo").await.is(404);
}

#[tokio::test]
async fn stages_touch_no_topic_of_another_workspace_and_no_circle() {
    let plane = Plane::demo().await;
    plane.put("", &workspace("other")).await.is(201);
    plane.put("", &transform("shape", "a")).await.is(201);
    // By the name alone: no resource is needed to own it.
    let foreign = pipeline("p", "dev.other.github.raw", "shape", "dev.other.x.enriched");
    assert_eq!(
        plane.put("", &foreign).await.is(422).pointers(),
        ["/spec/sources/0/topic", "/spec/target/topic"]
    );
    let sink = connector("c", "dev.other.github.raw", json!({"http.url": "https://example.com/"}));
    assert_eq!(plane.put("", &sink).await.is(422).pointers(), ["/spec/topics/0"]);
    for (source, target, pointer) in [
        ("dev.demo.github.dlq", ENRICHED, "/spec/sources/0/topic"),
        ("dev.demo.pipeline-p.retry", ENRICHED, "/spec/sources/0/topic"),
        (RAW, "dev.demo.github.dlq", "/spec/target/topic"),
        (RAW, RAW, "/spec/target/topic"),
        ("__consumer_offsets", ENRICHED, "/spec/sources/0/topic"),
    ] {
        let refused = plane.put("", &pipeline("p", source, "shape", target)).await.is(422);
        assert_eq!(refused.pointers(), [pointer], "{source} {target}");
    }
}

#[tokio::test]
async fn secrets_are_references_that_the_workspace_allows() {
    let plane = Plane::demo().await;
    let secret = json!({"http.url": "https://example.com/", "http.signing.secret": "whsec_canary"});
    let refused = plane.put("", &connector("c", RAW, secret)).await.is(422);
    assert_eq!(refused.body["problems"][0]["code"], "literal_secret");
    assert!(!refused.body.to_string().contains("canary"));

    let reference = json!({"http.url": "https://example.com/", "http.signing.secret": "${env:SIGNING}"});
    let made = plane.put("", &connector("c", RAW, reference.clone())).await.is(201);
    assert_eq!(made.body["spec"]["config"]["http.signing.secret"], "${env:SIGNING}");

    let mut strict = workspace("demo");
    strict["spec"] = json!({"references": {"env": ["HOOKS_*"], "files": []}});
    plane.put("", &strict).await.is(200);
    let refused = plane.put("", &connector("c", RAW, reference)).await.is(422);
    assert_eq!(refused.pointers(), ["/spec/config/http.signing.secret"]);
}

#[tokio::test]
async fn a_connectors_config_is_what_its_plugin_takes() {
    let plane = Plane::demo().await;
    let mut sink = connector(
        "c",
        RAW,
        json!({
            "http.url": "ftp://example.com/", "http.timeout.ms": "soon", "retry.attempts.max": "-1", "colour": "red",
            "http.signing.secret": "${env:SIGNING}",
        }),
    );
    let refused = plane.put("", &sink).await.is(422);
    let mut pointers = refused.pointers();
    pointers.sort_unstable();
    pointers.dedup();
    assert_eq!(
        pointers,
        [
            "/spec/config/colour",
            "/spec/config/http.timeout.ms",
            "/spec/config/http.url",
            "/spec/config/retry.attempts.max"
        ]
    );
    sink["spec"]["plugin"] = json!("carrier-pigeon");
    assert_eq!(plane.put("", &sink).await.is(422).pointers(), ["/spec/plugin"]);
    // Only the process that uses it can know it.
    plane.put("", &connector("c", RAW, json!({"http.url": "${env:URL}"}))).await.is(201);
}

#[tokio::test]
async fn a_workspace_is_made_by_what_is_put_into_it() {
    let plane = Plane::new().await;
    let raw = topic(RAW, json!({}));
    let dry = plane.put("?dryRun=true", &raw).await.is(201);
    assert!(dry.header("x-vltava-warning").contains("workspace demo"));
    plane.get("/workspaces/demo").await.is(404);
    assert!(plane.put("", &raw).await.is(201).header("x-vltava-warning").contains("workspace demo"));
    let made = plane.get("/workspaces/demo").await.is(200);
    assert_eq!(made.body["spec"]["topicNaming"], "stream");
    assert_eq!(plane.put("", &raw).await.is(200).header("x-vltava-warning"), "");
    // What is refused makes nothing.
    let mut bad = topic("orders", json!({}));
    bad["metadata"]["workspace"] = json!("other");
    plane.put("", &bad).await.is(422);
    plane.get("/workspaces/other").await.is(404);
}

#[tokio::test]
async fn a_dlq_of_another_workspace_is_not_there() {
    let plane = Plane::demo().await;
    plane.put("", &workspace("other")).await.is(201);
    for (path, status) in [
        ("/workspaces/demo/dlq/dev.other.github.dlq", 404),
        ("/workspaces/demo/dlq/dev.other.github.dlq/letters", 404),
        ("/workspaces/demo/dlq/dev.other.github.dlq/letters/0/0", 404),
        ("/workspaces/demo/dlq/vltava.dlq.settled/letters", 422),
        ("/workspaces/demo/dlq/a%20b/letters", 422),
        ("/workspaces/none/dlq/dev.demo.github.dlq", 404),
        ("/workspaces/demo/dlq/dev.demo.github.dlq?limit=1000", 400),
    ] {
        plane.get(path).await.is(status);
    }
    let begin = async |topic: &str, body: Value| {
        let request = Request::post(format!("/api/v1/workspaces/demo/dlq/{topic}/redrive"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        plane.send(request).await
    };
    begin("dev.other.github.dlq", json!({})).await.is(404);
    let own = "dev.demo.github.dlq";
    begin(own, json!({"rate": 0})).await.is(400);
    begin(own, json!({"colour": "red"})).await.is(400);
    begin(own, json!({"action": {"kind": "redriveTo", "topic": "dev.other.x.raw"}})).await.is(404);
    begin(own, json!({"action": {"kind": "redriveTo", "topic": own}})).await.is(400);
    assert_eq!(plane.get("/workspaces/demo/redrives").await.is(200).body["items"], json!([]));
}

/// A hundred writers of one resource: each revision is given once, none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_of_one_revision_one_wins() {
    let plane = Plane::demo().await;
    let etag = plane.put("", &topic(RAW, json!({"partitions": 1}))).await.is(201).header("etag").to_owned();
    let writers = (2..34).map(|partitions| {
        let (plane, etag) = (&plane, &etag);
        async move {
            let raw = topic(RAW, json!({ "partitions": partitions }));
            plane.put_at(&path(&raw), &[("if-match", etag)], &raw).await.status.as_u16()
        }
    });
    let mut answers = futures::future::join_all(writers).await;
    answers.sort_unstable();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    assert!(answers[1..].iter().all(|status| *status == 412));
}

/// The flows that the documentation shows, as `vltava apply` puts them.
#[tokio::test]
async fn the_examples_apply_again_and_again() {
    let plane = Plane::new().await;
    let apply = async |name: &str| {
        // Asked at run time: a clone may run what another clone built.
        let this = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let folder = std::path::Path::new(&this).join("../../examples").join(name);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if resources::is_manifest(&name) {
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
        files.sort();
        let placed =
            resources::folder(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))).unwrap();
        assert!(placed.len() >= 5);
        let mut changes = Vec::new();
        for manifest in &placed {
            let answer = plane.put("", manifest.value()).await;
            assert!(answer.status.is_success(), "{}: {}", manifest.place, answer.body);
            changes.push(format!("{} {}", manifest.manifest.kind(), answer.header("x-vltava-change")));
        }
        changes
    };
    assert!(apply("webhooks").await.iter().all(|change| change.ends_with(" created")));
    assert!(apply("webhooks").await.iter().all(|change| change.ends_with(" unchanged")));
    let mended = apply("webhooks-fixed").await;
    let changed: Vec<&str> =
        mended.iter().filter(|change| !change.ends_with(" unchanged")).map(String::as_str).collect();
    assert_eq!(changed, ["Transform changed", "Pipeline changed"]);
    let pipelines = plane.get("/workspaces/demo/pipelines").await.is(200).body;
    assert_eq!(pipelines["items"][0]["spec"]["steps"][0]["version"], 2);
}
