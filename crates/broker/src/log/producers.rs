//! What a partition knows of its producers: the last batches of each (to answer a retry, and refuse a gap), its epoch, and
//! its transactions. Pure state: offsets come in, decisions come out.
//!
//! A transaction is *open* from its first batch here to its marker; *ending* until the marker is visible; then it is gone, but
//! for an entry in the aborted index if it was aborted. The last stable offset lies before all that are open or ending.
//! Rules: KIP-98, KIP-360 (an unknown producer may start at any sequence: its state may have expired).

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Aborted;
use super::Outcome;
use super::batch::{Header, NO_PRODUCER_ID, sequence_after};
use super::codec::{Put, Reader};
use super::error::AppendError;

/// Batches remembered per producer: `max.in.flight.requests.per.connection` of an idempotent producer is at most 5.
const BATCHES_MAX: usize = 5;
/// Producers remembered per partition; above it the one longest idle, without an open transaction, is forgotten.
const PRODUCERS_MAX: usize = 10_000;

/// A batch that a producer appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    /// LogAppendTime, or -1.
    pub(super) log_append_time: i64,
    /// 0 after a restart: what was recovered is durable.
    pub(super) position: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    coordinator_epoch: i32,
    batches: VecDeque<Batch>,
    last_ms: i64,
    /// First offset of the open transaction.
    open: Option<i64>,
}

/// A producer that a partition remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: i64,
    /// The epoch of its last batch or marker.
    pub epoch: i16,
    /// Of its last marker, -1 before one.
    pub coordinator_epoch: i32,
    /// Of its last record; None where its epoch has none yet.
    pub last_sequence: Option<i32>,
    /// Wall time of its last batch or marker, ms.
    pub last_ms: i64,
    /// First offset of its open transaction.
    pub open: Option<i64>,
}

/// A transaction whose marker isn't visible yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    first_offset: i64,
    marker_offset: i64,
}

/// An entry of the aborted index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AbortedTransaction {
    producer_id: i64,
    first_offset: i64,
    marker_offset: i64,
}

/// What to do with a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Append it.
    New,
    /// It is there.
    Duplicate(Batch),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    map: HashMap<i64, Producer>,
    /// First offset of an open transaction to its producer.
    open: BTreeMap<i64, i64>,
    ending: Vec<Ending>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

impl Producers {
    /// Decides on a client's batch; changes nothing.
    pub(super) fn check(&self, header: &Header) -> Result<Check, AppendError> {
        let producer_id = header.producer_id;
        if producer_id == NO_PRODUCER_ID {
            return Ok(Check::New);
        }
        let Some(producer) = self.map.get(&producer_id) else { return Ok(Check::New) };
        if header.producer_epoch < producer.epoch {
            let (current, found) = (producer.epoch, header.producer_epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, current, found });
        }
        let same_epoch = header.producer_epoch == producer.epoch;
        if same_epoch {
            let known = producer.batches.iter().find(|batch| {
                batch.first_sequence == header.base_sequence && batch.last_sequence == header.last_sequence()
            });
            if let Some(batch) = known {
                return Ok(Check::Duplicate(*batch));
            }
        }
        let expected = match producer.batches.back() {
            Some(last) if same_epoch => sequence_after(last.last_sequence, 1),
            _ => 0,
        };
        if header.base_sequence != expected {
            let found = header.base_sequence;
            return Err(AppendError::OutOfOrderSequence { producer_id, expected, found });
        }
        if producer.open.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState { producer_id });
        }
        Ok(Check::New)
    }

    /// Decides on a coordinator's marker; changes nothing. A producer that isn't known is fine: it may have expired.
    pub(super) fn check_marker(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        coordinator_epoch: i32,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.map.get(&producer_id) else { return Ok(()) };
        if producer_epoch < producer.epoch {
            let (current, found) = (producer.epoch, producer_epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, current, found });
        }
        if coordinator_epoch < producer.coordinator_epoch {
            let (current, found) = (producer.coordinator_epoch, coordinator_epoch);
            return Err(AppendError::CoordinatorFenced { current, found });
        }
        Ok(())
    }

    fn at_epoch(&mut self, producer_id: i64, epoch: i16, now_ms: i64) -> &mut Producer {
        if self.map.len() >= PRODUCERS_MAX && !self.map.contains_key(&producer_id) {
            let idle = self.map.iter().filter(|(_, producer)| producer.open.is_none());
            if let Some((&longest, _)) = idle.min_by_key(|(_, producer)| producer.last_ms) {
                self.map.remove(&longest);
            }
        }
        let producer = self.map.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            last_ms: now_ms,
            open: None,
        });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_ms = now_ms;
        producer
    }

    /// Takes in a batch that was checked; `header` has its offsets.
    pub(super) fn apply(&mut self, header: &Header, now_ms: i64, position: u64) {
        if header.producer_id == NO_PRODUCER_ID {
            return;
        }
        let producer = self.at_epoch(header.producer_id, header.producer_epoch, now_ms);
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: if header.is_log_append_time() { header.max_timestamp } else { -1 },
            position,
        });
        if header.is_transactional() && producer.open.is_none() {
            producer.open = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Takes in a marker at `header`'s offset.
    pub(super) fn apply_marker(
        &mut self,
        header: &Header,
        outcome: Outcome,
        coordinator_epoch: i32,
        now_ms: i64,
    ) {
        let producer = self.at_epoch(header.producer_id, header.producer_epoch, now_ms);
        producer.coordinator_epoch = coordinator_epoch;
        let Some(first_offset) = producer.open.take() else { return };
        self.open.remove(&first_offset);
        let marker_offset = header.last_offset();
        self.ending.push(Ending { first_offset, marker_offset });
        if outcome == Outcome::Abort {
            let producer_id = header.producer_id;
            self.aborted.push(AbortedTransaction { producer_id, first_offset, marker_offset });
        }
    }

    /// Forgets the ending transactions whose markers are below the high watermark.
    pub(super) fn settle(&mut self, high_watermark: i64) {
        self.ending.retain(|ending| ending.marker_offset >= high_watermark);
    }

    /// The first offset of a transaction that is open or ending.
    pub(super) fn first_unstable(&self) -> Option<i64> {
        let open = self.open.keys().next().copied();
        let ending = self.ending.iter().map(|ending| ending.first_offset).min();
        open.into_iter().chain(ending).min()
    }

    /// All that are remembered, by id.
    pub(super) fn active(&self) -> Vec<ActiveProducer> {
        let mut found: Vec<ActiveProducer> = self
            .map
            .iter()
            .map(|(id, Producer { epoch, coordinator_epoch, batches, last_ms, open })| ActiveProducer {
                id: *id,
                epoch: *epoch,
                coordinator_epoch: *coordinator_epoch,
                last_sequence: batches.back().map(|batch| batch.last_sequence),
                last_ms: *last_ms,
                open: *open,
            })
            .collect();
        found.sort_by_key(|producer| producer.id);
        found
    }

    pub(super) fn open_transaction(&self, producer_id: i64) -> Option<i64> {
        self.map.get(&producer_id)?.open
    }

    /// The aborted transactions with records in `from..to`, sorted by first offset.
    pub(super) fn aborted_in(&self, from: i64, to: i64) -> Vec<Aborted> {
        let behind = self.aborted.partition_point(|aborted| aborted.marker_offset < from);
        let mut found: Vec<Aborted> = self.aborted[behind..]
            .iter()
            .filter(|aborted| aborted.first_offset < to)
            .map(|aborted| Aborted { producer_id: aborted.producer_id, first_offset: aborted.first_offset })
            .collect();
        found.sort_by_key(|aborted| aborted.first_offset);
        found
    }

    /// Forgets aborted transactions before the log's start.
    pub(super) fn truncate_before(&mut self, start: i64) {
        self.aborted.retain(|aborted| aborted.marker_offset >= start);
    }

    /// Forgets producers that were idle since `before_ms` and have no open transaction.
    pub(super) fn expire(&mut self, before_ms: i64) {
        self.map.retain(|_, producer| producer.open.is_some() || producer.last_ms >= before_ms);
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { map, open: _, ending, aborted } = self;
        out.put_count(map.len());
        for (producer_id, producer) in map {
            let Producer { epoch, coordinator_epoch, batches, last_ms, open } = producer;
            out.put_i64(*producer_id);
            out.put_i16(*epoch);
            out.put_i32(*coordinator_epoch);
            out.put_i64(*last_ms);
            out.put_option(*open);
            out.put_count(batches.len());
            for batch in batches {
                let Batch {
                    first_sequence,
                    last_sequence,
                    base_offset,
                    last_offset,
                    log_append_time,
                    position: _,
                } = batch;
                out.put_i32(*first_sequence);
                out.put_i32(*last_sequence);
                out.put_i64(*base_offset);
                out.put_i64(*last_offset);
                out.put_i64(*log_append_time);
            }
        }
        out.put_count(ending.len());
        for Ending { first_offset, marker_offset } in ending {
            out.put_i64(*first_offset);
            out.put_i64(*marker_offset);
        }
        out.put_count(aborted.len());
        for AbortedTransaction { producer_id, first_offset, marker_offset } in aborted {
            out.put_i64(*producer_id);
            out.put_i64(*first_offset);
            out.put_i64(*marker_offset);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut producers = Self::default();
        for _ in 0..reader.count(39)? {
            let producer_id = reader.i64()?;
            let mut producer = Producer {
                epoch: reader.i16()?,
                coordinator_epoch: reader.i32()?,
                last_ms: reader.i64()?,
                open: reader.option()?,
                batches: VecDeque::new(),
            };
            for _ in 0..reader.count(32)? {
                producer.batches.push_back(Batch {
                    first_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                    base_offset: reader.i64()?,
                    last_offset: reader.i64()?,
                    log_append_time: reader.i64()?,
                    position: 0,
                });
            }
            if let Some(first_offset) = producer.open {
                producers.open.insert(first_offset, producer_id);
            }
            producers.map.insert(producer_id, producer);
        }
        for _ in 0..reader.count(16)? {
            producers.ending.push(Ending { first_offset: reader.i64()?, marker_offset: reader.i64()? });
        }
        for _ in 0..reader.count(24)? {
            producers.aborted.push(AbortedTransaction {
                producer_id: reader.i64()?,
                first_offset: reader.i64()?,
                marker_offset: reader.i64()?,
            });
        }
        Some(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        count: i32,
        offset: i64,
        transactional: bool,
    ) -> Header {
        Header {
            base_offset: offset,
            size: 100,
            leader_epoch: 0,
            attributes: if transactional { 1 << 4 } else { 0 },
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: epoch,
            base_sequence: sequence,
            count,
        }
    }

    #[test]
    fn sequences_are_checked_per_epoch() {
        let mut producers = Producers::default();
        for at in 0..7 {
            let next = header(1, 0, at * 2, 2, i64::from(at) * 2, false);
            assert_eq!(producers.check(&next).unwrap(), Check::New);
            producers.apply(&next, 5, 0);
        }
        let Check::Duplicate(batch) = producers.check(&header(1, 0, 4, 2, 99, false)).unwrap() else {
            panic!("one of the last five is a duplicate")
        };
        assert_eq!((batch.base_offset, batch.last_offset), (4, 5));
        // Older than five batches, another size, or a gap.
        for (sequence, count) in [(0, 2), (4, 1), (15, 1)] {
            let error = producers.check(&header(1, 0, sequence, count, 99, false)).unwrap_err();
            assert!(matches!(error, AppendError::OutOfOrderSequence { expected: 14, .. }), "{error}");
        }
        let error = producers.check(&header(1, 1, 14, 1, 99, false)).unwrap_err();
        assert!(matches!(error, AppendError::OutOfOrderSequence { expected: 0, .. }), "{error}");
        let next = header(1, 1, 0, 1, 14, false);
        assert_eq!(producers.check(&next).unwrap(), Check::New);
        producers.apply(&next, 5, 0);
        let error = producers.check(&header(1, 0, 14, 1, 99, false)).unwrap_err();
        assert!(matches!(error, AppendError::InvalidProducerEpoch { current: 1, found: 0, .. }), "{error}");
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        producers.apply(&header(1, 0, i32::MAX - 1, 3, 0, false), 0, 0);
        assert_eq!(producers.check(&header(1, 0, 1, 1, 3, false)).unwrap(), Check::New);
        assert!(producers.check(&header(1, 0, 0, 1, 3, false)).is_err());
    }

    #[test]
    fn transactions_hold_the_stable_offset_until_their_marker_is_visible() {
        let mut producers = Producers::default();
        producers.apply(&header(1, 0, 0, 5, 10, true), 0, 0);
        producers.apply(&header(2, 0, 0, 5, 15, true), 0, 0);
        assert_eq!(producers.first_unstable(), Some(10));
        let error = producers.check(&header(1, 0, 5, 1, 20, false)).unwrap_err();
        assert!(matches!(error, AppendError::InvalidTxnState { producer_id: 1 }), "{error}");
        producers.apply_marker(&header(1, 0, -1, 1, 20, true), Outcome::Abort, 3, 0);
        assert_eq!(producers.first_unstable(), Some(10), "the marker isn't visible yet");
        producers.settle(20);
        assert_eq!(producers.first_unstable(), Some(10), "offset 20 is not below a high watermark of 20");
        producers.settle(21);
        assert_eq!(producers.first_unstable(), Some(15));
        assert_eq!(producers.aborted_in(0, 100), [Aborted { producer_id: 1, first_offset: 10 }]);
        assert_eq!(producers.aborted_in(20, 100), [Aborted { producer_id: 1, first_offset: 10 }]);
        assert!(producers.aborted_in(21, 100).is_empty());
        assert!(producers.aborted_in(0, 10).is_empty());
        assert!(matches!(
            producers.check_marker(1, 0, 2),
            Err(AppendError::CoordinatorFenced { current: 3, found: 2 })
        ));
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&mut Reader::new(&bytes)).unwrap(), producers);
        // A marker with the next epoch (KIP-890) ends the transaction and starts sequences anew.
        producers.apply_marker(&header(2, 1, -1, 1, 21, true), Outcome::Commit, 3, 0);
        assert_eq!(producers.check(&header(2, 1, 0, 1, 22, true)).unwrap(), Check::New);
        assert!(producers.check(&header(2, 0, 5, 1, 22, true)).is_err());
        producers.expire(1);
        assert!(producers.map.is_empty());
    }
}
