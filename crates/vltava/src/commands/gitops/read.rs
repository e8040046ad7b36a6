//! The files of a folder of manifests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use resources::{FILE_BYTES_MAX, is_manifest};

use crate::commands::jsonata::source;

/// Files of a folder, all levels together.
const FILES_MAX: usize = 10_000;

/// Levels of folders.
const DEPTH_MAX: usize = 16;

/// What standard input is called in messages.
const STDIN: &str = "(standard input)";

/// A folder's manifests, one file's, or those of standard input: pairs of path and text, in the order of their paths.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>> {
    if source::is_stdin(path) {
        let text = source::read(path, FILE_BYTES_MAX).context(STDIN)?;
        ensure!(!text.trim().is_empty(), "{STDIN}: no manifests");
        return Ok(vec![(STDIN.into(), text)]);
    }
    let mut paths = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut paths)?
    } else {
        paths.push(path.to_owned())
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no manifests (*.yaml, *.yml, *.json)", path.display());
    let text = |path: &PathBuf| {
        let shown = path.display().to_string();
        let size = std::fs::metadata(path).with_context(|| shown.clone())?.len();
        ensure!(size <= FILE_BYTES_MAX as u64, "{shown}: larger than {FILE_BYTES_MAX} bytes");
        Ok((shown.clone(), std::fs::read_to_string(path).context(shown)?))
    };
    paths.iter().map(text).collect()
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<()> {
    ensure!(depth < DEPTH_MAX, "{}: folders lie deeper than {DEPTH_MAX} levels", folder.display());
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, paths)?;
        } else if is_manifest(name) {
            ensure!(paths.len() < FILES_MAX, "more than {FILES_MAX} manifests");
            paths.push(path);
        }
    }
    Ok(())
}
