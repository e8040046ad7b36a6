//! `vltava dlq`: listing needs Kafka alone; giving back is the process' work, asked for by HTTP.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use deadletter::{Dlq, Letter};
use indicatif::{ProgressBar, ProgressStyle};
use kafka::{Admin, ClientConfig};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{StreamName, TopicName};

use super::tail::{as_json, text};
use super::topics::client;
use super::{answer, http};
use crate::cli::{DlqCommand, Engine, Selection};
use crate::output::{self, Rows, printable};

/// How often a run is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// Of a value, so many characters are shown to people; `--json` shows all.
const VALUE_CHARS_MAX: usize = 600;

pub(crate) async fn run(command: DlqCommand) -> Result<()> {
    match command {
        DlqCommand::Ls { topic, engine, json } => list(topic.as_deref(), &engine, json.json).await,
        DlqCommand::Show { topic, selection, limit, engine, json } => {
            show(&topic, &selection, limit, &engine, json.json).await
        }
        DlqCommand::Redrive { topic, selection, rate, dry_run, workspace, url, json } => {
            let topic = TopicName::for_caller(&topic)?;
            let workspace = workspace.or_else(|| StreamName::parse(&topic).map(|name| name.workspace));
            let workspace = workspace.with_context(|| format!("whose is {topic}? say --workspace"))?;
            let bar = progress(json.json || dry_run);
            let done = redrive(&url.url, &workspace, &topic, &selection, rate, dry_run, |run| {
                bar.set_length(run.planned);
                bar.set_position(run.settled);
            })
            .await?;
            bar.finish_and_clear();
            if json.json {
                return output::json(&done);
            }
            say(&topic, &done, dry_run);
            Ok(())
        }
    }
}

fn say(topic: &TopicName, run: &Redriven, dry_run: bool) {
    let Redriven { selected, redriven, unroutable, stages, .. } = run;
    if dry_run {
        output::line(format_args!("{selected} record(s) of {topic} would go back; nothing was done"));
    } else {
        output::line(format_args!("gave {redriven} record(s) of {topic} back"));
    }
    for stage in stages {
        let to = stage.to.as_deref().unwrap_or("(nobody takes them back: they stay)");
        output::line(format_args!("  {:>8}  {}  -> {to}", stage.letters, stage.stage));
    }
    if *unroutable > 0 {
        output::line(format_args!("{unroutable} record(s) stay: their stage isn't one of this workspace"));
    }
}

fn progress(hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} {per_sec} {eta} left";
    ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// DLQs by their name: those that end as the default policy says.
async fn dlqs(client: &ClientConfig) -> Result<Vec<TopicName>> {
    let topics = Admin::new(client)?.list_topics().await?;
    let mut names: Vec<_> =
        topics.into_iter().map(|t| t.name).filter(|n| n.as_str().ends_with(".dlq")).collect();
    names.sort();
    Ok(names)
}

async fn list(topic: Option<&str>, engine: &Engine, as_json: bool) -> Result<()> {
    let client = client(engine);
    let topics = match topic {
        Some(topic) => vec![TopicName::new(topic)?],
        None => dlqs(&client).await?,
    };
    let mut table =
        Rows::new(&["topic", "stage", "reason", "open", "settled", "last", "message"]).right(&[3, 4]);
    let mut open = 0;
    for topic in topics {
        let summary = Dlq::new(&client, topic.clone())?.summary(&deadletter::Selection::default()).await?;
        open += summary.unsettled;
        if as_json {
            output::json(&json!({ "topic": topic, "summary": summary }))?;
            continue;
        }
        for group in summary.groups.into_iter().filter(|group| group.unsettled > 0) {
            table.row(vec![
                topic.to_string(),
                printable(&group.stage, 80),
                printable(&group.reason, 40),
                group.unsettled.to_string(),
                group.settled.to_string(),
                group.last_at.map_or_else(|| "-".into(), |at| at.strftime("%F %T").to_string()),
                printable(&group.message, 100),
            ]);
        }
    }
    if as_json {
        return Ok(());
    }
    if open == 0 {
        output::line("no dead letters are open");
    } else {
        table.print();
    }
    Ok(())
}

fn selected(selection: &Selection, limit: Option<u64>) -> deadletter::Selection {
    let Selection { stage, reason } = selection.clone();
    deadletter::Selection { stage, reason, limit, ..deadletter::Selection::default() }
}

async fn show(topic: &str, selection: &Selection, limit: usize, engine: &Engine, json: bool) -> Result<()> {
    let dlq = Dlq::new(&client(engine), TopicName::new(topic)?)?;
    let listing = dlq.list(&selected(selection, Some(limit as u64)), false).await?;
    for (letter, _) in &listing.letters {
        if json {
            output::json(&as_json(&letter.record))?;
            continue;
        }
        let Letter { record, stage_text, reason, message, .. } = letter;
        output::line(format_args!(
            "{}  {}",
            letter.id(),
            letter.at().map_or_else(|| "-".into(), |at| at.to_string())
        ));
        output::line(format_args!("  stage   {}", printable(stage_text, 120)));
        output::line(format_args!("  why     {}: {}", printable(reason, 40), printable(message, 1024)));
        let origin = |name| record.headers.get_str(name).unwrap_or("?");
        output::line(format_args!(
            "  origin  {} partition {} offset {}",
            printable(origin(types::names::ORIGIN_TOPIC), 249),
            printable(origin(types::names::ORIGIN_PARTITION), 12),
            printable(origin(types::names::ORIGIN_OFFSET), 20)
        ));
        output::line(format_args!("  key     {}", text(record.key.as_ref(), 120)));
        output::line(format_args!("  value   {}\n", text(record.value.as_ref(), VALUE_CHARS_MAX)));
    }
    if !json {
        let more = listing.matched.saturating_sub(listing.letters.len() as u64);
        output::line(format_args!(
            "{} shown, {more} more open, {} settled",
            listing.letters.len(),
            listing.hidden
        ));
    }
    Ok(())
}

/// What a redrive did, or would do.
#[derive(Debug, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Redriven {
    /// The run's id; none of a dry run.
    pub(crate) run: Option<String>,
    /// Records that were meant and can go back.
    pub(crate) selected: u64,
    /// Records that went back.
    pub(crate) redriven: u64,
    /// Records that were meant and stay.
    pub(crate) unroutable: u64,
    /// By stage.
    pub(crate) stages: Vec<StagePlan>,
}

#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct StagePlan {
    stage: String,
    to: Option<String>,
    letters: u64,
}

/// How far a run is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Progress {
    pub(crate) planned: u64,
    pub(crate) settled: u64,
    unroutable: u64,
    too_large: u64,
}

/// Asks the process at `url` for a redrive and waits for its end.
pub(crate) async fn redrive(
    url: &str,
    workspace: &str,
    topic: &TopicName,
    selection: &Selection,
    rate: u32,
    dry_run: bool,
    mut report: impl FnMut(&Progress),
) -> Result<Redriven> {
    let url = url.trim_end_matches('/');
    let client = http()?;
    let address = format!("{url}/api/v1/workspaces/{workspace}/dlq/{topic}/redrive");
    let body = json!({
        "selection": selected(selection, None), "rate": (rate > 0).then_some(rate), "dryRun": dry_run,
    });
    let begun = answer(&address, client.post(&address).json(&body)).await?;
    let plan = &begun["plan"];
    let number = |name: &str| plan.get(name).and_then(Value::as_u64).unwrap_or(0);
    let stages = serde_json::from_value(plan["stages"].clone()).unwrap_or_default();
    let planned = Redriven {
        run: None,
        selected: number("routable"),
        redriven: 0,
        unroutable: number("unroutable"),
        stages,
    };
    if dry_run {
        return Ok(planned);
    }
    let run = begun["run"].as_str().context("the answer names no run")?.to_owned();
    let address = format!("{url}/api/v1/workspaces/{workspace}/redrives/{run}");
    loop {
        let redrive = answer(&address, client.get(&address)).await?;
        let status = &redrive["status"];
        let progress: Progress = serde_json::from_value(status["progress"].clone()).unwrap_or_default();
        report(&progress);
        match status["state"].as_str() {
            Some("Done") => {
                let unroutable = planned.unroutable.max(progress.unroutable) + progress.too_large;
                return Ok(Redriven { run: Some(run), redriven: progress.settled, unroutable, ..planned });
            }
            Some("Failed" | "Cancelled") => {
                bail!("the redrive {run} ended: {}", status["reason"].as_str().unwrap_or("no reason given"))
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}
