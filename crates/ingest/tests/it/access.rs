//! Who may publish: by scope, by the topic's name, by the workspace that the topic belongs to.

use std::sync::Arc;

use auth::Access;
use axum::body::Body;
use http::Request;
use ingest::{Config, Deps};
use resources::{IngestSpec, TopicEntry, TopicTable};
use runtime::Metrics;
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;
use types::{Scope, TopicName};

use crate::fake::Fake;

fn table() -> TopicTable {
    let entry = |workspace: Option<&str>| TopicEntry {
        partitions: 1,
        max_message_bytes: 1_048_588,
        ingest: IngestSpec::default(),
        workspace: workspace.map(str::to_owned),
        dlq: None,
    };
    let topics = [
        ("dev.demo.owned.raw", Some("demo")),
        ("dev.demo.loose.raw", None),
        ("prod.demo.loose.raw", None),
        ("dev.demo.foreign.raw", Some("other")),
        ("orders", None),
    ];
    TopicTable::new(topics.map(|(name, workspace)| (TopicName::new(name).unwrap(), entry(workspace))))
}

#[tokio::test]
async fn who_may_publish_where() {
    let (_topics, receiver) = watch::channel(Arc::new(table()));
    let sink = Fake::new();
    let deps = Deps { topics: receiver, sink: sink.clone(), look: Arc::default(), metrics: Metrics::new() };
    let router = ingest::router(Config::default(), deps);
    let demo = |patterns: &[&str]| Some(testkit::caller(&[Scope::IngestWrite], &["demo"], patterns));
    let others: Vec<Scope> =
        Scope::ALL.into_iter().filter(|scope| ![Scope::IngestWrite, Scope::Admin].contains(scope)).collect();
    let cases: Vec<(&str, Option<Access>, &str, u16, &str)> = vec![
        ("nobody", None, "dev.demo.owned.raw", 401, "token_missing"),
        ("nobody, unknown", None, "dev.demo.none.raw", 401, "token_missing"),
        ("local", Some(Access::local()), "orders", 202, ""),
        ("own", demo(&["dev.demo.*"]), "dev.demo.owned.raw", 202, ""),
        ("own by name", demo(&["dev.demo.*"]), "dev.demo.loose.raw", 202, ""),
        ("another environment's", demo(&["*"]), "prod.demo.loose.raw", 404, "topic_not_found"),
        ("another workspace's", demo(&["*"]), "dev.demo.foreign.raw", 404, "topic_not_found"),
        ("nobody's", demo(&["*"]), "orders", 404, "topic_not_found"),
        ("unknown", demo(&["*"]), "dev.demo.none.raw", 404, "topic_not_found"),
        ("beyond its patterns", demo(&["dev.demo.loose.*"]), "dev.demo.owned.raw", 403, "topic_denied"),
        ("unknown beyond them", demo(&["dev.demo.loose.*"]), "dev.demo.none.raw", 403, "topic_denied"),
        ("no patterns", demo(&[]), "dev.demo.owned.raw", 403, "topic_denied"),
        ("the system's", demo(&["*"]), "vltava.dlq.settled", 422, "topic_name_reserved"),
        (
            "the other scopes",
            Some(testkit::caller(&others, &["*"], &["*"])),
            "orders",
            403,
            "insufficient_scope",
        ),
        ("admin", Some(testkit::caller(&[Scope::Admin], &["*"], &["*"])), "orders", 202, ""),
    ];
    let mut stored = 0;
    for (what, access, topic, status, code) in cases {
        for (route, accepted) in [("/ingest/", 202), ("/api/v1/events/", 200)] {
            let request = Request::post(format!("{route}{topic}")).header("content-type", "application/json");
            let mut request = request.body(Body::from("{\"a\":1}")).unwrap();
            if let Some(access) = &access {
                request.extensions_mut().insert(access.clone());
            }
            let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
            let bytes = axum::body::to_bytes(body, 1 << 16).await.unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            let expected = if status == 202 { accepted } else { status };
            assert_eq!(parts.status.as_u16(), expected, "{what} at {route}: {body}");
            assert_eq!(body["code"].as_str().unwrap_or_default(), code, "{what} at {route}");
            stored += usize::from(status == 202);
        }
    }
    assert_eq!(sink.records().len(), stored, "what was refused is stored nowhere");
}
