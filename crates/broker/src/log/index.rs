//! A segment's sparse index: where, roughly, an offset or a time is. Invariant: the index is a hint. Its entries carry their
//! own CRC and are held against the batch they point at; what is missing or wrong is built anew from the segment.
//!
//! One list serves both questions. Entry: "the batch at `position` starts at `base + offset_delta`; every batch before it has
//! timestamps up to `max_timestamp`". File: `VLTVAIDX` | format version u32 | 0 u32, then entries of 20 bytes: offset delta u32
//! | position u32 | max timestamp i64 | CRC-32C u32. Entries are added to the file by checkpoints, without a sync.

use std::path::Path;

use super::codec::{Put, Reader};
use super::disk::{Disk, Open};
use super::error::Error;

const MAGIC: &[u8; 8] = b"VLTVAIDX";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset_delta: u32,
    pub(super) position: u32,
    /// Of all batches before `position`.
    pub(super) max_timestamp: i64,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// So many of the entries are in the file.
    stored: usize,
}

impl Index {
    /// Reads the file as far as it can be trusted: entries whose CRC holds, in order, about the segment's first `trusted`
    /// bytes. What lies behind was written before a crash about bytes that are others now: it is cut off.
    pub(super) fn load(disk: &dyn Disk, path: &Path, trusted: u64) -> Result<Self, Error> {
        let file = match disk.open(path, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let length = file.len().map_err(|error| Error::io("read", path, error))?;
        // Entries are at least one batch apart: an index longer than its segment isn't one.
        if length > trusted.saturating_add(4096) {
            return Ok(Self::default());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
        bytes.truncate(read);
        let mut reader = Reader::new(&bytes);
        if reader.take(8) != Some(MAGIC) {
            return Ok(Self::default());
        }
        match reader.u32() {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => {
                return Err(Error::NewerFormat { path: path.to_path_buf(), found, known: FORMAT });
            }
            _ => return Ok(Self::default()),
        }
        let mut entries: Vec<Entry> = Vec::new();
        for raw in bytes.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(ENTRY_BYTES) {
            let mut reader = Reader::new(raw);
            let fields = (reader.u32(), reader.u32(), reader.i64(), reader.u32());
            let (Some(offset_delta), Some(position), Some(max_timestamp), Some(crc)) = fields else { break };
            let follows = entries
                .last()
                .is_none_or(|last| last.position < position && last.offset_delta < offset_delta);
            if crc != crc32c::crc32c(&raw[..16]) || !follows || u64::from(position) >= trusted {
                break;
            }
            entries.push(Entry { offset_delta, position, max_timestamp });
        }
        let stored = entries.len();
        let end = (HEADER_BYTES + stored * ENTRY_BYTES) as u64;
        if end < length {
            file.truncate(end).map_err(|error| Error::io("truncate", path, error))?;
        }
        Ok(Self { entries, stored })
    }

    /// Adds the entries that the file doesn't have yet.
    pub(super) fn store(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), Error> {
        if self.is_stored() {
            return Ok(());
        }
        let mut out = Vec::new();
        let (file, at) = if self.stored == 0 {
            out.extend_from_slice(MAGIC);
            out.put_u32(FORMAT);
            out.put_u32(0);
            (disk.open(path, Open::Empty), 0)
        } else {
            (disk.open(path, Open::Existing), HEADER_BYTES + self.stored * ENTRY_BYTES)
        };
        let file = file.map_err(|error| Error::io("open", path, error))?;
        for entry in &self.entries[self.stored..] {
            let start = out.len();
            out.put_u32(entry.offset_delta);
            out.put_u32(entry.position);
            out.put_i64(entry.max_timestamp);
            let crc = crc32c::crc32c(&out[start..]);
            out.put_u32(crc);
        }
        file.write_at(&out, at as u64).map_err(|error| Error::io("write", path, error))?;
        self.stored = self.entries.len();
        Ok(())
    }

    pub(super) fn is_stored(&self) -> bool {
        self.stored == self.entries.len()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(super) fn last(&self) -> Option<Entry> {
        self.entries.last().copied()
    }

    /// The last entry at or before an offset.
    pub(super) fn before_offset(&self, offset_delta: u32) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.offset_delta <= offset_delta);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    /// The last entry before which every timestamp is below `timestamp`.
    pub(super) fn before_timestamp(&self, timestamp: i64) -> Option<Entry> {
        let after = self.entries.partition_point(|entry| entry.max_timestamp < timestamp);
        after.checked_sub(1).map(|at| self.entries[at])
    }
}
