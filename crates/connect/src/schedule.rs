//! Decides which record is written next: in order for each key, all keys side by side.
//!
//! Invariants: of one key of one partition at most one record is under way, and it is the oldest
//! that isn't done. A key that fails waits by itself ("parks"); what it holds back is bounded per
//! partition in records and bytes, and at the bound the partition is to be paused. Records without
//! a key have no order. A record leaves the schedule only as done: written, or dead-lettered in the
//! transaction that commits its offset.
//!
//! It knows no clock, no network and no Kafka client: the task around it does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka::ConsumedRecord;
use tokio::time::Instant;
use types::{Offset, TimestampMs, TopicPartition};

use crate::completion::{Completion, MetadataError};

/// Keys remembered as failing, per task; beyond, the oldest knowledge is dropped (they then get
/// their whole number of attempts again).
const FAILING_KEYS_MAX: usize = 10_000;

/// What all partitions of a task may hold of keys that don't fail, in payload bytes: enough to keep every write busy while
/// the engine is asked for more. Keys that fail are held against [`Bounds`] alone, so that they don't hold up others.
const AHEAD_BYTES_MAX: usize = 16 << 20;

/// How much a partition may hold that isn't done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In records.
    pub records_max: usize,
    /// In payload bytes.
    pub bytes_max: usize,
}

/// Names a lane while it exists; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(u64);

/// A record to write now.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Where the outcome is reported to.
    pub lane: LaneId,
    /// The record.
    pub record: Arc<ConsumedRecord>,
    /// 1 for the first.
    pub attempt: u32,
}

/// What the task knows of a record whose write failed.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The record.
    pub record: Arc<ConsumedRecord>,
    /// Failed attempts that counted, this one included.
    pub attempts: u32,
    /// When the first of them began, and how long the breaker had been open until then.
    pub first_attempt: (Instant, Duration),
    /// How many records of the key before it were dead-lettered in a row.
    pub dead_lettered_before: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum LaneState {
    /// In `ready`, or in its partition's `blocked`.
    Ready,
    InFlight,
    /// In `waiting`.
    Waiting,
}

type Key = (Arc<TopicPartition>, Bytes);

#[derive(Debug)]
struct Lane {
    partition: Arc<TopicPartition>,
    key: Option<Bytes>,
    queue: VecDeque<Arc<ConsumedRecord>>,
    state: LaneState,
    attempts: u32,
    first_attempt: Option<(Instant, Duration)>,
}

impl Lane {
    fn bytes(&self) -> usize {
        self.queue.iter().map(|record| record.payload_bytes()).sum()
    }
}

#[derive(Debug)]
struct Partition {
    name: Arc<TopicPartition>,
    completion: Completion,
    committed: (Offset, String),
    records: usize,
    bytes: usize,
    /// Of `bytes`, those of keys that don't fail.
    ahead_bytes: usize,
    in_flight: usize,
    blocked: Vec<LaneId>,
    held: bool,
}

/// The lanes of one task.
#[derive(Debug)]
pub struct Schedule {
    bounds: Bounds,
    next_lane: u64,
    lanes: HashMap<LaneId, Lane>,
    by_key: HashMap<Key, LaneId>,
    partitions: HashMap<Arc<TopicPartition>, Partition>,
    ready: VecDeque<LaneId>,
    waiting: BinaryHeap<Reverse<(Instant, LaneId)>>,
    failing: HashMap<Key, u32>,
}

impl Schedule {
    /// Nothing assigned yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next_lane: 0,
            lanes: HashMap::new(),
            by_key: HashMap::new(),
            partitions: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            failing: HashMap::new(),
        }
    }

    /// Takes a partition over where its last owner left it.
    pub fn assign(
        &mut self,
        partition: TopicPartition,
        committed: Offset,
        metadata: &str,
    ) -> Result<(), MetadataError> {
        let completion = Completion::from_commit(committed, metadata)?;
        let name = Arc::new(partition);
        let committed = (committed, metadata.to_owned());
        self.partitions.insert(
            Arc::clone(&name),
            Partition {
                name,
                completion,
                committed,
                records: 0,
                bytes: 0,
                ahead_bytes: 0,
                in_flight: 0,
                blocked: Vec::new(),
                held: false,
            },
        );
        Ok(())
    }

    /// Whether the partition is ours.
    pub fn owns(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    /// Forgets a partition: what isn't done is the next owner's. Outcomes that come later are ignored.
    pub fn revoke(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.lanes.retain(|_, lane| *lane.partition != *partition);
        self.by_key.retain(|(of, _), _| **of != *partition);
        self.failing.retain(|(of, _), _| **of != *partition);
        let lanes = &self.lanes;
        self.ready.retain(|lane| lanes.contains_key(lane));
        self.waiting.retain(|Reverse((_, lane))| lanes.contains_key(lane));
    }

    /// Queues a record. `false`: it's done already, by an earlier owner, or isn't ours.
    pub fn accept(&mut self, record: ConsumedRecord) -> bool {
        let Some(partition) = self.partitions.get_mut(&record.tp) else { return false };
        if !partition.completion.see(record.offset) {
            return false;
        }
        let bytes = record.payload_bytes();
        partition.records += 1;
        partition.bytes += bytes;
        let name = Arc::clone(&partition.name);
        let record = Arc::new(record);
        let key = record.key.clone();
        if let Some(key) = &key
            && let Some(lane) = self.by_key.get(&(Arc::clone(&name), key.clone()))
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.queue.push_back(record);
            if lane.attempts == 0 {
                partition.ahead_bytes += bytes;
            }
            return true;
        }
        partition.ahead_bytes += bytes;
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        if let Some(key) = &key {
            self.by_key.insert((Arc::clone(&name), key.clone()), id);
        }
        let queue = VecDeque::from([record]);
        let lane =
            Lane { partition: name, key, queue, state: LaneState::Ready, attempts: 0, first_attempt: None };
        self.lanes.insert(id, lane);
        self.ready.push_back(id);
        true
    }

    /// Takes the next record to write, if one may be. `open_total`: see [`crate::breaker`].
    pub fn next(&mut self, now: Instant, open_total: Duration) -> Option<Dispatch> {
        while let Some(Reverse((at, lane))) = self.waiting.peek().copied() {
            if at > now {
                break;
            }
            self.waiting.pop();
            if let Some(l) = self.lanes.get_mut(&lane)
                && l.state == LaneState::Waiting
            {
                l.state = LaneState::Ready;
                self.ready.push_back(lane);
            }
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let Some(partition) = self.partitions.get_mut(&lane.partition) else { continue };
            if partition.held {
                continue;
            }
            if partition.completion.is_full(partition.in_flight) && partition.in_flight > 0 {
                partition.blocked.push(id);
                continue;
            }
            // The oldest pending record may always go: its completion makes ranges, never takes any.
            let record = lane.queue.front().expect("a lane exists only while it has records");
            if partition.completion.is_full(0) && partition.completion.low() < record.offset {
                partition.blocked.push(id);
                continue;
            }
            lane.state = LaneState::InFlight;
            lane.first_attempt.get_or_insert((now, open_total));
            partition.in_flight += 1;
            return Some(Dispatch { lane: id, record: Arc::clone(record), attempt: lane.attempts + 1 });
        }
        None
    }

    /// The record was written. Returns whether the lane still existed.
    pub fn done(&mut self, lane: LaneId) -> bool {
        self.finish(lane, true)
    }

    /// The record is in the list of dead letters that the next commit writes.
    pub fn dead_lettered(&mut self, lane: LaneId) -> bool {
        self.finish(lane, false)
    }

    fn finish(&mut self, id: LaneId, written: bool) -> bool {
        self.landed(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let record = lane.queue.pop_front().expect("a lane exists only while it has records");
        let failed = std::mem::take(&mut lane.attempts) > 0;
        lane.first_attempt = None;
        let rest = if failed { lane.bytes() } else { 0 };
        if let Some(key) = &lane.key {
            let key = (Arc::clone(&lane.partition), key.clone());
            if written {
                self.failing.remove(&key);
            } else {
                if self.failing.len() >= FAILING_KEYS_MAX {
                    self.failing.clear();
                }
                *self.failing.entry(key).or_insert(0) += 1;
            }
        }
        if let Some(partition) = self.partitions.get_mut(&lane.partition) {
            partition.completion.complete(record.offset);
            partition.records -= 1;
            partition.bytes -= record.payload_bytes();
            match failed {
                true => partition.ahead_bytes += rest,
                false => partition.ahead_bytes -= record.payload_bytes(),
            }
        }
        if lane.queue.is_empty() {
            if let Some(lane) = self.lanes.remove(&id)
                && let Some(key) = lane.key
            {
                self.by_key.remove(&(lane.partition, key));
            }
        } else {
            lane.state = LaneState::Ready;
            self.ready.push_back(id);
        }
        true
    }

    /// The write is over, whatever its outcome: lanes that waited for room in the window may go on.
    fn landed(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let Some(partition) = self.partitions.get_mut(&lane.partition) else { return };
        partition.in_flight = partition.in_flight.saturating_sub(1);
        self.ready.extend(partition.blocked.drain(..));
    }

    /// A failure that counts as an attempt: what is known of it. The lane stays as it is; one of
    /// [`Schedule::retry_at`], [`Schedule::dead_lettered`] follows.
    pub fn count_failure(&mut self, id: LaneId, now: Instant) -> Option<Failing> {
        let lane = self.lanes.get_mut(&id)?;
        if lane.attempts == 0
            && let Some(partition) = self.partitions.get_mut(&lane.partition)
        {
            partition.ahead_bytes -= lane.bytes();
        }
        lane.attempts += 1;
        let dead_lettered_before = lane
            .key
            .as_ref()
            .and_then(|key| self.failing.get(&(Arc::clone(&lane.partition), key.clone())))
            .copied()
            .unwrap_or(0);
        Some(Failing {
            record: Arc::clone(lane.queue.front()?),
            attempts: lane.attempts,
            first_attempt: lane.first_attempt.unwrap_or((now, Duration::ZERO)),
            dead_lettered_before,
        })
    }

    /// The record waits, and with it its key.
    pub fn retry_at(&mut self, id: LaneId, at: Instant) {
        self.landed(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.state = LaneState::Waiting;
            self.waiting.push(Reverse((at, id)));
        }
    }

    /// The write didn't count (the destination failed as a whole): the record may go as soon as
    /// anything may, behind the others that are ready, so that no single record is always the probe.
    pub fn put_back(&mut self, id: LaneId) {
        self.landed(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.state = LaneState::Ready;
            if lane.attempts == 0 {
                lane.first_attempt = None;
            }
            self.ready.push_back(id);
        }
    }

    /// When the next waiting lane wants to go.
    pub fn next_wake(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether a lane is ready now (it may still be blocked by its partition's window).
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether the partition holds as much as it may, or its share of what all may: it is to be paused.
    pub fn is_at_bound(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|p| {
            p.records >= self.bounds.records_max
                || p.bytes >= self.bounds.bytes_max
                || p.ahead_bytes >= self.ahead_share()
        })
    }

    /// Of what all partitions may hold of keys that don't fail, one partition's part.
    fn ahead_share(&self) -> usize {
        AHEAD_BYTES_MAX / self.partitions.len().max(1)
    }

    /// Whether a paused partition has room again: half of its bounds, so that it doesn't flap.
    pub fn has_room(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|p| {
            p.records <= self.bounds.records_max / 2
                && p.bytes <= self.bounds.bytes_max / 2
                && p.ahead_bytes <= self.ahead_share() / 2
        })
    }

    /// Records that are under way in these partitions.
    pub fn in_flight(&self, partitions: &[TopicPartition]) -> usize {
        partitions.iter().filter_map(|p| self.partitions.get(p)).map(|p| p.in_flight).sum()
    }

    /// Records that wait for another attempt or behind one that does.
    pub fn parked(&self) -> usize {
        self.lanes.values().filter(|lane| lane.state == LaneState::Waiting).map(|lane| lane.queue.len()).sum()
    }

    /// Takes no more of these partitions' records until they're revoked: what is under way ends.
    pub fn hold(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(p) = self.partitions.get_mut(partition) {
                p.held = true;
            }
        }
    }

    /// The partition's log was read up to `position`: markers at its end can be passed.
    pub fn end_of_data(&mut self, partition: &TopicPartition, position: Offset) {
        if let Some(p) = self.partitions.get_mut(partition) {
            p.completion.end_of_data(position);
        }
    }

    /// Below this offset everything is done.
    pub fn low(&self, partition: &TopicPartition) -> Option<Offset> {
        self.partitions.get(partition).map(|p| p.completion.low())
    }

    /// The timestamp of the oldest record that isn't done, in milliseconds.
    pub fn oldest_pending_timestamp(&self) -> Option<TimestampMs> {
        self.lanes.values().filter_map(|lane| lane.queue.front()).map(|record| record.timestamp_ms).min()
    }

    /// What there is to commit: partition, offset, metadata.
    pub fn uncommitted(&self) -> Vec<(TopicPartition, Offset, String)> {
        self.partitions
            .values()
            .filter_map(|p| {
                let now = (p.completion.low(), p.completion.metadata());
                (now != p.committed).then(|| ((*p.name).clone(), now.0, now.1))
            })
            .collect()
    }

    /// These are committed.
    pub fn committed(&mut self, commits: &[(TopicPartition, Offset, String)]) {
        for (partition, offset, metadata) in commits {
            if let Some(p) = self.partitions.get_mut(partition) {
                p.committed = (*offset, metadata.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use types::{Headers, TopicName};

    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").unwrap(), number)
    }

    fn record(offset: Offset, key: Option<&str>) -> ConsumedRecord {
        ConsumedRecord {
            tp: partition(0),
            offset,
            timestamp_ms: 0,
            key: key.map(|k| Bytes::copy_from_slice(k.as_bytes())),
            value: Some(Bytes::from_static(b"{}")),
            headers: Headers::new(),
        }
    }

    fn schedule() -> Schedule {
        let mut schedule = Schedule::new(Bounds { records_max: 10, bytes_max: 10_000 });
        schedule.assign(partition(0), 0, "").unwrap();
        schedule
    }

    /// Of five records of which these are done.
    fn metadata(done: &[Offset]) -> String {
        let mut completion = Completion::new(0);
        (0..5).for_each(|offset| assert!(completion.see(offset)));
        done.iter().for_each(|offset| completion.complete(*offset));
        completion.metadata()
    }

    fn drain(s: &mut Schedule) -> Vec<(LaneId, Offset)> {
        std::iter::from_fn(|| s.next(Instant::now(), Duration::ZERO))
            .map(|d| (d.lane, d.record.offset))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_record_of_a_key_is_under_way_and_other_keys_flow() {
        let mut s = schedule();
        for (offset, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            assert!(s.accept(record(offset, Some(key))));
        }
        let first = drain(&mut s);
        assert_eq!(first.iter().map(|d| d.1).collect::<Vec<_>>(), [0, 2, 4]);
        s.count_failure(first[0].0, Instant::now()).unwrap();
        s.retry_at(first[0].0, Instant::now() + Duration::from_secs(1));
        s.done(first[1].0);
        s.done(first[2].0);
        assert_eq!(drain(&mut s), [], "the key that failed waits, with all that is behind it");
        assert_eq!(s.parked(), 3);
        assert_eq!(s.uncommitted(), [(partition(0), 0, metadata(&[2, 4]))]);
        tokio::time::advance(Duration::from_secs(1)).await;
        let again = s.next(Instant::now(), Duration::ZERO).unwrap();
        assert_eq!((again.record.offset, again.attempt), (0, 2));
        s.done(again.lane);
        let next = s.next(Instant::now(), Duration::ZERO).unwrap();
        assert_eq!((next.record.offset, next.attempt), (1, 1), "the next record starts to count anew");
    }

    #[tokio::test(start_paused = true)]
    async fn records_without_a_key_do_not_wait_for_each_other() {
        let mut s = schedule();
        for offset in 0..3 {
            s.accept(record(offset, None));
        }
        assert_eq!(drain(&mut s).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_ask_for_a_pause_and_for_its_end() {
        let mut s = schedule();
        for offset in 0..10 {
            assert!(!s.is_at_bound(&partition(0)));
            s.accept(record(offset, Some("a")));
        }
        assert!(s.is_at_bound(&partition(0)));
        for _ in 0..5 {
            assert!(!s.has_room(&partition(0)));
            let d = s.next(Instant::now(), Duration::ZERO).unwrap();
            s.done(d.lane);
        }
        assert!(s.has_room(&partition(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_ahead_is_bounded_and_a_failing_key_does_not_count() {
        let mut s = Schedule::new(Bounds { records_max: 1_000, bytes_max: usize::MAX });
        s.assign(partition(0), 0, "").unwrap();
        let large = |offset, key| ConsumedRecord {
            value: Some(vec![b'x'; AHEAD_BYTES_MAX / 4].into()),
            ..record(offset, Some(key))
        };
        for offset in 0..4 {
            assert!(!s.is_at_bound(&partition(0)));
            s.accept(large(offset, "a"));
        }
        assert!(s.is_at_bound(&partition(0)));
        // The key fails: what waits behind it is held against the partition's own bounds.
        let failing = s.next(Instant::now(), Duration::ZERO).unwrap();
        s.count_failure(failing.lane, Instant::now()).unwrap();
        s.retry_at(failing.lane, Instant::now());
        assert!(!s.is_at_bound(&partition(0)) && s.has_room(&partition(0)));
        s.accept(large(4, "a"));
        assert!(s.has_room(&partition(0)));
        // It is written at last: the rest counts again.
        let again = s.next(Instant::now(), Duration::ZERO).unwrap();
        s.done(again.lane);
        assert!(s.is_at_bound(&partition(0)));
        for left in (0..4).rev() {
            let next = s.next(Instant::now(), Duration::ZERO).unwrap();
            s.done(next.lane);
            assert_eq!(s.partitions[&partition(0)].ahead_bytes > 0, left > 0);
        }
        assert_eq!(s.partitions[&partition(0)].bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_owner_did_is_not_offered() {
        let mut s = schedule();
        s.assign(partition(0), 5, &{
            let mut earlier = Completion::new(5);
            (5..8).for_each(|offset| assert!(earlier.see(offset)));
            (6..8).for_each(|offset| earlier.complete(offset));
            earlier.metadata()
        })
        .unwrap();
        let accepted: Vec<_> = (5..10).filter(|o| s.accept(record(*o, None))).collect();
        assert_eq!(accepted, [5, 8, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn late_outcomes_of_a_revoked_partition_are_ignored() {
        let mut s = schedule();
        s.accept(record(0, Some("a")));
        let d = s.next(Instant::now(), Duration::ZERO).unwrap();
        s.revoke(&partition(0));
        assert!(!s.done(d.lane));
        s.assign(partition(0), 0, "").unwrap();
        assert!(s.accept(record(0, Some("a"))), "the new assignment starts afresh");
        assert_eq!(s.uncommitted(), []);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arrive(u8),
        Go,
        Done(prop::sample::Index),
        Retry(prop::sample::Index),
        PutBack(prop::sample::Index),
        Crash,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = any::<prop::sample::Index>;
        prop::collection::vec(
            prop_oneof![
                4 => (0_u8..5).prop_map(Step::Arrive),
                4 => Just(Step::Go),
                4 => index().prop_map(Step::Done),
                1 => index().prop_map(Step::Retry),
                1 => index().prop_map(Step::PutBack),
                1 => Just(Step::Crash),
            ],
            1..300,
        )
    }

    proptest! {
        /// Whatever happens, incl. crashes after any commit: each record is completed, for each key in
        /// order, and nothing that was committed as done is offered again.
        #[test]
        fn keys_stay_in_order_and_nothing_is_lost_or_committed_twice(steps in steps()) {
            let bounds = Bounds { records_max: 1000, bytes_max: 1 << 20 };
            let mut s = Schedule::new(bounds);
            s.assign(partition(0), 0, "").unwrap();
            let mut log: Vec<Option<u8>> = Vec::new();
            let mut flying: Vec<(LaneId, Offset)> = Vec::new();
            let mut done: BTreeSet<Offset> = BTreeSet::new();
            let now = Instant::from_std(std::time::Instant::now());
            let settle = |s: &mut Schedule, flying: &mut Vec<(LaneId, Offset)>, done: &mut BTreeSet<Offset>, at: usize, log: &[Option<u8>]| {
                let (lane, offset) = flying.remove(at);
                assert!(done.insert(offset), "{offset} done twice");
                if let Some(key) = log[usize::try_from(offset).unwrap()] {
                    let before = (0..offset).filter(|o| log[usize::try_from(*o).unwrap()] == Some(key));
                    for earlier in before {
                        assert!(done.contains(&earlier), "{offset} of key {key} before {earlier}");
                    }
                }
                s.done(lane);
            };
            for step in steps {
                match step {
                    Step::Arrive(key) => {
                        let key = (key > 0).then_some(key);
                        let offset = i64::try_from(log.len()).unwrap();
                        log.push(key);
                        prop_assert!(s.accept(record(offset, key.map(|k| ["", "a", "b", "c", "d"][usize::from(k)]))));
                    }
                    Step::Go => flying.extend(s.next(now, Duration::ZERO).map(|d| (d.lane, d.record.offset))),
                    Step::Done(i) if !flying.is_empty() => {
                        let at = i.index(flying.len());
                        settle(&mut s, &mut flying, &mut done, at, &log);
                    }
                    Step::Retry(i) if !flying.is_empty() => {
                        let (lane, _) = flying.remove(i.index(flying.len()));
                        s.count_failure(lane, now).unwrap();
                        s.retry_at(lane, now);
                    }
                    Step::PutBack(i) if !flying.is_empty() => {
                        let (lane, _) = flying.remove(i.index(flying.len()));
                        s.put_back(lane);
                    }
                    Step::Crash => {
                        let commits = s.uncommitted();
                        s.committed(&commits);
                        let (low, metadata) = commits.into_iter().next().map_or_else(
                            || s.partitions[&partition(0)].committed.clone(),
                            |(_, low, metadata)| (low, metadata),
                        );
                        flying.clear();
                        s = Schedule::new(bounds);
                        s.assign(partition(0), low, &metadata).unwrap();
                        for (offset, key) in log.iter().enumerate().skip(usize::try_from(low).unwrap()) {
                            let offset = i64::try_from(offset).unwrap();
                            let fresh = s.accept(record(offset, key.map(|k| ["", "a", "b", "c", "d"][usize::from(k)])));
                            prop_assert_eq!(fresh, !done.contains(&offset));
                        }
                    }
                    Step::Done(_) | Step::Retry(_) | Step::PutBack(_) => {}
                }
            }
            loop {
                flying.extend(std::iter::from_fn(|| s.next(now, Duration::ZERO)).map(|d| (d.lane, d.record.offset)));
                if flying.is_empty() { break; }
                settle(&mut s, &mut flying, &mut done, 0, &log);
            }
            prop_assert_eq!(done.len(), log.len());
        }
    }
}
