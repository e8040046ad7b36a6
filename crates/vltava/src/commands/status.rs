//! `vltava status`: every stage, its state and why, its lag.

use anyhow::Result;
use owo_colors::OwoColorize as _;
use runtime::{StageState, StageStatus};
use serde_json::Value;

use super::{answer, http};
use crate::cli::Url;
use crate::output::{self, Rows, printable};

pub(crate) async fn run(url: &Url, as_json: bool) -> Result<()> {
    let address = format!("{}/api/v1/status", url.url.trim_end_matches('/'));
    let status = answer(&address, http(&address).await?.get(&address)).await?;
    if as_json {
        return output::json(&status);
    }
    let stages: Vec<StageStatus> =
        serde_json::from_value(status.get("stages").cloned().unwrap_or(Value::Null))?;
    if stages.is_empty() {
        output::line("nothing runs yet: put a flow with `vltava apply -f DIR`");
        return Ok(());
    }
    let mut table =
        Rows::new(&["kind", "workspace", "name", "state", "version", "lag", "in", "out", "dead", "reason"])
            .right(&[5, 6, 7, 8]);
    for stage in stages {
        table.row(vec![
            stage.kind,
            stage.workspace,
            stage.name,
            state(stage.state),
            stage.version.unwrap_or_else(|| "-".into()),
            stage.lag.map_or_else(|| "?".into(), |lag| lag.to_string()),
            stage.in_total.to_string(),
            stage.out_total.to_string(),
            stage.dead_lettered_total.to_string(),
            printable(stage.reason.as_deref().unwrap_or("-"), 120),
        ]);
    }
    table.print();
    Ok(())
}

fn state(state: StageState) -> String {
    let text = format!("{state:?}");
    if !output::is_terminal() {
        return text;
    }
    match state {
        StageState::Running => text.green().to_string(),
        StageState::Failed => text.red().to_string(),
        StageState::Starting | StageState::Paused | StageState::Degraded | StageState::Stopped => {
            text.yellow().to_string()
        }
    }
}
