//! Runs over dead letters: the process at `--url` does them, and is asked how far it is.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use deadletter::{Action, Repair};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{StreamName, TopicName};

use super::super::list::each;
use super::super::{answer, http};
use crate::cli::{DiscardArgs, RedriveArgs, RunArgs, RunName};
use crate::output::{self, Rows, printable};

/// How often a run is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// Of a sample's value, so many characters are shown to people; `--json` shows all that the process tells.
const SAMPLE_CHARS_MAX: usize = 300;

pub(crate) async fn redrive_command(asked: RedriveArgs) -> Result<()> {
    let RedriveArgs { run, repair, repair_headers, to } = asked;
    let action = match to.as_deref() {
        None => Action::Redrive,
        Some("origin") => Action::RedriveToOrigin,
        Some(topic) => Action::RedriveTo { topic: TopicName::for_caller(topic)? },
    };
    let repair = Repair { value: repair, headers: repair_headers };
    do_and_say(run, action, repair).await
}

pub(crate) async fn discard_command(asked: DiscardArgs) -> Result<()> {
    do_and_say(asked.run, Action::Discard, Repair::default()).await
}

async fn do_and_say(args: RunArgs, action: Action, repair: Repair) -> Result<()> {
    let RunArgs { topic, selection, limit, rate, dry_run, workspace, url, json } = args;
    let topic = TopicName::for_caller(&topic)?;
    let workspace = workspace.or_else(|| StreamName::parse(&topic).map(|name| name.workspace));
    let workspace = workspace.with_context(|| format!("whose is {topic}? say --workspace"))?;
    let bar = progress(json.json || dry_run);
    let asked = Asked {
        selection: selection.of(limit),
        rate: (rate > 0).then_some(rate),
        dry_run,
        action: action.clone(),
        repair,
    };
    let client = http(&url.url).await?;
    let done = redrive(&client, &url.url, &workspace, &topic, &asked, |run| {
        bar.set_length(run.planned);
        bar.set_position(run.settled);
    })
    .await?;
    bar.finish_and_clear();
    if json.json {
        return output::json(&done);
    }
    say(&topic, &action, &done, dry_run);
    Ok(())
}

fn say(topic: &TopicName, action: &Action, run: &Redriven, dry_run: bool) {
    let Redriven { run: _, selected, redriven, unroutable, unrepaired, stages, readers, samples } = run;
    let discards = *action == Action::Discard;
    match (dry_run, discards) {
        (true, false) => {
            output::line(format_args!("{selected} record(s) of {topic} would go back; nothing was done"));
        }
        (true, true) => {
            output::line(format_args!("{selected} record(s) of {topic} would be given up; nothing was done"));
        }
        (false, false) => output::line(format_args!("gave {redriven} record(s) of {topic} back")),
        (false, true) => output::line(format_args!("gave {redriven} record(s) of {topic} up")),
    }
    for stage in stages {
        let to = match (&stage.to, discards) {
            (Some(to), _) => format!("  -> {to}"),
            (None, true) => String::new(),
            (None, false) => "  -> (nobody takes them back: they stay)".into(),
        };
        output::line(format_args!("  {:>8}  {}{to}", stage.letters, printable(&stage.stage, 120)));
    }
    for (topic, groups) in readers {
        let names: Vec<_> = groups.iter().map(|group| printable(group, 120)).collect();
        let names = if names.is_empty() { "no group".into() } else { names.join(", ") };
        output::line(format_args!("{topic} is read by {names}"));
    }
    if *unroutable > 0 {
        output::line(format_args!(
            "{unroutable} record(s) stay: no stage of this workspace takes them there"
        ));
    }
    if *unrepaired > 0 {
        output::line(format_args!("{unrepaired} record(s) stay: the repair fails for them"));
    }
    samples.iter().for_each(say_sample);
}

/// One record before and after.
fn say_sample(sample: &Value) {
    let text = |value: &Value| {
        let text = value["text"].as_str().map(str::to_owned);
        let text = text.or_else(|| value["base64"].as_str().map(|bytes| format!("(base64) {bytes}")));
        text.map_or_else(|| "(none)".to_owned(), |text| printable(&text, SAMPLE_CHARS_MAX))
    };
    let letter = &sample["letter"];
    let said = |name: &str, max| printable(letter[name].as_str().unwrap_or_default(), max);
    output::line(format_args!("\n{}  {}: {}", said("id", 300), said("reason", 40), said("message", 300)));
    output::line(format_args!("  value   {}", text(&letter["value"])));
    if let Some(why) = sample["stays"].as_str() {
        output::line(format_args!("  stays   {}", printable(why, SAMPLE_CHARS_MAX)));
        return;
    }
    let sent = &sample["sent"];
    if sent.is_object() && sent["value"] != letter["value"] {
        output::line(format_args!("  sent    {}", text(&sent["value"])));
    }
    let made = &sample["made"];
    match made["outcome"].as_str() {
        Some("value") => {
            output::line(format_args!(
                "  makes   {}",
                printable(&made["result"].to_string(), SAMPLE_CHARS_MAX)
            ));
        }
        Some("undefined") => output::line("  makes   nothing: the pipeline drops it"),
        Some("error") => {
            let message = made["error"]["message"].as_str().unwrap_or_default();
            output::line(format_args!("  fails   {}", printable(message, SAMPLE_CHARS_MAX)));
        }
        _ => {}
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

/// What the process is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    pub(crate) selection: deadletter::Selection,
    pub(crate) rate: Option<u32>,
    pub(crate) dry_run: bool,
    pub(crate) action: Action,
    pub(crate) repair: Repair,
}

impl Asked {
    /// All there is goes back to its stages, as fast as it goes.
    pub(crate) fn everything() -> Self {
        let (selection, action, repair) = Default::default();
        Self { selection, rate: None, dry_run: false, action, repair }
    }
}

/// What a run did, or would do.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redriven {
    /// The run's id; none of a dry run.
    pub(crate) run: Option<String>,
    /// Records that were meant and can be settled.
    pub(crate) selected: u64,
    /// Records that were settled.
    pub(crate) redriven: u64,
    /// Records that were meant and stay.
    pub(crate) unroutable: u64,
    /// Records that were meant and stay, because they can't be mended.
    pub(crate) unrepaired: u64,
    /// By stage.
    pub(crate) stages: Vec<StagePlan>,
    /// Groups that read where the records go, by topic.
    pub(crate) readers: BTreeMap<String, Vec<String>>,
    /// Of a dry run: the first records, before and after.
    pub(crate) samples: Vec<Value>,
}

#[derive(Debug, Deserialize, Serialize)]
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
    unrepaired: u64,
    too_large: u64,
}

/// Asks the process at `url` for a run and waits for its end.
pub(crate) async fn redrive(
    client: &reqwest::Client,
    url: &str,
    workspace: &str,
    topic: &TopicName,
    asked: &Asked,
    mut report: impl FnMut(&Progress),
) -> Result<Redriven> {
    let url = url.trim_end_matches('/');
    let address = format!("{url}/api/v1/workspaces/{workspace}/dlq/{topic}/redrive");
    let begun = answer(&address, client.post(&address).json(asked)).await?;
    let plan = &begun["plan"];
    let number = |name: &str| plan.get(name).and_then(Value::as_u64).unwrap_or(0);
    let planned = Redriven {
        run: None,
        selected: number("routable"),
        redriven: 0,
        unroutable: number("unroutable"),
        unrepaired: number("unrepaired"),
        stages: serde_json::from_value(plan["stages"].clone()).unwrap_or_default(),
        readers: serde_json::from_value(begun["readers"].clone()).unwrap_or_default(),
        samples: serde_json::from_value(begun["samples"].clone()).unwrap_or_default(),
    };
    if asked.dry_run {
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
                let unrepaired = planned.unrepaired.max(progress.unrepaired);
                let redriven = progress.settled;
                return Ok(Redriven { run: Some(run), redriven, unroutable, unrepaired, ..planned });
            }
            Some("Failed") => {
                bail!("the run {run} failed: {}", status["reason"].as_str().unwrap_or("no reason given"))
            }
            Some(state @ ("Cancelled" | "Paused")) => {
                let state = state.to_lowercase();
                bail!("the run {workspace}/{run} was {state} after {} record(s)", progress.settled)
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// The runs of a workspace.
pub(crate) async fn list(workspace: &str, url: &str, as_json: bool) -> Result<()> {
    let address = format!("{}/api/v1/workspaces/{workspace}/redrives", url.trim_end_matches('/'));
    let headings = ["run", "dlq", "action", "state", "settled", "planned", "stay", "reason"];
    let mut table = Rows::new(&headings).right(&[4, 5, 6]);
    each(&http(&address).await?, &address, |run| {
        if as_json {
            return output::json(&run);
        }
        let status = &run["status"];
        let progress: Progress = serde_json::from_value(status["progress"].clone()).unwrap_or_default();
        let text = |value: &Value, max| value.as_str().map_or_else(|| "-".into(), |t| printable(t, max));
        let planned = run["status"]["plan"]["routable"].as_u64().unwrap_or(progress.planned);
        table.row(vec![
            format!("{workspace}/{}", text(&run["metadata"]["name"], 40)),
            text(&run["spec"]["topic"], 249),
            text(&run["spec"]["action"]["kind"], 20),
            text(&status["state"], 20),
            progress.settled.to_string(),
            planned.to_string(),
            (progress.unroutable + progress.unrepaired + progress.too_large).to_string(),
            text(&status["reason"], 200),
        ]);
        Ok(())
    })
    .await?;
    if !as_json {
        table.print();
    }
    Ok(())
}

/// Pauses, resumes or cancels a run.
pub(crate) async fn ask(name: &RunName, verb: &str) -> Result<()> {
    let RunName { name, url, json } = name;
    let (workspace, run) = name
        .split_once('/')
        .with_context(|| format!("{name:?} is no WORKSPACE/RUN; see `vltava dlq runs`"))?;
    let url = url.url.trim_end_matches('/');
    let address = format!("{url}/api/v1/workspaces/{workspace}/redrives/{run}:{verb}");
    let resource = answer(&address, http(&address).await?.post(&address)).await?;
    if json.json {
        return output::json(&resource);
    }
    let done = match verb {
        "pause" => "pauses: what is under way is committed first",
        "resume" => "goes on",
        _ => "ends: what it has settled stays settled",
    };
    output::line(format_args!("run {name} {done}; `vltava dlq runs {workspace}` shows it"));
    Ok(())
}
