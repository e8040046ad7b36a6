//! Folders of manifests: `vltava plan` says what applying one would change, `vltava apply` does it, `vltava export` writes one of
//! what exists, `vltava drift` says what is otherwise in the engine. The server decides and writes; here files are read and
//! written, and what is answered is said with their names and lines.

mod ask;
mod drift;
mod export;
mod lists;
mod read;
mod show;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

pub(crate) use self::ask::How;
use self::ask::{Asked, Verb, manifests};
pub(crate) use self::drift::drift;
pub(crate) use self::export::export;
pub(crate) use self::read::read;
use crate::cli::{Apply, Plan, Set};
use crate::output;

/// Something would change; as `diff` and others have it. An error is 1.
const CHANGES: u8 = 2;

fn how(set: &Set) -> How {
    let Set { path: _, source, prune, take_ownership, skip_backtest, retry_rollout, url: _, json: _ } = set;
    let mut how = How {
        prune: *prune,
        take_ownership: *take_ownership,
        skip_backtest: *skip_backtest,
        retry_rollout: *retry_rollout,
        ..How::default()
    };
    if let Some(source) = source {
        how.source.clone_from(source);
    }
    how
}

/// The platform that runs in this process.
pub(crate) struct Own<'a> {
    pub(crate) url: &'a str,
    /// What it shows to itself.
    pub(crate) own: &'a auth::Secret,
}

pub(crate) async fn plan(plan: Plan) -> Result<ExitCode> {
    let Plan { set, backtest, exit_code } = plan;
    let has_changes = say_plan(&set, backtest).await?;
    Ok(if exit_code && has_changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}

/// Says what would change; whether anything would.
async fn say_plan(set: &Set, backtests: bool) -> Result<bool> {
    let files = read(&set.path)?;
    let manifests = manifests(&files)?;
    let asked =
        Asked { url: &set.url.url, how: How { backtests, ..how(set) }, manifests: &manifests, own: None };
    let answer = asked.send(Verb::Plan).await?;
    if set.json.json {
        output::json(&answer)?;
    }
    let plan: show::Plan = serde_json::from_value(answer)?;
    if !set.json.json {
        plan.print();
    }
    asked.refuse(&plan.problems)?;
    Ok(plan.has_changes())
}

pub(crate) async fn apply(apply: Apply) -> Result<ExitCode> {
    let Apply { set, dry_run } = apply;
    if dry_run {
        say_plan(&set, true).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let files = read(&set.path)?;
    let manifests = manifests(&files)?;
    let asked = Asked { url: &set.url.url, how: how(&set), manifests: &manifests, own: None };
    let answer = asked.send(Verb::Apply).await?;
    if set.json.json {
        output::json(&answer)?;
    }
    let applied: show::Applied = serde_json::from_value(answer)?;
    if !set.json.json {
        applied.print();
    }
    applied.or_errors(&asked)?;
    Ok(ExitCode::SUCCESS)
}

/// Applies a folder to the platform in this process; prints what became of it where somebody reads.
pub(crate) async fn put(path: &Path, to: &Own<'_>, how: How, show: bool) -> Result<()> {
    put_files(&read(path)?, to, how, show).await
}

/// Applies manifests: pairs of path and text.
pub(crate) async fn put_files(files: &[(String, String)], to: &Own<'_>, how: How, show: bool) -> Result<()> {
    let manifests = manifests(files)?;
    let asked = Asked { url: to.url, how, manifests: &manifests, own: Some(to.own) };
    let applied: show::Applied = serde_json::from_value(asked.send(Verb::Apply).await?)?;
    if show {
        applied.print();
    }
    applied.or_errors(&asked)
}
