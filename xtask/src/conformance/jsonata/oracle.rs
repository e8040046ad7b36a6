//! The other engine: one node process that answers line by line. One that hangs within what has no
//! time limit of its own (a regular expression) is ended, and a new one goes on behind the request.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NOW_MILLIS, SEED};
use crate::packages;

/// The version that the language is defined by.
const PACKAGE: &str = "jsonata@2.2.2";
/// An evaluation's time, looked at between its parts.
const TIMEOUT_MILLIS: u64 = 500;
/// A request's time for all of its datasets; then the process is ended.
const HANG: Duration = Duration::from_secs(20);
/// Processes that may be ended in a run.
const HANGS_MAX: usize = 20;
const SCRIPT: &str = "oracle.mjs";

/// What both engines are asked: an expression on some inputs.
pub(super) struct Request {
    pub(super) source: String,
    /// Numbers of inputs.
    pub(super) inputs: Vec<usize>,
    pub(super) bindings: Value,
}

/// What an engine makes of an expression and an input.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Outcome {
    /// The value as JSON.
    #[serde(rename = "v")]
    value: Option<String>,
    #[serde(rename = "u", default)]
    undefined: u8,
    #[serde(rename = "c")]
    code: Option<String>,
    #[serde(rename = "p")]
    position: Option<u64>,
    #[serde(rename = "t")]
    token: Option<String>,
    #[serde(rename = "m")]
    message: Option<String>,
    /// There is a function in the value.
    #[serde(default, deserialize_with = "flag")]
    pub(super) function: bool,
    /// There is a number in the value that is not finite.
    #[serde(default, deserialize_with = "flag")]
    pub(super) infinite: bool,
}

fn flag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(from)? != 0)
}

impl Outcome {
    pub(super) fn undefined() -> Self {
        Self { undefined: 1, ..Self::default() }
    }

    pub(super) fn value(text: String) -> Self {
        Self { value: Some(text), ..Self::default() }
    }

    pub(super) fn error(code: &str, offset: usize, token: Option<&str>) -> Self {
        Self {
            code: Some(code.to_owned()),
            position: Some(offset as u64),
            token: token.map(str::to_owned),
            ..Self::default()
        }
    }

    fn hung() -> Self {
        Self { code: Some("D1012".to_owned()), ..Self::default() }
    }

    fn is_error(&self) -> bool {
        self.value.is_none() && self.undefined == 0
    }

    /// Whether a limit ended it: of depth, time, steps or memory.
    pub(super) fn is_limit(&self) -> bool {
        self.code.as_deref().is_some_and(|c| matches!(c, "D1011" | "D1012") || c.starts_with("D190"))
    }

    pub(super) fn same(&self, ours: &Outcome) -> bool {
        self.same_but_for_position(ours)
            && (!self.is_error()
                || self.is_limit()
                || self.position.unwrap_or(0) == ours.position.unwrap_or(0))
    }

    pub(super) fn same_but_for_position(&self, ours: &Outcome) -> bool {
        if self.is_error() {
            return ours.is_error()
                && (self.is_limit() && ours.is_limit()
                    || self.code == ours.code
                        && self.token.as_deref().unwrap_or("") == ours.token.as_deref().unwrap_or(""));
        }
        match (&self.value, &ours.value) {
            (Some(there), Some(here)) => !self.infinite && same_json(there, here),
            (None, None) => ours.undefined == self.undefined,
            _ => false,
        }
    }

    pub(super) fn show(&self) -> String {
        let cut = |text: &str| text.chars().take(300).collect::<String>();
        match (&self.value, self.undefined) {
            (Some(text), _) => format!("value {}", cut(text)),
            (None, 1) => "undefined".to_owned(),
            _ => format!(
                "error {} at {} token {:?} {}",
                self.code.as_deref().unwrap_or("without a code"),
                self.position.map_or("no position".to_owned(), |p| p.to_string()),
                self.token.as_deref().unwrap_or(""),
                cut(self.message.as_deref().unwrap_or(""))
            ),
        }
    }
}

/// Values are the same if their texts are, or what they say is: numbers that were copied are written
/// with more digits by one side.
fn same_json(there: &str, here: &str) -> bool {
    if there == here {
        return true;
    }
    match (serde_json::from_str::<Value>(there), serde_json::from_str::<Value>(here)) {
        (Ok(there), Ok(here)) => same_value(&there, &here),
        _ => false,
    }
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        // In the same order, too.
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same_value(a, b))
        }
        _ => a == b,
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Compile { compile: Outcome },
    Each(Vec<Outcome>),
}

/// A node process; it ends with this value.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) struct Oracle;

impl Oracle {
    /// Asks everything in turn and hands each request's outcomes on. They are fewer than its inputs where
    /// it timed out on so many of them, or hangs.
    pub(super) fn ask(
        inputs: &[Option<String>],
        requests: &[Request],
        timeouts_max: usize,
        mut each: impl FnMut(&Request, Vec<Outcome>),
    ) -> Result<()> {
        let home = packages::npm("jsonata", &[PACKAGE])?;
        let mut at = 0;
        let mut hangs = 0;
        while at < requests.len() {
            let script = format!("{}/baselines/jsonata-oracle/{SCRIPT}", crate_dir()?);
            let mut child = Command::new("node")
                .arg("--max-old-space-size=2048")
                .arg(script)
                .arg(&home)
                .args([TIMEOUT_MILLIS.to_string(), NOW_MILLIS.to_string(), SEED.to_string()])
                .arg(timeouts_max.to_string())
                .env("TZ", "UTC")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("node is needed; on Debian: apt-get install nodejs")?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let _node = Node(child);
            let (mut stdin, stdout) = (stdin.context("no stdin")?, stdout.context("no stdout")?);
            let (answers, answered) = mpsc::sync_channel::<std::io::Result<String>>(64);
            let left = &requests[at..];
            let hung = std::thread::scope(|scope| -> Result<bool> {
                let node = _node;
                // Ends when the process does, or all is written.
                scope.spawn(move || {
                    for text in inputs.iter().flatten() {
                        writeln!(stdin, "{}", json!({ "dataset": text }))?;
                    }
                    for request in left {
                        let of_text = |input: &usize| match &inputs[*input] {
                            Some(_) => inputs[..*input].iter().flatten().count() as i64,
                            None => -1,
                        };
                        let d: Vec<i64> = request.inputs.iter().map(of_text).collect();
                        writeln!(stdin, "{}", json!({"e": request.source, "d": d, "b": request.bindings}))?;
                    }
                    std::io::Result::Ok(())
                });
                scope.spawn(move || {
                    for line in BufReader::new(stdout).lines() {
                        if answers.send(line).is_err() {
                            break;
                        }
                    }
                });
                for request in left {
                    let line = match answered.recv_timeout(HANG) {
                        Ok(line) => line?,
                        Err(_) => {
                            // On the first of its inputs, or a later one: it is not known which.
                            each(request, vec![Outcome::hung()]);
                            at += 1;
                            drop(node);
                            // So that the reader does not wait for a place.
                            drop(answered);
                            return Ok(true);
                        }
                    };
                    let outcomes = match serde_json::from_str(&line).with_context(|| line.clone())? {
                        Answer::Each(outcomes) => outcomes,
                        Answer::Compile { compile } => vec![compile; request.inputs.len()],
                    };
                    ensure!(outcomes.len() <= request.inputs.len(), "more answers than inputs");
                    each(request, outcomes);
                    at += 1;
                }
                Ok(false)
            })?;
            hangs += usize::from(hung);
            ensure!(hangs <= HANGS_MAX, "node hangs again and again");
        }
        Ok(())
    }
}

/// This crate's folder: asked at run time, since a clone may run what another clone built.
pub(super) fn crate_dir() -> Result<String> {
    std::env::var("CARGO_MANIFEST_DIR").context("run it by cargo xtask")
}
