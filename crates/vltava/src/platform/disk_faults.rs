//! The whole platform on a disk that fails: what it says, what it answers, and that it recovers where it can.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::log::testing::{Fault, LossyDisk, Operation};
use serde_json::Value;
use testkit::{Receiver, Reply};

use super::*;
use crate::commands::gitops;

const SOON: Duration = Duration::from_secs(60);
/// An ingest request is answered after about this time, where its record can't be stored.
const DELIVERY_MAX_MS: u32 = 1500;

const MANIFESTS: &str = "
apiVersion: vltava/v1
kind: Topic
metadata: { name: dev.disk.events.raw, workspace: disk }
spec: { partitions: 2 }
---
apiVersion: vltava/v1
kind: Topic
metadata: { name: dev.disk.events.enriched, workspace: disk }
spec: { partitions: 2 }
---
apiVersion: vltava/v1
kind: Transform
metadata: { name: same, workspace: disk }
spec: { language: jsonata, expression: '$' }
---
apiVersion: vltava/v1
kind: Pipeline
metadata: { name: copy, workspace: disk }
spec:
  sources: [{ topic: dev.disk.events.raw, from: earliest }]
  steps: [{ name: same, transform: same }]
  target: { topic: dev.disk.events.enriched }
  onError: deadLetter
---
apiVersion: vltava/v1
kind: Connector
metadata: { name: out, workspace: disk }
spec:
  plugin: http-sink
  topics: [dev.disk.events.enriched]
  config: { http.url: 'http://RECEIVER/', http.addresses.allow: 127.0.0.1/32 }
";

struct Stand {
    disk: LossyDisk,
    settings: Settings,
    receiver: Receiver,
    running: Option<(Platform, Shutdown)>,
    client: reqwest::Client,
    stored: BTreeSet<String>,
    next: u64,
    _dir: tempfile::TempDir,
}

impl Stand {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(|_| Reply::Status(204)).await.unwrap();
        let any = runtime::Listen::At(([127, 0, 0, 1], 0).into());
        let settings = Settings {
            data_dir: dir.path().join("data"),
            http: any,
            broker: any,
            stop_grace: Duration::from_secs(5),
            ..Settings::default()
        };
        let manifests = dir.path().join("flow.yaml");
        std::fs::write(&manifests, MANIFESTS.replace("RECEIVER", &receiver.address().to_string())).unwrap();
        let client = reqwest::Client::builder().timeout(SOON).no_proxy().build().unwrap();
        let mut stand = Self {
            disk: LossyDisk::new(),
            settings,
            receiver,
            running: None,
            client,
            stored: BTreeSet::new(),
            next: 0,
            _dir: dir,
        };
        stand.start().await;
        let own = auth::Secret::generate().unwrap();
        let own = stand.running.as_ref().map_or(&own, |(platform, _)| &platform.own);
        let to = gitops::Own { url: &stand.url(), own };
        gitops::put(&manifests, &to, gitops::How::default(), false).await.unwrap();
        stand.flows().await;
        stand
    }

    async fn start(&mut self) {
        let disk = self.disk.clone();
        let parts = Parts {
            open: Box::new(move |config| Broker::build(config, Arc::new(disk))),
            producer: ProducerConfig { delivery_timeout_ms: DELIVERY_MAX_MS, ..ProducerConfig::default() },
        };
        let process = Shutdown::new(self.settings.stop_grace);
        let platform = Platform::start_of(parts, &self.settings, &process).await.unwrap();
        assert!(platform.ready().await);
        self.running = Some((platform, process));
    }

    fn url(&self) -> String {
        self.running.as_ref().unwrap().0.url().unwrap()
    }

    /// One event; its id where it was stored, else the status, `Retry-After` and the problem.
    async fn send(&mut self) -> Result<(), (u16, Option<String>, Value)> {
        let id = format!("e-{}", self.next);
        self.next += 1;
        let response = self
            .client
            .post(format!("{}/ingest/dev.disk.events.raw", self.url()))
            .header("content-type", "application/json")
            .header("idempotency-key", &id)
            .body("{\"a\":1}")
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        if status == 202 {
            self.stored.insert(id);
            return Ok(());
        }
        let after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        Err((status, after, response.json().await.unwrap()))
    }

    /// Events are stored again, and all that were stored are delivered.
    async fn flows(&mut self) {
        let begun = Instant::now();
        while let Err(refused) = self.send().await {
            assert!(begun.elapsed() < SOON, "{refused:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let stored = self.stored.clone();
        let all = move |came: &[testkit::Delivery]| {
            let ids: BTreeSet<_> = came.iter().map(|d| d.header("webhook-id").to_owned()).collect();
            stored.is_subset(&ids)
        };
        assert!(self.receiver.wait(SOON, all).await, "{:#?}", self.stages().await);
    }

    async fn stages(&self) -> Value {
        let status = self.client.get(format!("{}/api/v1/status", self.url())).send().await.unwrap();
        status.json::<Value>().await.unwrap()["stages"].clone()
    }

    async fn ready(&self) -> (u16, String) {
        let ready = self.client.get(format!("{}/ready", self.url())).send().await.unwrap();
        (ready.status().as_u16(), ready.text().await.unwrap())
    }

    /// Waits until `/ready` says this.
    async fn says(&self, status: u16, text: &str) {
        let begun = Instant::now();
        loop {
            let said = self.ready().await;
            if said.0 == status && said.1.contains(text) {
                return;
            }
            assert!(begun.elapsed() < SOON, "{said:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(&mut self) {
        let (platform, process) = self.running.take().unwrap();
        platform.stop("the test is over").await;
        process.begin("the test is over");
    }

    fn fail(&self, operation: Operation, path: &str, errno: i32) {
        self.disk.inject(Fault { operation, path: path.into(), errno, after: 0, times: usize::MAX });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_passes() {
    let mut stand = Stand::new().await;
    for path in [".wal", "", ".log"] {
        stand.fail(Operation::Write, path, rustix::io::Errno::NOSPC.raw_os_error());
        let (status, retry_after, problem) = stand.send().await.unwrap_err();
        assert_eq!(
            (status, problem["code"].as_str()),
            (503, Some("engine_unavailable")),
            "{path:?}: {problem}"
        );
        assert!(retry_after.is_some(), "{path:?}");
        if path == ".wal" {
            stand.says(503, "the disk of the log is full").await;
        }
        stand.disk.mend();
        stand.says(200, "ready").await;
        stand.flows().await;
    }
    stand.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_read_is_said_and_passes() {
    let mut stand = Stand::new().await;
    stand.fail(Operation::Read, ".log", rustix::io::Errno::IO.raw_os_error());
    // It can be stored, and not be read.
    stand.send().await.unwrap();
    stand.says(503, "failed to read").await;
    stand.disk.mend();
    stand.says(200, "ready").await;
    stand.flows().await;
    stand.stop().await;
}

/// What is in the log after a write that failed isn't known either: half of it may be there.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_or_write_of_the_log_is_said_until_the_next_start() {
    for operation in [Operation::Sync, Operation::Write] {
        let mut stand = Stand::new().await;
        stand.fail(operation, ".wal", rustix::io::Errno::IO.raw_os_error());
        let (status, retry_after, problem) = stand.send().await.unwrap_err();
        let code = problem["code"].as_str();
        assert_eq!((status, code), (503, Some("engine_unavailable")), "{operation:?}: {problem}");
        assert!(retry_after.is_some(), "{operation:?}");
        stand.says(503, "read-only since a failure").await;
        stand.disk.mend();
        let refused = stand.send().await.unwrap_err();
        assert_eq!(refused.0, 503, "{operation:?}: it doesn't pretend that nothing was: {refused:?}");
        stand.stop().await;
        stand.start().await;
        stand.flows().await;
        stand.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_of_a_segment_is_said_and_passes() {
    let mut stand = Stand::new().await;
    stand.fail(Operation::Write, ".log", rustix::io::Errno::IO.raw_os_error());
    let (status, retry_after, problem) = stand.send().await.unwrap_err();
    assert_eq!((status, problem["code"].as_str()), (503, Some("engine_unavailable")), "{problem}");
    assert!(retry_after.is_some());
    stand.disk.mend();
    stand.says(200, "ready").await;
    stand.flows().await;
    stand.stop().await;
}
