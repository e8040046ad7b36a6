//! A lane: one transactional producer, the input partitions that are its own, and what it has of them in flight.
//!
//! Its records go: queue, evaluation, ready, transaction. At most one batch is in each of the last three's
//! places: while batch n is in its transaction, n+1 is evaluated or ready. Invariants:
//! - Batches are committed in the order in which they were taken, so a partition's offsets only rise.
//! - A record is in exactly one place until its offset is committed. What doesn't commit goes back to the
//!   queue's front, in its order, and whatever was evaluated after it is dropped and goes back too.
//! - Only records of partitions that are still the lane's by the assignment under which they came go back: a
//!   partition that went and came again is read again from its committed offset.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka::{ConsumedRecord, TransactionalProducer};
use types::{Offset, TopicPartition};

use crate::compiled::Compiled;
use crate::evaluate::Evaluated;
use crate::queue::{Limits, Queue};
use crate::transact::Opening;

/// A batch's input; shared with the threads that evaluate it.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) records: Arc<Vec<ConsumedRecord>>,
    /// The assignment that was the latest when it was taken.
    pub(crate) epoch: u64,
    pub(crate) compiled: Arc<Compiled>,
    bytes: usize,
}

/// A batch with its result.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) batch: Batch,
    pub(crate) made: Arc<Evaluated>,
}

/// What a partition is to its lane.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The assignment with which it came.
    since: u64,
    /// The lowest offset that may come next: anything lower was seen.
    next: Offset,
    /// Everything before it is committed, or was before where reading began.
    pub(crate) position: Offset,
    /// Where the consumer said that nothing more is to be read: behind control records too.
    pub(crate) end: Option<Offset>,
}

impl Held {
    /// How much is not committed. `behind` says how many records lie between an offset and the partition's end.
    pub(crate) fn lag(&self, behind: impl Fn(Offset) -> Option<u64>) -> Option<u64> {
        // What is left when all that was read is committed may be control records, which nobody reads.
        let all_committed = self.position == self.next;
        let end = self.end.filter(|_| all_committed).unwrap_or(self.position);
        behind(end.max(self.position))
    }
}

/// The lane's producer.
pub(crate) enum Producer {
    /// None is open: nothing was written for a while, or not yet.
    Closed,
    /// Open, since when without work.
    Idle(TransactionalProducer, Instant),
    /// With the transaction that is under way, or being opened again.
    Away,
}

/// See the module.
pub(crate) struct Lane {
    pub(crate) opening: Arc<Opening>,
    pub(crate) queue: Queue,
    pub(crate) partitions: BTreeMap<TopicPartition, Held>,
    pub(crate) evaluating: Option<Batch>,
    pub(crate) ready: Option<Ready>,
    pub(crate) committing: Option<Ready>,
    pub(crate) producer: Producer,
    /// The end of the last transaction isn't known: nothing is begun before it is.
    pub(crate) unsure: bool,
    /// Not before then is a transaction begun.
    pub(crate) retry_at: Option<Instant>,
    /// In a row.
    pub(crate) failures: u32,
    /// In a row, by other owners of the transactional id.
    pub(crate) fences: u32,
    /// Whether the consumer holds its partitions back.
    pub(crate) paused: bool,
    /// Numbers evaluations: a result of an older number than this is dropped.
    pub(crate) ticket: u64,
    /// Start offsets that are being committed; no transaction goes before them.
    pub(crate) pinning: u32,
}

impl Lane {
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            opening: Arc::new(opening),
            queue: Queue::default(),
            partitions: BTreeMap::new(),
            evaluating: None,
            ready: None,
            committing: None,
            producer: Producer::Closed,
            unsure: false,
            retry_at: None,
            failures: 0,
            fences: 0,
            paused: false,
            ticket: 0,
            pinning: 0,
        }
    }

    /// A partition came with an assignment.
    pub(crate) fn assign(
        &mut self,
        tp: TopicPartition,
        epoch: u64,
        committed: Option<Offset>,
        start: Option<Offset>,
    ) {
        let next = start.or(committed).unwrap_or(0);
        self.partitions.insert(tp, Held { since: epoch, next, position: next, end: None });
    }

    /// A partition goes: what isn't in a transaction yet is dropped, and what was evaluated with it goes back.
    pub(crate) fn revoke(&mut self, partitions: &[TopicPartition], now: Instant) {
        for tp in partitions {
            self.partitions.remove(tp);
        }
        self.queue.retain(|r| self.partitions.contains_key(&r.tp));
        let gone = |batch: &Batch| batch.records.iter().any(|r| !self.partitions.contains_key(&r.tp));
        if self.evaluating.as_ref().is_some_and(&gone) || self.ready.as_ref().is_some_and(|r| gone(&r.batch))
        {
            self.drop_results(now);
        }
    }

    /// Takes a record that was read, unless it was seen already or isn't the lane's.
    pub(crate) fn take_in(&mut self, record: ConsumedRecord, now: Instant) {
        let Some(held) = self.partitions.get_mut(&record.tp) else { return };
        if record.offset < held.next {
            return;
        }
        held.next = record.offset + 1;
        self.queue.push(record, now);
    }

    /// A batch to evaluate, if there is one and room for its result.
    pub(crate) fn next_batch(
        &mut self,
        limits: &Limits,
        compiled: &Arc<Compiled>,
        epoch: u64,
        now: Instant,
    ) -> Option<Batch> {
        let is_full = self.evaluating.is_some() || self.ready.is_some();
        if is_full || self.unsure || !self.queue.is_ready(limits, now) {
            return None;
        }
        let before = self.queue.bytes();
        let records = Arc::new(self.queue.take(limits));
        let batch = Batch { records, epoch, compiled: compiled.clone(), bytes: before - self.queue.bytes() };
        self.ticket += 1;
        self.evaluating = Some(batch.clone());
        Some(batch)
    }

    /// The result of an evaluation: dropped where its batch went back meanwhile. What it didn't come to goes back.
    pub(crate) fn evaluated(&mut self, ticket: u64, made: Evaluated, now: Instant) {
        if ticket != self.ticket {
            return;
        }
        let Some(batch) = self.evaluating.take() else { return };
        let done = usize::try_from(made.read).unwrap_or(usize::MAX).min(batch.records.len());
        if made.is_cut && done < batch.records.len() {
            let rest = batch.records[done..].to_vec();
            self.requeue(Batch { records: Arc::new(rest), ..batch.clone() }, now);
            let records: Vec<_> = batch.records[..done].to_vec();
            let bytes = records.iter().map(crate::queue::weight).sum();
            self.ready = Some(Ready {
                batch: Batch { records: Arc::new(records), bytes, ..batch },
                made: Arc::new(made),
            });
            return;
        }
        self.ready = Some(Ready { batch, made: Arc::new(made) });
    }

    /// Whether a transaction can begin.
    pub(crate) fn can_commit(&self, now: Instant) -> bool {
        self.ready.is_some()
            && self.committing.is_none()
            && !self.unsure
            && self.pinning == 0
            && !matches!(self.producer, Producer::Away)
            && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.evaluating.is_none()
            && self.ready.is_none()
            && self.committing.is_none()
    }

    /// The transaction committed.
    pub(crate) fn committed(&mut self) -> Option<Ready> {
        let done = self.committing.take()?;
        for (tp, next) in &done.made.offsets {
            if let Some(held) = self.partitions.get_mut(tp)
                && held.since <= done.batch.epoch
            {
                held.position = *next;
            }
        }
        self.failures = 0;
        self.fences = 0;
        self.retry_at = None;
        Some(done)
    }

    /// The transaction didn't commit, or nobody knows: its records, and those of what follows, go back.
    pub(crate) fn put_back(&mut self, now: Instant) {
        self.drop_results(now);
        if let Some(Ready { batch, .. }) = self.committing.take() {
            self.requeue(batch, now);
        }
    }

    /// What the group says is committed is done.
    pub(crate) fn catch_up(&mut self, committed: &BTreeMap<TopicPartition, Offset>) {
        self.queue.forget_before(committed);
        for (tp, next) in committed {
            if let Some(held) = self.partitions.get_mut(tp) {
                held.position = *next;
            }
        }
        self.unsure = false;
    }

    /// Whether a batch of these partitions is in a transaction.
    pub(crate) fn is_committing(&self, partitions: &[TopicPartition]) -> bool {
        let Some(ready) = &self.committing else { return false };
        partitions.iter().any(|tp| ready.made.offsets.contains_key(tp))
    }

    /// What is held in all places, in bytes of input.
    pub(crate) fn bytes(&self) -> usize {
        let result = |ready: &Option<Ready>| ready.as_ref().map_or(0, |r| r.batch.bytes);
        self.queue.bytes()
            + self.evaluating.as_ref().map_or(0, |b| b.bytes)
            + result(&self.ready)
            + result(&self.committing)
    }

    /// The oldest record that isn't committed.
    pub(crate) fn oldest(&self) -> Option<&ConsumedRecord> {
        let batches = [
            self.committing.as_ref().map(|r| &r.batch),
            self.ready.as_ref().map(|r| &r.batch),
            self.evaluating.as_ref(),
        ];
        batches.into_iter().flatten().find_map(|b| b.records.first()).or_else(|| self.queue.oldest())
    }

    fn drop_results(&mut self, now: Instant) {
        self.ticket += 1;
        let batch = self.evaluating.take().or_else(|| self.ready.take().map(|r| r.batch));
        if let Some(batch) = batch {
            self.requeue(batch, now);
        }
    }

    fn requeue(&mut self, batch: Batch, now: Instant) {
        let records = Arc::unwrap_or_clone(batch.records);
        let still = |r: &ConsumedRecord| self.partitions.get(&r.tp).is_some_and(|h| h.since <= batch.epoch);
        let kept: Vec<_> = records.into_iter().filter(still).collect();
        self.queue.put_back(kept.into_iter(), now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka::{ClientConfig, TxnConfig};
    use resources::{OnError, PipelinePlan, StageTopics};
    use types::{Headers, InstallationId, TopicName, Uid};

    use super::*;
    use crate::config::Config;

    const LIMITS: Limits = Limits { time_max: Duration::ZERO, records_max: 2, bytes_max: 1 << 20 };

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("in").unwrap(), partition)
    }

    fn record(partition: i32, offset: i64) -> ConsumedRecord {
        ConsumedRecord {
            tp: tp(partition),
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some("{}".into()),
            headers: Headers::new(),
        }
    }

    fn compiled() -> Arc<Compiled> {
        let topic = |name: &str| TopicName::new(name).unwrap();
        let plan = PipelinePlan {
            installation: InstallationId::new(),
            uid: Uid::new(),
            generation: 1,
            workspace: "w".into(),
            name: "p".into(),
            sources: vec![],
            steps: vec![],
            target: topic("out"),
            target_key: None,
            on_error: OnError::DeadLetter,
            fan_out: false,
            parallelism: 1,
            topics: StageTopics { dlq: BTreeMap::new(), retry: topic("retry") },
            paused: false,
            restarts: 0,
        };
        Arc::new(Compiled::new(Arc::new(plan), &Config::default()).unwrap())
    }

    struct Test {
        lane: Lane,
        compiled: Arc<Compiled>,
        now: Instant,
    }

    impl Test {
        /// Two partitions at offset 0, from assignment 1.
        fn new() -> Self {
            let opening = Opening {
                client: ClientConfig::new("h:1", "c"),
                transactional_id: "t".into(),
                config: TxnConfig::default(),
            };
            let mut lane = Lane::new(opening);
            lane.assign(tp(0), 1, Some(0), Some(0));
            lane.assign(tp(1), 1, Some(0), Some(0));
            Self { lane, compiled: compiled(), now: Instant::now() }
        }

        fn read(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
            for offset in offsets {
                self.lane.take_in(record(partition, offset), self.now);
            }
        }

        fn begin(&mut self, epoch: u64) -> Option<(u64, Batch)> {
            let batch = self.lane.next_batch(&LIMITS, &self.compiled, epoch, self.now)?;
            Some((self.lane.ticket, batch))
        }

        fn evaluated(&mut self, (ticket, batch): (u64, Batch)) {
            let offsets = batch.records.iter().map(|r| (r.tp.clone(), r.offset + 1)).collect();
            let read = batch.records.len() as u64;
            self.lane.evaluated(ticket, Evaluated { offsets, read, ..Evaluated::default() }, self.now);
        }

        fn commit_begins(&mut self) {
            assert!(self.lane.can_commit(self.now));
            self.lane.committing = self.lane.ready.take();
        }

        /// What would be evaluated from here on.
        fn rest(&mut self) -> Vec<(i32, i64)> {
            let mut all = Vec::new();
            while !self.lane.queue.is_empty() {
                all.extend(self.lane.queue.take(&LIMITS).iter().map(|r| (r.tp.partition, r.offset)));
            }
            all
        }
    }

    #[test]
    fn the_next_batch_is_evaluated_while_one_commits_and_goes_back_when_it_aborts() {
        let mut test = Test::new();
        test.read(0, 0..6);
        let first = test.begin(1).unwrap();
        assert!(test.begin(1).is_none(), "one evaluation at a time");
        test.evaluated(first);
        test.commit_begins();
        let second = test.begin(1).expect("while the first commits");
        test.evaluated(second);
        assert!(test.begin(1).is_none(), "no third one before there is room");
        assert!(!test.lane.can_commit(test.now), "one transaction at a time");
        test.lane.put_back(test.now);
        assert_eq!(test.rest(), (0..6).map(|n| (0, n)).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_cut_batch_did_not_come_to_is_the_next_one() {
        let mut test = Test::new();
        test.read(0, 0..4);
        let (ticket, _) = test.begin(1).unwrap();
        let offsets = BTreeMap::from([(tp(0), 1)]);
        let cut = Evaluated { offsets, read: 1, is_cut: true, ..Evaluated::default() };
        test.lane.evaluated(ticket, cut, test.now);
        test.commit_begins();
        assert_eq!(test.lane.committed().unwrap().batch.records.len(), 1);
        assert_eq!(test.rest(), [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn a_result_that_comes_after_its_batch_went_back_is_dropped() {
        let mut test = Test::new();
        test.read(0, 0..2);
        let late = test.begin(1).unwrap();
        test.lane.put_back(test.now);
        test.evaluated(late);
        assert!(test.lane.ready.is_none());
        assert_eq!(test.rest(), [(0, 0), (0, 1)]);
    }

    #[test]
    fn an_unknown_end_is_settled_by_what_is_committed() {
        let mut test = Test::new();
        test.read(0, 0..4);
        let first = test.begin(1).unwrap();
        test.evaluated(first);
        test.commit_begins();
        test.lane.put_back(test.now);
        test.lane.unsure = true;
        assert!(test.begin(1).is_none(), "nothing is evaluated before it is known where to go on");
        // It had committed after all.
        test.lane.catch_up(&BTreeMap::from([(tp(0), 2)]));
        assert_eq!(test.rest(), [(0, 2), (0, 3)]);
        assert_eq!(test.lane.partitions[&tp(0)].position, 2);
    }

    #[test]
    fn a_revoked_partition_takes_its_records_along_and_no_others() {
        let mut test = Test::new();
        test.read(0, 0..1);
        test.read(1, 0..1);
        let mixed = test.begin(1).unwrap();
        test.read(0, 1..2);
        test.read(1, 1..2);
        test.lane.revoke(&[tp(0)], test.now);
        test.evaluated(mixed);
        assert!(test.lane.ready.is_none(), "it had records of the revoked partition");
        test.read(0, 2..3);
        assert_eq!(test.rest(), [(1, 0), (1, 1)]);
    }

    #[test]
    fn a_partition_that_went_and_came_again_is_not_put_back() {
        let mut test = Test::new();
        test.read(0, 0..1);
        test.read(1, 0..1);
        let batch = test.begin(1).unwrap();
        test.evaluated(batch);
        test.commit_begins();
        assert!(test.lane.is_committing(&[tp(0)]));
        test.lane.revoke(&[tp(0)], test.now);
        test.lane.assign(tp(0), 2, Some(0), Some(0));
        // It is read again from its committed offset.
        test.read(0, 0..1);
        test.lane.put_back(test.now);
        assert_eq!(test.rest(), [(1, 0), (0, 0)]);
    }

    #[test]
    fn what_was_seen_is_not_taken_twice() {
        let mut test = Test::new();
        test.read(0, 0..3);
        test.read(0, 1..4);
        test.read(9, 0..1);
        assert_eq!(test.rest(), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn control_records_at_the_end_are_no_lag() {
        let mut test = Test::new();
        let behind = |position: Offset| Some(u64::try_from(12 - position).unwrap());
        test.read(0, 0..2);
        assert_eq!(test.lane.partitions[&tp(0)].lag(behind), Some(12));
        let batch = test.begin(1).unwrap();
        test.evaluated(batch);
        test.commit_begins();
        test.lane.committed().unwrap();
        let held = test.lane.partitions.get_mut(&tp(0)).unwrap();
        assert_eq!(held.lag(behind), Some(10));
        held.end = Some(12);
        assert_eq!(held.lag(behind), Some(0));
    }
}
