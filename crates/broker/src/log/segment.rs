//! A segment: a file of record batches, one after the other, and nothing else. Invariant: bytes below `size` are whole
//! batches and never change; bytes from there on may be anything and are never read.
//!
//! Segment files are named by their first offset. They are opened when needed; [`Files`] keeps the number of open ones
//! within its limit over all partitions.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::batch::{HEADER_BYTES, Header};
use super::disk::{Disk, DiskFile, Open};
use super::error::Error;
use super::index::{Entry, Index};

/// Read at once where headers are walked.
const SCAN_BYTES: usize = 64 << 10;
/// No segment is larger: its index has positions of 32 bits.
pub(super) const SEGMENT_BYTES_MAX: u64 = u32::MAX as u64;

/// The open segment files of all partitions.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    open_max: usize,
    /// Counts uses; a segment's last one says which is the least recently used.
    uses: AtomicU64,
    /// Taken only to open a file, never to use an open one.
    open: Mutex<Vec<Weak<Segment>>>,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self { disk, open_max, uses: AtomicU64::new(0), open: Mutex::new(Vec::new()) }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.lock().iter().filter(|segment| segment.strong_count() > 0).count()
    }

    /// Counts `opened` among the open ones, and closes others while there are too many.
    fn opened(&self, opened: &Arc<Segment>) {
        let mut open = self.open.lock();
        open.push(Arc::downgrade(opened));
        if open.len() <= self.open_max {
            return;
        }
        open.retain(|segment| segment.strong_count() > 0);
        while open.len() > self.open_max {
            let least = open
                .iter()
                .enumerate()
                .filter_map(|(at, segment)| Some((at, segment.upgrade()?)))
                .filter(|(_, segment)| !Arc::ptr_eq(segment, opened))
                .min_by_key(|(_, segment)| segment.used.load(Ordering::Relaxed));
            let Some((at, segment)) = least else { break };
            open.swap_remove(at);
            segment.close();
        }
    }
}

/// What a checkpoint stores of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentState {
    pub(super) base_offset: i64,
    pub(super) size: u64,
    /// Greatest timestamp of its batches but markers, ms; `i64::MIN` before the first.
    pub(super) max_timestamp: i64,
    /// Base offset of the batch that has it.
    pub(super) max_timestamp_offset: i64,
    /// When its first batch was appended, ms.
    pub(super) created_ms: i64,
}

pub(super) struct Segment {
    pub(super) base_offset: i64,
    pub(super) created_ms: i64,
    path: PathBuf,
    index_path: PathBuf,
    size: AtomicU64,
    max_timestamp: AtomicI64,
    max_timestamp_offset: AtomicI64,
    /// There is no file yet.
    fresh: AtomicBool,
    /// Has bytes below `size` that no checkpoint synced. Changed under the partition's state lock only.
    dirty: AtomicBool,
    /// No checkpoint synced its directory.
    unnamed: AtomicBool,
    used: AtomicU64,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// None: not loaded.
    index: Mutex<Option<Index>>,
    /// The index file can be trusted about so many bytes of the segment: those that were there at the start, or when this
    /// process stored it.
    trusted: AtomicU64,
}

/// A segment's file name; names sort as their offsets.
pub(super) fn file_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

fn index_name(base_offset: i64) -> String {
    format!("{base_offset:020}.index")
}

impl Segment {
    /// A segment that has no file yet.
    pub(super) fn create(dir: &Path, base_offset: i64, created_ms: i64) -> Arc<Self> {
        let empty = SegmentState {
            base_offset,
            size: 0,
            max_timestamp: i64::MIN,
            max_timestamp_offset: base_offset,
            created_ms,
        };
        Self::with_state(dir, empty, true)
    }

    /// A segment of which a checkpoint tells.
    pub(super) fn restore(dir: &Path, state: SegmentState) -> Arc<Self> {
        Self::with_state(dir, state, false)
    }

    fn with_state(dir: &Path, state: SegmentState, fresh: bool) -> Arc<Self> {
        let SegmentState { base_offset, size, max_timestamp, max_timestamp_offset, created_ms } = state;
        Arc::new(Self {
            base_offset,
            created_ms,
            path: dir.join(file_name(base_offset)),
            index_path: dir.join(index_name(base_offset)),
            size: AtomicU64::new(size),
            max_timestamp: AtomicI64::new(max_timestamp),
            max_timestamp_offset: AtomicI64::new(max_timestamp_offset),
            fresh: AtomicBool::new(fresh),
            dirty: AtomicBool::new(false),
            unnamed: AtomicBool::new(fresh),
            used: AtomicU64::new(0),
            file: Mutex::new(None),
            index: Mutex::new(fresh.then(Index::default)),
            trusted: AtomicU64::new(size),
        })
    }

    pub(super) fn state(&self) -> SegmentState {
        SegmentState {
            base_offset: self.base_offset,
            size: self.size(),
            max_timestamp: self.max_timestamp(),
            max_timestamp_offset: self.max_timestamp_offset.load(Ordering::Acquire),
            created_ms: self.created_ms,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The files that are the segment.
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.path.clone(), self.index_path.clone()]
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::AcqRel)
    }

    fn file(self: &Arc<Self>, files: &Files) -> Result<Arc<dyn DiskFile>, Error> {
        self.used.store(files.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let opened = {
            let mut file = self.file.lock();
            if let Some(file) = &*file {
                return Ok(Arc::clone(file));
            }
            let how = if self.fresh.load(Ordering::Acquire) { Open::Empty } else { Open::Existing };
            let opened =
                files.disk.open(&self.path, how).map_err(|error| Error::io("open", &self.path, error))?;
            self.fresh.store(false, Ordering::Release);
            *file = Some(Arc::clone(&opened));
            opened
        };
        files.opened(self);
        Ok(opened)
    }

    fn close(&self) {
        *self.file.lock() = None;
        // Who holds an index's lock may wait for the lock that the caller holds: so never wait for it here.
        let Some(mut index) = self.index.try_lock() else { return };
        if self.trusted.load(Ordering::Acquire) == self.size() && index.as_ref().is_some_and(Index::is_stored)
        {
            *index = None;
        }
    }

    /// Writes a batch behind the last; it is part of the segment with [`Segment::accept`].
    pub(super) fn write(self: &Arc<Self>, files: &Files, batch: &[u8]) -> Result<(), Error> {
        if self.fresh.load(Ordering::Acquire)
            && let Some(dir) = self.path.parent()
        {
            files.disk.create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
        }
        self.ensure_index(files)?;
        let file = self.file(files)?;
        file.write_at(batch, self.size()).map_err(|error| Error::io("write", &self.path, error))
    }

    /// Takes in a batch that was written. Called under the partition's state lock, so that what a checkpoint sees as the size is
    /// covered by the sync that follows.
    pub(super) fn accept(&self, header: &Header, interval: u32) {
        let at = self.size();
        let max_timestamp = self.max_timestamp();
        {
            let mut index = self.index.lock();
            if let Some(index) = index.as_mut() {
                let last = index.last().map_or(0, |entry| u64::from(entry.position));
                if at >= last + u64::from(interval) {
                    index.push(self.entry(header.base_offset, at, max_timestamp));
                }
            }
        }
        if header.max_timestamp > max_timestamp && !header.is_control() {
            self.max_timestamp_offset.store(header.base_offset, Ordering::Release);
            self.max_timestamp.store(header.max_timestamp, Ordering::Release);
        }
        self.dirty.store(true, Ordering::Release);
        self.size.store(at + header.size as u64, Ordering::Release);
    }

    fn entry(&self, offset: i64, position: u64, max_timestamp: i64) -> Entry {
        // Segments roll before either passes 32 bits.
        Entry {
            offset_delta: u32::try_from(offset - self.base_offset).unwrap_or(u32::MAX),
            position: u32::try_from(position).unwrap_or(u32::MAX),
            max_timestamp,
        }
    }

    fn ensure_index(self: &Arc<Self>, files: &Files) -> Result<(), Error> {
        let mut index = self.index.lock();
        if index.is_some() {
            return Ok(());
        }
        let mut loaded = Index::load(&*files.disk, &self.index_path, self.trusted.load(Ordering::Acquire))?;
        let from = loaded.last();
        let sound = match from {
            None => true,
            Some(entry) => {
                let at = u64::from(entry.position);
                let header = self.header_at(files, at)?;
                header.is_some_and(|header| {
                    header.base_offset == self.base_offset + i64::from(entry.offset_delta)
                })
            }
        };
        if !sound {
            tracing::warn!(path = %self.index_path.display(), "index doesn't match its segment, built anew");
            loaded = Index::default();
        }
        self.complete(files, &mut loaded)?;
        *index = Some(loaded);
        Ok(())
    }

    /// Adds entries for the part of the segment behind the index's last entry.
    fn complete(self: &Arc<Self>, files: &Files, index: &mut Index) -> Result<(), Error> {
        const INTERVAL: u64 = 16 << 10;
        let from = index.last();
        let (mut last, mut max_timestamp) =
            from.map_or((0, i64::MIN), |entry| (u64::from(entry.position), entry.max_timestamp));
        if self.size() < last + 2 * INTERVAL {
            return Ok(());
        }
        self.walk(files, last, |header, at| {
            if at >= last + INTERVAL {
                index.push(self.entry(header.base_offset, at, max_timestamp));
                last = at;
            }
            if !header.is_control() {
                max_timestamp = max_timestamp.max(header.max_timestamp);
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    fn header_at(self: &Arc<Self>, files: &Files, at: u64) -> Result<Option<Header>, Error> {
        let mut bytes = [0; HEADER_BYTES];
        if at + HEADER_BYTES as u64 > self.size() {
            return Ok(None);
        }
        self.read_exact(files, &mut bytes, at)?;
        Ok(Header::peek(&bytes))
    }

    fn read_exact(self: &Arc<Self>, files: &Files, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        let read =
            self.file(files)?.read_at(buffer, at).map_err(|error| Error::io("read", &self.path, error))?;
        if read < buffer.len() {
            let end = at + buffer.len() as u64;
            return Err(Error::corrupt(
                &self.path,
                format!("it ends at byte {}, needed {end}", at + read as u64),
            ));
        }
        Ok(())
    }

    /// Visits the headers of the batches from position `from` on, which is a batch's start, until told to stop.
    pub(super) fn walk<B>(
        self: &Arc<Self>,
        files: &Files,
        from: u64,
        mut visit: impl FnMut(&Header, u64) -> ControlFlow<B>,
    ) -> Result<Option<B>, Error> {
        let size = self.size();
        let mut at = from;
        let mut buffer = Vec::new();
        let mut buffer_at = 0;
        while at < size {
            let inside = usize::try_from(at - buffer_at).ok().and_then(|start| buffer.get(start..));
            let enough = inside.filter(|bytes| bytes.len() >= HEADER_BYTES);
            let bytes = match enough {
                Some(bytes) => bytes,
                None => {
                    let length = (size - at).min(SCAN_BYTES as u64);
                    buffer.resize(usize::try_from(length).unwrap_or(SCAN_BYTES), 0);
                    self.read_exact(files, &mut buffer, at)?;
                    buffer_at = at;
                    &buffer[..]
                }
            };
            let header = self.check(Header::peek(bytes), at, size)?;
            if let ControlFlow::Break(value) = visit(&header, at) {
                return Ok(Some(value));
            }
            at += header.size as u64;
        }
        Ok(None)
    }

    fn check(&self, header: Option<Header>, at: u64, size: u64) -> Result<Header, Error> {
        header
            .filter(|header| header.base_offset >= self.base_offset && at + header.size as u64 <= size)
            .ok_or_else(|| Error::corrupt(&self.path, format!("no record batch at byte {at}")))
    }

    /// The first batch that ends at or after `offset`, and those that follow it, as far as they start before `limit` and fit:
    /// empty where the first one doesn't. None: no batch of this segment ends there, the next segment is to be asked.
    pub(super) fn read(
        self: &Arc<Self>,
        files: &Files,
        offset: i64,
        limit: i64,
        bytes_max: usize,
        min_one: bool,
    ) -> Result<Option<Bytes>, Error> {
        let size = self.size();
        let found = self.walk(files, self.position_before(files, offset)?, |header, at| {
            if header.base_offset >= limit {
                ControlFlow::Break(None)
            } else if header.last_offset() >= offset {
                ControlFlow::Break(Some((*header, at)))
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let Some(found) = found else { return Ok(None) };
        let Some((first, at)) = found.filter(|(first, _)| first.size <= bytes_max || min_one) else {
            return Ok(Some(Bytes::new()));
        };
        let wanted = bytes_max.max(first.size) as u64;
        let mut buffer = vec![0; usize::try_from(wanted.min(size - at)).unwrap_or(0)];
        self.read_exact(files, &mut buffer, at)?;
        let mut end = 0;
        while let Some(header) = Header::peek(&buffer[end..]) {
            if header.base_offset >= limit || end + header.size > buffer.len() {
                break;
            }
            end += header.size;
        }
        if end == 0 {
            return Err(Error::corrupt(&self.path, format!("no record batch at byte {at}")));
        }
        buffer.truncate(end);
        Ok(Some(buffer.into()))
    }

    fn position_before(self: &Arc<Self>, files: &Files, offset: i64) -> Result<u64, Error> {
        let delta = u32::try_from((offset - self.base_offset).max(0)).unwrap_or(u32::MAX);
        self.ensure_index(files)?;
        let index = self.index.lock();
        Ok(index
            .as_ref()
            .and_then(|index| index.before_offset(delta))
            .map_or(0, |entry| entry.position.into()))
    }

    /// The first batch, from `start` on and before `limit`, with a timestamp of at least `timestamp`.
    pub(super) fn find_timestamp(
        self: &Arc<Self>,
        files: &Files,
        timestamp: i64,
        start: i64,
        limit: i64,
    ) -> Result<Option<(Header, u64)>, Error> {
        if self.max_timestamp() < timestamp {
            return Ok(None);
        }
        self.ensure_index(files)?;
        let from = {
            let index = self.index.lock();
            index
                .as_ref()
                .and_then(|index| index.before_timestamp(timestamp))
                .map_or(0, |entry| entry.position.into())
        };
        let found = self.walk(files, from, |header, at| {
            if header.base_offset >= limit {
                ControlFlow::Break(None)
            } else if header.max_timestamp >= timestamp
                && header.last_offset() >= start
                && !header.is_control()
            {
                ControlFlow::Break(Some((*header, at)))
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok(found.flatten())
    }

    /// The whole batch of a header that [`Segment::walk`] visited.
    pub(super) fn batch_at(
        self: &Arc<Self>,
        files: &Files,
        header: &Header,
        at: u64,
    ) -> Result<Bytes, Error> {
        let mut buffer = vec![0; header.size];
        self.read_exact(files, &mut buffer, at)?;
        Ok(buffer.into())
    }

    /// Its bytes aren't synced after all.
    pub(super) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Opens the file for a sync: what can fail without harm.
    pub(super) fn open(self: &Arc<Self>, files: &Files) -> Result<(), Error> {
        self.file(files).map(drop)
    }

    /// Makes the segment's bytes durable, and adds to its index file. After an error their fate is unknown for good.
    pub(super) fn sync(self: &Arc<Self>, files: &Files) -> Result<(), Error> {
        self.file(files)?.sync().map_err(|error| Error::io("sync", &self.path, error))?;
        if let Some(index) = self.index.lock().as_mut() {
            let size = self.size();
            match index.store(&*files.disk, &self.index_path) {
                Ok(()) => self.trusted.store(size, Ordering::Release),
                // The index is a hint: it is stored the next time, or built anew.
                Err(error) => tracing::warn!(error = %super::wal::report(&error), "failed to store an index"),
            }
        }
        Ok(())
    }

    /// Whether the file's name was synced; it counts as synced from here on.
    pub(super) fn take_unnamed(&self) -> bool {
        self.unnamed.swap(false, Ordering::AcqRel)
    }

    /// Cuts the file back to what the checkpoint had of it.
    pub(super) fn recover(self: &Arc<Self>, files: &Files) -> Result<(), Error> {
        let file = self.file(files)?;
        let size = self.size();
        let length = file.len().map_err(|error| Error::io("read", &self.path, error))?;
        if length < size {
            let what = format!("{length} bytes, of which {size} were synced once");
            return Err(Error::corrupt(&self.path, what));
        }
        if length > size {
            file.truncate(size).map_err(|error| Error::io("truncate", &self.path, error))?;
        }
        Ok(())
    }
}
