//! Static members (KIP-345, KIP-814).

use super::*;

fn static_join(instance: &str, member_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), skips_assignment: true, ..join("g", member_id) }
}

/// A stable group with one static leader `i1` and one static follower `i2`, generation 2.
async fn stable(f: &Fixture) -> [String; 2] {
    let one = f.groups.join(static_join("i1", "")).await;
    assert_eq!(one.error, ErrorCode::NONE, "no handshake for static members");
    assert!(one.member_id.starts_with("i1-"));
    let second = f.spawn_join(static_join("i2", ""));
    f.settle().await;
    let one = f.groups.join(static_join("i1", &one.member_id)).await;
    let two = second.await.unwrap();
    let ids = [one.member_id, two.member_id];
    let waiting = f.spawn_sync(sync("g", &ids[1], 2, vec![]));
    let assignments =
        vec![(ids[0].clone(), Bytes::from_static(b"1")), (ids[1].clone(), Bytes::from_static(b"2"))];
    assert_eq!(f.groups.sync(sync("g", &ids[0], 2, assignments)).await.assignment, "1");
    assert_eq!(waiting.await.unwrap().assignment, "2");
    ids
}

fn as_static(id: &str, instance: &str, generation: i32) -> MemberRef {
    MemberRef { member_id: id.into(), instance_id: Some(instance.into()), generation }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_follower_takes_its_place_without_a_rebalance() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    let back = f.groups.join(static_join("i2", "")).await;
    assert_eq!((back.error, back.generation, &back.leader), (ErrorCode::NONE, 2, &ids[0]));
    assert_ne!(back.member_id, ids[1]);
    assert!(!back.skip_assignment && back.members.is_empty());
    assert_eq!(f.state("g"), GroupState::Stable);
    assert_eq!(f.groups.sync(sync("g", &back.member_id, 2, vec![])).await.assignment, "2");
    let old = as_static(&ids[1], "i2", 2);
    assert_eq!(f.groups.heartbeat("g", &old), Err(ErrorCode::FENCED_INSTANCE_ID));
    let fenced = f.groups.sync(SyncRequest { member: old.clone(), ..sync("g", "", 2, vec![]) }).await;
    assert_eq!(fenced.error, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(f.groups.join(static_join("i2", &ids[1])).await.error, ErrorCode::FENCED_INSTANCE_ID);
    let commit =
        CommitRequest { group: "g".into(), member: old, retention_ms: None, offsets: vec![offset(0, 1)] };
    assert_eq!(f.groups.commit_offsets(commit).await, Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(f.groups.heartbeat("g", &as_static("x", "unknown", 2)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    // The new id is durable before it is answered.
    let r = f.restarted();
    assert_eq!(r.groups.heartbeat("g", &as_static(&back.member_id, "i2", 2)), Ok(()));
    assert_eq!(r.groups.heartbeat("g", &as_static(&ids[1], "i2", 2)), Err(ErrorCode::FENCED_INSTANCE_ID));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_leader_is_told_to_skip_its_assignment() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    let back = f.groups.join(static_join("i1", "")).await;
    assert_eq!((&back.leader, back.skip_assignment, back.members.len()), (&back.member_id, true, 2));
    assert_eq!(f.state("g"), GroupState::Stable);
    assert_eq!(f.groups.sync(sync("g", &back.member_id, 2, vec![])).await.assignment, "1");
    // A client before version 9 doesn't learn that it leads, else it would assign.
    let old = f.groups.join(JoinRequest { skips_assignment: false, ..static_join("i1", "") }).await;
    assert_eq!((old.skip_assignment, old.members.len()), (false, 0));
    assert_ne!(old.leader, old.member_id);
    assert_eq!(f.groups.heartbeat("g", &as_static(&ids[1], "i2", 2)), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_member_with_another_protocol_starts_a_rebalance() {
    let f = Fixture::new();
    let one = f.groups.join(static_join("i1", "")).await;
    f.groups.sync(sync("g", &one.member_id, 1, vec![])).await;
    let other = vec![("sticky".to_owned(), Bytes::new())];
    let back = f.groups.join(JoinRequest { protocols: other, ..static_join("i1", "") }).await;
    assert_eq!((back.generation, back.protocol.as_deref()), (2, Some("sticky")));
    assert_eq!(back.members.len(), 1, "it is the only member: its predecessor is gone");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_joins_fences_the_one_that_waits() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    let waiting = f.spawn_join(static_join("i1", &ids[0]));
    f.settle().await;
    let duplicate = f.spawn_join(static_join("i1", ""));
    f.settle().await;
    assert_eq!(waiting.await.unwrap().error, ErrorCode::FENCED_INSTANCE_ID);
    f.groups.join(static_join("i2", &ids[1])).await;
    let duplicate = duplicate.await.unwrap();
    assert_eq!((duplicate.generation, duplicate.members.len()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn static_members_keep_their_place_over_a_rebalance_until_their_session_ends() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    // i2 is down; i1 starts a rebalance by changing its metadata; at the deadline i2 is still a member ... if its
    // session is longer than the rebalance.
    let short = JoinRequest {
        rebalance_timeout_ms: 2_000,
        protocols: vec![("range".into(), subscription("new"))],
        ..static_join("i1", &ids[0])
    };
    let two = JoinRequest { rebalance_timeout_ms: 2_000, ..static_join("i2", &ids[1]) };
    let (one, two) = (f.spawn_join(short.clone()), f.spawn_join(two));
    assert_eq!(one.await.unwrap().generation, 3);
    two.await.unwrap();
    f.groups.sync(sync("g", &ids[0], 3, vec![])).await;
    f.groups.sync(sync("g", &ids[1], 3, vec![])).await;
    let started = tokio::time::Instant::now();
    let again = f.groups.join(short).await;
    assert_eq!(started.elapsed().as_millis() / 100, 20, "it waits for the rebalance timeout");
    assert_eq!((again.generation, again.members.len()), (4, 2), "i2 is still among the members");
    for _ in 0..3 {
        sleep_ms(4_000).await;
        let _ = f.groups.heartbeat("g", &as_static(&ids[0], "i1", 4));
    }
    assert_eq!(f.groups.heartbeat("g", &as_static(&ids[1], "i2", 4)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_away_is_replaced_by_one_who_joins() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    let quick =
        |i: usize| JoinRequest { rebalance_timeout_ms: 2_000, ..static_join(["i1", "i2"][i], &ids[i]) };
    let (one, two) = (f.spawn_join(quick(0)), f.spawn_join(JoinRequest { protocols: other(), ..quick(1) }));
    assert_eq!(one.await.unwrap().leader, ids[0]);
    two.await.unwrap();
    f.groups.sync(sync("g", &ids[0], 3, vec![])).await;
    // The leader i1 is silent now, but its session goes on longer than the rebalance.
    let two = f.groups.join(quick(1)).await;
    assert_eq!((two.generation, &two.leader, two.members.len()), (4, &ids[1], 2));
}

fn other() -> Vec<(String, Bytes)> {
    vec![("range".into(), subscription("other"))]
}

#[tokio::test(start_paused = true)]
async fn static_members_are_removed_by_instance_id() {
    let f = Fixture::new();
    let ids = stable(&f).await;
    let by = |id: &str, instance: &str| Leaving { member_id: id.into(), instance_id: Some(instance.into()) };
    let left =
        f.groups.leave("g", &[by("", "none"), by("wrong", "i1"), by("", "i2"), by(&ids[0], "i1")]).unwrap();
    let expected = [Err(ErrorCode::UNKNOWN_MEMBER_ID), Err(ErrorCode::FENCED_INSTANCE_ID), Ok(()), Ok(())];
    assert_eq!(left, expected);
    assert_eq!(f.state("g"), GroupState::Empty);
}
