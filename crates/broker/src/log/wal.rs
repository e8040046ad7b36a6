//! The shared write-ahead log: a queue of frames, and the thread that writes and syncs it. Invariant: the visible position
//! moves only after a sync that covers it succeeded (with [`Flush::Os`]: after the write), and never again after a failure.
//!
//! Group commit: while one group is being synced, appenders queue the next; there is no artificial delay. All that
//! appenders share is the queue's lock, held for a push.
//!
//! A file: `VLTVAWAL` | format version u32 | leader epoch i32 | sequence u64 | first position u64 | CRC-32C u32, then
//! frames. A file is left only after its last frame is synced, and the next file's header and name are synced before its
//! first frame: so only the last file can have a torn end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use runtime::kill_points::{self, Point};
use tokio::sync::{Notify, watch};

use super::Position;
use super::codec::{Put, Reader};
use super::config::{Config, Flush};
use super::disk::{Disk, DiskFile, Open};
use super::error::{AppendError, Error};
use super::frame::FrameBuf;

pub(super) const WAL_FORMAT: u32 = 1;
pub(super) const WAL_HEADER_BYTES: usize = 36;
const WAL_MAGIC: &[u8; 8] = b"VLTVAWAL";
/// With [`Flush::Os`], what was written is synced at least this often.
const OS_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// While the disk is full, the write that failed is tried again this often.
const FULL_RETRY: Duration = Duration::from_millis(500);

/// Who hears that its frames are visible now. Called by the thread of the log; must not block on I/O.
pub(super) trait Advance: Send + Sync {
    fn advance(&self, visible: Position);
}

struct Queued {
    frame: FrameBuf,
    position: u64,
    touched: Vec<Arc<dyn Advance>>,
}

struct Queue {
    frames: VecDeque<Queued>,
    /// Position of the frame queued last.
    tail: u64,
    /// No frame is taken any more; what is queued is still written.
    closed: bool,
    /// Someone waits for a sync that [`Flush::Os`] would not make now.
    sync_wanted: bool,
}

#[derive(Clone)]
struct Progress {
    visible: u64,
    durable: u64,
    halted: Option<Error>,
    /// The disk is full: nothing new is accepted, and what is queued waits.
    full: Option<Error>,
}

/// A file of the log, oldest first in [`Wal::files`].
#[derive(Debug, Clone)]
pub(super) struct WalFile {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) first: u64,
    pub(super) bytes: u64,
}

pub(super) struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    leader_epoch: i32,
    flush: Flush,
    file_bytes: u64,
    group_bytes_max: usize,
    queue_bytes_max: usize,
    frame_bytes_max: usize,
    /// Above it appends wait for a checkpoint.
    total_bytes_hard: u64,
    queue: Mutex<Queue>,
    work: Condvar,
    progress: watch::Sender<Progress>,
    room: Notify,
    queued_bytes: AtomicUsize,
    total_bytes: AtomicU64,
    halted: AtomicBool,
    full: AtomicBool,
    refusing: AtomicBool,
    files: Mutex<Vec<WalFile>>,
    syncs: AtomicU64,
    /// Called when the files have grown by a group.
    grown: Box<dyn Fn(u64) + Send + Sync>,
}

struct Writer {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    sequence: u64,
    offset: u64,
    synced: Instant,
}

pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

pub(super) fn file_sequence(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?, 16).ok()
}

fn header(leader_epoch: i32, sequence: u64, first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(WAL_HEADER_BYTES);
    out.extend_from_slice(WAL_MAGIC);
    out.put_u32(WAL_FORMAT);
    out.put_i32(leader_epoch);
    out.put_u64(sequence);
    out.put_u64(first);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out
}

/// What a file's header says.
pub(super) struct FileHeader {
    pub(super) leader_epoch: i32,
    pub(super) first: u64,
}

/// Reads a file's header; None where it isn't whole (a file whose making a crash interrupted).
pub(super) fn read_header(path: &Path, sequence: u64, bytes: &[u8]) -> Result<Option<FileHeader>, Error> {
    let Some(covered) = bytes.get(..WAL_HEADER_BYTES - 4) else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    let magic = reader.take(WAL_MAGIC.len());
    let version = reader.u32();
    let fields = (reader.i32(), reader.u64(), reader.u64(), reader.u32());
    let (Some(leader_epoch), Some(found), Some(first), Some(crc)) = fields else { return Ok(None) };
    if magic != Some(WAL_MAGIC) {
        return Ok(None);
    }
    if let Some(found) = version.filter(|version| *version > WAL_FORMAT) {
        return Err(Error::NewerFormat { path: path.to_path_buf(), found, known: WAL_FORMAT });
    }
    if crc != crc32c::crc32c(covered) {
        return Ok(None);
    }
    if found != sequence {
        return Err(Error::corrupt(path, format!("its header says sequence {found}, its name {sequence}")));
    }
    Ok(Some(FileHeader { leader_epoch, first }))
}

impl Wal {
    /// A log that isn't running yet.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        leader_epoch: i32,
        config: &Config,
        grown: Box<dyn Fn(u64) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            dir,
            leader_epoch,
            flush: config.flush,
            file_bytes: config.wal_file_bytes,
            group_bytes_max: config.group_bytes_max,
            queue_bytes_max: config.queue_bytes_max,
            frame_bytes_max: config.frame_bytes_max,
            total_bytes_hard: config.wal_bytes_max.saturating_mul(2),
            queue: Mutex::new(Queue { frames: VecDeque::new(), tail: 0, closed: false, sync_wanted: false }),
            work: Condvar::new(),
            progress: watch::channel(Progress { visible: 0, durable: 0, halted: None, full: None }).0,
            room: Notify::new(),
            queued_bytes: AtomicUsize::new(0),
            total_bytes: AtomicU64::new(0),
            halted: AtomicBool::new(false),
            full: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            files: Mutex::new(Vec::new()),
            syncs: AtomicU64::new(0),
            grown,
        })
    }

    /// Starts a new file after `tail`, and the thread that writes it. `old` are the files that recovery read.
    pub(super) fn start(self: &Arc<Self>, tail: u64, old: Vec<WalFile>) -> Result<JoinHandle<()>, Error> {
        let sequence = old.last().map_or(1, |file| file.sequence + 1);
        self.total_bytes.store(old.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        *self.files.lock() = old;
        self.queue.lock().tail = tail;
        self.progress.send_modify(|progress| {
            progress.visible = tail;
            progress.durable = tail;
        });
        let writer = self.create_file(sequence, tail + 1)?;
        let wal = Arc::clone(self);
        std::thread::Builder::new()
            .name("log-sync".to_owned())
            .spawn(move || wal.run(writer))
            .map_err(|error| Error::io("start a thread for", &self.dir, error))
    }

    fn create_file(&self, sequence: u64, first: u64) -> Result<Writer, Error> {
        let path = self.dir.join(file_name(sequence));
        let file = self.disk.open(&path, Open::Empty).map_err(|error| Error::io("create", &path, error))?;
        file.write_at(&header(self.leader_epoch, sequence, first), 0)
            .map_err(|error| Error::io("write", &path, error))?;
        file.sync().map_err(|error| Error::io("sync", &path, error))?;
        self.disk.sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))?;
        let offset = WAL_HEADER_BYTES as u64;
        self.files.lock().push(WalFile { sequence, path: path.clone(), first, bytes: offset });
        self.total_bytes.fetch_add(offset, Ordering::Relaxed);
        Ok(Writer { file, path, sequence, offset, synced: Instant::now() })
    }

    /// Whether an append may be queued now. Checked before anything is written; entries are always taken.
    pub(super) fn admit(&self, frame_bytes: usize) -> Result<(), AppendError> {
        if self.halted.load(Ordering::Acquire) || self.refusing.load(Ordering::Acquire) {
            return Err(AppendError::Storage(self.halted().unwrap_or(Error::Closed)));
        }
        if self.full.load(Ordering::Acquire)
            && let Some(error) = self.full()
        {
            return Err(AppendError::Storage(error));
        }
        if frame_bytes > self.frame_bytes_max {
            return Err(AppendError::FrameTooLarge { bytes: frame_bytes, max: self.frame_bytes_max });
        }
        if self.has_room() { Ok(()) } else { Err(AppendError::Busy) }
    }

    fn has_room(&self) -> bool {
        self.queued_bytes.load(Ordering::Relaxed) < self.queue_bytes_max
            && self.total_bytes.load(Ordering::Relaxed) < self.total_bytes_hard
    }

    pub(super) async fn room(&self) -> Result<(), Error> {
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(error) = self.halted() {
                return Err(error);
            }
            if self.refusing.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            if let Some(error) = self.full() {
                return Err(error);
            }
            if self.has_room() {
                return Ok(());
            }
            notified.await;
        }
    }

    /// Queues a frame. Callers hold the locks of what it is about, so that the order here is the order there. After a
    /// failure or close the frame goes nowhere, and its position never becomes visible.
    pub(super) fn enqueue(&self, mut frame: FrameBuf, touched: Vec<Arc<dyn Advance>>) -> Position {
        frame.seal();
        let bytes = frame.len();
        let mut queue = self.queue.lock();
        queue.tail += 1;
        let position = queue.tail;
        if !queue.closed && !self.halted.load(Ordering::Acquire) {
            self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            queue.frames.push_back(Queued { frame, position, touched });
            if queue.frames.len() == 1 {
                self.work.notify_one();
            }
        }
        Position(position)
    }

    /// Position of the frame queued last.
    pub(super) fn tail(&self) -> Position {
        Position(self.queue.lock().tail)
    }

    pub(super) fn visible(&self) -> Position {
        Position(self.progress.borrow().visible)
    }

    pub(super) fn halted(&self) -> Option<Error> {
        self.progress.borrow().halted.clone()
    }

    /// Why nothing is accepted for now, if the disk is full.
    pub(super) fn full(&self) -> Option<Error> {
        self.progress.borrow().full.clone()
    }

    pub(super) async fn synced(&self, position: Position) -> Result<(), Error> {
        self.reached(|progress| progress.visible >= position.0).await
    }

    /// As [`Wal::synced`], but never satisfied by a mere write.
    pub(super) async fn durable(&self, position: Position) -> Result<(), Error> {
        {
            let mut queue = self.queue.lock();
            queue.sync_wanted = true;
            self.work.notify_one();
        }
        self.reached(|progress| progress.durable >= position.0).await
    }

    async fn reached(&self, done: impl Fn(&Progress) -> bool) -> Result<(), Error> {
        let mut receiver = self.progress.subscribe();
        let progress = receiver.wait_for(|progress| done(progress) || progress.halted.is_some()).await;
        // The sender lives in self: the channel can't close while this runs.
        let Ok(progress) = progress else { return Err(Error::Closed) };
        if done(&progress) { Ok(()) } else { Err(progress.halted.clone().unwrap_or(Error::Closed)) }
    }

    /// Refuses appends from now on, with `Closed`.
    pub(super) fn refuse(&self) {
        self.refusing.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Takes no more frames; the thread ends when what is queued is written.
    pub(super) fn close(&self) {
        self.refuse();
        self.queue.lock().closed = true;
        self.work.notify_one();
    }

    /// The log is read-only from here on.
    pub(super) fn fail(&self, error: &Error) {
        let reason: Arc<str> = report(error).into();
        tracing::error!(%reason, "the log is read-only: nothing is accepted until the process starts again");
        self.halt(Error::ReadOnly { reason });
    }

    fn halt(&self, error: Error) {
        let dropped = {
            let mut queue = self.queue.lock();
            self.halted.store(true, Ordering::Release);
            queue.closed = true;
            std::mem::take(&mut queue.frames)
        };
        drop(dropped);
        self.progress.send_modify(|progress| {
            progress.halted.get_or_insert(error);
        });
        self.room.notify_waiters();
        self.work.notify_one();
    }

    fn run(self: Arc<Self>, mut writer: Writer) {
        let mut group = Vec::new();
        let mut touched: Vec<Arc<dyn Advance>> = Vec::new();
        while let Some(last) = self.take_group(&mut group, &mut touched, &writer) {
            if let Err(error) = self.write_patiently(&mut writer, &group, last, &mut touched) {
                self.fail(&error);
                break;
            }
            // One huge frame must not keep its memory for ever.
            group.clear();
            group.shrink_to(self.group_bytes_max);
        }
        self.halt(Error::Closed);
        tracing::debug!("the write-ahead log's thread ended");
    }

    /// Writes a group, and waits where the disk is full: a write that was refused for want of space has promised nothing, so
    /// that it can be made again at the same place. Whatever else fails, a sync above all, is final.
    fn write_patiently(
        &self,
        writer: &mut Writer,
        group: &[u8],
        last: u64,
        touched: &mut Vec<Arc<dyn Advance>>,
    ) -> Result<(), Error> {
        loop {
            let error = match self.write_group(writer, group, last, touched) {
                Err(error) if error.is_write_without_space() => error,
                ended => {
                    // A failure is said as what it is.
                    self.has_space();
                    return ended;
                }
            };
            if !self.full.swap(true, Ordering::AcqRel) {
                let reason: Arc<str> = report(&error).into();
                tracing::error!(%reason, "the disk of the log is full: nothing is accepted until it has space");
                self.progress.send_modify(|progress| progress.full = Some(Error::Full { reason }));
                // Who waits for room is told, too.
                self.room.notify_waiters();
            }
            let mut queue = self.queue.lock();
            if queue.closed || self.refusing.load(Ordering::Acquire) {
                return Err(error);
            }
            self.work.wait_for(&mut queue, FULL_RETRY);
        }
    }

    /// Ends what a full disk began.
    fn has_space(&self) {
        if self.full.swap(false, Ordering::AcqRel) {
            self.progress.send_modify(|progress| progress.full = None);
            self.room.notify_waiters();
            tracing::info!("the disk of the log isn't full any more");
        }
    }

    /// Waits for frames and moves a group of them into `group`; its last position. None: closed and all is written.
    fn take_group(
        &self,
        group: &mut Vec<u8>,
        touched: &mut Vec<Arc<dyn Advance>>,
        writer: &Writer,
    ) -> Option<u64> {
        let mut queue = self.queue.lock();
        loop {
            if self.halted.load(Ordering::Acquire) {
                return None;
            }
            if !queue.frames.is_empty() {
                break;
            }
            let progress = self.progress.borrow().clone();
            let behind = progress.durable < progress.visible;
            if behind && (queue.sync_wanted || writer.synced.elapsed() >= OS_SYNC_INTERVAL) {
                return Some(progress.visible);
            }
            queue.sync_wanted = false;
            if queue.closed {
                return if behind { Some(progress.visible) } else { None };
            }
            if behind {
                self.work.wait_for(&mut queue, OS_SYNC_INTERVAL);
            } else {
                self.work.wait(&mut queue);
            }
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = queue.frames.front() {
            if bytes > 0 && bytes + next.frame.len() > self.group_bytes_max {
                break;
            }
            bytes += next.frame.len();
            taken.extend(queue.frames.pop_front());
        }
        drop(queue);
        let mut last = 0;
        group.reserve(bytes);
        for Queued { frame, position, touched: partitions } in taken {
            group.extend_from_slice(&frame.place(position));
            touched.extend(partitions);
            last = position;
        }
        Some(last)
    }

    fn write_group(
        &self,
        writer: &mut Writer,
        group: &[u8],
        last: u64,
        touched: &mut Vec<Arc<dyn Advance>>,
    ) -> Result<(), Error> {
        if !group.is_empty() {
            if writer.offset >= self.file_bytes {
                // With Flush::Os the old file may have unsynced frames; a file is left synced.
                self.sync(writer)?;
                kill_points::pass(Point::WalRollBefore);
                let first = self.progress.borrow().visible + 1;
                *writer = self.create_file(writer.sequence + 1, first)?;
                kill_points::pass(Point::WalRollAfter);
            }
            kill_points::pass(Point::FrameBefore);
            writer
                .file
                .write_at(group, writer.offset)
                .map_err(|error| Error::io("write", &writer.path, error))?;
            writer.offset += group.len() as u64;
            kill_points::pass(Point::FrameWritten);
        }
        let wanted = std::mem::take(&mut self.queue.lock().sync_wanted);
        let sync = self.flush == Flush::Sync
            || wanted
            || group.is_empty()
            || writer.synced.elapsed() >= OS_SYNC_INTERVAL;
        if sync {
            self.sync(writer)?;
        }
        kill_points::pass(Point::FrameSynced);
        if let Some(file) = self.files.lock().last_mut() {
            file.bytes = writer.offset;
        }
        let total = self.total_bytes.fetch_add(group.len() as u64, Ordering::Relaxed) + group.len() as u64;
        self.queued_bytes.fetch_sub(group.len(), Ordering::Relaxed);
        // Before anybody is woken, who may append at once.
        self.has_space();
        // Partitions first: who is woken by the position finds the high watermark where it must be.
        for partition in touched.drain(..) {
            partition.advance(Position(last));
        }
        self.progress.send_modify(|progress| {
            progress.visible = last;
            if sync {
                progress.durable = last;
            }
        });
        self.room.notify_waiters();
        (self.grown)(total);
        Ok(())
    }

    fn sync(&self, writer: &mut Writer) -> Result<(), Error> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        writer.synced = Instant::now();
        writer.file.sync().map_err(|error| Error::io("sync", &writer.path, error))
    }

    /// Removes the files whose frames are all at or before `position`: a checkpoint has them.
    pub(super) fn drop_through(&self, position: Position) -> Result<(), Error> {
        let removed: Vec<WalFile> = {
            let mut files = self.files.lock();
            let keep = files
                .iter()
                .zip(files.iter().skip(1))
                .take_while(|(_, next)| next.first <= position.0 + 1)
                .count();
            files.drain(..keep).collect()
        };
        for file in removed {
            self.disk.remove(&file.path).map_err(|error| Error::io("remove", &file.path, error))?;
            self.total_bytes.fetch_sub(file.bytes, Ordering::Relaxed);
        }
        self.room.notify_waiters();
        Ok(())
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

/// The error and its causes, in one line.
pub(super) fn report(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

/// Runs a future of this module to its end on a thread of the log's own; none of them needs a runtime.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
