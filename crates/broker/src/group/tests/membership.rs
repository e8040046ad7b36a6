//! Joining, syncing, heartbeats, leaving, timeouts of dynamic members.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_member_gets_its_id_first_and_joins_with_it() {
    let f = Fixture::new();
    let id = f.new_id("g").await;
    assert!(id.starts_with("client-"));
    let joined = f.groups.join(join("g", &id)).await;
    assert_eq!((joined.error, joined.generation, &joined.leader), (ErrorCode::NONE, 1, &id));
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    // Clients before version 4 don't know the handshake.
    let old = f.groups.join(JoinRequest { knows_member_ids: false, ..join("old", "") }).await;
    assert_eq!((old.error, old.generation), (ErrorCode::NONE, 1));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_not_used_lapses_with_its_session() {
    let f = Fixture::new();
    let id = f.new_id("g").await;
    sleep_ms(10_100).await;
    assert_eq!(f.groups.join(join("g", &id)).await.error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(f.state("g"), GroupState::Dead, "nothing of it is kept");
}

#[tokio::test(start_paused = true)]
async fn ids_that_nobody_gave_out_are_unknown() {
    let f = Fixture::new();
    assert_eq!(f.groups.join(join("g", "made-up")).await.error, ErrorCode::UNKNOWN_MEMBER_ID);
    f.stable("g", 1).await;
    assert_eq!(f.groups.join(join("g", "made-up")).await.error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(f.groups.heartbeat("g", &member("made-up", 1)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(f.groups.heartbeat("none", &member("made-up", 1)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test(start_paused = true)]
async fn group_ids_and_session_timeouts_are_checked() {
    let f = Fixture::new();
    assert_eq!(f.groups.join(join("", "")).await.error, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(f.groups.heartbeat("", &member("a", 1)), Err(ErrorCode::INVALID_GROUP_ID));
    for session_timeout_ms in [-1, 0, 5_999, 1_800_001, i32::MAX] {
        let response = f.groups.join(JoinRequest { session_timeout_ms, ..join("g", "") }).await;
        assert_eq!(response.error, ErrorCode::INVALID_SESSION_TIMEOUT, "{session_timeout_ms}");
    }
    for session_timeout_ms in [6_000, 1_800_000] {
        let response = f.groups.join(JoinRequest { session_timeout_ms, ..join("g", "") }).await;
        assert_eq!(response.error, ErrorCode::MEMBER_ID_REQUIRED, "{session_timeout_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_member_makes_the_first_join_again() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    let second = f.new_id("g").await;
    let joining = f.spawn_join(join("g", &second));
    f.settle().await;
    assert_eq!(f.state("g"), GroupState::PreparingRebalance);
    assert_eq!(f.groups.heartbeat("g", &member(&ids[0], generation)), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    assert!(!joining.is_finished());

    let leader = f.groups.join(join("g", &ids[0])).await;
    let follower = joining.await.unwrap();
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!((&leader.leader, &follower.leader), (&ids[0], &ids[0]));
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    assert_eq!(leader.members[0].metadata, subscription("orders"));

    let waiting = f.spawn_sync(sync("g", &second, 2, vec![]));
    f.settle().await;
    assert!(!waiting.is_finished(), "a follower waits for the leader");
    assert_eq!(f.groups.heartbeat("g", &member(&second, 2)), Ok(()), "and may send heartbeats meanwhile");
    let assignments = vec![(second.clone(), Bytes::from_static(b"all"))];
    let synced = f.groups.sync(sync("g", &ids[0], 2, assignments)).await;
    assert_eq!((synced.error, synced.assignment), (ErrorCode::NONE, Bytes::new()));
    assert_eq!(waiting.await.unwrap().assignment, "all");
    assert_eq!(f.state("g"), GroupState::Stable);
    let again = f.groups.sync(sync("g", &second, 2, vec![])).await;
    assert_eq!(again.assignment, "all", "a repeated sync gets the same");
}

#[tokio::test(start_paused = true)]
async fn protocols_must_be_shared_and_most_votes_win() {
    let f = Fixture::new();
    let with = |id: &str, names: &[&str]| JoinRequest {
        protocols: names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect(),
        knows_member_ids: false,
        ..join("g", id)
    };
    let first = f.groups.join(with("", &["a", "b", "c"])).await;
    assert_eq!(first.protocol.as_deref(), Some("a"));
    for bad in
        [with("", &["d"]), with("", &[]), JoinRequest { protocol_type: "connect".into(), ..with("", &["a"]) }]
    {
        assert_eq!(f.groups.join(bad).await.error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let second = f.spawn_join(with("", &["c", "b"]));
    let third = f.spawn_join(with("", &["b", "c"]));
    f.settle().await;
    // Common are b and c; a votes for b, the second for c, the third for b.
    let first = f.groups.join(with(&first.member_id, &["a", "b", "c"])).await;
    assert_eq!(first.protocol.as_deref(), Some("b"));
    assert_eq!(second.await.unwrap().protocol, third.await.unwrap().protocol);
    let refused = f.groups.join(JoinRequest { protocol_type: String::new(), ..join("empty", "") }).await;
    assert_eq!(refused.error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(f.state("empty"), GroupState::Dead, "a refused join leaves no group");
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_dropped_when_its_session_ends() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 2).await;
    for _ in 0..3 {
        sleep_ms(5_000).await;
        let _ = f.groups.heartbeat("g", &member(&ids[0], generation));
    }
    let rejoined = f.groups.join(join("g", &ids[0])).await;
    assert_eq!((rejoined.error, rejoined.generation, rejoined.members.len()), (ErrorCode::NONE, 3, 1));
    assert_eq!(f.groups.heartbeat("g", &member(&ids[1], generation)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_session_for_ever() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    for _ in 0..100 {
        sleep_ms(9_000).await;
        assert_eq!(f.groups.heartbeat("g", &member(&ids[0], generation)), Ok(()));
    }
    assert_eq!(f.groups.heartbeat("g", &member(&ids[0], generation + 1)), Err(ErrorCode::ILLEGAL_GENERATION));
    sleep_ms(10_100).await;
    assert_eq!(f.state("g"), GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_join_again_in_time_is_out() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 2).await;
    let first = f.spawn_join(join("g", &ids[0]));
    // The second member is alive but doesn't join again (a long poll): the rebalance timeout decides.
    for _ in 0..12 {
        sleep_ms(4_900).await;
        assert_eq!(
            f.groups.heartbeat("g", &member(&ids[1], generation)),
            Err(ErrorCode::REBALANCE_IN_PROGRESS)
        );
        assert!(!first.is_finished());
    }
    sleep_ms(1_300).await;
    let first = first.await.unwrap();
    assert_eq!((first.generation, first.members.len()), (generation + 1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_joins_and_never_syncs_is_out() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let joins = [f.spawn_join(join("g", &ids[0])), f.spawn_join(join("g", &ids[1]))];
    for join in joins {
        join.await.unwrap();
    }
    assert_eq!(f.groups.sync(sync("g", &ids[0], 3, vec![])).await.error, ErrorCode::NONE);
    for _ in 0..13 {
        sleep_ms(4_700).await;
        let _ = f.groups.heartbeat("g", &member(&ids[0], 3));
        let _ = f.groups.heartbeat("g", &member(&ids[1], 3));
    }
    assert_eq!(f.groups.heartbeat("g", &member(&ids[0], 3)), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(f.groups.heartbeat("g", &member(&ids[1], 3)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test(start_paused = true)]
async fn a_lost_join_answer_is_given_again_and_a_leader_starts_anew() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let same = f.groups.join(join("g", &ids[1])).await;
    assert_eq!(
        (same.generation, same.members.len()),
        (2, 0),
        "a follower with the same metadata changes nothing"
    );
    assert_eq!(f.state("g"), GroupState::Stable);
    let leader = f.spawn_join(join("g", &ids[0]));
    f.settle().await;
    assert_eq!(f.state("g"), GroupState::PreparingRebalance, "the leader may force a rebalance");
    assert_eq!(f.groups.join(join("g", &ids[1])).await.generation, 3);
    assert_eq!(leader.await.unwrap().members.len(), 2);
    let again = f.groups.join(join("g", &ids[0])).await;
    assert_eq!((again.generation, again.members.len()), (3, 2), "while completing the answer is repeated");
    let changed =
        JoinRequest { protocols: vec![("range".into(), subscription("other"))], ..join("g", &ids[1]) };
    let changed = f.spawn_join(changed);
    f.settle().await;
    assert_eq!(f.state("g"), GroupState::PreparingRebalance, "other metadata needs a new generation");
    let leader = f.groups.join(join("g", &ids[0])).await;
    assert_eq!(changed.await.unwrap().generation, 4);
    let metadata: Vec<&Bytes> = leader.members.iter().map(|member| &member.metadata).collect();
    assert!(metadata.contains(&&subscription("other")));
}

#[tokio::test(start_paused = true)]
async fn a_second_join_of_the_same_member_sends_the_first_away() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let first = f.spawn_join(join("g", &ids[0]));
    f.settle().await;
    let second = f.spawn_join(join("g", &ids[0]));
    assert_eq!(first.await.unwrap().error, ErrorCode::REBALANCE_IN_PROGRESS);
    f.groups.join(join("g", &ids[1])).await;
    assert_eq!(second.await.unwrap().error, ErrorCode::NONE);
}

#[tokio::test(start_paused = true)]
async fn sync_checks_member_generation_protocol_and_state() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 2).await;
    let check = async |request| f.groups.sync(request).await.error;
    assert_eq!(check(sync("none", "x", 1, vec![])).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(check(sync("g", "x", generation, vec![])).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(check(sync("g", &ids[0], generation - 1, vec![])).await, ErrorCode::ILLEGAL_GENERATION);
    let good = sync("g", &ids[0], generation, vec![]);
    let other = SyncRequest { protocol: Some("other".into()), ..good.clone() };
    assert_eq!(check(other).await, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let other = SyncRequest { protocol_type: Some("connect".into()), ..good.clone() };
    assert_eq!(check(other).await, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let same = SyncRequest {
        protocol: Some("range".into()),
        protocol_type: Some("consumer".into()),
        ..good.clone()
    };
    assert_eq!(check(same).await, ErrorCode::NONE);
    let _joining = f.spawn_join(join("g", &ids[0]));
    f.settle().await;
    assert_eq!(check(good).await, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_during_sync_sends_waiting_syncs_away() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let joins = [f.spawn_join(join("g", &ids[0])), f.spawn_join(join("g", &ids[1]))];
    for join in joins {
        join.await.unwrap();
    }
    let waiting = f.spawn_sync(sync("g", &ids[1], 3, vec![]));
    f.settle().await;
    let left = f.groups.leave("g", &[Leaving { member_id: ids[0].clone(), instance_id: None }]).unwrap();
    assert_eq!(left, vec![Ok(())]);
    assert_eq!(waiting.await.unwrap().error, ErrorCode::REBALANCE_IN_PROGRESS);
    let rejoined = f.groups.join(join("g", &ids[1])).await;
    assert_eq!((rejoined.generation, &rejoined.leader, rejoined.members.len()), (4, &ids[1], 1));
}

#[tokio::test(start_paused = true)]
async fn leaving_is_answered_member_by_member() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let pending = f.new_id("g").await;
    let leaving = |id: &str| Leaving { member_id: id.into(), instance_id: None };
    let left =
        f.groups.leave("g", &[leaving(&ids[1]), leaving("x"), leaving(&pending), leaving(&ids[1])]).unwrap();
    let unknown = Err(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(left, vec![Ok(()), unknown, Ok(()), unknown]);
    assert_eq!(f.groups.leave("none", &[leaving("x")]).unwrap(), vec![unknown]);
    assert_eq!(f.groups.leave("", &[leaving("x")]), Err(ErrorCode::INVALID_GROUP_ID));
    assert_eq!(f.groups.leave("g", &[leaving(&ids[0])]).unwrap(), vec![Ok(())]);
    assert_eq!(f.state("g"), GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn a_group_has_a_greatest_size() {
    let f = Fixture::with(Config { members_max: 2, groups_max: 2, ..Config::default() });
    let (ids, _) = f.stable("g", 2).await;
    assert_eq!(f.groups.join(join("g", "")).await.error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(f.groups.join(join("g", &ids[1])).await.error, ErrorCode::NONE, "who is in stays in");
    f.new_id("second").await;
    f.new_id("second").await;
    let third = f.groups.join(join("second", "")).await;
    assert_eq!(third.error, ErrorCode::GROUP_MAX_SIZE_REACHED, "ids that were handed out count too");
    assert_eq!(f.groups.join(join("third", "")).await.error, ErrorCode::POLICY_VIOLATION);
}

#[tokio::test(start_paused = true)]
async fn metadata_and_assignments_are_bounded() {
    let f = Fixture::with(Config { group_bytes_max: 100, ..Config::default() });
    let big = |n: usize| vec![("range".to_owned(), Bytes::from(vec![0; n]))];
    let refused = f.groups.join(JoinRequest { protocols: big(100), ..join("g", "") }).await;
    assert_eq!(refused.error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    let joined =
        f.groups.join(JoinRequest { protocols: big(50), knows_member_ids: false, ..join("g", "") }).await;
    let id = joined.member_id;
    let assignments = vec![(id.clone(), Bytes::from(vec![0; 101]))];
    let refused = f.groups.sync(sync("g", &id, 1, assignments)).await;
    assert_eq!(refused.error, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_ne!(f.state("g"), GroupState::Stable);
}

#[tokio::test(start_paused = true)]
async fn the_first_rebalance_may_wait_for_more_members() {
    let delay = Duration::from_secs(3);
    let f = Fixture::with(Config { initial_rebalance_delay: delay, ..Config::default() });
    let (a, b) = (f.new_id("g").await, f.new_id("g").await);
    let first = f.spawn_join(join("g", &a));
    sleep_ms(2_900).await;
    let second = f.spawn_join(join("g", &b));
    sleep_ms(200).await;
    assert!(!first.is_finished(), "a member that came extends the delay");
    sleep_ms(3_000).await;
    assert_eq!(first.await.unwrap().members.len(), 2);
    assert_eq!(second.await.unwrap().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_while_joining_does_not_hold_the_others() {
    let f = Fixture::new();
    let (ids, _) = f.stable("g", 2).await;
    let gone = f.spawn_join(join("g", &ids[1]));
    f.settle().await;
    gone.abort();
    let _ = gone.await;
    let first = f.spawn_join(join("g", &ids[0]));
    sleep_ms(10_100).await;
    let first = first.await.unwrap();
    assert_eq!(
        (first.generation, first.members.len()),
        (3, 1),
        "its session ended, not the rebalance timeout"
    );
}

#[tokio::test(start_paused = true)]
async fn an_assignment_is_answered_only_when_it_is_durable() {
    let f = Fixture::new();
    let id = f.new_id("g").await;
    f.groups.join(join("g", &id)).await;
    f.journal.hold(true);
    let assigned = vec![(id.clone(), Bytes::from_static(b"x"))];
    let waiting = f.spawn_sync(sync("g", &id, 1, assigned));
    f.settle().await;
    assert!(!waiting.is_finished());
    assert_eq!(f.restarted().state("g"), GroupState::Dead, "a crash now would lose it");
    f.journal.hold(false);
    assert_eq!(waiting.await.unwrap().assignment, "x");
    f.journal.fail();
    let failed = f.groups.sync(sync("g", &id, 1, vec![])).await;
    assert_eq!(failed.error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn members_survive_a_restart_and_time_out_after_it() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 2).await;
    let r = f.restarted();
    r.settle().await;
    assert_eq!(r.groups.heartbeat("g", &member(&ids[0], generation)), Ok(()));
    assert_eq!(r.groups.sync(sync("g", &ids[1], generation, vec![])).await.assignment, vec![1]);
    let described = r.groups.describe("g").await;
    assert_eq!((described.members.len(), described.protocol.as_str()), (2, "range"));
    assert_eq!(described.members[0].metadata, subscription("orders"));
    sleep_ms(10_100).await;
    assert_eq!(r.state("g"), GroupState::Empty);
    assert_eq!(r.restarted().state("g"), GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_half_way_is_forgotten_by_a_restart() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 2).await;
    let joins = [f.spawn_join(join("g", &ids[0])), f.spawn_join(join("g", &ids[1]))];
    for join in joins {
        assert_eq!(join.await.unwrap().generation, generation + 1);
    }
    let snapshot = f.groups.snapshot();
    let restored = Groups::new(Config::default(), Clock::fixed(START_MS));
    restored.restore(&snapshot).unwrap();
    let restored = Fixture::start(restored, Arc::default(), f.clock.clone(), Config::default());
    for (i, id) in ids.iter().enumerate() {
        let stale = restored.groups.sync(sync("g", id, generation + 1, vec![])).await;
        assert_eq!(stale.error, ErrorCode::ILLEGAL_GENERATION, "they join again");
        let kept = restored.groups.sync(sync("g", id, generation, vec![])).await;
        assert_eq!(kept.assignment, vec![i as u8], "no assignment that the leader didn't write");
    }
}

#[tokio::test(start_paused = true)]
async fn groups_are_described_listed_and_deleted() {
    let f = Fixture::new();
    let (ids, _) = f.stable("b", 1).await;
    f.stable("a", 1).await;
    let names: Vec<String> = f.groups.list().into_iter().map(|group| group.group).collect();
    assert_eq!(names, ["a", "b"]);
    let described = f.groups.describe("b").await;
    assert_eq!((described.state, described.protocol_type.as_str()), (GroupState::Stable, "consumer"));
    let DescribedMember { member_id, client_id, client_host, assignment, .. } = &described.members[0];
    assert_eq!((member_id, client_id.as_str(), client_host.as_str()), (&ids[0], "client", "/127.0.0.1"));
    assert_eq!(assignment, &vec![0]);
    assert_eq!(f.groups.describe("none").await.state, GroupState::Dead);
    assert_eq!(f.groups.delete("none").await, Err(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(f.groups.delete("b").await, Err(ErrorCode::NON_EMPTY_GROUP));
    f.groups.leave("b", &[Leaving { member_id: ids[0].clone(), instance_id: None }]).unwrap();
    assert_eq!(f.groups.delete("b").await, Ok(()));
    assert_eq!(f.groups.delete("b").await, Err(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(f.restarted().groups.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn before_the_log_is_open_clients_are_told_to_wait() {
    let groups = Groups::new(Config::default(), Clock::fixed(START_MS));
    assert_eq!(groups.join(join("g", "")).await.error, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(groups.journal().err(), Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
}
