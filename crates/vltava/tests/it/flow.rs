//! The flow that tests run: raw -> one transform -> enriched -> HTTP, in a workspace of its own, so
//! that tests can share an engine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::process::{Platform, binary, client};

const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Names of one flow.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) workspace: String,
    pub(crate) raw: String,
    pub(crate) enriched: String,
    pub(crate) dlq: String,
    /// Where redriven records come back to the pipeline, and to the connector.
    pub(crate) retries: [String; 2],
    dir: PathBuf,
    /// Of the two topics, in bytes: so small that segments roll.
    segment_bytes: Option<u32>,
}

/// An event whose `n` is a multiple of this fails [`Flow::write`]'s first expression.
pub(crate) const FAILS_EVERY: u64 = 7;

/// Of the source and of the target.
pub(crate) const PARTITIONS: i32 = 6;

impl Flow {
    /// Writes its manifests into a folder of `dir`. `mended`: no event fails.
    pub(crate) fn write(dir: &Path, receiver: SocketAddr, mended: bool) -> Self {
        let workspace = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]);
        let topic = |variant: &str| format!("dev.{workspace}.events.{variant}");
        let flow = Self {
            raw: topic("raw"),
            enriched: topic("enriched"),
            dlq: topic("dlq"),
            retries: ["pipeline-numbers", "connector-out"]
                .map(|stage| format!("dev.{workspace}.{stage}.retry")),
            workspace,
            dir: dir.join("flow"),
            segment_bytes: None,
        };
        flow.rewrite(receiver, mended);
        flow
    }

    /// The same, with segments of a size.
    pub(crate) fn with_segments(self, bytes: u32, receiver: SocketAddr) -> Self {
        let flow = Self { segment_bytes: Some(bytes), ..self };
        flow.rewrite(receiver, false);
        flow
    }

    /// Writes the manifests again.
    pub(crate) fn rewrite(&self, receiver: SocketAddr, mended: bool) {
        std::fs::create_dir_all(&self.dir).unwrap();
        let Self { workspace, raw, enriched, .. } = self;
        let config =
            self.segment_bytes.map_or_else(String::new, |b| format!(", config: {{ segment.bytes: {b} }}"));
        let checked = if mended { "n" } else { "n % 7 = 0 ? $number(\"seven\") : n" };
        let manifests = format!(
            "apiVersion: vltava/v1
kind: Topic
metadata: {{ name: {raw}, workspace: {workspace} }}
spec: {{ partitions: {PARTITIONS}{config} }}
---
apiVersion: vltava/v1
kind: Topic
metadata: {{ name: {enriched}, workspace: {workspace} }}
spec: {{ partitions: {PARTITIONS}{config} }}
---
apiVersion: vltava/v1
kind: Transform
metadata: {{ name: number, workspace: {workspace} }}
spec:
  language: jsonata
  expression: |
    {{ \"n\": {checked}, \"key\": key, \"seq\": seq }}
---
apiVersion: vltava/v1
kind: Pipeline
metadata: {{ name: numbers, workspace: {workspace} }}
spec:
  sources: [{{ topic: {raw}, from: earliest }}]
  steps: [{{ name: number, transform: number }}]
  target: {{ topic: {enriched} }}
  onError: deadLetter
  parallelism: 2
---
apiVersion: vltava/v1
kind: Connector
metadata: {{ name: out, workspace: {workspace} }}
spec:
  plugin: http-sink
  topics: [{enriched}]
  tasksMax: 1
  config:
    http.url: http://{receiver}/hooks
    http.addresses.allow: 127.0.0.1/32
"
        );
        std::fs::write(self.dir.join("flow.yaml"), manifests).unwrap();
    }

    /// `vltava apply`, and waits until every stage runs what was applied.
    pub(crate) async fn apply(&self, platform: &Platform) {
        let applied = self.try_apply(&platform.url).await;
        applied.unwrap_or_else(|why| panic!("{why}"));
        self.await_running(platform, Duration::from_secs(60)).await;
    }

    /// `vltava apply`, which fails where the process is killed meanwhile.
    pub(crate) async fn try_apply(&self, url: &str) -> Result<(), String> {
        let mut apply = binary();
        apply.arg("apply").arg("-f").arg(&self.dir).args(["--url", url]);
        run(apply).await
    }

    /// `vltava dlq redrive` of all there is, likewise.
    pub(crate) async fn try_redrive(&self, url: &str) -> Result<(), String> {
        let mut redrive = binary();
        redrive.args(["dlq", "redrive", &self.dlq, "--json", "--url", url]);
        run(redrive).await
    }

    /// Waits until every stage of the flow runs at the generation that is wanted.
    pub(crate) async fn await_running(&self, platform: &Platform, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let stages = self.stages(platform).await;
            let running =
                |s: &Value| s["state"] == "Running" && s["generationRunning"] == s["generationWanted"];
            if stages.len() == 2 && stages.iter().all(running) {
                return;
            }
            assert!(Instant::now() < deadline, "the stages don't run: {stages:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The flow's stages, as the status says.
    pub(crate) async fn stages(&self, platform: &Platform) -> Vec<Value> {
        let status = client(REQUEST_MAX).get(format!("{}/api/v1/status", platform.url)).send().await.unwrap();
        let status: Value = status.json().await.unwrap();
        let all = status["stages"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|s| s["workspace"] == *self.workspace).collect()
    }
}

async fn run(command: std::process::Command) -> Result<(), String> {
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
    let stderr = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(stderr()) }
}
