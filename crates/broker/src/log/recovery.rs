//! Opening: the checkpoint, then the frames of the write-ahead log behind it. Work is bounded by the write-ahead log's size,
//! not by history.
//!
//! What decides that a frame counts: its CRCs hold, and its position follows the last one's. The first that doesn't ends the
//! log; it was never acknowledged, because acknowledged frames are synced in order. Behind that nothing may follow: a gap
//! before a later file is damage, and refused. What counts is synced before anything is built on it: after the death of the process
//! alone the page cache may hold frames that the disk doesn't.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Machine;
use super::checkpoint::{self, Stored};
use super::config::MAX_FRAME_BYTES;
use super::disk::{Disk, Open};
use super::error::Error;
use super::frame::{self, FRAME_HEADER_BYTES, FrameHeader, Op};
use super::partition::{Doomed, Partition, Shared};
use super::table::{Table, Topic};
use super::wal::{self, FileHeader, WAL_HEADER_BYTES, WalFile};

/// What is on the disk, before anything of it is applied.
pub(super) struct Found {
    pub(super) checkpoint: Option<Stored>,
    files: Vec<WalFile>,
    /// The leader epoch of the last start; 0: there was none.
    pub(super) leader_epoch: i32,
}

/// Where the log ended.
pub(super) struct Recovered {
    pub(super) tail: u64,
    pub(super) files: Vec<WalFile>,
    pub(super) frames: u64,
}

/// Creates the directories and reads the checkpoint and the headers of the write-ahead log's files.
pub(super) fn find(disk: &dyn Disk, dir: &Path) -> Result<Found, Error> {
    let (wal_dir, topics_dir) = (dir.join("wal"), dir.join("topics"));
    for path in [&wal_dir, &topics_dir] {
        disk.create_dir_all(path).map_err(|error| Error::io("create", path, error))?;
    }
    for path in
        [Some(dir), dir.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten()
    {
        disk.sync_dir(path).map_err(|error| Error::io("sync", path, error))?;
    }
    let checkpoint = checkpoint::read(disk, dir)?;
    let mut leader_epoch = checkpoint.as_ref().map_or(0, |stored| stored.leader_epoch);

    let names = disk.list(&wal_dir).map_err(|error| Error::io("list", &wal_dir, error))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| wal::file_sequence(name)).collect();
    sequences.sort_unstable();
    let mut files = Vec::new();
    for (at, sequence) in sequences.iter().copied().enumerate() {
        let path = wal_dir.join(wal::file_name(sequence));
        let file = disk.open(&path, Open::Existing).map_err(|error| Error::io("open", &path, error))?;
        let mut bytes = [0; WAL_HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
        match wal::read_header(&path, sequence, &bytes[..read])? {
            Some(FileHeader { leader_epoch: epoch, first }) => {
                leader_epoch = leader_epoch.max(epoch);
                let bytes = file.len().map_err(|error| Error::io("read", &path, error))?;
                files.push(WalFile { sequence, path, first, bytes });
            }
            // A crash came while it was made; it had no frame yet.
            None if at + 1 == sequences.len() => {
                tracing::info!(path = %path.display(), "removing a write-ahead log file that was never used");
                checkpoint::remove(disk, &Doomed::File(path))?;
            }
            None => {
                return Err(Error::corrupt(&path, "its header's CRC doesn't hold, and later files exist"));
            }
        }
    }
    if checkpoint.is_none() && files.is_empty() {
        let topics = disk.list(&topics_dir).map_err(|error| Error::io("list", &topics_dir, error))?;
        if !topics.is_empty() {
            let what = "there are topics, but neither a checkpoint nor a write-ahead log: restore the whole directory";
            return Err(Error::corrupt(dir, what));
        }
    }
    Ok(Found { checkpoint, files, leader_epoch })
}

/// Applies what was found to the table, the partitions and the machines.
pub(super) fn apply(
    found: Found,
    shared: &Arc<Shared>,
    table: &Table,
    machines: &[Arc<dyn Machine>],
) -> Result<Recovered, Error> {
    let stored = found.checkpoint.unwrap_or_default();
    let mut keep: HashSet<PathBuf> = HashSet::new();
    restore_table(&stored, shared, table, &mut keep)?;
    let positions = restore_machines(&stored, machines)?;
    let mut replay = Replay { shared, table, positions, machines, from: stored.position, frames: 0 };

    let mut files = found.files;
    if files.first().is_some_and(|file| file.first > stored.position + 1) {
        let what =
            format!("it starts at frame {}, the checkpoint ends at {}", files[0].first, stored.position);
        return Err(Error::corrupt(&files[0].path, what));
    }
    let mut tail = stored.position;
    let count = files.len();
    for at in 0..count {
        let next_first = files.get(at + 1).map(|next| next.first);
        tail = replay_file(&mut replay, &mut files[at], next_first)?;
    }
    if tail < stored.position {
        let what = format!("it ends at frame {tail}, the checkpoint at {}", stored.position);
        return Err(Error::corrupt(&shared.dir.join("wal"), what));
    }
    let frames = replay.frames;
    for topic in table.load().values() {
        for partition in &topic.partitions {
            partition.finish_replay();
        }
    }
    remove_strays(shared, table, keep)?;
    Ok(Recovered { tail, files, frames })
}

fn restore_table(
    stored: &Stored,
    shared: &Arc<Shared>,
    table: &Table,
    keep: &mut HashSet<PathBuf>,
) -> Result<(), Error> {
    let mut change = table.change();
    for topic in &stored.topics {
        let config = Arc::new(topic.config.clone());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for snapshot in &topic.partitions {
            let partition = Partition::restore(shared, topic.topic_id, &config, snapshot)
                .ok_or_else(|| Error::corrupt(&stored.path, format!("topic {}", topic.topic_id)))?;
            {
                let state = partition.state.lock();
                if let Some(written) = state.segments.last() {
                    written.recover(&shared.files)?;
                }
                keep.extend(state.segments.iter().flat_map(|segment| segment.paths()));
            }
            keep.insert(partition.dir.clone());
            partitions.push(partition);
        }
        keep.insert(shared.topic_dir(topic.topic_id));
        change.insert(topic.topic_id, Topic { config, partitions });
    }
    change.publish(stored.table_position);
    Ok(())
}

fn restore_machines(stored: &Stored, machines: &[Arc<dyn Machine>]) -> Result<HashMap<u8, u64>, Error> {
    let mut positions = HashMap::new();
    for machine in &stored.machines {
        let owner = machines.iter().find(|known| known.id() == machine.id);
        let owner = owner.ok_or(Error::UnknownMachine { machine: machine.id })?;
        owner
            .restore(&machine.snapshot)
            .map_err(|error| Error::Machine { machine: machine.id, source: error.into() })?;
        positions.insert(machine.id, machine.position);
    }
    Ok(positions)
}

struct Replay<'a> {
    shared: &'a Arc<Shared>,
    table: &'a Table,
    /// What each machine's snapshot has.
    positions: HashMap<u8, u64>,
    machines: &'a [Arc<dyn Machine>],
    /// The checkpoint has all frames up to this.
    from: u64,
    frames: u64,
}

/// Replays a file's frames; the position of the last. `next_first`: the first position of the file after it.
fn replay_file(replay: &mut Replay<'_>, file: &mut WalFile, next_first: Option<u64>) -> Result<u64, Error> {
    let disk = replay.shared.files.disk();
    let path = file.path.clone();
    let handle = disk.open(&path, Open::Existing).map_err(|error| Error::io("open", &path, error))?;
    let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(0)];
    let read = handle.read_at(&mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
    bytes.truncate(read);

    let mut at = WAL_HEADER_BYTES;
    let mut expected = file.first;
    while let Some(payload) = next_payload(&bytes[at..], expected) {
        if expected > replay.from {
            let ops = frame::ops(payload).ok_or_else(|| {
                Error::corrupt(&path, format!("frame {expected} has an op that isn't known"))
            })?;
            for op in ops {
                replay.op(&path, op, expected)?;
            }
            replay.frames += 1;
        }
        at += FRAME_HEADER_BYTES + payload.len();
        expected += 1;
    }
    match next_first {
        Some(first) if first != expected => {
            let what = format!(
                "frame {expected} at byte {at} isn't whole, and a later file begins with frame {first}"
            );
            return Err(Error::corrupt(&path, what));
        }
        Some(_) => {}
        None => {
            if at < bytes.len() {
                let torn = bytes.len() - at;
                tracing::info!(path = %path.display(), bytes = torn, "cutting off a frame that was never acknowledged");
                handle.truncate(at as u64).map_err(|error| Error::io("truncate", &path, error))?;
                file.bytes = at as u64;
            }
            handle.sync().map_err(|error| Error::io("sync", &path, error))?;
        }
    }
    Ok(expected - 1)
}

fn next_payload(bytes: &[u8], expected: u64) -> Option<&[u8]> {
    let header = FrameHeader::read(bytes)?;
    if header.position != expected || header.payload_bytes > MAX_FRAME_BYTES {
        return None;
    }
    let payload = bytes.get(FRAME_HEADER_BYTES..)?.get(..header.payload_bytes)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some(payload)
}

impl Replay<'_> {
    fn op(&self, path: &Path, op: Op<'_>, position: u64) -> Result<(), Error> {
        match op {
            Op::Append { topic_id, partition, batch } => {
                match self.partition(path, topic_id, partition, position)? {
                    Some(partition) => partition.replay(batch, position),
                    None => Ok(()),
                }
            }
            Op::Start { topic_id, partition, offset } => {
                if let Some(partition) = self.partition(path, topic_id, partition, position)? {
                    partition.replay_start(offset, position);
                }
                Ok(())
            }
            Op::Entry { machine, bytes } => {
                if self.positions.get(&machine).is_some_and(|has| position <= *has) {
                    return Ok(());
                }
                let owner = self.machines.iter().find(|known| known.id() == machine);
                let owner = owner.ok_or(Error::UnknownMachine { machine })?;
                owner.replay(bytes).map_err(|error| Error::Machine { machine, source: error.into() })
            }
            Op::Create { topic_id, count, config } => {
                let mut change = self.table.change();
                if position >= change.position() {
                    change.create(self.shared, topic_id, count, &config);
                    change.publish(position);
                }
                Ok(())
            }
            Op::Configure { topic_id, config } => {
                let mut change = self.table.change();
                if position >= change.position() {
                    change.configure(topic_id, &config);
                    change.publish(position);
                }
                Ok(())
            }
            Op::Drop { topic_id } => {
                let mut change = self.table.change();
                if position >= change.position() {
                    change.drop_topic(self.shared, topic_id);
                    change.publish(position);
                }
                Ok(())
            }
        }
    }

    /// None: the checkpoint's table knows already that the topic was dropped.
    fn partition(
        &self,
        path: &Path,
        topic_id: uuid::Uuid,
        index: i32,
        position: u64,
    ) -> Result<Option<Arc<Partition>>, Error> {
        match self.table.partition(topic_id, index) {
            Some(partition) => Ok(Some(partition)),
            None if position <= self.table.change().position() => Ok(None),
            None => {
                let what = format!(
                    "frame {position} is about partition {index} of topic {topic_id}, which isn't there"
                );
                Err(Error::corrupt(path, what))
            }
        }
    }
}

/// Removes files that neither the checkpoint nor the state after it names: a crash left them.
fn remove_strays(shared: &Shared, table: &Table, mut keep: HashSet<PathBuf>) -> Result<(), Error> {
    let disk = shared.files.disk();
    let topics = table.load();
    for (topic_id, topic) in topics.iter() {
        keep.insert(shared.topic_dir(*topic_id));
        for partition in &topic.partitions {
            keep.insert(partition.dir.clone());
            let state = partition.state.lock();
            keep.extend(state.segments.iter().flat_map(|segment| segment.paths()));
        }
    }
    let list = |dir: &Path| match disk.list(dir) {
        Ok(names) => Ok(names.into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", dir, error)),
    };
    for topic_dir in list(&shared.dir.join("topics"))? {
        if !keep.contains(&topic_dir) {
            tracing::info!(path = %topic_dir.display(), "removing a topic that was dropped");
            checkpoint::remove(disk, &Doomed::Dir(topic_dir))?;
            continue;
        }
        for partition_dir in list(&topic_dir)? {
            for file in list(&partition_dir)? {
                if !keep.contains(&file) {
                    tracing::debug!(path = %file.display(), "removing a file that no segment has");
                    checkpoint::remove(disk, &Doomed::File(file))?;
                }
            }
        }
    }
    Ok(())
}
