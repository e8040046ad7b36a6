//! Steps beside transforms, on an engine: what they let through, what they drop, and who is named when they fail.

use std::collections::BTreeMap;

use resources::{HeadersSpec, RouteSpec, StepKind, StepPlan};
use types::names;

use crate::rig::{Rig, json, step, value};

#[tokio::test]
async fn records_are_filtered_keyed_and_tagged_beside_a_transform() {
    let mut rig = Rig::new(1, "$").await;
    let named = |name: &str, kind| StepPlan { name: name.into(), kind };
    let headers = HeadersSpec {
        set: BTreeMap::from([("tenant".into(), "tenant".into())]),
        drop: vec!["cookie".into()],
    };
    rig.plan.steps = vec![
        named("wanted", StepKind::Filter("wanted".into())),
        named("by-tenant", StepKind::Key("tenant".into())),
        named("tag", StepKind::Headers(headers)),
        step("enrich", 3, r#"{"id": id, "for": $headers.tenant}"#),
    ];
    let mut first = json("k", r#"{"id":0,"wanted":true,"tenant":"acme"}"#);
    first.headers.push("cookie", "secret");
    let records = vec![
        first,
        json("k", r#"{"id":1,"wanted":false}"#),
        json("k", r#"{"id":2,"wanted":"maybe"}"#),
        json("k", r#"{"id":3,"wanted":true,"tenant":{"name":"acme"}}"#),
        json("k", r#"{"id":4,"wanted":true,"tenant":"globex"}"#),
    ];
    rig.produce(&rig.source, records).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(4).await;

    let made: Vec<_> = target.iter().map(|r| (r.key.clone().unwrap(), value(r))).collect();
    let all = [
        ("acme", serde_json::json!({"id": 0, "for": "acme"})),
        ("globex", serde_json::json!({"id": 4, "for": "globex"})),
    ];
    assert_eq!(made, all.map(|(key, value)| (key.into(), value)));
    assert_eq!(target[0].headers.get_str("tenant"), Some("acme"));
    assert_eq!(target[0].headers.get("cookie"), None);
    assert_eq!(target[0].headers.get_str(names::TRANSFORM), Some("enrich@3"));

    let failed: Vec<_> = dlq
        .iter()
        .map(|r| [names::DLQ_STAGE, names::DLQ_REASON].map(|name| r.headers.get_str(name).unwrap()))
        .collect();
    let of = |step| ["pipeline/demo/orders/", step].concat();
    assert_eq!(failed, [[&*of("wanted@1"), "invalid_result"], [&*of("by-tenant@1"), "invalid_result"]]);
    assert_eq!(dlq[1].key.as_deref(), Some(&b"k"[..]), "as it came");
    let status = node.until("counted", |s| s.in_total == 5).await;
    assert_eq!((status.out_total, status.dead_lettered_total), (2, 2));
    assert_eq!(status.version.as_deref(), Some("enrich@3"));
    node.stop().await;
}

#[tokio::test]
async fn records_go_to_the_topics_that_a_route_chooses() {
    let mut rig = Rig::new(1, "$").await;
    let other = crate::rig::topic(&format!("{}-big", rig.target));
    crate::rig::create(&rig.engine.admin(), &[kafka::NewTopic::new(other.clone(), 1)]).await;
    let route = RouteSpec { topics: vec![other.clone()], to: "n > 1 ? topic : null".into() };
    rig.plan.steps = vec![StepPlan { name: "size".into(), kind: StepKind::Route(route) }];
    let big = format!(r#"{{"n":2,"topic":"{other}"}}"#);
    let wrong = format!(r#"{{"n":3,"topic":"{}"}}"#, rig.dlq);
    let records = vec![json("k", r#"{"n":1}"#), json("k", &big), json("k", &wrong)];
    rig.produce(&rig.source, records).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(2).await;
    assert_eq!((value(&target[0])["n"].clone(), target.len()), (1.into(), 1));
    assert_eq!(dlq[0].headers.get_str(names::DLQ_REASON), Some("unknown_route"));
    let routed = rig.read(&other).await;
    assert_eq!((routed[0].value.as_deref(), routed.len()), (Some(big.as_bytes()), 1));
    assert_eq!(node.until("counted", |s| s.in_total == 3).await.out_total, 2);
    node.stop().await;
}
