//! The checkpoint: everything that the write-ahead log says up to a position, in one file and in synced segments. Invariant:
//! the file never says what isn't durable, and nothing that it names is removed before the next one stands.
//!
//! It is fuzzy: partitions and machines are asked one after the other, each with the position up to which it has everything;
//! replay skips what each has. File: `VLTVCKPT` | format version u32 | body bytes u64 | CRC-32C of the body u32 | body:
//!
//! ```text
//! leader epoch i32 | position u64 | table position u64
//! topics:    count, each  id | configuration | partitions: count, each  index i32 | position u64 | start i64 | end i64
//!            | segments | leader epochs | producers (partition.rs, producers.rs)
//! machines:  count, each  id u8 | position u64 | snapshot
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime::kill_points::{self, Point};
use uuid::Uuid;

use super::codec::{Put, Reader};
use super::config::PartitionConfig;
use super::disk::{Disk, Open};
use super::error::Error;
use super::partition::{Doomed, Shared};
use super::segment::Segment;
use super::table::Table;
use super::wal::block_on;
use super::{Machine, Position};

/// The version of the whole layout of the directory but the write-ahead log and the indexes, which have their own.
pub(super) const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"VLTVCKPT";
const HEADER_BYTES: usize = 24;
const NAME: &str = "checkpoint";
const TEMPORARY: &str = "checkpoint.tmp";

/// Makes a checkpoint. Callers hold a lock that keeps it to one at a time. The position up to which it has everything.
pub(super) fn make(shared: &Shared, table: &Table, machines: &[Arc<dyn Machine>]) -> Result<Position, Error> {
    let wal = &shared.wal;
    kill_points::pass(Point::CheckpointBefore);
    let doomed = std::mem::take(&mut *shared.doomed.lock());
    let made = store(shared, table, machines);
    match made {
        Ok(position) => {
            kill_points::pass(Point::CheckpointRenamed);
            // From here on nothing names them; a crash before they are removed leaves strays, which opening removes.
            wal.drop_through(position)?;
            for gone in doomed {
                remove(shared.files.disk(), &gone)?;
            }
            kill_points::pass(Point::CheckpointAfter);
            Ok(position)
        }
        Err(error) => {
            shared.doomed.lock().extend(doomed);
            Err(error)
        }
    }
}

/// Removes a file or directory that may be gone already.
pub(super) fn remove(disk: &dyn Disk, doomed: &Doomed) -> Result<(), Error> {
    let removed = match doomed {
        Doomed::File(path) => disk.remove(path),
        Doomed::Dir(path) => disk.remove_dir_all(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", doomed.path(), error))
        }
        _ => Ok(()),
    }
}

fn store(shared: &Shared, table: &Table, machines: &[Arc<dyn Machine>]) -> Result<Position, Error> {
    let wal = &shared.wal;
    let position = wal.tail();
    let (topics, table_position) = table.snapshot();

    let mut body = Vec::new();
    body.put_i32(shared.leader_epoch);
    body.put_u64(position.0);
    body.put_u64(table_position);
    let mut dirty = Vec::new();
    body.put_count(topics.len());
    for (topic_id, topic) in topics.iter() {
        body.put_uuid(*topic_id);
        body.put_config(&topic.config);
        body.put_count(topic.partitions.len());
        for partition in &topic.partitions {
            let snapshot = partition.snapshot();
            body.put_bytes(&snapshot.bytes);
            dirty.extend(snapshot.dirty);
        }
    }
    body.put_count(machines.len());
    for machine in machines {
        let position = wal.tail();
        let snapshot = machine.snapshot();
        body.put_u8(machine.id());
        body.put_u64(position.0);
        body.put_bytes(&snapshot);
    }

    // The snapshots may hold what is queued only: it must be durable before the checkpoint says it.
    if let Err(error) = block_on(wal.durable(wal.tail())) {
        mark_dirty(&dirty);
        return Err(error);
    }
    sync_segments(shared, &dirty)?;
    kill_points::pass(Point::CheckpointSynced);
    write(shared.files.disk(), &shared.dir, &body)?;
    Ok(position)
}

fn mark_dirty(segments: &[Arc<Segment>]) {
    for segment in segments {
        segment.mark_dirty();
    }
}

fn sync_segments(shared: &Shared, dirty: &[Arc<Segment>]) -> Result<(), Error> {
    let mut dirs: BTreeSet<&Path> = BTreeSet::new();
    for (at, segment) in dirty.iter().enumerate() {
        if let Err(error) = segment.open(&shared.files) {
            mark_dirty(&dirty[at..]);
            return Err(error);
        }
        if let Err(error) = segment.sync(&shared.files) {
            shared.wal.fail(&error);
            return Err(error);
        }
        if segment.take_unnamed() {
            // The partition's directory, the topic's, and `topics`.
            dirs.extend(segment.path().ancestors().skip(1).take(3));
        }
    }
    for dir in dirs {
        if let Err(source) = shared.files.disk().sync_dir(dir) {
            let error = Error::io("sync", dir, source);
            shared.wal.fail(&error);
            return Err(error);
        }
    }
    Ok(())
}

fn write(disk: &dyn Disk, dir: &Path, body: &[u8]) -> Result<(), Error> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(MAGIC);
    out.put_u32(FORMAT);
    out.put_count(body.len());
    out.put_u32(crc32c::crc32c(body));
    out.extend_from_slice(body);
    let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
    // A new file each time: a sync that failed on the last one says nothing about this one.
    remove(disk, &Doomed::File(temporary.clone()))?;
    let file = disk.open(&temporary, Open::Empty).map_err(|error| Error::io("create", &temporary, error))?;
    file.write_at(&out, 0).map_err(|error| Error::io("write", &temporary, error))?;
    file.sync().map_err(|error| Error::io("sync", &temporary, error))?;
    kill_points::pass(Point::CheckpointWritten);
    disk.rename(&temporary, &path).map_err(|error| Error::io("rename", &temporary, error))?;
    disk.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
}

/// A topic as the checkpoint has it.
pub(super) struct StoredTopic {
    pub(super) topic_id: Uuid,
    pub(super) config: PartitionConfig,
    /// For [`super::partition::Partition::restore`].
    pub(super) partitions: Vec<Vec<u8>>,
}

/// A machine as the checkpoint has it.
pub(super) struct StoredMachine {
    pub(super) id: u8,
    pub(super) position: u64,
    pub(super) snapshot: Vec<u8>,
}

/// What was read.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    pub(super) leader_epoch: i32,
    pub(super) position: u64,
    pub(super) table_position: u64,
    pub(super) topics: Vec<StoredTopic>,
    pub(super) machines: Vec<StoredMachine>,
}

/// Reads the checkpoint in `dir`, if there is one.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Stored>, Error> {
    let path = dir.join(NAME);
    remove(disk, &Doomed::File(dir.join(TEMPORARY)))?;
    let file = match disk.open(&path, Open::Existing) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let length = file.len().map_err(|error| Error::io("read", &path, error))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
    bytes.truncate(read);
    let mut reader = Reader::new(&bytes);
    if reader.take(8) != Some(MAGIC) {
        return Err(Error::corrupt(&path, "it doesn't begin as a checkpoint"));
    }
    let version = reader.u32().unwrap_or(0);
    if version > FORMAT {
        return Err(Error::NewerFormat { path, found: version, known: FORMAT });
    }
    let header = (reader.u64(), reader.u32());
    let body = reader.rest();
    if header != (Some(body.len() as u64), Some(crc32c::crc32c(body))) {
        return Err(Error::corrupt(&path, "its length or CRC doesn't hold"));
    }
    let stored = decode(body).ok_or_else(|| Error::corrupt(&path, "its CRC holds, its fields don't"))?;
    Ok(Some(Stored { path, ..stored }))
}

fn decode(body: &[u8]) -> Option<Stored> {
    let mut reader = Reader::new(body);
    let mut stored = Stored {
        leader_epoch: reader.i32()?,
        position: reader.u64()?,
        table_position: reader.u64()?,
        ..Stored::default()
    };
    for _ in 0..reader.count(16)? {
        let (topic_id, config) = (reader.uuid()?, reader.config()?);
        let mut partitions = Vec::new();
        for _ in 0..reader.count(8)? {
            partitions.push(reader.bytes()?.to_vec());
        }
        stored.topics.push(StoredTopic { topic_id, config, partitions });
    }
    for _ in 0..reader.count(17)? {
        let (id, position) = (reader.u8()?, reader.u64()?);
        stored.machines.push(StoredMachine { id, position, snapshot: reader.bytes()?.to_vec() });
    }
    reader.rest().is_empty().then_some(stored)
}
