//! `vltava backtest`: the process at `--url` puts a candidate through recorded input; here it is read, shown and judged.
//!
//! Exit status: 0 where no more changed and failed anew than may; 1 where more did, where not all could be compared,
//! where there was nothing to compare, and where it couldn't be done; 2 for a command line that is wrong.

mod candidate;
mod report;
mod verdict;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::RETRY_AFTER;
use serde_json::{Map, Value, json};

use self::candidate::Candidate;
use self::verdict::Verdict;
use super::{http, problem, stages};
use crate::cli::Backtest;
use crate::output;

/// One object of the answer, in bytes: a report with all samples is smaller.
const LINE_BYTES_MAX: usize = 128 << 20;
/// How often it is asked for while others run.
const TRIES_MAX: u32 = 150;
/// The longest wait between two tries, whatever the answer asks for.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(asked: Backtest) -> Result<ExitCode> {
    let candidate = asked.transform.as_deref().map(Candidate::read).transpose()?;
    let (workspace, name) = stages::find_pipeline(&asked.pipeline).await?;
    let url = asked.pipeline.url.url.trim_end_matches('/');
    let address = format!("{url}/api/v1/workspaces/{workspace}/pipelines/{name}:backtest");
    let as_json = asked.pipeline.json.json;
    let mut response = open(&address, &body(&asked, candidate.as_ref())).await?;
    let bar = progress(as_json);
    let mut lines = Vec::new();
    let mut report = None;
    while let Some(chunk) = response.chunk().await.with_context(|| format!("{url} broke off its answer"))? {
        lines.extend_from_slice(&chunk);
        ensure!(
            lines.len() <= LINE_BYTES_MAX,
            "{url} answered with a line of more than {LINE_BYTES_MAX} bytes"
        );
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = lines.drain(..=end).collect();
            let said: Value = serde_json::from_slice(&line)
                .with_context(|| format!("{url} answered with a line that is no JSON"))?;
            if let Some(so_far) = said.get("progress") {
                show_progress(&bar, so_far);
            } else if let Some(error) = said.get("error") {
                bar.finish_and_clear();
                let status = error["status"].as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(500);
                bail!("the backtest ended: {}", problem(status, error.to_string().as_bytes()));
            } else if let Some(found) = said.get("report") {
                report = Some(found.clone());
            }
        }
    }
    bar.finish_and_clear();
    let Some(mut report) = report else { bail!("{url} ended its answer before the backtest's end") };
    let verdict = Verdict::of(&report, asked.max_changed, asked.max_failed);
    if as_json {
        report["verdict"] = verdict.as_json();
        output::json(&report)?;
    } else {
        report::print(&report);
        verdict.print();
    }
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn body(asked: &Backtest, candidate: Option<&Candidate>) -> Value {
    let Backtest {
        pipeline: _,
        transform: _,
        version,
        step,
        last,
        since,
        predicate,
        samples,
        time_limit,
        ..
    } = asked;
    let mut body = Map::new();
    let mut say = |name: &str, value: Option<Value>| body.extend(value.map(|value| (name.to_owned(), value)));
    say("expression", candidate.map(|candidate| json!(candidate.expression)));
    say("version", version.map(|version| json!(version)));
    say("step", step.as_ref().map(|step| json!(step)));
    // A step that is named is meant, whatever its transform's name is.
    let transform = candidate.filter(|_| step.is_none()).and_then(|candidate| candidate.transform.as_ref());
    say("transform", transform.map(|name| json!(name)));
    say("last", last.map(|last| json!(last)));
    say("since", since.as_ref().map(|since| json!(since)));
    say("where", predicate.as_ref().map(|predicate| json!(predicate)));
    say("samples", Some(json!(samples)));
    say("timeLimit", time_limit.as_ref().map(|time| json!(time)));
    Value::Object(body)
}

/// Asks for it, and again while others run.
async fn open(address: &str, body: &Value) -> Result<reqwest::Response> {
    let client = http(address).await?;
    for tried in 1.. {
        let response = client.post(address).json(body).send().await.map_err(|error| {
            anyhow::Error::new(error.without_url()).context(format!("{address} can't be reached"))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.as_u16() == 429 && tried < TRIES_MAX {
            if tried == 1 {
                output::note("other backtests run; waiting for their end");
            }
            let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(asked.unwrap_or(1)).min(WAIT_MAX)).await;
            continue;
        }
        let body = response.bytes().await.unwrap_or_default();
        bail!("{}", problem(status.as_u16(), &body));
    }
    unreachable!("it ends by the number of tries")
}

fn progress(hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {pos}/{len} {msg} {eta} left";
    // The template is a constant that a test reads.
    ProgressBar::new(0)
        .with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show_progress(bar: &ProgressBar, so_far: &Value) {
    let number = |name: &str| so_far[name].as_u64().unwrap_or(0);
    bar.set_length(number("planned"));
    bar.set_position(number("done"));
    bar.set_message(format!("{} compared", number("compared")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_template_is_valid() {
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left").unwrap();
    }
}
