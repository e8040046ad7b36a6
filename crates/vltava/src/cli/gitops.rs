//! `vltava plan` and `vltava apply`: a folder of manifests as a whole.

use std::path::PathBuf;

use clap::Args;

use super::{Json, Url};

/// Which manifests, and whose they are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Set {
    /// A folder of manifests (YAML or JSON, at any depth), one file, or "-" for standard input (YAML).
    #[arg(short = 'f', long = "file", value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// Who owns what is applied, such as the repository's name; it stands in metadata.managedBy [default: default].
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Delete what the source owns and the folder doesn't have any more.
    #[arg(long, requires = "source")]
    pub(crate) prune: bool,
    /// Change also what another source owns; it is this one's from then on.
    #[arg(long)]
    pub(crate) take_ownership: bool,
    /// Put versions of pipelines without the backtest that they require; it is said, and logged.
    #[arg(long)]
    pub(crate) skip_backtest: bool,
    /// Give pipelines versions again that they were rolled back from.
    #[arg(long)]
    pub(crate) retry_rollout: bool,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) set: Set,
    /// Run the backtests now that pipelines require; each takes up to a minute.
    #[arg(long)]
    pub(crate) backtest: bool,
    /// Exit status 2 where something would change.
    #[arg(long)]
    pub(crate) exit_code: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) set: Set,
    /// Check everything, required backtests too, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
