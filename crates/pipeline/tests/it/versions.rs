//! New plans while a pipeline runs: nothing is seen by two generations or by none.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline::Applied;
use resources::OnError;
use runtime::StageState;
use types::names;

use crate::rig::{Rig, assert_exactly_once, json, numbered, value};

#[tokio::test]
async fn a_new_version_takes_over_between_two_batches() {
    let rig = Rig::new(3, r#"{"id": id, "v": 1}"#).await;
    let config = pipeline::Config { batch_records_max: 50, ..crate::rig::test_config() };
    let node = rig.node_with(config, Some(rig.plan.clone()));
    node.state(StageState::Running, "").await;
    let feed = async {
        for part in 0..40 {
            rig.produce(&rig.source, numbered(part * 50..(part + 1) * 50, 9)).await;
        }
    };
    let switch = async {
        node.until("under way", |s| s.in_total >= 500).await;
        assert_eq!(node.handle.apply(rig.next(2, 2, r#"{"id": id, "v": 2}"#)), Applied::Changed);
        assert_eq!(node.handle.apply(rig.plan.clone()), Applied::Older);
    };
    tokio::join!(feed, switch);
    let (target, _) = rig.settled(2_000).await;
    assert_exactly_once(&target, 2_000);
    let mut by_partition: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for record in &target {
        let version = value(record)["v"].as_u64().unwrap();
        assert_eq!(record.headers.get_str(names::TRANSFORM), Some(&*format!("enrich@{version}")));
        by_partition.entry(record.tp.partition).or_default().push(version);
    }
    let seen: Vec<_> = by_partition.values().flatten().collect();
    assert!(seen.contains(&&1) && seen.contains(&&2), "both ran");
    for versions in by_partition.values() {
        assert!(versions.is_sorted(), "never back: {versions:?}");
    }
    let status = node.until("in force", |s| s.generation_running == 2).await;
    assert_eq!(status.version.as_deref(), Some("enrich@2"));
    node.stop().await;
}

#[tokio::test]
async fn an_expression_that_does_not_compile_leaves_the_old_one_in_force() {
    let rig = Rig::new(1, "$").await;
    let node = rig.node(0);
    node.state(StageState::Running, "").await;
    node.handle.apply(rig.next(2, 2, "{\"id\": "));
    node.state(StageState::Degraded, "generation 1 stays in force").await;
    rig.produce(&rig.source, numbered(0..10, 3)).await;
    let (target, _) = rig.settled(10).await;
    assert_exactly_once(&target, 10);
    node.handle.apply(rig.next(3, 3, "$"));
    node.state(StageState::Running, "").await;
    node.stop().await;
}

#[tokio::test]
async fn an_instance_with_an_older_plan_does_not_go_backwards() {
    let rig = Rig::new(2, "$").await;
    let newer = rig.node_with(crate::rig::test_config(), Some(rig.next(5, 5, r#"{"id": id, "v": 5}"#)));
    rig.produce(&rig.source, numbered(0..20, 4)).await;
    rig.settled(20).await;
    newer.until("committed", |s| s.in_total == 20).await;
    newer.stop().await;

    let older = rig.node_with(crate::rig::test_config(), Some(rig.next(3, 3, r#"{"id": id, "v": 3}"#)));
    rig.produce(&rig.source, numbered(20..40, 4)).await;
    older.state(StageState::Degraded, "generation 5").await;
    assert_eq!(rig.read(&rig.target).await.len(), 20);
    older.handle.apply(rig.next(6, 6, r#"{"id": id, "v": 6}"#));
    let (target, _) = rig.settled(40).await;
    assert_exactly_once(&target, 40);
    assert!(target.iter().all(|r| value(r)["v"] != 3));
    older.stop().await;
}

#[tokio::test]
async fn pause_commits_first_and_resume_goes_on() {
    let rig = Rig::new(2, "$").await;
    let node = rig.node(0);
    rig.produce(&rig.source, numbered(0..100, 5)).await;
    node.until("under way", |s| s.in_total > 0).await;
    let mut paused = rig.next(2, 1, "$");
    paused.paused = true;
    node.handle.apply(paused);
    node.state(StageState::Paused, "paused").await;
    let at_pause = rig.read(&rig.target).await.len();
    rig.produce(&rig.source, numbered(100..200, 5)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.read(&rig.target).await.len(), at_pause, "a paused pipeline writes nothing");
    node.handle.apply(rig.next(3, 1, "$"));
    let (target, _) = rig.settled(200).await;
    assert_exactly_once(&target, 200);
    node.stop().await;
}

#[tokio::test]
async fn on_error_stop_holds_the_offset_until_a_new_plan() {
    let mut rig = Rig::new(1, r#"{"id": id, "n": $number(n)}"#).await;
    rig.plan.on_error = OnError::Stop;
    let record = |id: u32, n: &str| json("k", &format!(r#"{{"id":{id},"n":"{n}"}}"#));
    rig.produce(&rig.source, vec![record(0, "1"), record(1, "x"), record(2, "3")]).await;
    let node = rig.node(0);
    let status = node.state(StageState::Failed, "onError: stop").await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("transform_error") && reason.contains("-0@1"), "{reason}");
    assert_eq!(rig.read(&rig.target).await.len(), 1, "what was before it is committed");
    assert_eq!(rig.read(&rig.dlq).await.len(), 0);
    node.handle.apply(rig.next(2, 2, r#"{"id": id, "n": n}"#));
    let (target, _) = rig.settled(3).await;
    assert_exactly_once(&target, 3);
    node.stop().await;
}

#[tokio::test]
async fn a_missing_topic_is_named_and_waited_for() {
    let mut rig = Rig::new(1, "$").await;
    let target = crate::rig::topic(&format!("{}-later", rig.target));
    rig.plan.target = target.clone();
    rig.target = target.clone();
    rig.produce(&rig.source, numbered(0..3, 1)).await;
    let node = rig.node(0);
    node.state(StageState::Failed, target.as_str()).await;
    crate::rig::create(&rig.engine.admin(), &[kafka::NewTopic::new(target, 1)]).await;
    rig.settled(3).await;
    node.state(StageState::Running, "").await;
    node.stop().await;
}
