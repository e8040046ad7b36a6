//! Kills, rivals, rebalances: read_committed, every record's result is there once.

use std::time::Duration;

use runtime::StageState;
use types::Record;

use crate::rig::{Rig, assert_exactly_once, numbered, test_config};

const COUNT: u32 = 3_000;

#[tokio::test]
async fn a_killed_instance_starts_again_and_nothing_is_lost_or_doubled() {
    let rig = Rig::new(4, "$").await;
    let config = pipeline::Config { batch_records_max: 40, batch_time_max_ms: 5, ..test_config() };
    rig.produce(&rig.source, numbered(0..COUNT, 23)).await;
    let mut before = 0;
    for kill in 0..5 {
        let node = rig.node_with(config.clone(), Some(rig.plan.clone()));
        // Killed between a few commits and the next: some lane is in its transaction then.
        node.until("on its way", |s| s.in_total >= 40 + kill * 30).await;
        node.kill();
        let after = rig.read(&rig.target).await.len();
        assert!(after >= before, "what is committed stays");
        before = after;
    }
    let node = rig.node_with(config, Some(rig.plan.clone()));
    let (target, dlq) = rig.settled(COUNT as usize).await;
    assert_eq!(dlq.len(), 0);
    assert_exactly_once(&target, COUNT);
    node.stop().await;
}

#[tokio::test]
async fn a_second_instance_with_the_same_slot_takes_over() {
    let rig = Rig::new(4, "$").await;
    let config = pipeline::Config { batch_records_max: 40, batch_time_max_ms: 5, ..test_config() };
    rig.produce(&rig.source, numbered(0..COUNT, 23)).await;
    let first = rig.node_with(config.clone(), Some(rig.plan.clone()));
    first.until("on its way", |s| s.in_total >= 100).await;
    let second = rig.node_with(config, Some(rig.plan.clone()));
    let fenced = first.state(StageState::Failed, "slot 0").await;
    let (target, _) = rig.settled(COUNT as usize).await;
    assert_exactly_once(&target, COUNT);
    // The later one has it now, and goes on alone.
    rig.produce(&rig.source, numbered(COUNT..COUNT + 100, 23)).await;
    let (target, _) = rig.settled(COUNT as usize + 100).await;
    assert_exactly_once(&target, COUNT + 100);
    assert!(first.status().in_total == fenced.in_total, "the first one does nothing any more");
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn two_slots_share_and_one_takes_over_from_the_other() {
    let rig = Rig::new(4, "$").await;
    let (one, two) = (rig.node(0), rig.node(1));
    one.state(StageState::Running, "").await;
    two.state(StageState::Running, "").await;
    let mut next = 0;
    // Feeds sources and retry topic until both instances have work: the group has shared the partitions then.
    while one.status().in_total == 0 || two.status().in_total == 0 {
        assert!(next < 20_000, "never shared: {:?} {:?}", one.status(), two.status());
        rig.produce(&rig.source, numbered(next..next + 50, 23)).await;
        let again = numbered(next + 50..next + 100, 23).into_iter().map(|r| {
            let key = [b"again-", r.key.as_deref().expect("a key")].concat();
            Record { key: Some(key.into()), ..r }
        });
        rig.produce(&rig.retry, again.collect()).await;
        next += 100;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.produce(&rig.source, numbered(next..next + 1_000, 23)).await;
    next += 1_000;
    two.kill();
    rig.produce(&rig.source, numbered(next..next + 1_000, 23)).await;
    next += 1_000;
    let (target, _) = rig.settled(next as usize).await;
    assert_exactly_once(&target, next);
    one.stop().await;
}

#[tokio::test]
async fn a_stop_commits_what_is_in_flight_and_a_start_goes_on() {
    let rig = Rig::new(2, "$").await;
    rig.produce(&rig.source, numbered(0..2_000, 11)).await;
    let config = pipeline::Config { batch_records_max: 100, ..test_config() };
    let node = rig.node_with(config.clone(), Some(rig.plan.clone()));
    node.until("on its way", |s| s.in_total > 0).await;
    node.stop().await;
    let node = rig.node_with(config, Some(rig.plan.clone()));
    let (target, _) = rig.settled(2_000).await;
    assert_exactly_once(&target, 2_000);
    assert!(node.handle.remove(rig.plan.uid));
    assert!(node.handle.status().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn an_engine_that_goes_away_is_waited_for() {
    let mut rig = Rig::new(4, "$").await;
    let config = pipeline::Config { batch_records_max: 50, batch_time_max_ms: 5, ..test_config() };
    rig.produce(&rig.source, numbered(0..COUNT, 23)).await;
    let node = rig.node_with(config, Some(rig.plan.clone()));
    node.until("on its way", |s| s.in_total >= 100).await;
    rig.engine.go_away().await;
    let status = node.state(StageState::Degraded, &rig.engine.bootstrap()).await;
    assert!(status.in_total < u64::from(COUNT), "it was cut off in the middle: {status:?}");
    // With more than the session timeout, membership and partitions are lost meanwhile.
    let away_ms = std::env::var("VLTAVA_TEST_ENGINE_AWAY_MS").map_or(500, |ms| ms.parse().unwrap());
    tokio::time::sleep(Duration::from_millis(away_ms)).await;
    assert_eq!(node.status().state, StageState::Degraded);
    rig.engine.come_back().await;
    let (target, dlq) = rig.settled(COUNT as usize).await;
    assert_eq!(dlq.len(), 0);
    assert_exactly_once(&target, COUNT);
    rig.produce(&rig.source, numbered(COUNT..COUNT + 100, 23)).await;
    let (target, _) = rig.settled(COUNT as usize + 100).await;
    assert_exactly_once(&target, COUNT + 100);
    node.state(StageState::Running, "").await;
    node.stop().await;
}
