//! `vltava plan`, `vltava apply` and `vltava export`: a folder of manifests as a whole; and `vltava drift`.

use std::path::PathBuf;

use clap::Args;
use resources::Kind;

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

/// Kinds that people keep as manifests; a Redrive is a run.
pub(crate) const EXPORTED: [Kind; 5] =
    [Kind::Workspace, Kind::Topic, Kind::Transform, Kind::Pipeline, Kind::Connector];

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The folder that files are written to, or "-" for standard output.
    #[arg(short = 'f', long = "file", short_alias = 'o', value_name = "DIR", default_value = "-")]
    pub(crate) path: PathBuf,
    /// Only of this workspace.
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// Only what this source owns; "api": what people made.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Only these kinds: workspace, topic, transform, pipeline, connector; may be repeated.
    #[arg(long = "kind", value_name = "KIND", value_parser = exported_kind)]
    pub(crate) kinds: Vec<Kind>,
    /// Overwrite also files that `vltava export` didn't write.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) url: Url,
}

fn exported_kind(text: &str) -> Result<Kind, String> {
    let text = text.to_ascii_lowercase();
    let named = |kind: &Kind| kind.plural() == text || kind.as_str().eq_ignore_ascii_case(&text);
    EXPORTED.into_iter().find(named).ok_or_else(|| {
        let known: Vec<String> = EXPORTED.iter().map(|kind| kind.as_str().to_ascii_lowercase()).collect();
        format!("kinds are {}", known.join(", "))
    })
}

#[derive(Debug, Args)]
pub(crate) struct Drift {
    /// Only of this workspace.
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// Exit status 2 where a topic has drifted.
    #[arg(long)]
    pub(crate) exit_code: bool,
    #[command(flatten)]
    pub(crate) url: Url,
    #[command(flatten)]
    pub(crate) json: Json,
}
