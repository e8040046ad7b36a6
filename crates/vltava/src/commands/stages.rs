//! `vltava pipelines` and `vltava connectors`: what is asked of a stage besides its spec. The process does it.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::{answer, http};
use crate::cli::{ConnectorsCommand, PipelinesCommand, Place, RollBack, StageName};
use crate::output::{self, Rows};

/// What is asked of which kind.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    plural: &'static str,
}

const PIPELINE: Kind = Kind { name: "Pipeline", plural: "pipelines" };
const CONNECTOR: Kind = Kind { name: "Connector", plural: "connectors" };

pub(crate) async fn pipelines(command: PipelinesCommand) -> Result<()> {
    match command {
        PipelinesCommand::Pause(stage) => ask(PIPELINE, &stage, "pause").await,
        PipelinesCommand::Resume(stage) => ask(PIPELINE, &stage, "resume").await,
        PipelinesCommand::Restart(stage) => ask(PIPELINE, &stage, "restart").await,
        PipelinesCommand::Versions(stage) => versions(&stage).await,
        PipelinesCommand::Rollback(asked) => roll_back(&asked).await,
        PipelinesCommand::ResetOffsets { stage, reset } => reset_offsets(PIPELINE, &stage, &reset).await,
    }
}

pub(crate) async fn connectors(command: ConnectorsCommand) -> Result<()> {
    match command {
        ConnectorsCommand::Pause(stage) => ask(CONNECTOR, &stage, "pause").await,
        ConnectorsCommand::Resume(stage) => ask(CONNECTOR, &stage, "resume").await,
        ConnectorsCommand::Stop(stage) => ask(CONNECTOR, &stage, "stop").await,
        ConnectorsCommand::Restart(stage) => ask(CONNECTOR, &stage, "restart").await,
        ConnectorsCommand::ResetOffsets { stage, reset } => reset_offsets(CONNECTOR, &stage, &reset).await,
    }
}

/// A pipeline's workspace and name.
pub(super) async fn find_pipeline(stage: &StageName) -> Result<(String, String)> {
    find(PIPELINE, stage).await
}

/// `WORKSPACE/NAME`, the workspace found where it isn't said.
async fn find(kind: Kind, stage: &StageName) -> Result<(String, String)> {
    if let Some((workspace, name)) = stage.name.split_once('/') {
        return Ok((workspace.to_owned(), name.to_owned()));
    }
    let address = format!("{}/api/v1/status", stage.url.url.trim_end_matches('/'));
    let status = answer(&address, http(&address).await?.get(&address)).await?;
    let text = |stage: &Value, name: &str| stage[name].as_str().unwrap_or_default().to_owned();
    let stages = status["stages"].as_array().cloned().unwrap_or_default();
    let of_kind: Vec<&Value> = stages.iter().filter(|found| found["kind"] == kind.name).collect();
    let found: Vec<String> = of_kind
        .iter()
        .filter(|found| found["name"] == *stage.name)
        .map(|found| text(found, "workspace"))
        .collect();
    match found.as_slice() {
        [workspace] => Ok((workspace.clone(), stage.name.clone())),
        [] => {
            let known: Vec<String> = of_kind
                .iter()
                .map(|found| format!("{}/{}", text(found, "workspace"), text(found, "name")))
                .collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            bail!("there is no {} {}; there are: {known}", kind.name.to_lowercase(), stage.name)
        }
        several => {
            let names: Vec<String> = several.iter().map(|w| format!("{w}/{}", stage.name)).collect();
            bail!(
                "several workspaces have a {} {}: say {}",
                kind.name.to_lowercase(),
                stage.name,
                names.join(" or ")
            )
        }
    }
}

async fn post(kind: Kind, stage: &StageName, verb: &str, body: Option<Value>) -> Result<(String, Value)> {
    let (workspace, name) = find(kind, stage).await?;
    let url = stage.url.url.trim_end_matches('/');
    let address = format!("{url}/api/v1/workspaces/{workspace}/{}/{name}:{verb}", kind.plural);
    let request = http(&address).await?.post(&address);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Ok((format!("{} {workspace}/{name}", kind.name.to_lowercase()), answer(&address, request).await?))
}

async fn ask(kind: Kind, stage: &StageName, verb: &str) -> Result<()> {
    let (name, resource) = post(kind, stage, verb, None).await?;
    if stage.json.json {
        return output::json(&resource);
    }
    let done = match verb {
        "pause" => "pauses: what is under way ends first",
        "resume" => "goes on",
        "stop" => "stops: what is under way ends first",
        _ => "begins anew",
    };
    output::line(format_args!("{name} {done}; `vltava status` shows it"));
    Ok(())
}

/// Versions by step, as a pipeline's status has them.
fn steps(versions: &Value) -> String {
    let steps = versions["steps"].as_object().into_iter().flatten();
    steps
        .map(|(step, version)| format!("{step}: {}", version.as_str().unwrap_or_default()))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn versions(stage: &StageName) -> Result<()> {
    let (workspace, name) = find(PIPELINE, stage).await?;
    let url = stage.url.url.trim_end_matches('/');
    let address = format!("{url}/api/v1/workspaces/{workspace}/pipelines/{name}");
    let resource = answer(&address, http(&address).await?.get(&address)).await?;
    let all = resource["status"]["versions"].as_array().cloned().unwrap_or_default();
    if stage.json.json {
        return all.iter().try_for_each(output::json);
    }
    let mut table = Rows::new(&["generation", "from", "to", "versions"]).right(&[0]);
    let since = |versions: &Value| versions["since"].as_str().unwrap_or_default().to_owned();
    for (i, versions) in all.iter().enumerate() {
        let to = all.get(i + 1).map_or_else(|| "now".to_owned(), since);
        table.row(vec![versions["generation"].to_string(), since(versions), to, steps(versions)]);
    }
    table.print();
    for (version, rolled_back) in resource["status"]["rolledBack"].as_object().into_iter().flatten() {
        let text = |name: &str| rolled_back[name].as_str().unwrap_or_default();
        output::note(format_args!("{version} was rolled back at {}: {}", text("at"), text("reason")));
    }
    Ok(())
}

async fn roll_back(asked: &RollBack) -> Result<()> {
    let RollBack { stage, to, reason } = asked;
    let body = json!({ "generation": to, "reason": reason });
    let (name, resource) = post(PIPELINE, stage, "rollBack", Some(body)).await?;
    if stage.json.json {
        return output::json(&resource);
    }
    let now = resource["status"]["versions"].as_array().and_then(|all| all.last()).map(steps);
    output::line(format_args!(
        "{name} has {} from its next batch on; `vltava status` shows when it is in force",
        now.unwrap_or_default()
    ));
    Ok(())
}

async fn reset_offsets(kind: Kind, stage: &StageName, reset: &Place) -> Result<()> {
    let Place { to, shift, topics, dry_run } = reset;
    let mut body = Map::new();
    body.extend(to.iter().map(|to| ("to".to_owned(), json!(to))));
    body.extend(shift.iter().map(|shift| ("shift".to_owned(), json!(shift))));
    if !topics.is_empty() {
        body.insert("topics".into(), json!(topics));
    }
    let verb = if *dry_run { "resetOffsets?dryRun=true" } else { "resetOffsets" };
    let (name, moved) = post(kind, stage, verb, Some(Value::Object(body))).await?;
    if stage.json.json {
        return output::json(&moved);
    }
    let mut table = Rows::new(&["topic", "partition", "from", "to", "records"]).right(&[1, 2, 3, 4]);
    let (mut again, mut skipped) = (0, 0);
    for partition in moved["partitions"].as_array().into_iter().flatten() {
        let (from, to) = (partition["from"].as_i64(), partition["to"].as_i64().unwrap_or(0));
        let by = from.map(|from| to - from);
        again += by.filter(|by| *by < 0).unwrap_or(0).unsigned_abs();
        skipped += by.filter(|by| *by > 0).unwrap_or(0).unsigned_abs();
        table.row(vec![
            partition["topic"].as_str().unwrap_or_default().to_owned(),
            partition["partition"].to_string(),
            from.map_or_else(|| "-".into(), |from| from.to_string()),
            to.to_string(),
            by.map_or_else(|| "-".into(), |by| format!("{by:+}")),
        ]);
    }
    table.print();
    let would = if *dry_run { "would read" } else { "reads" };
    output::line(format_args!(
        "{name} {would} up to {again} records again and up to {skipped} never{}",
        if *dry_run { "; nothing was moved" } else { "; resume it to go on" }
    ));
    Ok(())
}
