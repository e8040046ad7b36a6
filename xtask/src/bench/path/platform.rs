//! One `vltava up` on a directory of its own, and the flows that are put into it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::process::Process;

/// What a stage may take until it runs, and a batch until it is through.
const WAIT_MAX: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);
/// The variable that deliveries are signed with.
const SECRET: &str = "BENCH_SIGNING_SECRET";

pub(super) struct Platform {
    pub(super) process: Process,
    pub(super) http: SocketAddr,
    /// Where Kafka clients connect to.
    pub(super) kafka: String,
    binary: std::path::PathBuf,
    dir: tempfile::TempDir,
}

impl Platform {
    /// With the embedded broker and its durable default, or on the engine at this address.
    pub(super) fn start(binary: &Path, bootstrap: Option<&str>) -> Result<Self> {
        Self::start_in(tempfile::tempdir()?, binary, bootstrap)
    }

    /// A new process on the same directory, which knows nothing of what the old one did but what it stored.
    pub(super) fn again(self, bootstrap: Option<&str>) -> Result<Self> {
        let Self { process, dir, binary, .. } = self;
        drop(process);
        Self::start_in(dir, &binary, bootstrap)
    }

    fn start_in(dir: tempfile::TempDir, binary: &Path, bootstrap: Option<&str>) -> Result<Self> {
        let mut up = Command::new(binary);
        up.env(SECRET, "whsec_c2VjcmV0LW9mLXRoZS1iZW5jaC1ydW4h");
        up.args(["up", "--json", "--http", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(dir.path().join("data"));
        match bootstrap {
            Some(bootstrap) => up.args(["--broker", "off", "--kafka-bootstrap", bootstrap]),
            None => up.args(["--broker", "127.0.0.1:0"]),
        };
        let process = Process::start(&mut up, &dir.path().join("log"))?;
        let said: Value = serde_json::from_str(&process.said).context("what `up --json` said")?;
        let text = |name: &str| said[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        ensure!(said["ready"] == true, "it isn't ready: {said}");
        Ok(Self {
            http: text("http")?.parse()?,
            kafka: text("kafka")?,
            process,
            binary: binary.to_owned(),
            dir,
        })
    }

    /// Puts manifests, and waits until every stage runs.
    pub(super) fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.dir.path().join("flow.yaml");
        fs::write(&file, manifests)?;
        let output = Command::new(&self.binary)
            .args(["apply", "--url", &format!("http://{}", self.http), "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "apply failed: {}", String::from_utf8_lossy(&output.stderr));
        let wanted = ["kind: Pipeline\n", "kind: Connector\n"].map(|kind| manifests.matches(kind).count());
        let wanted: usize = wanted.into_iter().sum();
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let status = self.status()?;
            let stages = status["stages"].as_array().cloned().unwrap_or_default();
            let waiting = stages.iter().find(|stage| stage["state"] != "Running");
            if waiting.is_none() && stages.len() >= wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "of {wanted} stages {} are there, of which this doesn't run: {waiting:?}\n{}",
                    stages.len(),
                    self.log()
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until ingest takes events for this topic: what it sends for that is an event that lies there.
    pub(super) fn await_topic(&self, topic: &str) -> Result<()> {
        let request = super::load::post(topic, None, "{\"first\":true}");
        self.wait("the topic", || {
            let mut stream = TcpStream::connect(self.http)?;
            stream.write_all(&request)?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"HTTP/1.1 202")
        })?;
        Ok(())
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Every stage's state and counts.
    pub(super) fn status(&self) -> Result<Value> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "status answers {head}");
        Ok(serde_json::from_str(body)?)
    }

    /// Waits until `done` says so, asking every 50 ms; returns when it did.
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<Instant> {
        let deadline = Instant::now() + WAIT_MAX;
        while !done()? {
            ensure!(Instant::now() < deadline, "{what}: not within {WAIT_MAX:?}\n{}", self.log());
            std::thread::sleep(POLL);
        }
        Ok(Instant::now())
    }

    /// Records that a stage has written or delivered, with those that it dead-lettered.
    pub(super) fn out(&self, kind: &str) -> Result<u64> {
        let status = self.status()?;
        let stages = status["stages"].as_array().context("no stages")?;
        let stage = stages.iter().find(|stage| stage["kind"] == kind).context("no such stage")?;
        Ok(stage["outTotal"].as_u64().unwrap_or(0) + stage["deadLetteredTotal"].as_u64().unwrap_or(0))
    }
}

/// A topic of twelve partitions.
pub(super) fn topic(name: &str) -> String {
    format!(
        "apiVersion: vltava/v1\nkind: Topic\nmetadata: {{ name: {name}, workspace: bench }}\n\
         spec: {{ partitions: 12, owner: bench, purpose: bench, ingest: {{ key: /key }} }}\n---\n"
    )
}

/// A transform that takes an event apart and makes a smaller one, and its pipeline.
pub(super) fn pipeline(name: &str, from: &str, to: &str) -> String {
    format!(
        "apiVersion: vltava/v1\nkind: Transform\nmetadata: {{ name: {name}, workspace: bench }}\nspec:\n  \
         language: jsonata\n  expression: |\n    {{ \"n\": n, \"key\": key, \"count\": $count(items), \
         \"score\": $sum(items.score), \"text\": text }}\n---\n\
         apiVersion: vltava/v1\nkind: Pipeline\nmetadata: {{ name: {name}, workspace: bench }}\nspec:\n  \
         sources:\n    - {{ topic: {from}, from: earliest }}\n  steps:\n    - {{ name: shape, transform: {name} }}\n  \
         target: {{ topic: {to} }}\n---\n"
    )
}

/// A connector to a receiver here.
pub(super) fn connector(name: &str, from: &str, to: SocketAddr) -> String {
    format!(
        "apiVersion: vltava/v1\nkind: Connector\nmetadata: {{ name: {name}, workspace: bench }}\nspec:\n  \
         plugin: http-sink\n  topics: [{from}]\n  config:\n    http.url: http://{to}/hooks\n    \
         http.addresses.allow: 127.0.0.1/32\n    http.signing.secret: ${{env:{SECRET}}}\n---\n"
    )
}
