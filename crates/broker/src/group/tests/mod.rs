//! The rules of groups, one test each, on tokio's paused time and a journal in memory.

mod membership;
mod model;
mod offsets;
mod static_members;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wire::ErrorCode;

use super::memory::MemoryJournal;
use super::*;
use crate::log::Machine;

/// Wall time at which tests start, ms.
pub(super) const START_MS: i64 = 1_700_000_000_000;
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;

/// A coordinator with its journal and its timer.
pub(in crate::group) struct Fixture {
    pub(in crate::group) groups: Arc<Groups>,
    pub(super) journal: Arc<MemoryJournal>,
    clock: Clock,
    config: Config,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        Fixture::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Fixture {
        let clock = Clock::fixed(START_MS);
        let groups = Groups::new(config.clone(), clock.clone());
        Fixture::start(groups, Arc::new(MemoryJournal::default()), clock, config)
    }

    fn start(groups: Arc<Groups>, journal: Arc<MemoryJournal>, clock: Clock, config: Config) -> Fixture {
        groups.attach(journal.clone());
        let stop = CancellationToken::new();
        tokio::spawn({
            let (groups, stop) = (groups.clone(), stop.clone());
            async move { groups.run(stop).await }
        });
        Fixture { groups, journal, clock, config, stop }
    }

    /// What a crash now leaves, started again by replaying everything.
    pub(super) fn restarted(&self) -> Fixture {
        let journal = Arc::new(self.journal.after_crash());
        let groups = Groups::new(self.config.clone(), self.clock.clone());
        journal.replay(0, &[&*groups]);
        Fixture::start(groups, journal, self.clock.clone(), self.config.clone())
    }

    /// Starts a join without waiting for its answer.
    pub(super) fn spawn_join(&self, request: JoinRequest) -> JoinHandle<JoinResponse> {
        let groups = self.groups.clone();
        tokio::spawn(async move { groups.join(request).await })
    }

    pub(super) fn spawn_sync(&self, request: SyncRequest) -> JoinHandle<SyncResponse> {
        let groups = self.groups.clone();
        tokio::spawn(async move { groups.sync(request).await })
    }

    pub(super) fn state(&self, group: &str) -> GroupState {
        self.groups.list().iter().find(|listed| listed.group == group).map_or(GroupState::Dead, |g| g.state)
    }

    /// A dynamic member's id, by the handshake.
    pub(super) async fn new_id(&self, group: &str) -> String {
        let response = self.groups.join(join(group, "")).await;
        assert_eq!(response.error, ErrorCode::MEMBER_ID_REQUIRED);
        response.member_id
    }

    /// Lets tasks run until they wait, without moving time by more than a millisecond.
    pub(super) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// A stable group of `n` members; the first id is the leader's. Member i is assigned `[i]`.
    pub(super) async fn stable(&self, group: &str, n: usize) -> (Vec<String>, i32) {
        let mut ids = Vec::new();
        for _ in 0..n {
            let id = self.new_id(group).await;
            let mut joins: Vec<_> =
                ids.iter().chain([&id]).map(|id| self.spawn_join(join(group, id))).collect();
            ids.push(id);
            let mut generation = -1;
            for join in joins.drain(..) {
                let response = join.await.unwrap();
                assert_eq!(response.error, ErrorCode::NONE);
                assert_eq!(response.leader, ids[0]);
                generation = response.generation;
            }
            let assignments = ids.iter().enumerate().map(|(i, id)| (id.clone(), Bytes::from(vec![i as u8])));
            let assignments: Vec<_> = assignments.collect();
            let syncs: Vec<_> = ids
                .iter()
                .map(|id| {
                    let assignments = if *id == ids[0] { assignments.clone() } else { Vec::new() };
                    self.spawn_sync(sync(group, id, generation, assignments))
                })
                .collect();
            for (i, sync) in syncs.into_iter().enumerate() {
                assert_eq!(sync.await.unwrap().assignment, vec![i as u8]);
            }
        }
        let generation = i32::try_from(n).unwrap();
        assert_eq!(self.state(group), GroupState::Stable);
        (ids, generation)
    }
}

pub(super) fn join(group: &str, member_id: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription("orders"))],
        knows_member_ids: true,
        skips_assignment: false,
    }
}

/// A consumer's metadata: version 1, one topic.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend_from_slice(topic.as_bytes());
    Bytes::from(bytes)
}

pub(super) fn sync(group: &str, id: &str, generation: i32, assignments: Vec<(String, Bytes)>) -> SyncRequest {
    let member = member(id, generation);
    SyncRequest { group: group.into(), member, protocol_type: None, protocol: None, assignments }
}

pub(super) fn member(id: &str, generation: i32) -> MemberRef {
    MemberRef { member_id: id.into(), instance_id: None, generation }
}

pub(super) fn nobody() -> MemberRef {
    MemberRef { member_id: String::new(), instance_id: None, generation: -1 }
}

pub(super) fn partition(n: i32) -> PartitionId {
    PartitionId { topic: Uuid::from_u128(7), partition: n }
}

pub(super) fn offset(n: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit { partition: partition(n), offset, leader_epoch: 3, metadata: format!("m{offset}") }
}

pub(super) async fn committed(
    groups: &Groups,
    group: &str,
    require_stable: bool,
) -> Vec<(i32, i64, ErrorCode)> {
    let request = FetchRequest { group: group.into(), partitions: None, require_stable };
    let fetched = groups.fetch_offsets(request).await.unwrap();
    fetched.iter().map(|f| (f.partition.partition, f.offset, f.error)).collect()
}

pub(super) async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
