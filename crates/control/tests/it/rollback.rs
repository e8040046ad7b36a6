//! Which versions a pipeline had, and going back to earlier ones.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::plane::{Answer, Plane, pipeline, transform};

const PIPELINE: &str = "/workspaces/demo/pipelines/p";

async fn roll_back(plane: &Plane, body: Value) -> Answer {
    let request =
        Request::post(format!("/api/v1{PIPELINE}:rollBack")).header("content-type", "application/json");
    plane.send(request.body(Body::from(body.to_string())).unwrap()).await
}

/// Generations and versions that are known, and the spec's.
#[track_caller]
fn known(resource: &Value) -> (Vec<(u64, String)>, u64) {
    let all = resource["status"]["versions"].as_array().unwrap_or_else(|| panic!("{resource}"));
    let known = all
        .iter()
        .map(|v| (v["generation"].as_u64().unwrap(), v["steps"]["only"].as_str().unwrap().to_owned()));
    (known.collect(), resource["spec"]["steps"][0]["version"].as_u64().unwrap())
}

fn at(generation: u64, version: u64) -> (u64, String) {
    (generation, format!("t@{version}"))
}

/// A pipeline `p` that had versions 1 to `last` of `t`, at generations 1 to `last`.
async fn with_versions(last: u64) -> (Plane, Value) {
    let plane = Plane::demo().await;
    let manifest = pipeline("p", "in", "t", "out");
    for version in 1..=last {
        plane.put("", &transform("t", &format!("a + {version}"))).await;
        plane.put("", &manifest).await;
    }
    (plane, manifest)
}

#[tokio::test]
async fn versions_are_kept_and_gone_back_to() {
    let (plane, manifest) = with_versions(3).await;
    let all = vec![at(1, 1), at(2, 2), at(3, 3)];
    assert_eq!(known(&plane.get(PIPELINE).await.body), (all.clone(), 3));
    assert_eq!(plane.put("", &manifest).await.is(200).header("x-vltava-change"), "unchanged");

    // Without a body too.
    let bare = Request::post(format!("/api/v1{PIPELINE}:rollBack")).body(Body::empty()).unwrap();
    let back = plane.send(bare).await.is(200);
    let all = [all, vec![at(4, 2)]].concat();
    assert_eq!(known(&back.body), (all.clone(), 2));
    assert_eq!(back.body["status"]["rolledBack"]["t@3"]["reason"], "it was asked for");

    let back = roll_back(&plane, json!({"generation": 1, "reason": "sums are wrong"})).await.is(200);
    let all = [all, vec![at(5, 1)]].concat();
    assert_eq!(known(&back.body), (all.clone(), 1));
    assert_eq!(back.body["status"]["rolledBack"]["t@2"]["reason"], "sums are wrong");
    let stored = plane.get(PIPELINE).await.body;
    assert_eq!(known(&stored), (all, 1));
    let since: Vec<_> =
        stored["status"]["versions"].as_array().unwrap().iter().map(|v| v["since"].as_str()).collect();
    assert!(since.is_sorted() && since[0].is_some(), "{since:?}");

    // Pausing and resuming keep what is known.
    plane.send(Request::post(format!("/api/v1{PIPELINE}:pause")).body(Body::empty()).unwrap()).await.is(200);
    assert_eq!(known(&plane.get(PIPELINE).await.body), known(&stored));
}

/// A folder that is applied over and over doesn't undo it.
#[tokio::test]
async fn what_was_rolled_back_is_not_put_again_by_mistake() {
    let (plane, manifest) = with_versions(2).await;
    roll_back(&plane, json!({"reason": "sums are wrong"})).await.is(200);
    for query in ["", "?dryRun=true"] {
        let refused = plane.put(query, &manifest).await.is(409);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("t@2 was rolled back at") && detail.contains("sums are wrong"), "{detail}");
        assert!(detail.contains("--retry-rollout"), "{detail}");
    }
    // What leaves the versions alone passes, and so does a newer version.
    let patch = |spec: Value| {
        let request = Request::patch(format!("/api/v1{PIPELINE}"))
            .header("content-type", "application/merge-patch+json");
        request.body(Body::from(json!({ "spec": spec }).to_string())).unwrap()
    };
    let patched = plane.send(patch(json!({"onError": "stop"}))).await.is(200);
    assert_eq!(known(&patched.body), (vec![at(1, 1), at(2, 2), at(3, 1)], 1));
    plane.put("", &transform("t", "a + 3")).await.is(200);
    let third = plane.put("", &manifest).await.is(200);
    assert_eq!(known(&third.body).1, 3);

    // Somebody who knows puts it again; after that it is a version like any other.
    let second = patch(json!({"steps": [{"name": "only", "transform": "t", "version": 2}]}));
    plane.send(second).await.is(409);
    let mut named = manifest.clone();
    named["spec"]["steps"][0]["version"] = json!(2);
    let retried = plane.put("?retryRollout=true", &named).await.is(200);
    assert!(retried.header("x-vltava-warning").contains("is tried again"), "{retried:?}");
    assert_eq!(retried.body["status"].get("rolledBack"), None, "{}", retried.body);
    plane.put("", &manifest).await.is(200);
    plane.put("", &named).await.is(200);

    // To go back to a version is to say that it shall run, also where it was left before.
    roll_back(&plane, json!({})).await.is(200);
    let toggled = roll_back(&plane, json!({})).await.is(200);
    assert_eq!(known(&toggled.body).1, 2);
    assert!(toggled.body["status"]["rolledBack"].get("t@2").is_none(), "{}", toggled.body);
}

#[tokio::test]
async fn where_there_is_nothing_to_go_back_to_it_says_so() {
    let (plane, mut manifest) = with_versions(1).await;
    let detail = |answer: Answer| answer.body["detail"].as_str().unwrap().to_owned();
    let nothing = detail(roll_back(&plane, json!({})).await.is(409));
    assert!(nothing.contains("no other versions"), "{nothing}");
    for generation in [0, 2] {
        let unknown = detail(roll_back(&plane, json!({ "generation": generation })).await.is(400));
        assert!(unknown.contains(&format!("generation: {generation} is none of pipeline p")), "{unknown}");
    }
    roll_back(&plane, json!({"generation": -1})).await.is(400);
    roll_back(&plane, json!({"version": 1})).await.is(400);
    let long = detail(roll_back(&plane, json!({"reason": "x".repeat(1001)})).await.is(400));
    assert!(long.contains("reason: longer than 1000 bytes"), "{long}");
    let missing =
        Request::post("/api/v1/workspaces/demo/pipelines/none:rollBack").body(Body::empty()).unwrap();
    plane.send(missing).await.is(404);
    let other_kind =
        Request::post("/api/v1/workspaces/demo/transforms/t:rollBack").body(Body::empty()).unwrap();
    assert_eq!(plane.send(other_kind).await.status.as_u16() / 100, 4);

    manifest["spec"]["steps"] =
        json!([{"name": "first", "transform": "t"}, {"name": "second", "transform": "t"}]);
    plane.put("", &manifest).await.is(200);
    let others = detail(roll_back(&plane, json!({})).await.is(409));
    assert!(others.contains("had other steps at generation 1 (only: t@1)"), "{others}");
}

/// What ran before needs no backtest to run again.
#[tokio::test]
async fn a_required_backtest_does_not_stand_in_the_way_back() {
    let (plane, mut manifest) = with_versions(2).await;
    manifest["spec"]["rollout"] = json!({"require": {"backtest": {}}});
    plane.put("", &manifest).await.is(200);
    let back = roll_back(&plane, json!({})).await.is(200);
    assert_eq!(known(&back.body).1, 1);
    assert_eq!(back.body["spec"]["rollout"]["require"]["backtest"]["maxChanged"], 0);
}

#[tokio::test]
async fn steps_without_versions_stay_as_they_are() {
    let plane = Plane::demo().await;
    let mut manifest = pipeline("p", "in", "t", "out");
    manifest["spec"]["steps"] = json!([{"name": "big", "filter": "a > 1"}, {"name": "only", "transform": "t"}, {"name": "by", "key": "a"}]);
    for version in 1..=2 {
        plane.put("", &transform("t", &format!("a + {version}"))).await;
        plane.put("", &manifest).await;
    }
    let back = roll_back(&plane, json!({})).await.is(200).body;
    let steps = json!([{"name": "big", "filter": "a > 1"}, {"name": "only", "transform": "t", "version": 1},
        {"name": "by", "key": "a"}]);
    assert_eq!(back["spec"]["steps"], steps);
}
