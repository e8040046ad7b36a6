//! `~/` in paths: a shell puts the home folder there, a line that no shell reads has it left.

use std::path::PathBuf;

pub(super) fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
