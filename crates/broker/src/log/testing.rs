//! A disk for tests that keeps its promises to the letter and not one more: what wasn't synced is lost in a crash, or half
//! of it is, or a later write is there and an earlier one isn't. It also fails when it is told to.
//!
//! A crash keeps, of each file, any subset of the writes since its last sync, the last kept one possibly torn; and of the names
//! that changed in a directory since its last sync, the changes up to any point.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, DiskFile, Open};

/// What a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`], and the creation of files.
    Write,
    /// [`DiskFile::sync`] and [`Disk::sync_dir`].
    Sync,
}

/// From now on, operations on paths that contain `path` fail.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which operations.
    pub operation: Operation,
    /// Part of the path.
    pub path: String,
    /// The error's raw number: `libc::EIO`, `libc::ENOSPC`.
    pub errno: i32,
    /// So many succeed before.
    pub after: usize,
    /// So many fail, then it is over.
    pub times: usize,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    volatile: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Dir(PathBuf),
    RemoveDir(PathBuf),
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Dir(path) | Self::RemoveDir(path) => path,
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Set(path, inode) => {
                names.files.insert(path.clone(), *inode);
            }
            Self::Remove(path) => {
                names.files.remove(path);
            }
            Self::Dir(path) => {
                names.dirs.insert(path.clone());
            }
            Self::RemoveDir(path) => {
                names.files.retain(|file, _| !file.starts_with(path));
                names.dirs.retain(|dir| !dir.starts_with(path));
            }
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    volatile: Names,
    durable: Names,
    /// Not synced, in their order.
    pending: Vec<NameChange>,
    faults: Vec<Fault>,
    /// Counts crashes: handles of an earlier life are dead.
    life: u64,
    syncs_held: bool,
    /// So many go through although they are held.
    syncs_allowed: usize,
    syncs_waiting: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module's docs. Clones are the same disk.
#[derive(Debug, Default, Clone)]
pub struct LossyDisk(Arc<Shared>);

struct LossyFile {
    disk: Arc<Shared>,
    path: PathBuf,
    inode: usize,
    life: u64,
}

/// Deterministic choices of a crash, from a seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % (limit.max(1) as u64)).unwrap_or(0)
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
        Change::Write(at, data) => {
            let at = usize::try_from(*at).unwrap_or(usize::MAX);
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl State {
    fn fault(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        let text = path.to_string_lossy();
        for fault in &mut self.faults {
            if fault.operation != operation || fault.times == 0 || !text.contains(&fault.path) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            return Err(io::Error::from_raw_os_error(fault.errno));
        }
        Ok(())
    }

    fn rename_all(&mut self, change: NameChange) {
        change.apply(&mut self.volatile);
        self.pending.push(change);
    }
}

impl LossyDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Power fails: what wasn't synced is lost, or a part of it, as `seed` chooses (0: all of it is lost). Open files are dead.
    pub fn crash(&self, seed: u64) {
        let mut choices = Choices(seed);
        let mut state = self.0.state.lock();
        state.life += 1;
        state.faults.clear();
        state.syncs_held = false;
        for inode in &mut state.inodes {
            let pending = std::mem::take(&mut inode.pending);
            for mut change in pending {
                if seed == 0 || choices.below(2) == 0 {
                    continue;
                }
                if let Change::Write(_, data) = &mut change
                    && choices.below(3) == 0
                {
                    data.truncate(choices.below(data.len() + 1));
                }
                apply(&mut inode.durable, &change);
            }
            inode.volatile = inode.durable.clone();
        }
        let pending = std::mem::take(&mut state.pending);
        let kept = if seed == 0 { 0 } else { choices.below(pending.len() + 1) };
        for change in &pending[..kept] {
            change.apply(&mut state.durable);
        }
        state.volatile = state.durable.clone();
        drop(state);
        self.0.changed.notify_all();
    }

    /// The process dies, the machine doesn't: nothing is lost, nothing is synced. Open files are dead.
    pub fn kill(&self) {
        let mut state = self.0.state.lock();
        state.life += 1;
        state.faults.clear();
        state.syncs_held = false;
        drop(state);
        self.0.changed.notify_all();
    }

    /// Makes operations fail from now on.
    pub fn inject(&self, fault: Fault) {
        self.0.state.lock().faults.push(fault);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.0.state.lock().faults.clear();
    }

    /// Syncs of files wait until [`LossyDisk::release_syncs`] or a crash.
    pub fn hold_syncs(&self) {
        let mut state = self.0.state.lock();
        state.syncs_held = true;
        state.syncs_allowed = 0;
    }

    /// Lets some of the held syncs go, now or when they come.
    pub fn allow_syncs(&self, count: usize) {
        self.0.state.lock().syncs_allowed += count;
        self.0.changed.notify_all();
    }

    /// Whether a sync is held.
    #[must_use]
    pub fn is_sync_held(&self) -> bool {
        let state = self.0.state.lock();
        state.syncs_held && state.syncs_allowed == 0 && state.syncs_waiting > 0
    }

    /// Ends [`LossyDisk::hold_syncs`].
    pub fn release_syncs(&self) {
        self.0.state.lock().syncs_held = false;
        self.0.changed.notify_all();
    }

    /// Blocks until a sync is held: then everything before it was written and nothing of it is durable.
    pub fn wait_for_held_sync(&self) {
        let mut state = self.0.state.lock();
        while state.syncs_waiting == 0 {
            self.0.changed.wait(&mut state);
        }
    }

    /// The paths of all files.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.state.lock().volatile.files.keys().cloned().collect()
    }

    /// A file's bytes, as a reader sees them.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.state.lock();
        let inode = state.volatile.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].volatile.clone())
    }

    /// Puts bytes into a file, durably: damage, as a test wants it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let inode = *state.volatile.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let inode = &mut state.inodes[inode];
        change(&mut inode.volatile);
        inode.durable = inode.volatile.clone();
        inode.pending.clear();
        Ok(())
    }
}

impl Disk for LossyDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state.lock();
        let existing = state.volatile.files.get(path).copied();
        let inode = match (existing, how) {
            (Some(inode), Open::Existing) => inode,
            (None, Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (Some(inode), Open::Empty) => {
                state.fault(Operation::Write, path)?;
                let inode_state = &mut state.inodes[inode];
                inode_state.volatile.clear();
                inode_state.pending.push(Change::Truncate(0));
                inode
            }
            (None, Open::Empty) => {
                state.fault(Operation::Write, path)?;
                if !path.parent().is_some_and(|dir| state.volatile.dirs.contains(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.rename_all(NameChange::Set(path.to_path_buf(), inode));
                inode
            }
        };
        let life = state.life;
        Ok(Arc::new(LossyFile { disk: Arc::clone(&self.0), path: path.to_path_buf(), inode, life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let inode = *state.volatile.files.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.rename_all(NameChange::Set(to.to_path_buf(), inode));
        state.rename_all(NameChange::Remove(from.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.volatile.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename_all(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        if !state.volatile.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename_all(NameChange::RemoveDir(path.to_path_buf()));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        let missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|dir| !dir.as_os_str().is_empty() && !state.volatile.dirs.contains(*dir))
            .map(Path::to_path_buf)
            .collect();
        for dir in missing.into_iter().rev() {
            state.rename_all(NameChange::Dir(dir));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.state.lock();
        if !state.volatile.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = state.volatile.files.keys().chain(&state.volatile.dirs);
        let inside = all.filter(|path| path.parent() == Some(dir)).filter_map(|path| path.file_name());
        Ok(inside.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.state.lock();
        state.fault(Operation::Sync, dir)?;
        let pending = std::mem::take(&mut state.pending);
        let (now, later) = pending.into_iter().partition(|change| change.path().parent() == Some(dir));
        let _: &Vec<NameChange> = &now;
        for change in &now {
            change.apply(&mut state.durable);
        }
        state.pending = later;
        Ok(())
    }
}

impl LossyFile {
    fn alive(&self, state: &State) -> io::Result<()> {
        if state.life == self.life { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
    }
}

impl DiskFile for LossyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        self.alive(&state)?;
        state.fault(Operation::Read, &self.path)?;
        let bytes = &state.inodes[self.inode].volatile;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let read = buffer.len().min(bytes.len() - from);
        buffer[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        self.alive(&state)?;
        let failed = state.fault(Operation::Write, &self.path);
        // A write that fails may leave a part.
        let kept = if failed.is_ok() { bytes.len() } else { bytes.len() / 2 };
        let change = Change::Write(offset, bytes[..kept].to_vec());
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.volatile, &change);
        inode.pending.push(change);
        failed
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.syncs_held {
            state.syncs_waiting += 1;
            self.disk.changed.notify_all();
            while state.syncs_held && state.syncs_allowed == 0 && state.life == self.life {
                self.disk.changed.wait(&mut state);
            }
            state.syncs_allowed = state.syncs_allowed.saturating_sub(1);
            state.syncs_waiting -= 1;
        }
        self.alive(&state)?;
        let failed = state.fault(Operation::Sync, &self.path);
        let inode = &mut state.inodes[self.inode];
        if failed.is_err() {
            // What the kernel does: the pages are clean now, and were not written.
            inode.pending.clear();
            return failed;
        }
        inode.durable = inode.volatile.clone();
        inode.pending.clear();
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        self.alive(&state)?;
        let change = Change::Truncate(bytes);
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.volatile, &change);
        inode.pending.push(change);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        self.alive(&state)?;
        Ok(state.inodes[self.inode].volatile.len() as u64)
    }
}
