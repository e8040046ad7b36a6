//! `vltava send`: NDJSON to `POST /ingest/{topic}`, one event a line.
//!
//! Ends at the first event that is refused, and says which line it was: what came before it is
//! stored. Where the platform is busy it waits as long as it is asked to.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::stream::{FuturesUnordered, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use types::TopicName;

use super::{http, problem};
use crate::cli::Send;
use crate::output;

/// Requests at once, at the most.
const PARALLEL_MAX: usize = 256;
/// A line that is longer isn't an event, in bytes.
const LINE_BYTES_MAX: usize = 16 << 20;
/// How often one event is tried where the platform is busy.
const TRIES_MAX: u32 = 60;
/// No single wait is longer, whatever the answer asks for.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(send: Send) -> Result<()> {
    let topic = TopicName::for_caller(&send.topic)?;
    ensure!(
        (1..=PARALLEL_MAX).contains(&send.parallel),
        "--parallel {}: give 1 to {PARALLEL_MAX}",
        send.parallel
    );
    let headers = headers(&send)?;
    let url = format!("{}/ingest/{topic}", send.url.url.trim_end_matches('/'));
    let client = http(&url).await?;
    let (input, size) = open(&send).await?;
    let bar = progress(size);
    let mut lines = BufReader::with_capacity(64 << 10, input);
    let mut in_flight = FuturesUnordered::new();
    let (mut number, mut sent, mut bytes, mut done) = (0_u64, 0_u64, 0_u64, false);
    while !done || !in_flight.is_empty() {
        while !done && in_flight.len() < send.parallel {
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line).await.context("the input can't be read")?;
            number += 1;
            ensure!(read <= LINE_BYTES_MAX, "line {number}: longer than {LINE_BYTES_MAX} bytes");
            if read == 0 {
                done = true;
                break;
            }
            bar.inc(read as u64);
            if line.trim_ascii().is_empty() {
                continue;
            }
            // The line's end isn't the event's.
            line.truncate(line.trim_ascii_end().len());
            bytes += line.len() as u64;
            in_flight.push(post(client.clone(), url.clone(), headers.clone(), number, line));
        }
        if let Some(outcome) = in_flight.next().await {
            outcome.with_context(|| format!("{sent} event(s) were stored before"))?;
            sent += 1;
            bar.set_message(format!("{sent} events"));
        }
    }
    bar.finish_and_clear();
    if send.json.json {
        return output::json(&json!({ "topic": topic, "sent": sent, "bytes": bytes }));
    }
    output::line(format_args!("sent {sent} event(s), {} to {topic}", output::bytes(bytes)));
    Ok(())
}

fn headers(send: &Send) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for header in &send.headers {
        let (name, value) =
            header.split_once(':').with_context(|| format!("--header {header:?}: give \"NAME: VALUE\""))?;
        let name: HeaderName =
            name.trim().parse().with_context(|| format!("--header {header:?}: the name"))?;
        headers
            .append(name, value.trim().parse().with_context(|| format!("--header {header:?}: the value"))?);
    }
    if let Some(key) = &send.key {
        headers.insert("x-entity-key", key.parse().context("--key: it can't stand in a header")?);
    }
    Ok(headers)
}

async fn open(send: &Send) -> Result<(File, Option<u64>)> {
    let path = send.file.as_deref().filter(|path| path.as_os_str() != "-");
    let path = path.unwrap_or(Path::new("/dev/stdin"));
    let file = File::open(path).await.with_context(|| path.display().to_string())?;
    let size = file.metadata().await.ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    Ok((file, size))
}

fn progress(size: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => {
            (ProgressBar::new(size), "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec} {msg}"),
    };
    // The templates are constants that a test reads.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

async fn post(
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    line: u64,
    body: Vec<u8>,
) -> Result<()> {
    let body = bytes::Bytes::from(body);
    for tried in 1.. {
        let request = client.post(&url).headers(headers.clone()).body(body.clone());
        let response = request.send().await.map_err(|error| {
            anyhow::Error::new(error.without_url())
                .context(format!("line {line}: {url} can't be reached; is `vltava up` running there?"))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // 503 may have stored it: sending it again could double it, so only 429 is tried again.
        if status.as_u16() == 429 && tried < TRIES_MAX {
            let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs(asked.unwrap_or(1)).min(WAIT_MAX)).await;
            continue;
        }
        let body = response.bytes().await.unwrap_or_default();
        bail!("line {line}: {}", problem(status.as_u16(), &body));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_templates_are_valid() {
        for template in [
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg} {eta} left",
            "{spinner} {bytes} {bytes_per_sec} {msg}",
        ] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
