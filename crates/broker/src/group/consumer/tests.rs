//! The rules of the consumer protocol, one test each, on tokio's paused time; and members at random, who never share a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;
use wire::ErrorCode;

use super::*;
use crate::catalog::Topic;
use crate::group::tests::{Fixture, member, nobody, sleep_ms};
use crate::group::{CommitRequest, JoinRequest, Leaving, OffsetToCommit};

fn topic(name: &str, partitions: i32) -> Topic {
    // The id follows from the name, so that a topic that grows is the same one.
    let id = Uuid::from_u128(name.bytes().fold(0, |id, byte| id << 8 | u128::from(byte)));
    Topic { id, name: name.to_owned(), partitions, config: BTreeMap::new() }
}

fn topics(all: &[(&str, i32)]) -> Arc<Topics> {
    Arc::new(all.iter().map(|(name, partitions)| topic(name, *partitions)).collect())
}

fn part(name: &str, partition: i32) -> PartitionId {
    PartitionId { topic: topic(name, 1).id, partition }
}

fn joining(id: &str, names: &[&str]) -> HeartbeatRequest {
    HeartbeatRequest {
        group: "g".into(),
        member_id: id.into(),
        epoch: JOINING,
        rebalance_timeout_ms: 30_000,
        names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        owned: Some(Vec::new()),
        ..HeartbeatRequest::default()
    }
}

fn beating(id: &str, epoch: i32, owned: Option<&[PartitionId]>) -> HeartbeatRequest {
    HeartbeatRequest {
        group: "g".into(),
        member_id: id.into(),
        epoch,
        rebalance_timeout_ms: -1,
        owned: owned.map(<[PartitionId]>::to_vec),
        ..HeartbeatRequest::default()
    }
}

async fn beat(f: &Fixture, request: HeartbeatRequest, topics: &Arc<Topics>) -> (i32, Option<Vec<i32>>) {
    let response = f.groups.consumer_heartbeat(request, topics).await.unwrap();
    (response.epoch, response.assignment.map(|all| all.iter().map(|one| one.partition).collect()))
}

async fn refused(f: &Fixture, request: HeartbeatRequest, topics: &Arc<Topics>) -> ErrorCode {
    f.groups.consumer_heartbeat(request, topics).await.unwrap_err().code
}

fn commit(id: &str, epoch: i32, partition: PartitionId) -> CommitRequest {
    let offset = OffsetToCommit { partition, offset: 7, leader_epoch: -1, metadata: String::new() };
    CommitRequest { group: "g".into(), member: member(id, epoch), retention_ms: None, offsets: vec![offset] }
}

#[tokio::test(start_paused = true)]
async fn a_second_member_gets_what_the_first_has_given_up() {
    let f = Fixture::new();
    let t = topics(&[("t", 4)]);
    assert_eq!(beat(&f, joining("a", &["t"]), &t).await, (1, Some(vec![0, 1, 2, 3])));
    assert_eq!(beat(&f, beating("a", 1, None), &t).await, (1, None), "nothing is new");
    // The target is two each, but nothing is free yet.
    assert_eq!(beat(&f, joining("b", &["t"]), &t).await, (2, Some(vec![])));
    let described = f.groups.consumer_describe("g").await.unwrap().unwrap();
    assert_eq!((described.state, described.epoch, described.assignor), ("Reconciling", 2, "uniform"));
    // The first is told to keep two; it stays at its epoch until it has given up the others.
    let (epoch, kept) = beat(&f, beating("a", 1, None), &t).await;
    let kept = kept.unwrap();
    assert_eq!((epoch, kept.len()), (1, 2));
    assert_eq!(beat(&f, beating("b", 2, None), &t).await, (2, None), "still nothing is free");
    let all: Vec<PartitionId> = (0..4).map(|n| part("t", n)).collect();
    assert_eq!(beat(&f, beating("a", 1, Some(&all)), &t).await, (1, None), "it has them still");
    let owned: Vec<PartitionId> = kept.iter().map(|n| part("t", *n)).collect();
    assert_eq!(beat(&f, beating("a", 1, Some(&owned)), &t).await, (2, None));
    let (epoch, given) = beat(&f, beating("b", 2, None), &t).await;
    let both: BTreeSet<i32> = kept.into_iter().chain(given.unwrap()).collect();
    assert_eq!((epoch, both), (2, BTreeSet::from([0, 1, 2, 3])));
    let described = f.groups.consumer_describe("g").await.unwrap().unwrap();
    assert_eq!((described.state, described.members.len()), ("Stable", 2));
    // One leaves: the other one has all again.
    assert_eq!(beat(&f, beating("b", LEAVING, None), &t).await, (-1, None));
    assert_eq!(beat(&f, beating("a", 2, None), &t).await, (3, Some(vec![0, 1, 2, 3])));
}

#[tokio::test(start_paused = true)]
async fn epochs_are_checked_and_a_lost_answer_is_forgiven() {
    let f = Fixture::new();
    let t = topics(&[("t", 1)]);
    assert_eq!(refused(&f, beating("a", 1, None), &t).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(f.groups.list().is_empty(), "a refused heartbeat makes no group");
    assert_eq!(beat(&f, joining("a", &["t"]), &t).await.0, 1);
    let more = topics(&[("t", 2)]);
    assert_eq!(beat(&f, beating("a", 1, None), &more).await, (2, Some(vec![0, 1])), "the topic grew");
    // The answer was lost: the member repeats its epoch, with what it had.
    assert_eq!(refused(&f, beating("a", 1, None), &more).await, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(beat(&f, beating("a", 1, Some(&[part("t", 0)])), &more).await.0, 2);
    assert_eq!(refused(&f, beating("a", 3, None), &more).await, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(refused(&f, beating("b", 2, None), &more).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(refused(&f, beating("a", -3, None), &more).await, ErrorCode::INVALID_REQUEST);
    let silly = HeartbeatRequest { names: None, ..joining("c", &[]) };
    assert_eq!(refused(&f, silly, &more).await, ErrorCode::INVALID_REQUEST);
    let assignor = HeartbeatRequest { assignor: Some("mine".into()), ..joining("c", &["t"]) };
    assert_eq!(refused(&f, assignor, &more).await, ErrorCode::UNSUPPORTED_ASSIGNOR);
    let pattern = HeartbeatRequest { regex: Some("(".into()), ..joining("c", &[]) };
    assert_eq!(refused(&f, pattern, &more).await, ErrorCode::INVALID_REGULAR_EXPRESSION);
    assert_eq!(f.groups.consumer_describe("g").await.unwrap().unwrap().members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_or_keeps_what_it_must_give_up_is_removed() {
    let f = Fixture::new();
    let t = topics(&[("t", 2)]);
    beat(&f, joining("a", &["t"]), &t).await;
    beat(&f, joining("b", &["t"]), &t).await;
    assert_eq!(beat(&f, beating("a", 1, None), &t).await.1.map(|kept| kept.len()), Some(1));
    // It goes on to beat, but doesn't give up in its 30 s.
    for _ in 0..2 {
        sleep_ms(14_000).await;
        assert_eq!(beat(&f, beating("a", 1, None), &t).await, (1, None));
        beat(&f, beating("b", 2, None), &t).await;
    }
    sleep_ms(3_000).await;
    assert_eq!(refused(&f, beating("a", 1, None), &t).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(beat(&f, beating("b", 2, None), &t).await, (3, Some(vec![0, 1])));
    sleep_ms(44_000).await;
    beat(&f, beating("b", 3, None), &t).await;
    sleep_ms(46_000).await;
    assert_eq!(refused(&f, beating("b", 3, None), &t).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(f.state("g"), GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_comes_back_to_what_it_had() {
    let f = Fixture::new();
    let t = topics(&[("t", 4)]);
    let as_static = |request: HeartbeatRequest| HeartbeatRequest { instance_id: Some("i".into()), ..request };
    assert_eq!(beat(&f, as_static(joining("a", &["t"])), &t).await.0, 1);
    let second = as_static(joining("a2", &["t"]));
    assert_eq!(refused(&f, second.clone(), &t).await, ErrorCode::UNRELEASED_INSTANCE_ID);
    assert_eq!(beat(&f, as_static(beating("a", AWAY, None)), &t).await, (AWAY, None));
    assert_eq!(beat(&f, second, &t).await, (1, Some(vec![0, 1, 2, 3])), "no new epoch");
    assert_eq!(refused(&f, as_static(beating("a", 1, None)), &t).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(refused(&f, beating("b", AWAY, None), &t).await, ErrorCode::INVALID_REQUEST);
    // An administrator takes it out.
    let leaving = Leaving { member_id: String::new(), instance_id: Some("i".into()) };
    assert_eq!(f.groups.leave("g", std::slice::from_ref(&leaving)), Ok(vec![Ok(())]));
    assert_eq!(f.groups.leave("g", &[leaving]), Ok(vec![Err(ErrorCode::UNKNOWN_MEMBER_ID)]));
    assert_eq!(f.state("g"), GroupState::Empty);
}

#[tokio::test(start_paused = true)]
async fn patterns_find_topics_that_come_later() {
    let f = Fixture::new();
    let by_pattern = HeartbeatRequest { names: None, regex: Some("order.*".into()), ..joining("a", &[]) };
    let t = topics(&[("orders", 1), ("my-orders", 1)]);
    assert_eq!(beat(&f, by_pattern, &t).await, (1, Some(vec![0])), "the whole name must match");
    let t = topics(&[("orders", 1), ("my-orders", 1), ("order-2", 2)]);
    assert_eq!(beat(&f, beating("a", 1, None), &t).await.0, 2);
    let described = f.groups.consumer_describe("g").await.unwrap().unwrap();
    let owned = &described.members[0].assignment;
    assert_eq!(
        owned.keys().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from([part("orders", 0).topic, part("order-2", 0).topic])
    );
    let gone = topics(&[("my-orders", 1)]);
    assert_eq!(beat(&f, beating("a", 2, None), &gone).await.1, Some(vec![]));
}

#[tokio::test(start_paused = true)]
async fn commits_need_the_members_epoch_or_a_partition_owned_since() {
    let f = Fixture::new();
    let t = topics(&[("t", 2)]);
    beat(&f, joining("a", &["t"]), &t).await;
    let code = |result: Result<Vec<(PartitionId, ErrorCode)>, ErrorCode>| result.map(|codes| codes[0].1);
    let one = part("t", 0);
    assert_eq!(code(f.groups.commit_offsets(commit("a", 1, one)).await), Ok(ErrorCode::NONE));
    // Another topic is a new epoch; what was owned before may still be committed with the old one.
    let t = topics(&[("t", 3)]);
    assert_eq!(beat(&f, beating("a", 1, None), &t).await.0, 2);
    assert_eq!(code(f.groups.commit_offsets(commit("a", 1, one)).await), Ok(ErrorCode::NONE));
    let new = part("t", 2);
    assert_eq!(code(f.groups.commit_offsets(commit("a", 2, new)).await), Ok(ErrorCode::NONE));
    let stale = Err(ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(code(f.groups.commit_offsets(commit("a", 1, new)).await), stale);
    assert_eq!(code(f.groups.commit_offsets(commit("a", 3, one)).await), stale);
    let unknown = Err(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(f.groups.commit_offsets(commit("b", 2, one)).await), unknown);
    let simple = CommitRequest { member: nobody(), ..commit("", -1, one) };
    assert_eq!(code(f.groups.commit_offsets(simple).await), unknown);
    // What it is to give up is its own until it has.
    beat(&f, joining("b", &["t"]), &t).await;
    let (epoch, kept) = beat(&f, beating("a", 2, None), &t).await;
    let lost = (0..3).find(|n| !kept.as_ref().unwrap().contains(n)).unwrap();
    assert_eq!(code(f.groups.commit_offsets(commit("a", epoch, part("t", lost))).await), Ok(ErrorCode::NONE));
}

#[tokio::test(start_paused = true)]
async fn the_two_protocols_do_not_mix_and_epochs_outlive_a_restart() {
    let f = Fixture::new();
    let t = topics(&[("t", 1)]);
    beat(&f, joining("a", &["t"]), &t).await;
    beat(&f, beating("a", LEAVING, None), &t).await;
    assert_eq!(beat(&f, joining("a", &["t"]), &t).await.0, 3);
    let classic: JoinRequest = crate::group::tests::join("g", "");
    assert_eq!(f.groups.join(classic.clone()).await.error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(f.groups.describe("g").await.state, GroupState::Dead, "it is no classic group");
    assert_eq!(f.groups.delete("g").await, Err(ErrorCode::NON_EMPTY_GROUP));
    let listed = f.groups.list().remove(0);
    assert!(listed.is_consumer && listed.state == GroupState::Stable);
    // Members aren't kept, but no epoch comes back.
    let r = f.restarted();
    assert_eq!(refused(&r, beating("a", 3, None), &t).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(beat(&r, joining("a", &["t"]), &t).await, (4, Some(vec![0])));
    beat(&r, beating("a", LEAVING, None), &t).await;
    // Without members it may be a classic group, which this protocol leaves alone.
    let other = Fixture::new();
    other.stable("g", 1).await;
    assert_eq!(refused(&other, joining("a", &["t"]), &t).await, ErrorCode::GROUP_ID_NOT_FOUND);
}

/// A member as its client is: it believes what it was told last.
#[derive(Debug, Clone, Default)]
struct Client {
    epoch: i32,
    owned: BTreeSet<PartitionId>,
    /// Its last answer was lost: it says everything, and so is told everything.
    full: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A heartbeat of a member that joins with it, if it isn't in; it says what it owns or leaves that out.
    Beat {
        who: usize,
        says: bool,
    },
    Leave {
        who: usize,
    },
    /// Its answer is lost, it goes on with what it knew.
    Lose {
        who: usize,
    },
    Grow,
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..4, any::<bool>()).prop_map(|(who, says)| Step::Beat { who, says }),
        1 => (0usize..4).prop_map(|who| Step::Leave { who }),
        1 => (0usize..4).prop_map(|who| Step::Lose { who }),
        1 => Just(Step::Grow),
        1 => (0u64..40_000).prop_map(|ms| Step::Wait { ms }),
    ]
}

async fn speak(
    f: &Fixture,
    who: usize,
    client: &mut Option<Client>,
    says: bool,
    lost: bool,
    t: &Arc<Topics>,
) {
    let id = format!("m{who}");
    let request = match client.as_ref() {
        None => joining(&id, &["t"]),
        Some(Client { epoch, owned, full }) => {
            let owned: Vec<PartitionId> = owned.iter().copied().collect();
            if *full {
                HeartbeatRequest { epoch: *epoch, owned: Some(owned), ..joining(&id, &["t"]) }
            } else {
                beating(&id, *epoch, says.then_some(&owned[..]))
            }
        }
    };
    match f.groups.consumer_heartbeat(request, t).await {
        Ok(_) if lost => {
            if let Some(known) = client {
                known.full = true;
            }
        }
        Ok(response) => {
            let known = client.get_or_insert_default();
            known.epoch = response.epoch;
            known.full = false;
            if let Some(assignment) = response.assignment {
                known.owned = assignment;
            }
        }
        // Fenced: it drops what it has and joins again.
        Err(_) => *client = None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn members_at_random_never_share_a_partition(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let f = Fixture::new();
            let mut count = 3;
            let mut t = topics(&[("t", count)]);
            let mut clients: [Option<Client>; 4] = Default::default();
            for step in steps {
                match step {
                    Step::Beat { who, says } => speak(&f, who, &mut clients[who], says, false, &t).await,
                    Step::Lose { who } => speak(&f, who, &mut clients[who], true, true, &t).await,
                    Step::Leave { who } => {
                        if clients[who].take().is_some() {
                            // It may have been removed already.
                            let _ = f.groups.consumer_heartbeat(beating(&format!("m{who}"), LEAVING, None), &t).await;
                        }
                    }
                    Step::Grow => {
                        count += 1;
                        t = topics(&[("t", count)]);
                    }
                    Step::Wait { ms } => sleep_ms(ms).await,
                }
                // Among those whom the group still knows, nobody believes to own what another does.
                let described = f.groups.consumer_describe("g").await.unwrap();
                let known: Vec<String> =
                    described.iter().flat_map(|group| &group.members).map(|member| member.member_id.clone()).collect();
                let mut seen = BTreeSet::new();
                for (who, client) in clients.iter().enumerate() {
                    if let Some(client) = client.as_ref().filter(|_| known.contains(&format!("m{who}"))) {
                        for partition in &client.owned {
                            assert!(seen.insert(*partition), "{partition:?} twice: {clients:?}");
                        }
                    }
                }
            }
            // All of them go on: it settles, and every partition has an owner.
            for _ in 0..12 {
                for (who, client) in clients.iter_mut().enumerate() {
                    speak(&f, who, client, true, false, &t).await;
                }
            }
            let described = f.groups.consumer_describe("g").await.unwrap().unwrap();
            assert_eq!((described.state, described.members.len()), ("Stable", 4));
            let owned: BTreeSet<PartitionId> =
                clients.iter().flatten().flat_map(|client| client.owned.iter().copied()).collect();
            let all: usize = clients.iter().flatten().map(|client| client.owned.len()).sum();
            assert_eq!((owned.len(), all), (count as usize, count as usize));
        });
    }
}
