//! What a lane has read and not yet evaluated, and when it makes a batch.
//!
//! Invariant: records leave in the order in which they came, so within a partition in the order of their
//! offsets; what comes back after an abort stands before everything that came later. A batch closes by time,
//! count or size, and waits for no partition: it is whatever has come.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kafka::ConsumedRecord;
use types::{Offset, TopicPartition};

/// When a batch closes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time_max: Duration,
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
}

/// The records of one lane that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    records: VecDeque<ConsumedRecord>,
    bytes: usize,
    /// When the first of them came.
    opened_at: Option<Instant>,
}

/// What a record weighs in the queue: payload, and a share for what describes it.
pub(crate) fn weight(record: &ConsumedRecord) -> usize {
    const DESCRIPTION_BYTES: usize = 128;
    DESCRIPTION_BYTES
        + record.key.as_ref().map_or(0, bytes::Bytes::len)
        + record.value.as_ref().map_or(0, bytes::Bytes::len)
        + record.headers.payload_bytes()
}

impl Queue {
    pub(crate) fn push(&mut self, record: ConsumedRecord, now: Instant) {
        self.bytes += weight(&record);
        self.records.push_back(record);
        self.opened_at.get_or_insert(now);
    }

    /// Puts back what was taken, in its order, before all that is here.
    pub(crate) fn put_back(
        &mut self,
        records: impl DoubleEndedIterator<Item = ConsumedRecord>,
        now: Instant,
    ) {
        for record in records.rev() {
            self.bytes += weight(&record);
            self.records.push_front(record);
        }
        if !self.records.is_empty() {
            self.opened_at.get_or_insert(now);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn oldest(&self) -> Option<&ConsumedRecord> {
        self.records.front()
    }

    /// When what is here becomes a batch by time.
    pub(crate) fn closes_at(&self, limits: &Limits) -> Option<Instant> {
        self.opened_at.map(|at| at + limits.time_max)
    }

    /// Whether there is a batch to take now.
    pub(crate) fn is_ready(&self, limits: &Limits, now: Instant) -> bool {
        self.records.len() >= limits.records_max
            || self.bytes >= limits.bytes_max
            || self.closes_at(limits).is_some_and(|at| at <= now)
    }

    /// The next batch: at most `records_max`, and `bytes_max` unless its first record alone is larger.
    pub(crate) fn take(&mut self, limits: &Limits) -> Vec<ConsumedRecord> {
        let mut count = 0;
        let mut bytes = 0;
        for record in &self.records {
            let more = weight(record);
            if count == limits.records_max || (count > 0 && bytes + more > limits.bytes_max) {
                break;
            }
            count += 1;
            bytes += more;
        }
        let batch = self.records.drain(..count).collect();
        self.bytes -= bytes;
        // What stays has waited as long as what goes: it keeps the time.
        if self.records.is_empty() {
            self.opened_at = None;
        }
        batch
    }

    /// Keeps what `keep` says, in order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&ConsumedRecord) -> bool) {
        self.records.retain(|r| keep(r));
        self.bytes = self.records.iter().map(weight).sum();
        if self.records.is_empty() {
            self.opened_at = None;
        }
    }

    /// Forgets what these committed offsets say is done.
    pub(crate) fn forget_before(&mut self, committed: &BTreeMap<TopicPartition, Offset>) {
        self.retain(|r| committed.get(&r.tp).is_none_or(|next| r.offset >= *next));
    }
}

#[cfg(test)]
mod tests {
    use types::{Headers, TopicName};

    use super::*;

    const LIMITS: Limits = Limits { time_max: Duration::from_millis(50), records_max: 3, bytes_max: 1_000 };

    fn record(partition: i32, offset: i64, value_bytes: usize) -> ConsumedRecord {
        ConsumedRecord {
            tp: TopicPartition::new(TopicName::new("t").unwrap(), partition),
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(vec![b'x'; value_bytes].into()),
            headers: Headers::new(),
        }
    }

    fn places(records: &[ConsumedRecord]) -> Vec<(i32, i64)> {
        records.iter().map(|r| (r.tp.partition, r.offset)).collect()
    }

    #[test]
    fn a_batch_closes_by_time_count_or_size() {
        let start = Instant::now();
        let mut queue = Queue::default();
        assert!(!queue.is_ready(&LIMITS, start + Duration::from_secs(9)), "nothing is never a batch");
        queue.push(record(0, 0, 1), start);
        assert!(!queue.is_ready(&LIMITS, start + Duration::from_millis(49)));
        assert!(queue.is_ready(&LIMITS, start + Duration::from_millis(50)), "by time");
        queue.push(record(1, 0, 1), start);
        queue.push(record(0, 1, 1), start);
        assert!(queue.is_ready(&LIMITS, start), "by count");
        queue.push(record(0, 2, 1), start);
        assert_eq!(places(&queue.take(&LIMITS)), [(0, 0), (1, 0), (0, 1)]);
        assert_eq!(places(&queue.take(&LIMITS)), [(0, 2)]);
        assert!(queue.is_empty() && queue.bytes() == 0 && queue.closes_at(&LIMITS).is_none());
        queue.push(record(0, 3, 900), start);
        assert!(queue.is_ready(&LIMITS, start), "by size");
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_alone() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for offset in 0..3 {
            queue.push(record(0, offset, 5_000), now);
        }
        for offset in 0..3 {
            assert_eq!(places(&queue.take(&LIMITS)), [(0, offset)]);
        }
    }

    #[test]
    fn what_comes_back_stands_first_and_what_is_committed_is_forgotten() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for offset in 0..5 {
            queue.push(record(0, offset, 1), now);
        }
        queue.push(record(1, 7, 1), now);
        let taken = queue.take(&LIMITS);
        queue.put_back(taken.into_iter(), now);
        queue.forget_before(&BTreeMap::from([(record(0, 0, 0).tp, 2)]));
        assert_eq!(places(&queue.take(&LIMITS)), [(0, 2), (0, 3), (0, 4)]);
        queue.retain(|r| r.tp.partition != 1);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }
}
