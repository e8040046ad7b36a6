//! One process at a time on a data directory. The lock is the kernel's (`flock`): it ends with the
//! process, however that ends, so a file that is left over locks nobody out.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A data directory that is this process' own.
#[derive(Debug)]
pub(super) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes it where it isn't there, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        super::make_dir(path)?;
        let file = path.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("{} can't be opened", file.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                let mut owner = String::new();
                // Only for the message: an owner that can't be read is "another process".
                let _ = lock.read_to_string(&mut owner);
                let owner = match owner.trim() {
                    "" => "another process".into(),
                    pid => format!("process {pid}"),
                };
                bail!(
                    "the data directory {} is in use by {owner}: stop it, or choose another with --data-dir",
                    path.display()
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be locked", file.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id())?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_by_name_and_may_come_after() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();
        let error = DataDir::lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()) && error.contains("--data-dir"), "{error}");
        drop(first);
        DataDir::lock(dir.path()).unwrap();
    }
}
