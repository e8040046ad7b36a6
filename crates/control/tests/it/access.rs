//! Who may do what: every route without a caller, with callers of another workspace, and with each scope alone.

use auth::Access;
use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use testkit::caller;
use tower::ServiceExt;
use types::Scope;

use crate::plane::{Plane, workspace};

/// Every route, with a path of it in workspace `demo`, and what is needed: nothing more than the scope where it says so.
const ROUTES: &[(&str, &str, &str, Scope)] = &[
    ("POST", "/api/v1:plan", "/api/v1:plan", Scope::ControlRead),
    ("POST", "/api/v1:apply", "/api/v1:apply", Scope::ControlWrite),
    ("GET", "/api/v1/status", "/api/v1/status", Scope::ControlRead),
    ("GET", "/api/v1/workspaces", "/api/v1/workspaces", Scope::ControlRead),
    ("GET", "/api/v1/workspaces/{workspace}", "/api/v1/workspaces/demo", Scope::ControlRead),
    ("PUT", "/api/v1/workspaces/{workspace}", "/api/v1/workspaces/demo", Scope::Admin),
    ("PATCH", "/api/v1/workspaces/{workspace}", "/api/v1/workspaces/demo", Scope::Admin),
    ("DELETE", "/api/v1/workspaces/{workspace}", "/api/v1/workspaces/demo", Scope::Admin),
    ("GET", "/api/v1/clients", "/api/v1/clients", Scope::Admin),
    ("GET", "/api/v1/clients/{name}", "/api/v1/clients/x", Scope::Admin),
    ("PUT", "/api/v1/clients/{name}", "/api/v1/clients/x", Scope::Admin),
    ("PATCH", "/api/v1/clients/{name}", "/api/v1/clients/x", Scope::Admin),
    ("DELETE", "/api/v1/clients/{name}", "/api/v1/clients/x", Scope::Admin),
    ("POST", "/api/v1/clients/{name}", "/api/v1/clients/x:rotateSecret", Scope::Admin),
    ("GET", "/api/v1/workspaces/{workspace}/{kind}", "/api/v1/workspaces/demo/topics", Scope::ControlRead),
    ("GET", NAMED, "/api/v1/workspaces/demo/topics/dev.demo.a.raw", Scope::ControlRead),
    ("PUT", NAMED, "/api/v1/workspaces/demo/topics/dev.demo.a.raw", Scope::ControlWrite),
    ("PATCH", NAMED, "/api/v1/workspaces/demo/topics/dev.demo.a.raw", Scope::ControlWrite),
    ("DELETE", NAMED, "/api/v1/workspaces/demo/topics/dev.demo.a.raw", Scope::ControlWrite),
    ("POST", NAMED, "/api/v1/workspaces/demo/pipelines/p:pause", Scope::ControlWrite),
    ("POST", NAMED, "/api/v1/workspaces/demo/pipelines/p:backtest", Scope::ControlWrite),
    ("POST", NAMED, "/api/v1/workspaces/demo/transforms/t:evaluate", Scope::ControlWrite),
    ("GET", VERSIONS, "/api/v1/workspaces/demo/transforms/t/versions", Scope::ControlRead),
    ("GET", VERSION, "/api/v1/workspaces/demo/transforms/t/versions/1", Scope::ControlRead),
    ("GET", DIFF, "/api/v1/workspaces/demo/transforms/t/versions/1/diff?with=2", Scope::ControlRead),
    ("GET", DRIFT, "/api/v1/workspaces/demo/drift", Scope::ControlRead),
    ("GET", TOPIC_DRIFT, "/api/v1/workspaces/demo/topics/dev.demo.a.raw/drift", Scope::ControlRead),
    ("GET", DLQ, "/api/v1/workspaces/demo/dlq/dev.demo.a.dlq", Scope::ControlRead),
    ("GET", LETTERS, "/api/v1/workspaces/demo/dlq/dev.demo.a.dlq/letters", Scope::ControlRead),
    ("GET", LETTER, "/api/v1/workspaces/demo/dlq/dev.demo.a.dlq/letters/0/0", Scope::ControlRead),
    ("POST", REDRIVE, "/api/v1/workspaces/demo/dlq/dev.demo.a.dlq/redrive", Scope::ControlWrite),
];

const NAMED: &str = "/api/v1/workspaces/{workspace}/{kind}/{name}";
const VERSIONS: &str = "/api/v1/workspaces/{workspace}/transforms/{name}/versions";
const VERSION: &str = "/api/v1/workspaces/{workspace}/transforms/{name}/versions/{version}";
const DIFF: &str = "/api/v1/workspaces/{workspace}/transforms/{name}/versions/{version}/diff";
const DRIFT: &str = "/api/v1/workspaces/{workspace}/drift";
const TOPIC_DRIFT: &str = "/api/v1/workspaces/{workspace}/topics/{topic}/drift";
const DLQ: &str = "/api/v1/workspaces/{workspace}/dlq/{topic}";
const LETTERS: &str = "/api/v1/workspaces/{workspace}/dlq/{topic}/letters";
const LETTER: &str = "/api/v1/workspaces/{workspace}/dlq/{topic}/letters/{partition}/{offset}";
const REDRIVE: &str = "/api/v1/workspaces/{workspace}/dlq/{topic}/redrive";

async fn ask(
    plane: &Plane,
    method: &str,
    path: &str,
    body: Option<&Value>,
    who: Option<&Access>,
) -> (u16, Value) {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).unwrap();
    if let Some(who) = who {
        request.extensions_mut().insert(who.clone());
    }
    // Of a dead letter's route: there is no engine behind, which is far beyond permissions.
    let answer = tokio::time::timeout(std::time::Duration::from_secs(2), plane.bare.clone().oneshot(request));
    let Ok(response) = answer.await else { return (504, Value::Null) };
    let (parts, body) = response.unwrap().into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[test]
fn the_table_has_every_route() {
    let source = include_str!("../../src/api/mod.rs");
    let written =
        source.split('"').skip(1).step_by(2).filter(|text| text.starts_with("/api/") && !text.contains(' '));
    let written: std::collections::BTreeSet<&str> = written.collect();
    let known = ROUTES.iter().map(|(_, route, ..)| *route).collect();
    assert_eq!(written, known);
}

#[tokio::test]
async fn nobody_does_anything() {
    let plane = Plane::demo().await;
    for (method, _, path, _) in ROUTES {
        let (status, body) = ask(&plane, method, path, None, None).await;
        assert_eq!((status, &body["code"]), (401, &json!("token_missing")), "{method} {path}");
    }
}

#[tokio::test]
async fn each_scope_opens_its_routes_and_no_other() {
    let plane = Plane::demo().await;
    for scope in Scope::ALL {
        let who = caller(&[scope], &["*"], &["*"]);
        for (method, _, path, needed) in ROUTES {
            let opens = scope == *needed
                || scope == Scope::Admin
                || (*needed == Scope::ControlRead && scope == Scope::ControlWrite);
            let (status, body) = ask(&plane, method, path, None, Some(&who)).await;
            if opens {
                assert!(![401, 403].contains(&status), "{scope}: {method} {path}: {status} {body}");
            } else {
                let expected = (403, &json!("insufficient_scope"), &json!(needed.as_str()));
                assert_eq!((status, &body["code"], &body["value"]), expected, "{scope}: {method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn who_belongs_to_another_workspace_gets_nothing_of_this_one() {
    let plane = Plane::demo().await;
    plane.put("", &topic("dev.demo.a.raw")).await.is(201);
    let all: Vec<Scope> = Scope::ALL.to_vec();
    let who = caller(&all, &["other"], &["*"]);
    for (method, route, path, _) in ROUTES {
        let (status, body) = ask(&plane, method, path, None, Some(&who)).await;
        let code = body["code"].as_str().unwrap_or_default();
        match *route {
            // Theirs is what they are shown.
            "/api/v1/workspaces" => assert_eq!((status, &body["items"]), (200, &json!([]))),
            "/api/v1/status" => {
                assert_eq!((status, &body["stages"], &body["reconciler"]), (200, &json!([]), &Value::Null));
            }
            "/api/v1:plan" | "/api/v1:apply" => assert_eq!(status, 415, "{path}: {body}"),
            _ => {
                assert_eq!(status, 403, "{method} {path}: {body}");
                assert!(
                    ["workspace_denied", "installation_denied"].contains(&code),
                    "{method} {path}: {code}"
                );
                // What is there and what isn't are the same.
                let other = path.replace("dev.demo.a", "dev.demo.nothing").replace("/demo", "/nothing");
                let (status, body) = ask(&plane, method, &other, None, Some(&who)).await;
                assert_eq!(
                    (status, body["code"].as_str().unwrap_or_default()),
                    (403, code),
                    "{method} {other}"
                );
            }
        }
    }
}

fn topic(name: &str) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": "Topic", "metadata": {"name": name, "workspace": "demo"},
        "spec": {"partitions": 1}})
}

fn transform(workspace: &str) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": "Transform", "metadata": {"name": "t", "workspace": workspace},
        "spec": {"language": "jsonata", "expression": "$"}})
}

fn connector(topic: &str) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": "Connector", "metadata": {"name": "c", "workspace": "demo"},
        "spec": {"plugin": "http-sink", "topics": [topic], "config": {"http.url": "https://example.com/", "http.signing.secret": "${env:SIGNING}"}}})
}

#[tokio::test]
async fn topics_bound_what_is_written_and_read() {
    let plane = Plane::demo().await;
    for name in ["dev.demo.a.raw", "dev.demo.b.raw"] {
        plane.put("", &topic(name)).await.is(201);
    }
    let rules = json!({"apiVersion": "vltava/v1", "kind": "Workspace", "metadata": {"name": "demo"},
        "spec": {"references": {"env": ["SIGNING"]}}});
    plane.put("", &rules).await.is(200);
    let who = caller(&[Scope::ControlWrite], &["demo"], &["dev.demo.a.*"]);
    let base = "/api/v1/workspaces/demo";
    let ask = async |method: &str, path: &str, body: Option<&Value>| {
        let (status, body) = ask(&plane, method, &format!("{base}{path}"), body, Some(&who)).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let denied = (403, "topic_denied".to_owned());
    assert_eq!(ask("GET", "/topics/dev.demo.a.raw", None).await.0, 200);
    for (method, path) in [
        ("GET", "/topics/dev.demo.b.raw"),
        ("DELETE", "/topics/dev.demo.b.raw"),
        ("GET", "/topics/dev.demo.none.raw"),
        ("GET", "/topics/dev.demo.b.raw/drift"),
        ("GET", "/dlq/dev.demo.b.dlq/letters"),
        ("POST", "/dlq/dev.demo.b.dlq/redrive"),
    ] {
        assert_eq!(ask(method, path, None).await, denied, "{method} {path}");
    }
    assert_eq!(ask("PUT", "/connectors/c", Some(&connector("dev.demo.a.raw"))).await.0, 201);
    assert_eq!(ask("PUT", "/connectors/c", Some(&connector("dev.demo.b.raw"))).await, denied);
    let patch = json!({"spec": {"topics": ["dev.demo.b.raw"]}});
    assert_eq!(ask("PATCH", "/connectors/c", Some(&patch)).await, denied);
    let to = json!({"action": {"kind": "redriveTo", "topic": "dev.demo.b.raw"}});
    assert_eq!(ask("POST", "/dlq/dev.demo.a.dlq/redrive", Some(&to)).await, denied);
    let dead_letter = json!({"spec": {"deadLetter": "dev.demo.b.dlq"}});
    assert_eq!(ask("PATCH", "/topics/dev.demo.a.raw", Some(&dead_letter)).await, denied);
}

#[tokio::test]
async fn what_the_process_can_read_is_not_everybodys() {
    let plane = Plane::demo().await;
    plane.put("", &topic("dev.demo.a.raw")).await.is(201);
    let path = "/api/v1/workspaces/demo/connectors/c";
    let put =
        async |who: &Access| ask(&plane, "PUT", path, Some(&connector("dev.demo.a.raw")), Some(who)).await.0;
    // The workspace says nothing of references.
    assert_eq!(put(&caller(&[Scope::ControlWrite], &["demo"], &["*"])).await, 422);
    assert_eq!(put(&caller(&[Scope::Admin], &["*"], &["*"])).await, 201);
}

#[tokio::test]
async fn a_set_is_bounded_as_its_parts_are() {
    let plane = Plane::demo().await;
    plane.put("", &workspace("other")).await.is(201);
    let set =
        |manifests: Value, prune: bool| json!({"manifests": manifests, "source": "git", "prune": prune});
    let all = caller(&[Scope::Admin], &["*"], &["*"]);
    let both = set(json!([transform("demo"), transform("other")]), false);
    assert_eq!(ask(&plane, "POST", "/api/v1:apply", Some(&both), Some(&all)).await.0, 200);
    let who = caller(&[Scope::ControlWrite], &["demo"], &["dev.demo.a.*"]);
    let code = async |manifests: Value| {
        let (status, body) =
            ask(&plane, "POST", "/api/v1:apply", Some(&set(manifests, false)), Some(&who)).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code(json!([transform("demo")])).await.0, 200);
    assert_eq!(code(json!([transform("demo"), transform("other")])).await, (403, "workspace_denied".into()));
    assert_eq!(code(json!([topic("dev.demo.b.raw")])).await, (403, "topic_denied".into()));
    assert_eq!(code(json!([workspace("demo")])).await, (403, "insufficient_scope".into()));
    let client = json!({"apiVersion": "vltava/v1", "kind": "Client", "metadata": {"name": "mine"},
        "spec": {"scopes": ["admin"], "workspaces": ["*"]}});
    assert_eq!(code(json!([client])).await, (403, "insufficient_scope".into()));
    // What the source owns elsewhere is neither shown nor deleted.
    let (status, body) = ask(&plane, "POST", "/api/v1:apply", Some(&set(json!([]), true)), Some(&who)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["summary"]["deleted"], 1, "{body}");
    assert!(!body.to_string().contains("other"), "{body}");
    plane.get("/workspaces/other/transforms/t").await.is(200);
    plane.get("/workspaces/demo/transforms/t").await.is(404);
}

#[tokio::test]
async fn a_workspace_is_made_by_the_way_only_for_who_has_them_all() {
    let plane = Plane::demo().await;
    let path = "/api/v1/workspaces/fresh/transforms/t";
    let who = caller(&[Scope::ControlWrite], &["fresh"], &[]);
    let (status, body) = ask(&plane, "PUT", path, Some(&transform("fresh")), Some(&who)).await;
    assert_eq!((status, &body["code"]), (404, &json!("workspace_not_found")));
    let who = caller(&[Scope::Admin], &["*"], &[]);
    assert_eq!(ask(&plane, "PUT", path, Some(&transform("fresh")), Some(&who)).await.0, 201);
}
