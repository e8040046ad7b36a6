//! Random members against the invariants of `state`: one leader, who is a member; one generation and protocol for all;
//! nobody is given an assignment that the leader of its generation didn't write; every waiting request is answered.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    Join {
        slot: usize,
        other_metadata: bool,
    },
    JoinAnew(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    /// The client goes away with its request.
    Drop(usize),
    Sleep(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let slot = 0..SLOTS;
    prop_oneof![
        8 => (slot.clone(), any::<bool>()).prop_map(|(slot, other_metadata)| Op::Join { slot, other_metadata }),
        1 => slot.clone().prop_map(Op::JoinAnew),
        8 => slot.clone().prop_map(Op::Sync),
        6 => slot.clone().prop_map(Op::Heartbeat),
        1 => slot.clone().prop_map(Op::Leave),
        1 => slot.prop_map(Op::Drop),
        3 => prop_oneof![1..2_000u64, 2_000..15_000u64].prop_map(Op::Sleep),
        1 => Just(Op::Restart),
    ]
}

/// One client: slots 0 and 1 are static members, the others dynamic.
#[derive(Default)]
struct Client {
    id: String,
    generation: i32,
    /// (id, instance) of all members, if it leads.
    leads: Vec<String>,
    joining: Option<JoinHandle<JoinResponse>>,
    /// What the assignment must read, and the answer.
    syncing: Option<(String, JoinHandle<SyncResponse>)>,
}

struct Run {
    f: Fixture,
    clients: Vec<Client>,
    /// By generation: leader and protocol.
    generations: HashMap<i32, (String, Option<String>)>,
    /// Requests of clients that sent another one meanwhile: they must be answered too.
    abandoned: Vec<JoinHandle<JoinResponse>>,
}

fn instance(slot: usize) -> Option<String> {
    (slot < 2).then(|| format!("i{slot}"))
}

impl Run {
    fn who(&self, slot: usize) -> MemberRef {
        let Client { id, generation, .. } = &self.clients[slot];
        MemberRef { member_id: id.clone(), instance_id: instance(slot), generation: *generation }
    }

    fn join(&mut self, slot: usize, other_metadata: bool) {
        let topic = if other_metadata { "other" } else { "orders" };
        let protocols =
            [("sticky".to_owned(), subscription(topic)), ("range".to_owned(), subscription(topic))];
        let request = JoinRequest {
            instance_id: instance(slot),
            rebalance_timeout_ms: 20_000,
            protocols: protocols[slot % 2..].to_vec(),
            skips_assignment: true,
            ..join("g", &self.clients[slot].id)
        };
        let joining = self.f.spawn_join(request);
        self.abandoned.extend(self.clients[slot].joining.replace(joining));
    }

    fn sync(&mut self, slot: usize) {
        let client = &self.clients[slot];
        if client.id.is_empty() || client.syncing.is_some() {
            return;
        }
        let (generation, client_id) = (client.generation, client.id.clone());
        let tag = |name: &str| Bytes::from(format!("{generation}:{name}"));
        let assignments = client.leads.iter().map(|id| (id.clone(), tag(name_of(id)))).collect();
        let request = SyncRequest { member: self.who(slot), ..sync("g", "", 0, assignments) };
        let handle = self.f.spawn_sync(request);
        let name = instance(slot).unwrap_or(client_id);
        self.clients[slot].syncing = Some((format!("{generation}:{name}"), handle));
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Join { slot, other_metadata } => self.join(slot, other_metadata),
            Op::JoinAnew(slot) => {
                self.clients[slot].id.clear();
                self.join(slot, false);
            }
            Op::Sync(slot) => self.sync(slot),
            Op::Heartbeat(slot) => {
                let who = self.who(slot);
                let beat = self.f.groups.heartbeat("g", &who);
                if matches!(beat, Err(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID)) {
                    self.clients[slot].id.clear();
                }
            }
            Op::Leave(slot) => {
                let MemberRef { member_id, instance_id, .. } = self.who(slot);
                let _ = self.f.groups.leave("g", &[Leaving { member_id, instance_id }]);
                self.clients[slot].id.clear();
            }
            Op::Drop(slot) => {
                if let Some(handle) = self.clients[slot].joining.take() {
                    handle.abort();
                }
                if let Some((_, handle)) = self.clients[slot].syncing.take() {
                    handle.abort();
                }
            }
            Op::Sleep(ms) => sleep_ms(ms).await,
            Op::Restart => {
                for slot in 0..SLOTS {
                    Box::pin(self.apply(Op::Drop(slot))).await;
                }
                for handle in self.abandoned.drain(..) {
                    handle.abort();
                }
                self.f = self.f.restarted();
                // A generation that wasn't complete when the broker stopped may come again with other members.
                self.generations.clear();
                for client in &mut self.clients {
                    client.leads.clear();
                }
            }
        }
        self.f.settle().await;
        self.collect().await;
        self.check();
    }

    async fn collect(&mut self) {
        for slot in 0..SLOTS {
            if self.clients[slot].joining.as_ref().is_some_and(JoinHandle::is_finished) {
                let handle = self.clients[slot].joining.take().expect("it is finished");
                let response = handle.await.expect("a join doesn't panic");
                self.joined(slot, response);
            }
            if self.clients[slot].syncing.as_ref().is_some_and(|(_, handle)| handle.is_finished()) {
                let (expected, handle) = self.clients[slot].syncing.take().expect("it is finished");
                let response = handle.await.expect("a sync doesn't panic");
                self.synced(slot, &expected, response);
            }
        }
        self.abandoned.retain(|handle| !handle.is_finished());
    }

    fn joined(&mut self, slot: usize, response: JoinResponse) {
        let JoinResponse { error, generation, protocol, leader, skip_assignment, member_id, members, .. } =
            response;
        let client = &mut self.clients[slot];
        match error {
            ErrorCode::NONE => {
                assert!(!member_id.is_empty() && generation > 0);
                // Members are shown to the leader alone; not always to it, where nothing is to be assigned.
                assert!(members.is_empty() || leader == member_id);
                let leads = leader == member_id && !skip_assignment;
                client.leads =
                    members.iter().filter(|_| leads).map(|member| member.member_id.clone()).collect();
                client.id = member_id;
                client.generation = generation;
                let (known_leader, known_protocol) =
                    self.generations.entry(generation).or_insert_with(|| (leader.clone(), protocol.clone()));
                assert_eq!(name_of(known_leader), name_of(&leader), "one leader a generation");
                assert_eq!(*known_protocol, protocol, "one protocol a generation");
            }
            ErrorCode::MEMBER_ID_REQUIRED => client.id = member_id,
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => client.id.clear(),
            ErrorCode::REBALANCE_IN_PROGRESS => {}
            other => panic!("unexpected answer to a join: {other}"),
        }
    }

    fn synced(&mut self, slot: usize, expected: &str, response: SyncResponse) {
        match response.error {
            ErrorCode::NONE => {
                let assignment = String::from_utf8(response.assignment.to_vec()).unwrap();
                assert!(
                    assignment.is_empty() || assignment == expected,
                    "slot {slot} was given {assignment}, expected {expected}"
                );
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => self.clients[slot].id.clear(),
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
            other => panic!("unexpected answer to a sync: {other}"),
        }
    }

    fn check(&self) {
        let Some(cell) = self.f.groups.find("g") else { return };
        let group = cell.lock();
        let settled = matches!(group.state, GroupState::CompletingRebalance | GroupState::Stable);
        assert_eq!(group.members.is_empty(), group.state == GroupState::Empty, "{:?}", group.state);
        if settled {
            let leader = group.leader.as_ref().expect("a settled group has a leader");
            assert!(group.members.contains_key(leader), "the leader is a member");
            let protocol = group.protocol.as_deref().expect("a settled group has a protocol");
            assert!(group.members.values().all(|member| member.supports(protocol)));
            assert!(group.members.values().all(|member| member.join.is_none()), "a join was forgotten");
        }
        if group.state == GroupState::Stable {
            assert!(group.members.values().all(|member| member.sync.is_none()), "a sync was forgotten");
        }
        for (instance, id) in &group.static_members {
            assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
        }
        let statics = group.members.values().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(statics, group.static_members.len());
        assert!(
            group.scheduled.is_some() || group.next_deadline().is_none(),
            "the timer knows of every deadline"
        );
        assert!(group.members.keys().all(|id| !group.pending.contains_key(id)));
    }

    /// Everybody who still waits is answered when all timeouts are over.
    async fn finish(mut self) {
        for _ in 0..40 {
            sleep_ms(5_000).await;
            self.collect().await;
        }
        assert!(self.abandoned.is_empty(), "an older request of a member was never answered");
        for (slot, client) in self.clients.iter().enumerate() {
            assert!(client.joining.is_none(), "the join of slot {slot} was never answered");
            assert!(client.syncing.is_none(), "the sync of slot {slot} was never answered");
        }
        assert!(matches!(self.f.state("g"), GroupState::Empty | GroupState::Dead), "sessions end");
        // The group is as good as new.
        let late = JoinRequest { knows_member_ids: false, ..join("g", "") };
        assert_eq!(self.f.groups.join(late).await.error, ErrorCode::NONE);
    }
}

/// Static members keep their name under new ids: `i0-<uuid>` is `i0`.
fn name_of(id: &str) -> &str {
    if id.starts_with('i') { &id[..2] } else { id }
}

async fn run(ops: Vec<Op>) {
    let clients = (0..SLOTS).map(|_| Client::default()).collect();
    let mut run = Run { f: Fixture::new(), clients, generations: HashMap::new(), abandoned: Vec::new() };
    for op in ops {
        run.apply(op).await;
    }
    run.finish().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_members_keep_the_invariants(ops in proptest::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(ops));
    }
}
