//! What the demo sends: webhook deliveries, from a file or from the samples in the binary.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

const SAMPLES: &str = include_str!("../../../../examples/webhooks/events.ndjson");
/// A file that is larger isn't read into memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// One delivery to send.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// What `x-github-event` says.
    pub(super) kind: String,
    /// Its order: repository and number, or commit. By repository alone nearly all would share a key.
    pub(super) key: String,
    /// The payload's own bytes.
    pub(super) body: Bytes,
}

#[derive(Deserialize)]
struct Line<'a> {
    event: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Reads NDJSON of `{"event", "payload"}`.
pub(super) fn load(path: Option<&Path>) -> Result<Vec<Event>> {
    let (name, text) = match path {
        None => ("the samples".into(), SAMPLES.to_owned()),
        Some(path) => {
            let name = path.display().to_string();
            let size = std::fs::metadata(path).with_context(|| name.clone())?.len();
            ensure!(size <= FILE_BYTES_MAX, "{name}: larger than {FILE_BYTES_MAX} bytes");
            (name.clone(), std::fs::read_to_string(path).context(name)?)
        }
    };
    let events = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| parse(line).with_context(|| format!("{name}, line {}", number + 1)))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!events.is_empty(), "{name}: no events");
    Ok(events)
}

fn parse(line: &str) -> Result<Event> {
    let Line { event, payload } =
        serde_json::from_str(line).context("not {\"event\": NAME, \"payload\": {...}}")?;
    let tree: Value = serde_json::from_str(payload.get())?;
    let body = Bytes::copy_from_slice(payload.get().as_bytes());
    Ok(Event { kind: event, key: key(&tree), body })
}

fn key(payload: &Value) -> String {
    let text = |path: &str| payload.pointer(path).and_then(Value::as_str);
    let number = ["/issue/number", "/pull_request/number", "/number"]
        .iter()
        .find_map(|path| payload.pointer(path)?.as_u64())
        .map(|number| number.to_string());
    let sha = ["/after", "/check_run/head_sha", "/workflow_run/head_sha", "/deployment/sha"]
        .iter()
        .find_map(|path| text(path));
    let repository = text("/repository/full_name").unwrap_or("unknown");
    match number.as_deref().or(sha) {
        Some(part) => format!("{repository}#{part}"),
        None => repository.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_whole_and_some_fail_the_first_expression() {
        let events = load(None).unwrap();
        assert!(events.len() >= 40);
        let without_text =
            events.iter().filter(|e| String::from_utf8_lossy(&e.body).contains("\"body\":null")).count();
        assert!(without_text > 0);
        let keys: std::collections::BTreeSet<_> = events.iter().map(|e| &e.key).collect();
        assert!(keys.len() > events.len() / 2, "{} keys", keys.len());
    }

    #[test]
    fn a_line_that_is_no_event_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"{\"event\":\"push\",\"payload\":{}}\n{\"x\":1}\n").unwrap();
        let error = format!("{:#}", load(Some(file.path())).unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }
}
