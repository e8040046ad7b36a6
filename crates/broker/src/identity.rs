//! Who this broker is: the cluster's id, made once, and the format of the data directory.
//!
//! Invariant: a directory of a newer format is refused, never guessed at; one process has it at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::{Disk, Open};

/// The format of the data directory that this program writes.
const FORMAT: u32 = 1;
/// Holds [`Identity`].
const FILE: &str = "meta.json";
/// Locked while a process has the directory.
const LOCK_FILE: &str = "lock";
/// The file is a few lines; more is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The contents of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The format of the directory.
    pub(crate) format: u32,
    /// `cluster.id`.
    pub(crate) cluster_id: String,
}

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "data directory {0} is in use by another process: stop that one, or give this one another directory"
    )]
    InUse(PathBuf),
    /// Written by a newer version of this program.
    #[error(
        "data directory {path} has format {found}, this program knows up to {FORMAT}: start the newer program"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The identity file is none.
    #[error("{path} is damaged: restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refuses.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
}

/// Keeps other processes out of a data directory until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the directory, creating it where it is missing.
    pub(crate) fn take(dir: &Path) -> Result<Self, Error> {
        let io = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { action, path, source }
        };
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        let path = dir.join(LOCK_FILE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(dir.to_path_buf())),
            Err(errno) => Err(Error::Io { action: "lock", path, source: errno.into() }),
        }
    }
}

impl Identity {
    /// Reads the directory's identity, or makes one in an empty directory.
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let io = |action| {
            let path = path.clone();
            move |source| Error::Io { action, path, source }
        };
        disk.create_dir_all(dir).map_err(io("create the directory of"))?;
        match disk.open(&path, Open::Existing) {
            Ok(file) => {
                let size = file.len().map_err(io("measure"))?.min(FILE_BYTES_MAX);
                let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
                let read = file.read_at(&mut bytes, 0).map_err(io("read"))?;
                bytes.truncate(read);
                let identity: Self = serde_json::from_slice(&bytes)
                    .map_err(|source| Error::Damaged { path: path.clone(), source })?;
                if identity.format > FORMAT {
                    return Err(Error::Newer { path: dir.to_path_buf(), found: identity.format });
                }
                Ok(identity)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self { format: FORMAT, cluster_id: Uuid::new_v4().simple().to_string() };
                let bytes = serde_json::to_vec_pretty(&identity).expect("two plain fields are JSON");
                let new = dir.join("meta.json.new");
                let file = disk.open(&new, Open::Empty).map_err(io("create"))?;
                file.write_at(&bytes, 0).map_err(io("write"))?;
                file.sync().map_err(io("sync"))?;
                disk.rename(&new, &path).map_err(io("replace"))?;
                disk.sync_dir(dir).map_err(io("sync the directory of"))?;
                Ok(identity)
            }
            Err(error) => Err(io("open")(error)),
        }
    }
}
