//! `vltava backtest` on the command line.

use std::path::PathBuf;

use clap::Args;
use resources::Most;

use super::StageName;

#[derive(Debug, Args)]
pub(crate) struct Backtest {
    #[command(flatten)]
    pub(crate) pipeline: StageName,
    /// The candidate: an expression (*.jsonata, "-" for standard input), or a file or folder of manifests with one transform,
    /// whose steps it takes the place of.
    #[arg(long, value_name = "FILE", required_unless_present = "version", conflicts_with = "version")]
    pub(crate) transform: Option<PathBuf>,
    /// The candidate is this version of the step's transform, which is stored already.
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,
    /// The step that is meant, where the pipeline has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) step: Option<String>,
    /// At most so many of the last records, over all partitions alike [default: 10000; with --since or --where alone 1000000].
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u64>,
    /// Only records of then or later: a time such as 2026-01-31T12:00:00Z, or so long ago: 90m, 2h, 7d.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Of what is read, only records for which the expression is true. Its input is the value; `$key`, `$headers`, `$topic`,
    /// `$partition`, `$offset`, `$timestamp`, and `$text` (a value that is no JSON) are there, too.
    #[arg(long = "where", value_name = "JSONATA")]
    pub(crate) predicate: Option<String>,
    /// Records shown of each kind, at most 20.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) samples: u64,
    /// How long it may take, at most 10m; what isn't finished by then fails [default: 10m].
    #[arg(long, value_name = "TIME")]
    pub(crate) time_limit: Option<String>,
    /// So many records may change: have other outputs, none any more, or some at last. A number, or a share of what is compared.
    #[arg(long, value_name = "N|N%", default_value = "0")]
    pub(crate) max_changed: Most,
    /// So many records may fail that don't now, likewise.
    #[arg(long, value_name = "N|N%", default_value = "0")]
    pub(crate) max_failed: Most,
}
