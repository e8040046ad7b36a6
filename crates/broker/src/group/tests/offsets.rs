//! Offsets: commit, fetch, delete, transactions, retention.

use super::*;
use crate::log::Outcome;

fn commit(group: &str, who: MemberRef, offsets: Vec<OffsetToCommit>) -> CommitRequest {
    CommitRequest { group: group.into(), member: who, retention_ms: None, offsets }
}

fn pending(group: &str, producer_id: i64, offsets: Vec<OffsetToCommit>) -> TxnCommitRequest {
    TxnCommitRequest { group: group.into(), member: nobody(), producer_id, offsets }
}

fn end(f: &Fixture, group: &str, producer_id: i64, outcome: Outcome) {
    use super::super::journal::{Frame, Journal};
    let groups = [group.to_owned()].into();
    let write = |entries: Vec<Vec<u8>>| {
        let entries = entries.into_iter().map(|entry| (GROUPS_MACHINE, entry)).collect();
        f.journal.frame(Frame { markers: vec![], entries })
    };
    f.groups.end_transaction(&groups, producer_id, outcome, write).unwrap();
}

const OK: ErrorCode = ErrorCode::NONE;

#[tokio::test(start_paused = true)]
async fn simple_consumers_commit_without_members() {
    let f = Fixture::new();
    assert_eq!(committed(&f.groups, "s", false).await, []);
    let codes =
        f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 5), offset(1, 6)])).await.unwrap();
    assert_eq!(codes, vec![(partition(0), OK), (partition(1), OK)]);
    let request = FetchRequest {
        group: "s".into(),
        partitions: Some(vec![partition(1), partition(9)]),
        require_stable: false,
    };
    let fetched = f.groups.fetch_offsets(request).await.unwrap();
    let FetchedOffset { offset, leader_epoch, metadata, .. } = &fetched[0];
    assert_eq!((*offset, *leader_epoch, metadata.as_str()), (6, 3, "m6"));
    assert_eq!((fetched[1].offset, fetched[1].error), (-1, OK));
    assert_eq!(committed(&f.restarted().groups, "s", false).await, [(0, 5, OK), (1, 6, OK)]);
    assert_eq!(f.groups.list()[0].state, GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_checked_against_the_group() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    let try_commit = async |who| f.groups.commit_offsets(commit("g", who, vec![offset(0, 1)])).await;
    assert_eq!(try_commit(nobody()).await, Err(ErrorCode::UNKNOWN_MEMBER_ID), "the group has members");
    assert_eq!(try_commit(member("x", generation)).await, Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(try_commit(member(&ids[0], generation - 1)).await, Err(ErrorCode::ILLEGAL_GENERATION));
    assert!(try_commit(member(&ids[0], generation)).await.is_ok());
    let elsewhere = f.groups.commit_offsets(commit("none", member("x", 3), vec![offset(0, 1)])).await;
    assert_eq!(elsewhere, Err(ErrorCode::ILLEGAL_GENERATION));

    let second = f.new_id("g").await;
    let joining = f.spawn_join(join("g", &second));
    f.settle().await;
    assert!(
        try_commit(member(&ids[0], generation)).await.is_ok(),
        "while others join, work is still committed"
    );
    f.groups.join(join("g", &ids[0])).await;
    joining.await.unwrap();
    let early = try_commit(member(&ids[0], generation + 1)).await;
    assert_eq!(early, Err(ErrorCode::REBALANCE_IN_PROGRESS), "the assignment isn't known yet");
}

#[tokio::test(start_paused = true)]
async fn a_commit_keeps_the_session() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    for n in 0..5 {
        sleep_ms(9_000).await;
        f.groups.commit_offsets(commit("g", member(&ids[0], generation), vec![offset(0, n)])).await.unwrap();
    }
    assert_eq!(f.state("g"), GroupState::Stable);
}

#[tokio::test(start_paused = true)]
async fn limits_are_answered_partition_by_partition() {
    let f = Fixture::with(Config { offsets_max: 2, ..Config::default() });
    let long = |n: i32, len: usize| OffsetToCommit { metadata: "x".repeat(len), ..offset(n, 1) };
    let codes =
        f.groups.commit_offsets(commit("s", nobody(), vec![long(0, 4_096), long(1, 4_097)])).await.unwrap();
    assert_eq!(codes, vec![(partition(0), OK), (partition(1), ErrorCode::OFFSET_METADATA_TOO_LARGE)]);
    let codes =
        f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 2), offset(1, 2)])).await.unwrap();
    assert_eq!(codes, vec![(partition(0), OK), (partition(1), ErrorCode::POLICY_VIOLATION)]);
    assert_eq!(committed(&f.groups, "s", false).await, [(0, 2, OK)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_transaction_is_bounded() {
    let f = Fixture::with(Config { pending_bytes_max: 200, ..Config::default() });
    let try_pending = |n| f.groups.add_pending(pending("s", 7, vec![offset(n, 1)])).map(|_| ());
    assert_eq!([0, 1, 2].map(try_pending), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(try_pending(3), Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE));
    end(&f, "s", 7, Outcome::Commit);
    assert_eq!(try_pending(3), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_it_is_durable() {
    let f = Fixture::new();
    f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 1)])).await.unwrap();
    f.journal.hold(true);
    let groups = f.groups.clone();
    let committing =
        tokio::spawn(async move { groups.commit_offsets(commit("s", nobody(), vec![offset(0, 2)])).await });
    let groups = f.groups.clone();
    f.settle().await;
    let fetching = tokio::spawn(async move { committed(&groups, "s", false).await });
    f.settle().await;
    assert!(!committing.is_finished() && !fetching.is_finished());
    assert_eq!(committed(&f.restarted().groups, "s", false).await, [(0, 1, OK)]);
    f.journal.hold(false);
    assert!(committing.await.unwrap().is_ok());
    assert_eq!(fetching.await.unwrap(), [(0, 2, OK)]);
    f.journal.fail();
    let failed = f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 3)])).await;
    assert_eq!(failed, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_transaction_are_unstable_until_it_ends() {
    let f = Fixture::new();
    f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 1)])).await.unwrap();
    f.groups.add_pending(pending("s", 77, vec![offset(0, 10), offset(1, 11)])).unwrap();
    f.groups.add_pending(pending("s", 78, vec![offset(2, 12)])).unwrap();
    let unstable = ErrorCode::UNSTABLE_OFFSET_COMMIT;
    for f in [&f, &f.restarted()] {
        assert_eq!(committed(&f.groups, "s", false).await, [(0, 1, OK)], "nobody sees them");
        assert_eq!(
            committed(&f.groups, "s", true).await,
            [(0, -1, unstable), (1, -1, unstable), (2, -1, unstable)]
        );
    }
    end(&f, "s", 77, Outcome::Commit);
    end(&f, "s", 78, Outcome::Abort);
    for f in [&f, &f.restarted()] {
        assert_eq!(committed(&f.groups, "s", true).await, [(0, 10, OK), (1, 11, OK)]);
    }
}

#[tokio::test(start_paused = true)]
async fn transactional_offsets_are_checked_against_the_group() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    let try_pending = |who: MemberRef| {
        f.groups
            .add_pending(TxnCommitRequest { member: who, ..pending("g", 7, vec![offset(0, 1)]) })
            .map(|_| ())
    };
    assert_eq!(try_pending(member(&ids[0], generation)), Ok(()));
    assert_eq!(try_pending(nobody()), Ok(()), "clients before KIP-447 name no member");
    assert_eq!(try_pending(member(&ids[0], generation + 1)), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(try_pending(member("x", generation)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    let other = TxnCommitRequest { member: member("x", 1), ..pending("none", 7, vec![offset(0, 1)]) };
    assert_eq!(f.groups.add_pending(other).map(|_| ()), Err(ErrorCode::ILLEGAL_GENERATION));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_where_nobody_subscribes() {
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    let offsets = vec![offset(0, 1), offset(1, 1)];
    f.groups.commit_offsets(commit("g", member(&ids[0], generation), offsets)).await.unwrap();
    let asked = [("orders".to_owned(), partition(0)), ("other".to_owned(), partition(1))];
    let codes = f.groups.delete_offsets("g", &asked).await.unwrap();
    assert_eq!(codes, vec![(partition(0), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC), (partition(1), OK)]);
    assert_eq!(committed(&f.restarted().groups, "g", false).await, [(0, 1, OK)]);
    f.groups.leave("g", &[Leaving { member_id: ids[0].clone(), instance_id: None }]).unwrap();
    assert_eq!(f.groups.delete_offsets("g", &asked[..1]).await.unwrap(), vec![(partition(0), OK)]);
    assert_eq!(f.groups.delete_offsets("none", &asked).await, Err(ErrorCode::GROUP_ID_NOT_FOUND));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_leaves_no_offsets() {
    let f = Fixture::new();
    let other =
        OffsetToCommit { partition: PartitionId { topic: Uuid::from_u128(8), partition: 0 }, ..offset(0, 9) };
    f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 1), other])).await.unwrap();
    f.groups.add_pending(pending("s", 5, vec![offset(1, 1)])).unwrap();
    f.groups.forget_topic(Uuid::from_u128(7)).unwrap();
    for f in [&f, &f.restarted()] {
        assert_eq!(committed(&f.groups, "s", true).await, [(0, 9, OK)]);
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_groups_without_members_expire() {
    let day = 24 * 3600 * 1000;
    let f = Fixture::new();
    let (ids, generation) = f.stable("g", 1).await;
    f.groups.commit_offsets(commit("g", member(&ids[0], generation), vec![offset(0, 1)])).await.unwrap();
    f.groups.commit_offsets(commit("s", nobody(), vec![offset(0, 1)])).await.unwrap();
    f.groups.add_pending(pending("t", 5, vec![offset(0, 1)])).unwrap();
    let own = CommitRequest { retention_ms: Some(day), ..commit("own", nobody(), vec![offset(0, 1)]) };
    f.groups.commit_offsets(own).await.unwrap();
    for _ in 0..(2 * 24 * 3600 / 9) {
        sleep_ms(9_000).await;
        f.groups.heartbeat("g", &member(&ids[0], generation)).unwrap();
    }
    assert_eq!(f.state("own"), GroupState::Dead, "its client asked for one day");
    sleep_ms(6 * day as u64).await;
    assert_eq!(f.state("s"), GroupState::Dead, "seven days after its last commit");
    assert_eq!(f.state("g"), GroupState::Empty, "six days after its last member");
    assert_eq!(committed(&f.groups, "g", false).await, [(0, 1, OK)]);
    sleep_ms(day as u64 + 700_000).await;
    assert_eq!(f.state("g"), GroupState::Dead);
    assert_eq!(f.state("t"), GroupState::Empty, "an open transaction keeps its group");
    let names: Vec<String> = f.restarted().groups.list().into_iter().map(|group| group.group).collect();
    assert_eq!(names, ["t"]);
}
