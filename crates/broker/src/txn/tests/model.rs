//! Random requests, time, crashes and checkpoints against a model. Properties: a start from snapshot and replay gives
//! the live state, wherever the snapshot was taken; what is visible is what was committed; a marker is only
//! written for a partition of an open transaction; who was told of an end finds it after a crash.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::persist::Entry;
use super::*;

const IDS: [&str; 2] = ["a", "b"];
const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Debug, Clone)]
enum Op {
    Init(usize),
    InitAgain(usize),
    AddPartition(usize, i32),
    Produce(usize, i32),
    AddGroup(usize, usize),
    Offset(usize, usize, i32),
    PlainOffset(usize, i32),
    End { id: usize, commit: bool, bumps: bool },
    StaleEnd(usize),
    DeleteGroup(usize),
    Sleep(u64),
    Snapshot,
    Hold,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (id, group, partition) = (0..2usize, 0..2usize, 0..3i32);
    prop_oneof![
        2 => id.clone().prop_map(Op::Init),
        1 => id.clone().prop_map(Op::InitAgain),
        4 => (id.clone(), partition.clone()).prop_map(|(i, p)| Op::AddPartition(i, p)),
        4 => (id.clone(), partition.clone()).prop_map(|(i, p)| Op::Produce(i, p)),
        4 => (id.clone(), group.clone()).prop_map(|(i, g)| Op::AddGroup(i, g)),
        6 => (id.clone(), group.clone(), partition.clone()).prop_map(|(i, g, p)| Op::Offset(i, g, p)),
        2 => (group.clone(), partition).prop_map(|(g, p)| Op::PlainOffset(g, p)),
        5 => (id.clone(), any::<bool>(), any::<bool>()).prop_map(|(id, commit, bumps)| Op::End { id, commit, bumps }),
        1 => id.prop_map(Op::StaleEnd),
        1 => group.prop_map(Op::DeleteGroup),
        2 => (1..8_000u64).prop_map(Op::Sleep),
        2 => Just(Op::Snapshot),
        1 => Just(Op::Hold),
        1 => Just(Op::Crash),
    ]
}

/// What clients know and readers must see.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    /// By (group, partition).
    visible: BTreeMap<(usize, i32), i64>,
    /// By producer id, then (group, partition).
    pending: BTreeMap<i64, BTreeMap<(usize, i32), i64>>,
}

struct Run {
    f: Fixture,
    model: Model,
    /// The model at the moment from which nothing was synced any more.
    durable: Option<Model>,
    producers: [Option<Producer>; 2],
    stale: [Option<Producer>; 2],
    /// Snapshots of both machines, and the frame from which to replay.
    checkpoint: Option<(usize, Vec<u8>, Vec<u8>)>,
    next_offset: i64,
}

impl Run {
    /// Gives a request time to finish; with the journal on hold it can't, and its client never hears of it.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, ErrorCode>>,
    ) -> Option<Result<T, ErrorCode>> {
        tokio::time::timeout(Duration::from_millis(1), request).await.ok()
    }

    fn offsets(&mut self, partition: i32) -> (i64, Vec<OffsetToCommit>) {
        self.next_offset += 1;
        let partition = super::partition(partition);
        let offset = self.next_offset;
        (offset, vec![OffsetToCommit { partition, offset, leader_epoch: -1, metadata: String::new() }])
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Init(i) => {
                let old = self.producers[i];
                if let Some(result) = self.ask(self.f.txns.init_producer_id(init(IDS[i]))).await {
                    self.producers[i] = Some(result.expect("a plain initialisation always works"));
                    self.stale[i] = old;
                } else {
                    self.producers[i] = None;
                }
            }
            Op::InitAgain(i) => {
                let Some(p) = self.producers[i] else { return };
                if let Some(result) = self.ask(self.f.init_as(IDS[i], p)).await {
                    // After a timeout the epoch is above; nobody else took the id, so it goes on.
                    let now = result.expect("its own identity, or the one before a timeout");
                    assert_ne!(now, p);
                    (self.producers[i], self.stale[i]) = (Some(now), Some(p));
                } else {
                    self.producers[i] = None;
                }
            }
            Op::AddPartition(i, n) => {
                let Some(p) = self.producers[i] else { return };
                let _ = self.f.txns.add_partitions(IDS[i], p, &[super::partition(n)]);
            }
            Op::Produce(i, n) => {
                let Some(p) = self.producers[i] else { return };
                let open = self.f.txns.describe(IDS[i]).is_ok_and(|txn| {
                    txn.state == TransactionState::Ongoing
                        && txn.producer == p
                        && txn.partitions.contains(&super::partition(n))
                });
                assert_eq!(self.f.produce(IDS[i], p, n, false).is_ok(), open);
            }
            Op::AddGroup(i, g) => {
                let Some(p) = self.producers[i] else { return };
                let _ = self.f.txns.add_offsets(IDS[i], p, GROUPS[g]);
            }
            Op::Offset(i, g, n) => {
                let Some(p) = self.producers[i] else { return };
                let (offset, offsets) = self.offsets(n);
                let member = MemberRef { member_id: String::new(), instance_id: None, generation: -1 };
                let request =
                    TxnCommitRequest { group: GROUPS[g].into(), member, producer_id: p.id, offsets };
                let asked = self.ask(self.f.txns.commit_offsets(IDS[i], p.epoch, false, request)).await;
                if asked.is_none_or(|result| result.is_ok()) {
                    self.model.pending.entry(p.id).or_default().insert((g, n), offset);
                }
            }
            Op::PlainOffset(g, n) => {
                let (offset, offsets) = self.offsets(n);
                let member = MemberRef { member_id: String::new(), instance_id: None, generation: -1 };
                let request =
                    group::CommitRequest { group: GROUPS[g].into(), member, retention_ms: None, offsets };
                let asked = self.ask(self.f.groups.commit_offsets(request)).await;
                assert!(asked.is_none_or(|result| result.is_ok()));
                self.model.visible.insert((g, n), offset);
            }
            Op::End { id, commit, bumps } => {
                let Some(p) = self.producers[id] else { return };
                let was_open = self.is_open(id, p);
                let end =
                    EndRequest { transactional_id: IDS[id].into(), producer: p, commit, bumps_epoch: bumps };
                let asked = self.ask(self.f.txns.end(end)).await;
                let ended = asked.as_ref().is_none_or(Result::is_ok);
                assert!(!was_open || ended, "the owner of an open transaction can end it: {asked:?}");
                if was_open && commit {
                    let pending = self.model.pending.remove(&p.id).unwrap_or_default();
                    self.model.visible.extend(pending);
                }
                match asked {
                    Some(Ok(now)) => {
                        if now != p {
                            (self.producers[id], self.stale[id]) = (Some(now), Some(p));
                        }
                    }
                    Some(Err(_)) => {}
                    None => self.producers[id] = None,
                }
            }
            Op::StaleEnd(i) => {
                let (Some(stale), Some(p)) = (self.stale[i], self.producers[i]) else { return };
                let was_open = self.is_open(i, p);
                assert!(self.f.end(IDS[i], stale, true).await.is_err());
                assert_eq!(self.is_open(i, p), was_open);
            }
            Op::DeleteGroup(g) => {
                if let None | Some(Ok(())) = self.ask(self.f.groups.delete(GROUPS[g])).await {
                    self.model.visible.retain(|(group, _), _| *group != g);
                    for pending in self.model.pending.values_mut() {
                        pending.retain(|(group, _), _| *group != g);
                    }
                }
            }
            Op::Sleep(ms) => sleep_ms(ms).await,
            Op::Snapshot => {
                // As the log does: the position first, then the snapshots, and nothing of it counts before all
                // that they may contain is durable.
                if self.durable.is_none() {
                    self.checkpoint =
                        Some((self.f.journal.len(), self.f.groups.snapshot(), self.f.txns.snapshot()));
                }
            }
            Op::Hold => {
                if self.durable.is_none() {
                    self.durable = Some(self.model.clone());
                    self.f.journal.hold(true);
                }
            }
            Op::Crash => {
                if let Some(durable) = self.durable.take() {
                    self.model = durable;
                }
                self.f = self.restored();
                // The clients don't know what of theirs survived; they start anew.
                self.producers = [None, None];
                self.stale = [None, None];
                sleep_ms(1).await;
            }
        }
        self.drop_aborted();
    }

    fn is_open(&self, id: usize, producer: Producer) -> bool {
        self.f
            .txns
            .describe(IDS[id])
            .is_ok_and(|txn| txn.state == TransactionState::Ongoing && txn.producer == producer)
    }

    /// Whatever waits in a transaction that is no longer open, and wasn't committed, was aborted.
    fn drop_aborted(&mut self) {
        let open: BTreeSet<i64> = self
            .f
            .txns
            .list()
            .iter()
            .filter(|txn| txn.state == TransactionState::Ongoing)
            .map(|txn| txn.producer.id)
            .collect();
        self.model.pending.retain(|producer_id, offsets| open.contains(producer_id) && !offsets.is_empty());
    }

    /// A start from the last checkpoint and what is durable after it.
    fn restored(&self) -> Fixture {
        let journal = Arc::new(self.f.journal.after_crash());
        let (groups, txns) = machines(&self.f.config, &self.f.clock);
        let from = match &self.checkpoint {
            None => 0,
            Some((from, groups_snapshot, txns_snapshot)) => {
                groups.restore(groups_snapshot).expect("own snapshots are readable");
                txns.restore(txns_snapshot).expect("own snapshots are readable");
                *from
            }
        };
        journal.replay(from, &[&*groups, &*txns]);
        Fixture::start(groups, txns, journal, self.f.clock.clone(), self.f.config.clone())
    }

    async fn check(&self) {
        for (g, name) in GROUPS.iter().enumerate() {
            for n in 0..3 {
                let cell = |require_stable| FetchRequest {
                    group: (*name).into(),
                    partitions: Some(vec![super::partition(n)]),
                    require_stable,
                };
                if self.durable.is_some() {
                    continue;
                }
                let plain = self.f.groups.fetch_offsets(cell(false)).await.unwrap()[0].offset;
                assert_eq!(plain, self.model.visible.get(&(g, n)).copied().unwrap_or(-1), "{name}/{n}");
                let stable = self.f.groups.fetch_offsets(cell(true)).await.unwrap()[0].error.is_ok();
                let waits = self.model.pending.values().any(|offsets| offsets.contains_key(&(g, n)));
                assert_eq!(stable, !waits, "{name}/{n}");
            }
        }
        if self.durable.is_none() {
            let restored = self.restored();
            assert_eq!(restored.groups.snapshot(), self.f.groups.snapshot());
            assert_eq!(restored.txns.snapshot(), self.f.txns.snapshot());
        }
    }

    /// Every marker ends a transaction that was open, in a partition that was in it, together with its state.
    fn check_markers(&self) {
        let mut open: BTreeMap<String, (i64, BTreeSet<PartitionId>)> = BTreeMap::new();
        for Frame { markers, entries } in self.f.journal.durable(0) {
            let mut ended: BTreeSet<(i64, PartitionId)> =
                markers.iter().map(|marker| (marker.producer_id, marker.partition)).collect();
            for (machine, entry) in entries {
                if machine != group::TRANSACTIONS_MACHINE {
                    continue;
                }
                match Entry::decode(&entry).unwrap() {
                    Entry::Added { id, producer, partitions, .. } => {
                        let (owner, set) = open.entry(id).or_default();
                        if *owner != producer.id {
                            assert!(set.is_empty(), "a transaction was left open under producer {owner}");
                        }
                        *owner = producer.id;
                        set.extend(partitions);
                    }
                    Entry::State { id, .. } => {
                        let (owner, set) = open.remove(&id).unwrap_or_default();
                        for partition in set {
                            assert!(
                                ended.remove(&(owner, partition)),
                                "no marker for {partition:?} of {owner}"
                            );
                        }
                    }
                    Entry::Ids { .. } | Entry::Removed { .. } => {}
                }
            }
            assert!(ended.is_empty(), "markers of no open transaction: {ended:?}");
        }
    }
}

async fn run(ops: Vec<Op>) {
    let mut run = Run {
        f: Fixture::new(),
        model: Model::default(),
        durable: None,
        producers: [None, None],
        stale: [None, None],
        checkpoint: None,
        next_offset: 0,
    };
    for op in ops {
        run.apply(op).await;
        run.check().await;
    }
    run.check_markers();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_transactions_keep_their_promises(ops in proptest::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(ops));
    }
}
