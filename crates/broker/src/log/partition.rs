//! A partition: its state, what it shows, and who waits for it.
//!
//! Two locks. The *writer* lock is held over a whole append, with its write to the segment file, and orders appends. The
//! *state* lock is held for moments and never over I/O: readers, the log's thread and appenders take it. Order of locks:
//! a machine's, the table's, writers (by topic and index), states (by topic and index), the write-ahead log's queue.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::codec::{Put, Reader};
use super::config::{Clock, PartitionConfig};
use super::error::{AppendError, Error, ReadError};
use super::producers::{ActiveProducer, Producers};
use super::segment::{Files, Segment, SegmentState};
use super::wal::{Advance, Wal};
use super::{Position, Visible, Waiter};

/// Leader epochs remembered per partition; a start is one. Above it the oldest are forgotten.
const EPOCHS_MAX: usize = 1024;
/// Waiters that a partition holds before it looks for those that are gone.
const WAITERS_PRUNE_AT: usize = 64;

/// What goes with the next checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doomed {
    File(PathBuf),
    Dir(PathBuf),
}

impl Doomed {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Dir(path) => path,
        }
    }
}

/// What all partitions of a log share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) files: Files,
    pub(super) wal: Arc<Wal>,
    pub(super) clock: Clock,
    pub(super) leader_epoch: i32,
    pub(super) doomed: Mutex<Vec<Doomed>>,
    /// The last read that failed, and when.
    pub(super) read_failure: Mutex<Option<(Instant, Error)>>,
}

impl Shared {
    /// Removes paths after the next checkpoint: until then recovery may need them.
    pub(super) fn doom(&self, paths: impl IntoIterator<Item = Doomed>) {
        self.doomed.lock().extend(paths);
    }

    /// Removes segments that no state names any more.
    pub(super) fn doom_segments(&self, segments: Vec<Arc<Segment>>) {
        self.doom(segments.iter().flat_map(|segment| segment.paths()).map(Doomed::File));
    }

    pub(super) fn topic_dir(&self, topic_id: Uuid) -> PathBuf {
        self.dir.join("topics").join(topic_id.to_string())
    }
}

/// One partition. Cheap to share; all methods block at most on the page cache, and need no runtime.
pub struct Partition {
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Mutex<()>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) config: Arc<PartitionConfig>,
    /// By base offset; the last one is written. None: nothing is stored.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) start: i64,
    /// Offset of the next record.
    pub(super) end: i64,
    /// Every record before it is visible.
    pub(super) high_watermark: i64,
    /// Frames that aren't visible yet: position, and the end offset after it.
    pub(super) pending: VecDeque<(u64, i64)>,
    /// Position of the last frame about this partition.
    pub(super) position: u64,
    pub(super) producers: Producers,
    /// Leader epoch and the first offset in it.
    pub(super) epochs: Vec<(i32, i64)>,
    pub(super) dropped: bool,
    waiters: Vec<Weak<Notify>>,
    prune_at: usize,
}

impl State {
    pub(super) fn last_stable_offset(&self) -> i64 {
        let limit = self.high_watermark;
        // DeleteRecords may have passed an open transaction.
        self.producers.first_unstable().map_or(limit, |first| first.min(limit).max(self.start))
    }

    pub(super) fn visible(&self) -> Visible {
        Visible {
            log_start_offset: self.start,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size()).sum()
    }

    /// The segment that holds an offset, if any holds it or one after it.
    pub(super) fn segment_at(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// Who must be woken, after the lock is released.
    pub(super) fn take_waiters(&mut self) -> Vec<Weak<Notify>> {
        std::mem::take(&mut self.waiters)
    }

    pub(super) fn begin_epoch(&mut self, epoch: i32, offset: i64) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            if self.epochs.len() == EPOCHS_MAX {
                self.epochs.remove(0);
            }
            self.epochs.push((epoch, offset));
        }
    }

    /// Moves the start offset; the segments that lie before it as a whole are taken out.
    pub(super) fn move_start(&mut self, start: i64) -> Vec<Arc<Segment>> {
        self.start = self.start.max(start);
        let start = self.start;
        let gone = if start >= self.end {
            self.segments.len()
        } else {
            self.segments.partition_point(|segment| segment.base_offset <= start).saturating_sub(1)
        };
        let removed = self.segments.drain(..gone).collect();
        self.producers.truncate_before(start);
        let behind = self.epochs.partition_point(|(_, first)| *first <= start).saturating_sub(1);
        self.epochs.drain(..behind);
        removed
    }
}

pub(super) fn wake(waiters: Vec<Weak<Notify>>) {
    for waiter in waiters {
        if let Some(waiter) = waiter.upgrade() {
            waiter.notify_one();
        }
    }
}

/// What a checkpoint stores of a partition.
pub(super) struct PartitionSnapshot {
    pub(super) bytes: Vec<u8>,
    /// Have bytes that aren't synced yet.
    pub(super) dirty: Vec<Arc<Segment>>,
}

impl Partition {
    pub(super) fn new(
        shared: Arc<Shared>,
        topic_id: Uuid,
        index: i32,
        config: Arc<PartitionConfig>,
    ) -> Arc<Self> {
        let dir = shared.topic_dir(topic_id).join(index.to_string());
        Arc::new(Self {
            topic_id,
            index,
            dir,
            shared,
            writer: Mutex::new(()),
            state: Mutex::new(State {
                config,
                segments: Vec::new(),
                start: 0,
                end: 0,
                high_watermark: 0,
                pending: VecDeque::new(),
                position: 0,
                producers: Producers::default(),
                epochs: Vec::new(),
                dropped: false,
                waiters: Vec::new(),
                prune_at: WAITERS_PRUNE_AT,
            }),
        })
    }

    /// The topic.
    #[must_use]
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The index in the topic.
    #[must_use]
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Start offset, high watermark, last stable offset, at one moment.
    #[must_use]
    pub fn visible(&self) -> Visible {
        self.state.lock().visible()
    }

    /// Offset that the next record gets; may be past the high watermark.
    #[must_use]
    pub fn log_end_offset(&self) -> i64 {
        self.state.lock().end
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<PartitionConfig> {
        Arc::clone(&self.state.lock().config)
    }

    /// Bytes in segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.state.lock().size()
    }

    /// First offset of a producer's open transaction here.
    #[must_use]
    pub fn open_transaction(&self, producer_id: i64) -> Option<i64> {
        self.state.lock().producers.open_transaction(producer_id)
    }

    /// The producers that it remembers, by id: no more than its bound (the longest idle are forgotten).
    #[must_use]
    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.state.lock().producers.active()
    }

    /// The end of a leader epoch (OffsetForLeaderEpoch): the largest known epoch up to `epoch`, and the offset after its last
    /// visible record. None: no record is that old.
    #[must_use]
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        let state = self.state.lock();
        let after = state.epochs.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = *state.epochs.get(after.checked_sub(1)?)?;
        let end = state.epochs.get(after).map_or(state.high_watermark, |(_, first)| *first);
        Some((found, end.min(state.high_watermark)))
    }

    /// Wakes the waiter, once, when the high watermark, last stable offset or start offset moves or the partition is dropped.
    /// Register first, then read, then wait: then nothing is missed.
    pub fn watch(&self, waiter: &Waiter) {
        let mut state = self.state.lock();
        if state.dropped {
            waiter.0.notify_one();
            return;
        }
        if state.waiters.len() >= state.prune_at {
            state.waiters.retain(|waiter| waiter.strong_count() > 0);
            state.prune_at = (state.waiters.len() * 2).max(WAITERS_PRUNE_AT);
        }
        state.waiters.push(Arc::downgrade(&waiter.0));
    }

    pub(super) fn append_dropped(&self) -> AppendError {
        AppendError::Dropped { topic_id: self.topic_id, partition: self.index }
    }

    pub(super) fn read_dropped(&self) -> ReadError {
        ReadError::Dropped { topic_id: self.topic_id, partition: self.index }
    }

    /// What a checkpoint stores; from here on the segments given count as synced.
    pub(super) fn snapshot(&self) -> PartitionSnapshot {
        let state = self.state.lock();
        let mut bytes = Vec::new();
        bytes.put_i32(self.index);
        bytes.put_u64(state.position);
        bytes.put_i64(state.start);
        bytes.put_i64(state.end);
        bytes.put_count(state.segments.len());
        for segment in &state.segments {
            let SegmentState { base_offset, size, max_timestamp, max_timestamp_offset, created_ms } =
                segment.state();
            bytes.put_i64(base_offset);
            bytes.put_u64(size);
            bytes.put_i64(max_timestamp);
            bytes.put_i64(max_timestamp_offset);
            bytes.put_i64(created_ms);
        }
        bytes.put_count(state.epochs.len());
        for (epoch, first) in &state.epochs {
            bytes.put_i32(*epoch);
            bytes.put_i64(*first);
        }
        state.producers.encode(&mut bytes);
        let dirty = state.segments.iter().filter(|segment| segment.take_dirty()).cloned().collect();
        PartitionSnapshot { bytes, dirty }
    }

    /// Takes the state of a snapshot. None: it isn't one.
    pub(super) fn restore(
        shared: &Arc<Shared>,
        topic_id: Uuid,
        config: &Arc<PartitionConfig>,
        snapshot: &[u8],
    ) -> Option<Arc<Self>> {
        let mut reader = Reader::new(snapshot);
        let partition = Self::new(Arc::clone(shared), topic_id, reader.i32()?, Arc::clone(config));
        {
            let mut state = partition.state.lock();
            state.position = reader.u64()?;
            state.start = reader.i64()?;
            state.end = reader.i64()?;
            for _ in 0..reader.count(40)? {
                let segment = SegmentState {
                    base_offset: reader.i64()?,
                    size: reader.u64()?,
                    max_timestamp: reader.i64()?,
                    max_timestamp_offset: reader.i64()?,
                    created_ms: reader.i64()?,
                };
                state.segments.push(Segment::restore(&partition.dir, segment));
            }
            for _ in 0..reader.count(12)? {
                let epoch = (reader.i32()?, reader.i64()?);
                state.epochs.push(epoch);
            }
            state.producers = Producers::decode(&mut reader)?;
        }
        reader.rest().is_empty().then_some(partition)
    }
}

impl Advance for Partition {
    fn advance(&self, visible: Position) {
        let waiters = {
            let mut state = self.state.lock();
            let mut moved = false;
            while let Some((position, end)) = state.pending.front().copied() {
                if position > visible.0 {
                    break;
                }
                state.pending.pop_front();
                state.high_watermark = end;
                moved = true;
            }
            if !moved {
                return;
            }
            let high_watermark = state.high_watermark;
            state.producers.settle(high_watermark);
            state.take_waiters()
        };
        wake(waiters);
    }
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partition({}/{})", self.topic_id, self.index)
    }
}
