//! `vltava apply`: reads a folder and puts its manifests by the API that everybody has, in the order
//! that their references demand. Putting what is there already changes nothing.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use resources::{FILE_BYTES_MAX, Kind, Placed, folder, is_manifest};
use serde::Serialize;
use serde_json::Value;

use super::{http, problem};
use crate::cli::Apply;
use crate::output::{self, Rows};

/// Files of a folder, all levels together.
const FILES_MAX: usize = 10_000;
/// Levels of folders.
const DEPTH_MAX: usize = 16;
/// Where a manifest without a workspace goes.
const WORKSPACE_DEFAULT: &str = "default";

/// What became of one manifest.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    kind: String,
    workspace: String,
    name: String,
    /// `created`, `changed`, `unchanged`.
    change: String,
    warnings: Vec<String>,
}

/// How manifests are put.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    /// Everything is checked, and nothing changed.
    dry_run: bool,
    /// Without the backtests that pipelines require.
    skip_backtest: bool,
    /// Also versions that pipelines were rolled back from.
    retry_rollout: bool,
}

pub(crate) async fn run(apply: Apply) -> Result<()> {
    let Apply { path, dry_run, skip_backtest, retry_rollout, url, json } = apply;
    let how = How { dry_run, skip_backtest, retry_rollout };
    let applied = put_files(&read(&path)?, &url.url, how).await?;
    if json.json {
        return applied.iter().try_for_each(output::json);
    }
    print(&applied);
    Ok(())
}

/// Puts a folder; prints what became of it where somebody reads.
pub(crate) async fn put(path: &Path, url: &str, show: bool) -> Result<()> {
    let applied = put_files(&read(path)?, url, How::default()).await?;
    if show {
        print(&applied);
    }
    Ok(())
}

fn print(applied: &[Applied]) {
    let mut table = Rows::new(&["kind", "workspace", "name", "change"]);
    for Applied { kind, workspace, name, change, warnings } in applied {
        table.row(vec![kind.clone(), workspace.clone(), name.clone(), change.clone()]);
        warnings.iter().for_each(|warning| output::note(format_args!("warning: {kind} {name}: {warning}")));
    }
    table.print();
}

/// A folder's manifests, or one file's: pairs of path and text, in the order of their paths.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let mut paths = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut paths)?
    } else {
        paths.push(path.to_owned())
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no manifests (*.yaml, *.yml, *.json)", path.display());
    let text = |path: &std::path::PathBuf| {
        let shown = path.display().to_string();
        let size = std::fs::metadata(path).with_context(|| shown.clone())?.len();
        ensure!(size <= FILE_BYTES_MAX as u64, "{shown}: larger than {FILE_BYTES_MAX} bytes");
        Ok((shown.clone(), std::fs::read_to_string(path).context(shown)?))
    };
    paths.iter().map(text).collect()
}

fn walk(folder: &Path, depth: usize, paths: &mut Vec<std::path::PathBuf>) -> Result<()> {
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

/// Puts manifests; ends at the first that is refused, and says which were put before.
pub(crate) async fn put_files(files: &[(String, String)], url: &str, how: How) -> Result<Vec<Applied>> {
    let manifests = match folder(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))) {
        Ok(manifests) => manifests,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{} problem(s), nothing was applied:\n  {}", lines.len(), lines.join("\n  "));
        }
    };
    let client = http()?;
    let mut applied = Vec::new();
    for placed in &manifests {
        let outcome = put_one(&client, url.trim_end_matches('/'), placed, how).await;
        applied.push(
            outcome
                .with_context(|| format!("{} of {} were applied before", applied.len(), manifests.len()))?,
        );
    }
    Ok(applied)
}

async fn put_one(client: &reqwest::Client, url: &str, placed: &Placed, how: How) -> Result<Applied> {
    let manifest = &placed.manifest;
    let kind = manifest.kind();
    let name = &manifest.name;
    let workspace = manifest.workspace.as_deref().unwrap_or(WORKSPACE_DEFAULT);
    let address = match kind {
        Kind::Workspace => format!("{url}/api/v1/workspaces/{name}"),
        _ => format!("{url}/api/v1/workspaces/{workspace}/{}/{name}", kind.plural()),
    };
    let How { dry_run, skip_backtest, retry_rollout } = how;
    let query = format!("dryRun={dry_run}&skipBacktest={skip_backtest}&retryRollout={retry_rollout}");
    let request = client.put(format!("{address}?{query}")).json(placed.value());
    let response = request.send().await.map_err(|error| {
        anyhow::Error::new(error.without_url())
            .context(format!("{url} can't be reached; is `vltava up` running there?"))
    })?;
    let status = response.status();
    let header = |name: &str| {
        let values = response.headers().get_all(name).iter();
        values.filter_map(|value| value.to_str().ok().map(String::from)).collect::<Vec<_>>()
    };
    let change = header("x-vltava-change").pop().unwrap_or_else(|| "applied".into());
    let warnings = header("x-vltava-warning");
    let body = response.bytes().await?;
    if !status.is_success() {
        let pointer = serde_json::from_slice::<Value>(&body).ok().and_then(|problem| {
            let first = problem.get("problems")?.get(0)?;
            Some(first.get("pointer")?.as_str()?.to_owned())
        });
        let place = placed.place_of(pointer.as_deref().unwrap_or_default());
        bail!("{place}: {kind} {name}: {}", problem(status.as_u16(), &body));
    }
    Ok(Applied { kind: kind.to_string(), workspace: workspace.into(), name: name.clone(), change, warnings })
}
