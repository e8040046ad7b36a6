//! Every named kill point, deterministically: the process dies there by its own hand, starts again (with the next
//! point), and in the end everything that was answered 202 is where it must be, once.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures::future::join_all;
use parking_lot::Mutex;
use rand::RngCore as _;
use runtime::kill_points::Point;
use serde_json::Value;
use testkit::{Delivery, Receiver, Reply};

use crate::checker::Outcome;
use crate::flow::Flow;
use crate::kill::told;
use crate::load::{Event, Posted};
use crate::process::{Platform, client, log_of};

/// A request that has no answer by then was cut off.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Within this time the flow must have come to the point.
const POINT_MAX: Duration = Duration::from_secs(60);
/// Within this time everything is through.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// What must become so is asked for this often.
const ASKED_EVERY: Duration = Duration::from_millis(20);
const KEYS: u64 = 7;
const EVENTS_A_KEY: u64 = 2;
/// So that every few records of a partition need a new segment.
const SEGMENT_BYTES: u32 = 2048;
const SIGKILL: i32 = 9;

/// What brings the process to a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Events, applied manifests, redrives.
    Work,
    /// Events so large that the write-ahead log needs another file.
    Bulk,
    /// Work, then an orderly stop.
    Stop,
}

fn way(point: Point) -> Way {
    match point {
        Point::WalRollBefore | Point::WalRollAfter => Way::Bulk,
        Point::CheckpointBefore
        | Point::CheckpointSynced
        | Point::CheckpointWritten
        | Point::CheckpointRenamed
        | Point::CheckpointAfter => Way::Stop,
        _ => Way::Work,
    }
}

struct Stand {
    dir: tempfile::TempDir,
    receiver: Receiver,
    flow: Flow,
    answered: BTreeSet<String>,
    next: u64,
    /// Base64 of random bytes, which doesn't compress well.
    bulk: String,
}

impl Stand {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(refusing_once()).await.unwrap();
        let flow = Flow::write(dir.path(), receiver.address(), false)
            .with_segments(SEGMENT_BYTES, receiver.address());
        let platform = Platform::start(dir.path(), &[]);
        flow.apply(&platform).await;
        platform.kill();
        let mut bytes = vec![0; 512 << 10];
        rand::rng().fill_bytes(&mut bytes);
        let bulk = base64::engine::general_purpose::STANDARD.encode(bytes);
        Self { dir, receiver, flow, answered: BTreeSet::new(), next: 0, bulk }
    }

    /// Dies at a point; panics where it does not, or elsewhere.
    async fn die_at(&mut self, point: Point, pass: u64) {
        let begun = Instant::now();
        let armed = format!("{point}:{pass}");
        let environment = [("VLTAVA_TEST_KILL_POINT", armed.as_str())];
        let status = match Platform::start_with(self.dir.path(), &[], &environment) {
            Err(status) => status,
            Ok(mut platform) => {
                tokio::time::timeout(POINT_MAX, self.drive(&mut platform, point)).await.unwrap_or_else(|_| {
                    panic!("{armed} isn't reached within {POINT_MAX:?}:\n{}", log_of(self.dir.path()))
                })
            }
        };
        let log = log_of(self.dir.path());
        assert_eq!(status.signal(), Some(SIGKILL), "{armed}: {status}\n{log}");
        assert!(
            log.contains(&format!("killed at {point}, pass {pass}\n")),
            "{armed}: it died elsewhere\n{log}"
        );
        println!("{armed} after {} ms", begun.elapsed().as_millis());
    }

    /// Works until the process is gone.
    async fn drive(&mut self, platform: &mut Platform, point: Point) -> ExitStatus {
        let url = platform.url.clone();
        let mut gone = None;
        while gone.is_none() {
            gone = tokio::select! {
                () = self.round(&url, way(point)) => None,
                status = ended(platform) => Some(status),
            };
            if gone.is_none() && way(point) == Way::Stop {
                platform.ask_to_stop();
                gone = Some(ended(platform).await);
            }
        }
        gone.expect("the loop ends with it")
    }

    /// Everything that the flow does, once, each step when the one before has had its effect: what a point needs comes in
    /// every round, however fast or slow the machine is. What the process' end cuts off fails, and that is as it must be.
    async fn round(&mut self, url: &str, way: Way) {
        if way == Way::Bulk {
            let bulk = self.bulk.clone();
            self.send(url, &bulk).await;
            return;
        }
        self.flow.rewrite(self.receiver.address(), false);
        let _ = self.flow.try_apply(url).await;
        self.until(url, "status", |status| {
            let stages = status["stages"].as_array();
            stages.is_some_and(|all| all.iter().all(|s| s["generationRunning"] == s["generationWanted"]))
        })
        .await;
        self.send(url, "").await;
        // What makes them is in each round's events: some fail the expression, some are refused.
        for by in ["pipeline/", "connector/"] {
            let dlq = format!("workspaces/{}/dlq/{}", self.flow.workspace, self.flow.dlq);
            self.until(url, &dlq, |summary| {
                let groups = summary["groups"].as_array();
                let open =
                    |g: &Value| g["stage"].as_str().is_some_and(|s| s.starts_with(by)) && g["unsettled"] != 0;
                groups.is_some_and(|all| all.iter().any(open))
            })
            .await;
        }
        self.flow.rewrite(self.receiver.address(), true);
        let _ = self.flow.try_apply(url).await;
        let _ = self.flow.try_redrive(url).await;
    }

    /// Asks until the answer is as it must be, or there is none: the process is gone.
    async fn until(&self, url: &str, path: &str, is_so: impl Fn(&Value) -> bool) {
        let client = client(REQUEST_MAX);
        loop {
            let answer = client.get(format!("{url}/api/v1/{path}")).send().await;
            let Ok(answer) = answer else { return };
            if answer.json().await.is_ok_and(|answer| is_so(&answer)) {
                return;
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
    }

    /// Each key's events one after another, the keys side by side.
    async fn send(&mut self, url: &str, pad: &str) {
        let client = client(REQUEST_MAX);
        let first = self.next;
        self.next += KEYS * EVENTS_A_KEY;
        let stored = Mutex::new(&mut self.answered);
        let flow = &self.flow;
        join_all((0..KEYS).map(|key| {
            let (client, stored) = (&client, &stored);
            async move {
                for seq in 0..EVENTS_A_KEY {
                    let n = first + seq * KEYS + (key + seq) % KEYS;
                    let event = Event { id: format!("e-{n}"), n, seq: n / KEYS };
                    if event.post(client, url, &flow.raw, &format!("k{key}"), pad).await == Posted::Stored {
                        stored.lock().insert(event.id);
                    }
                }
            }
        }))
        .await;
    }

    /// Starts it once more, unarmed, and judges.
    async fn judge(&mut self, after: &str) {
        let platform = Platform::start(self.dir.path(), &[]);
        self.flow.await_running(&platform, SETTLE_MAX).await;
        self.send(&platform.url, "").await;
        let Self { flow, receiver, answered, .. } = self;
        let (outcome, wrong) = Outcome::settle(&platform.kafka, flow, receiver, answered, SETTLE_MAX).await;
        assert!(
            wrong.is_empty(),
            "after {after}: {wrong:#?}\n{}\n{}",
            outcome.tails(),
            log_of(self.dir.path())
        );
        println!("after {after}: {} answered, {}", answered.len(), outcome.figures());
        platform.kill();
    }
}

/// Every fifth event is refused for good when it comes first. It is taken when it comes again (redriven, or because the
/// refusal wasn't committed): nothing that is refused always opens the breaker, which would hold the flow back.
fn refusing_once() -> impl Fn(&Delivery) -> Reply + Send + Sync + 'static {
    let refused = Mutex::new(HashSet::new());
    move |delivery| {
        let id = delivery.header("webhook-id");
        let number = id.rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
        let refuse = number.is_some_and(|n| n % 5 == 1) && refused.lock().insert(id.to_owned());
        Reply::Status(if refuse { 422 } else { 204 })
    }
}

async fn ended(platform: &mut Platform) -> ExitStatus {
    loop {
        if let Some(status) = platform.ended() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_point_loses_and_doubles_nothing() {
    let mut stand = Stand::new().await;
    for point in Point::ALL {
        stand.die_at(*point, 1).await;
    }
    stand.judge("all points").await;
    let (answered, receiver) = (stand.answered.len(), stand.receiver.deliveries().len());
    assert!(answered > 50 && receiver > 50, "{answered} answered and {receiver} delivered: that is no load");
}

/// Each point at its first passes, judged after each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo xtask conformance kills"]
async fn long_a_death_at_any_pass_of_any_point_loses_and_doubles_nothing() {
    let passes = told("VLTAVA_TEST_PASSES").unwrap_or(3);
    let only = std::env::var("VLTAVA_TEST_POINT").ok();
    let points = Point::ALL.iter().filter(|point| only.as_deref().is_none_or(|only| point.name() == only));
    let mut died = 0;
    let mut stand = Stand::new().await;
    for point in points {
        // A checkpoint is made once in a stop.
        let last = if way(*point) == Way::Stop { 1 } else { passes };
        for pass in 1..=last {
            stand.die_at(*point, pass).await;
            stand.judge(&format!("{point}:{pass}")).await;
            died += 1;
        }
    }
    assert!(died > 0, "VLTAVA_TEST_POINT: there is no such point");
    println!("{died} deaths at kill points");
}
