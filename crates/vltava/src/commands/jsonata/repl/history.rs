//! Lines of earlier sessions, in a file of the user's.
//!
//! Invariants: the file is readable by its owner only; it has a bounded number of entries, each of bounded
//! length; whatever is wrong with it is a warning, once, and the session goes on without it.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustyline::history::{FileHistory, History as _};

use crate::output::note;

/// Lines that are kept.
pub(super) const HISTORY_ENTRIES_MAX: usize = 1_000;
/// A longer line isn't kept, in bytes.
const HISTORY_ENTRY_BYTES_MAX: usize = 8 << 10;
/// What a file of ours can have at most, in bytes: an escape takes two.
const HISTORY_FILE_BYTES_MAX: u64 = (HISTORY_ENTRIES_MAX * 2 * HISTORY_ENTRY_BYTES_MAX) as u64;

/// Where it is kept; `None` once that has failed, or where it isn't wanted.
pub(super) struct Kept(Option<PathBuf>);

/// `None` where the environment says nothing of use. A relative XDG_STATE_HOME is to be ignored, says the
/// XDG Base Directory Specification.
fn place(state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let state = state.filter(|state| state.is_absolute());
    let base = state.or_else(|| home.filter(|home| home.is_absolute()).map(|home| home.join(".local/state")));
    base.map(|base| base.join("vltava/jsonata_history"))
}

impl Kept {
    pub(super) fn new(wanted: bool) -> Self {
        if !wanted {
            return Self(None);
        }
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let place = place(variable("XDG_STATE_HOME"), variable("HOME"));
        if place.is_none() {
            note("warning: lines aren't kept: neither XDG_STATE_HOME nor HOME is an absolute path");
        }
        Self(place)
    }

    pub(super) fn load(&mut self, history: &mut FileHistory) {
        self.attempt(|path| {
            if !is_there(path)? {
                return Ok(());
            }
            history.load(path).context("it can't be read")
        });
    }

    /// Adds a line, and writes what is new at once: a session that is killed loses nothing.
    pub(super) fn add(&mut self, history: &mut FileHistory, line: &str) {
        if line.len() > HISTORY_ENTRY_BYTES_MAX || !history.add(line).unwrap_or(false) {
            return;
        }
        self.attempt(|path| {
            if let Some(folder) = path.parent() {
                let folders = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
                folders.context("its folder can't be made")?;
            }
            is_there(path)?;
            history.append(path).context("it can't be written")
        });
    }

    fn attempt(&mut self, act: impl FnOnce(&Path) -> Result<()>) {
        if let Some(path) = &self.0
            && let Err(error) = act(path)
        {
            note(format_args!("warning: lines aren't kept: {}: {error:#}", path.display()));
            self.0 = None;
        }
    }
}

/// Whether there is a file, which then can be one of ours: opening a pipe would wait for ever.
fn is_there(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
        Ok(found) => {
            ensure!(found.is_file(), "it is no regular file");
            ensure!(
                found.len() <= HISTORY_FILE_BYTES_MAX,
                "it is larger than {HISTORY_FILE_BYTES_MAX} bytes; remove it"
            );
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustyline::Config;

    use super::*;

    fn history() -> FileHistory {
        let config = Config::builder().max_history_size(HISTORY_ENTRIES_MAX).unwrap();
        FileHistory::with_config(&config.history_ignore_space(true).build())
    }

    #[test]
    fn the_place_follows_the_environment() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(place(path("/s"), path("/h")), path("/s/vltava/jsonata_history"));
        assert_eq!(place(path("s"), path("/h")), path("/h/.local/state/vltava/jsonata_history"));
        assert_eq!(place(None, path("/h")), path("/h/.local/state/vltava/jsonata_history"));
        assert_eq!(place(path(""), None), None);
    }

    #[test]
    fn lines_come_back_and_are_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/vltava/jsonata_history");
        let mut kept = Kept(Some(path.clone()));
        let mut first = history();
        kept.load(&mut first);
        kept.add(&mut first, "a\n+ 'b\\n'");
        kept.add(&mut first, " secret");
        kept.add(&mut first, &"x".repeat(HISTORY_ENTRY_BYTES_MAX + 1));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        // Another session at the same time.
        let mut second = history();
        kept.load(&mut second);
        for n in 0..HISTORY_ENTRIES_MAX + 5 {
            kept.add(&mut second, &n.to_string());
        }
        kept.add(&mut first, "last");
        let mut third = history();
        kept.load(&mut third);
        assert_eq!(third.len(), HISTORY_ENTRIES_MAX);
        assert_eq!(third.iter().next_back().unwrap(), "last");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn what_is_wrong_with_it_ends_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"\xff\xfe\n").unwrap();
        // A folder, a file in place of a folder, text that is none.
        for path in [dir.path().to_owned(), file.join("below/history"), file.clone()] {
            let mut kept = Kept(Some(path.clone()));
            let mut lines = history();
            kept.load(&mut lines);
            kept.add(&mut lines, "a");
            assert!(kept.0.is_none(), "{}", path.display());
            assert_eq!(lines.len(), 1);
        }
        assert_eq!(fs::read(&file).unwrap(), b"\xff\xfe\n");
    }
}
