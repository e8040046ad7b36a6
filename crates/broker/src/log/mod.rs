//! Durable storage of the embedded broker. Invariant: **what is visible is durable** — the high watermark, the last
//! stable offset, a resolved [`Log::synced`] and every wake-up never pass what the write-ahead log has synced (with
//! [`Flush::Os`]: written).
//!
//! Nouns. Every durable fact is an *op* in a *frame* of one shared write-ahead log (WAL); a frame is atomic: after a crash
//! it is there whole or not at all. A frame has a [`Position`]. One thread writes and syncs what is queued while others
//! queue more (group commit), then advances the partitions of the frames. A *partition* is a list of *segments*, files
//! that hold nothing but record batches; an append writes them without syncing. A *checkpoint* syncs segments, stores the
//! state of partitions and of [`Machine`]s, and drops the WAL before it. Opening = the checkpoint + the WAL after it.
//!
//! ```text
//! DIR/checkpoint                                   checkpoint.rs
//! DIR/wal/<sequence>.wal                           wal.rs, frame.rs
//! DIR/topics/<topic id>/<partition>/<offset>.log   segment.rs
//! DIR/topics/<topic id>/<partition>/<offset>.index index.rs
//! ```
//!
//! States of the log: open; *full* while the WAL can't be written for want of space (nothing new is accepted, every half
//! second the write is tried again; nothing of it was promised, so that it may be); *read-only* after any other a write or sync of the WAL, or a sync of a segment, failed (reads go on up to
//! the high watermark, every waiter gets the reason, and only a new start ends it: a second fsync after a failed one proves
//! nothing); closed. A segment that can't be written (no space) refuses that append alone.
//!
//! Why one shared WAL: its cost doesn't grow with partitions, a frame over many partitions is atomic, and it takes one thread.
//! `examples/log_bench.rs`, 100 producers in a closed loop, batches of 1 KiB, 4 rounds in turns on ext4, two busy cores, dev
//! profile; batches/s, p50 and p99 of append to durable:
//!
//! | partitions | shared WAL | a file each, one thread syncs | ratio | a file and a thread each | ratio |
//! | --- | --- | --- | --- | --- | --- |
//! | 1 | 12,021; 7.6 ms; 24 ms | 17,201; 4.6 ms; 17 ms | 0.70 | 16,983; 4.8 ms; 19 ms | 0.71 |
//! | 12 | 13,334; 6.1 ms; 25 ms | 2,461; 30 ms; 157 ms | 5.4 | 36,357; 1.6 ms; 14 ms | 0.37 |
//! | 100 | 11,675; 7.2 ms; 26 ms | 364; 249 ms; 508 ms | 32 | 17,566; 4.5 ms; 19 ms | 0.66 |
//!
//! The WAL is flat, a flusher over files falls by 47. A thread per partition is faster still where the file system merges
//! concurrent syncs, as ext4's journal does; it needs a thread for every partition and can't make EndTxn atomic. The baselines
//! also write a batch once where the log writes it twice and indexes it. The figures are of a machine that did other work too:
//! single runs varied by a factor of two. Not tried: WAL files allocated ahead, so that a sync has no size to record.
//!
//! Not done here: compaction, re-encoding for `compression.type`, finding a record inside a batch (the protocol layer's),
//! moving a partition between directories, locking the directory against a second process (the binary's). The aborted
//! index and producer states live in memory and in the checkpoint, as far as retention leaves them.

mod append;
mod background;
mod batch;
mod checkpoint;
mod codec;
mod commit;
mod config;
mod disk;
mod error;
mod frame;
mod index;
mod partition;
mod producers;
mod read;
mod recovery;
mod retention;
mod segment;
mod table;
pub mod testing;
mod wal;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

pub use batch::{BatchError, Header, RawBatch};
pub use commit::FrameBuilder;
pub use config::{Clock, Config, Flush, PartitionConfig, TimestampType};
pub use disk::{Disk, DiskFile, Open, OsDisk};
pub use error::{AppendError, Error, ReadError};
pub use partition::Partition;
pub use producers::ActiveProducer;

use background::Signal;
use config::MAX_FRAME_BYTES;
use frame::FrameBuf;
use partition::Shared;
use segment::Files;
use table::Table;
use wal::Wal;

/// A read that failed is told of for so long, because clients try again meanwhile: a lasting failure is always shown.
pub const READ_FAILURE_SHOWN: Duration = Duration::from_secs(5);

/// A frame's place in the order of the write-ahead log. Position 0 is before the first frame, and always durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub(crate) u64);

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its records are to be read.
    Commit,
    /// They are to be skipped by `read_committed`.
    Abort,
}

/// Up to where a fetch may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// To the high watermark.
    ReadUncommitted,
    /// To the last stable offset.
    ReadCommitted,
}

/// A state machine whose entries the log keeps: catalog, groups, transactions, producer ids.
///
/// The machine's owner changes its state and calls [`Log::entry`] (or commits a [`FrameBuilder`]) under ONE lock, which
/// [`Machine::snapshot`] takes too. So a snapshot contains the effect of every entry before the position that the log
/// reads just before it. It may contain later ones: `replay` of an entry whose effect is there already must change
/// nothing (write entries as absolute values, not as increments).
pub trait Machine: Send + Sync {
    /// Names the machine in frames; never changes, never reused.
    fn id(&self) -> u8;
    /// Called by the checkpoint thread, with no lock of the log held. Bytes that carry a format version of their own.
    fn snapshot(&self) -> Vec<u8>;
    /// Called by [`Log::open`], at most once, before any replay. An error ends the opening.
    ///
    /// # Errors
    /// The snapshot isn't understood (a newer version, or damaged).
    fn restore(&self, snapshot: &[u8]) -> Result<(), MachineError>;
    /// Called by [`Log::open`] for each entry after the snapshot, in the order of the log. An error ends the opening.
    ///
    /// # Errors
    /// The entry isn't understood.
    fn replay(&self, entry: &[u8]) -> Result<(), MachineError>;
}

/// A machine's own error.
pub type MachineError = Box<dyn std::error::Error + Send + Sync>;

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// For LogAppendTime topics the time given to its records, ms; else -1.
    pub log_append_time: i64,
    /// The partition's first offset.
    pub log_start_offset: i64,
    /// The batch was there already (idempotent producer's retry); the other fields are the first append's. A success.
    pub duplicate: bool,
    /// Reply after [`Log::synced`] of this.
    pub position: Position,
}

/// What a partition shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visible {
    /// First offset that can be read.
    pub log_start_offset: i64,
    /// Offset after the last durable record.
    pub high_watermark: i64,
    /// Offset before which no transaction is open or not yet durably ended.
    pub last_stable_offset: i64,
}

/// An aborted transaction that overlaps what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// The producer.
    pub producer_id: i64,
    /// Its first offset in this partition.
    pub first_offset: i64,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// Whole batches, the first of which contains or follows the offset; empty at the end.
    pub bytes: Bytes,
    /// The partition at the time of the read.
    pub visible: Visible,
    /// For `ReadCommitted`: sorted by first offset.
    pub aborted: Vec<Aborted>,
}

/// A batch found by its time.
#[derive(Debug, Clone)]
pub struct TimestampMatch {
    /// The first batch whose greatest timestamp is at least what was asked for, as stored: the record is inside of it.
    pub batch: Bytes,
    /// Its header.
    pub header: Header,
}

/// Figures of a log, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The write-ahead log's files, bytes.
    pub wal_bytes: u64,
    /// Frames that wait to be written, bytes.
    pub queued_bytes: usize,
    /// Syncs of the write-ahead log since the start.
    pub syncs_total: u64,
    /// Frames since the directory was made that are visible.
    pub frames_total: u64,
    /// Segment files that are open.
    pub files_open: usize,
    /// Frames that this start replayed.
    pub frames_replayed: u64,
}

/// A cheap way to await that any of many partitions has something new: register with [`Partition::watch`] FIRST, then
/// read, then wait. One-shot: a wake-up ends the registrations of the partition it came from.
#[derive(Debug, Clone, Default)]
pub struct Waiter(Arc<tokio::sync::Notify>);

impl Waiter {
    /// A waiter without registrations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns when a registered partition's high watermark, last stable offset or start offset moved, or it was
    /// dropped, since its registration.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

/// The broker's log. See the module's docs. Ends without a checkpoint when it is dropped; see [`Log::close`].
pub struct Log {
    inner: Arc<Inner>,
    signal: Arc<Signal>,
    frames_replayed: u64,
    sync_thread: Mutex<Option<JoinHandle<()>>>,
    background_thread: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    shared: Arc<Shared>,
    table: Table,
    machines: Vec<Arc<dyn Machine>>,
    config: Config,
    /// One checkpoint at a time; the position of the last.
    checkpointed: Mutex<Position>,
}

impl Inner {
    fn checkpoint(&self) -> Result<(), Error> {
        let mut last = self.checkpointed.lock();
        let nothing_new = self.shared.wal.tail() == *last && self.shared.doomed.lock().is_empty();
        if nothing_new && *last != Position::default() {
            return Ok(());
        }
        *last = checkpoint::make(&self.shared, &self.table, &self.machines)?;
        Ok(())
    }

    fn retain(&self) -> bool {
        let mut removed = false;
        for topic in self.table.load().values() {
            for partition in &topic.partitions {
                removed |= partition.retain(self.config.producer_id_expiry_ms);
            }
        }
        removed
    }
}

impl Log {
    /// Opens or creates the log in `dir`: restores and replays. `machines` get their snapshots, then their entries in
    /// order. Starts two threads.
    ///
    /// # Errors
    /// The disk fails, a file is damaged or newer than this program, or a machine refuses its state.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: Config,
        machines: Vec<Arc<dyn Machine>>,
    ) -> Result<Arc<Self>, Error> {
        config.check()?;
        let found = recovery::find(&*disk, dir)?;
        let leader_epoch = found.leader_epoch + 1;
        let signal = Arc::new(Signal::default());
        let grown = {
            let (signal, limit) = (Arc::clone(&signal), config.wal_bytes_max);
            Box::new(move |bytes| {
                if bytes > limit {
                    signal.checkpoint();
                }
            })
        };
        let wal = Wal::new(Arc::clone(&disk), dir.join("wal"), leader_epoch, &config, grown);
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            files: Files::new(disk, config.files_open_max),
            wal: Arc::clone(&wal),
            clock: config.clock.clone(),
            leader_epoch,
            doomed: Mutex::new(Vec::new()),
            read_failure: Mutex::new(None),
        });
        let table = Table::default();
        let recovered = recovery::apply(found, &shared, &table, &machines)?;
        let sync_thread = wal.start(recovered.tail, recovered.files)?;
        let background = config.background;
        let inner = Arc::new(Inner { shared, table, machines, config, checkpointed: Mutex::default() });
        let log = Arc::new(Self {
            inner: Arc::clone(&inner),
            signal: Arc::clone(&signal),
            frames_replayed: recovered.frames,
            sync_thread: Mutex::new(Some(sync_thread)),
            background_thread: Mutex::new(None),
        });
        if background {
            let thread = std::thread::Builder::new()
                .name("log-background".to_owned())
                .spawn(move || background::run(&inner, &signal))
                .map_err(|error| Error::io("start a thread for", dir, error))?;
            *log.background_thread.lock() = Some(thread);
        }
        tracing::info!(
            dir = %dir.display(),
            leader_epoch,
            frames_replayed = log.frames_replayed,
            topics = log.inner.table.load().len(),
            "log opened"
        );
        Ok(log)
    }

    /// The leader epoch of this start: larger than at any start before, from 1.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.inner.shared.leader_epoch
    }

    /// A partition, or None where the topic or index doesn't exist. Takes no lock.
    #[must_use]
    pub fn partition(&self, topic_id: Uuid, partition: i32) -> Option<Arc<Partition>> {
        self.inner.table.partition(topic_id, partition)
    }

    /// The topics that have partitions, and how many, in no order.
    #[must_use]
    pub fn topics(&self) -> Vec<(Uuid, usize)> {
        self.inner.table.load().iter().map(|(topic_id, topic)| (*topic_id, topic.partitions.len())).collect()
    }

    /// Queues a frame with one entry. Never blocks and is never refused, so that coordinators need no way back: a log that
    /// failed shows in [`Log::synced`]. The caller bounds how many entries it has under way.
    pub fn entry(&self, machine: u8, bytes: &[u8]) -> Position {
        let wal = &self.inner.shared.wal;
        if bytes.len() > MAX_FRAME_BYTES / 2 {
            // Recovery reads no frame above its limit: better to stop than to acknowledge what can't be read back.
            let value = bytes.len().to_string();
            wal.fail(&Error::Config { field: "entry", value, rule: "an entry must have at most 512 MiB" });
        }
        let mut frame = FrameBuf::with_capacity(bytes.len() + 8);
        frame.entry(machine, bytes);
        wal.enqueue(frame, Vec::new())
    }

    /// Starts a frame of several ops.
    pub fn frame(&self) -> FrameBuilder<'_> {
        FrameBuilder::new(self)
    }

    /// Returns when everything up to `position` is durable (with [`Flush::Os`]: written).
    ///
    /// # Errors
    /// The log failed (and is read-only from then on) or was closed.
    pub async fn synced(&self, position: Position) -> Result<(), Error> {
        self.inner.shared.wal.synced(position).await
    }

    /// As [`Log::synced`], for a thread without a runtime.
    ///
    /// # Errors
    /// As [`Log::synced`].
    pub fn wait_synced(&self, position: Position) -> Result<(), Error> {
        wal::block_on(self.inner.shared.wal.synced(position))
    }

    /// Returns when appends are accepted: await it before one, and again on [`AppendError::Busy`].
    ///
    /// # Errors
    /// The log failed or was closed.
    pub async fn room(&self) -> Result<(), Error> {
        self.inner.shared.wal.room().await
    }

    /// Why nothing is accepted, if so: for good (`ReadOnly` with its reason, `Closed`), or while the disk is `Full`.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        let wal = &self.inner.shared.wal;
        wal.halted().or_else(|| wal.full())
    }

    /// What a read of stored records failed with lately: within [`READ_FAILURE_SHOWN`].
    #[must_use]
    pub fn read_failure(&self) -> Option<Error> {
        let last = self.inner.shared.read_failure.lock();
        last.as_ref().filter(|(at, _)| at.elapsed() < READ_FAILURE_SHOWN).map(|(_, error)| error.clone())
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        Stats {
            wal_bytes: shared.wal.total_bytes(),
            queued_bytes: shared.wal.queued_bytes(),
            syncs_total: shared.wal.syncs(),
            frames_total: shared.wal.visible().0,
            files_open: shared.files.open_count(),
            frames_replayed: self.frames_replayed,
        }
    }

    /// Syncs segments, stores all state, drops the write-ahead log before it. Blocking; the background thread calls it.
    ///
    /// # Errors
    /// The disk failed. Where that was a sync of durable data, the log is read-only; else the next try may succeed.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.inner.checkpoint()
    }

    /// Applies retention and forgets idle producer ids, in all partitions. Blocking; the background thread calls it.
    /// Whether segments went (their files go with the next checkpoint).
    pub fn retain(&self) -> bool {
        self.inner.retain()
    }

    /// Refuses appends, syncs what is queued, makes a checkpoint and stops the threads. Blocking.
    ///
    /// # Errors
    /// The disk failed: what was acknowledged is still safe, the next start replays more.
    pub fn close(&self) -> Result<(), Error> {
        if matches!(self.failure(), Some(Error::Closed)) {
            return Ok(());
        }
        self.inner.shared.wal.refuse();
        self.stop_background();
        let made = self.inner.checkpoint();
        self.stop_sync();
        made
    }

    fn stop_background(&self) {
        self.signal.stop();
        let thread = self.background_thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's background thread panicked");
        }
    }

    fn stop_sync(&self) {
        self.inner.shared.wal.close();
        let thread = self.sync_thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the write-ahead log's thread panicked");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A checkpoint may wait for a disk that is full.
        self.inner.shared.wal.refuse();
        self.stop_background();
        self.stop_sync();
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("dir", &self.inner.shared.dir).field("stats", &self.stats()).finish()
    }
}
