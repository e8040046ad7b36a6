//! What lies between the platform and its engine fails: connections cut, delayed, half-closed, swallowed, and the engine
//! away. The platform says why, recovers by itself, loses and doubles nothing.
//!
//! In `cargo test` the engine is an embedded broker of this process behind a proxy, on which it is advertised;
//! `cargo xtask conformance faults` does the same with Apache Kafka, which it stops and starts, for longer.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runtime::Shutdown;
use serde_json::Value;
use testkit::{Direction, Proxy, Receiver, Reply};

use crate::checker::Outcome;
use crate::flow::Flow;
use crate::load::{Load, Shape};
use crate::process::{Platform, client, log_of};

const SHAPE: Shape = Shape { senders: 3, keys_a_sender: 4, every: Duration::from_millis(10) };
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Within this time the platform says what is wrong, and, once it is over, that all is well.
const SAID_MAX: Duration = Duration::from_secs(90);
const SETTLE_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(30);

/// The platform on an engine behind a proxy, with load.
struct Stand {
    dir: tempfile::TempDir,
    receiver: Receiver,
    proxy: Proxy,
    platform: Platform,
    flow: Flow,
    load: Load,
    /// Where the engine itself is, past the proxy.
    engine: SocketAddr,
}

impl Stand {
    async fn new(proxy: Proxy, engine: SocketAddr) -> Self {
        proxy.forward(engine);
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(|_| Reply::Status(204)).await.unwrap();
        let bootstrap = proxy.address().to_string();
        let platform = Platform::start(dir.path(), &["--kafka-bootstrap", &bootstrap]);
        let flow = Flow::write(dir.path(), receiver.address(), false);
        flow.apply(&platform).await;
        let load = Load::start(&platform.url, &flow.raw, SHAPE);
        let stand = Self { dir, receiver, proxy, platform, flow, load, engine };
        stand.flows("the start").await;
        stand
    }

    fn log(&self) -> String {
        log_of(self.dir.path())
    }

    /// Waits for events that are answered and delivered from now on.
    async fn flows(&self, after: &str) {
        let (answered, came) = (self.load.answered.lock().len(), self.receiver.deliveries().len());
        let begun = Instant::now();
        loop {
            let more = self.load.answered.lock().len() > answered + 20;
            if more && self.receiver.deliveries().len() > came + 20 {
                break;
            }
            assert!(begun.elapsed() < SAID_MAX, "nothing flows after {after}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{after}: events flow after {:?}", begun.elapsed());
    }

    /// `/ready` and the stages, as they are now.
    async fn said(&self) -> (u16, String, Vec<Value>) {
        let ready = client(REQUEST_MAX).get(format!("{}/ready", self.platform.url)).send().await.unwrap();
        let status = ready.status().as_u16();
        (status, ready.text().await.unwrap(), self.flow.stages(&self.platform).await)
    }

    /// Waits until `/ready` says 503 with a reason, and the pipeline that it is degraded, with one. Not asserted of the
    /// connector: one that has nothing to commit doesn't notice that its engine is away.
    async fn says_why(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let (status, ready, stages) = self.said().await;
            let reason =
                |s: &Value| s["state"] != "Running" && s["reason"].as_str().is_some_and(|r| !r.is_empty());
            let pipeline = stages.iter().any(|s| s["kind"] == "Pipeline" && reason(s));
            if status == 503 && ready.contains("reason") && pipeline {
                let reasons: Vec<_> =
                    stages.iter().map(|s| s["reason"].as_str().unwrap_or_default()).collect();
                println!("{what}, after {:?}: {ready} {reasons:?}", begun.elapsed());
                return;
            }
            assert!(
                begun.elapsed() < SAID_MAX,
                "{what}: it isn't said: {status} {ready} {stages:#?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn says_well(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let (status, ready, stages) = self.said().await;
            if status == 200 && stages.len() == 2 && stages.iter().all(|s| s["state"] == "Running") {
                println!("{what}: all is well after {:?}", begun.elapsed());
                return;
            }
            assert!(
                begun.elapsed() < SAID_MAX,
                "{what}: it doesn't recover: {status} {ready} {stages:#?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that a connection can do, each for a while; the engine goes on.
    async fn trouble_on_the_line(&self, hold: Duration) {
        for round in 0..3 {
            self.proxy.cut();
            tokio::time::sleep(Duration::from_millis(100 * round)).await;
        }
        self.flows("connections were cut three times").await;
        for direction in [Direction::Requests, Direction::Answers] {
            self.proxy.delay(direction, Duration::from_millis(150));
            self.flows(&format!("{direction:?} take 150 ms")).await;
            self.proxy.delay(direction, Duration::ZERO);
            self.proxy.half_close(direction);
            self.flows(&format!("{direction:?} were half-closed")).await;
            self.proxy.hold(direction, true);
            tokio::time::sleep(hold).await;
            self.proxy.hold(direction, false);
            self.flows(&format!("{direction:?} were held for {hold:?}")).await;
        }
        self.says_well("trouble on the line is over").await;
    }

    /// Nobody answers, until `back`.
    async fn away(&self, back: impl Future<Output = ()>) {
        self.proxy.refuse(true);
        self.proxy.cut();
        self.says_why("the engine is away").await;
        back.await;
        self.proxy.refuse(false);
        self.says_well("the engine is back").await;
        self.flows("the engine is back").await;
    }

    async fn judge(self) {
        let log = self.log();
        let Self { receiver, platform, flow, load, engine, .. } = self;
        let answered = load.finish().await;
        let (outcome, wrong) =
            Outcome::settle(&self.proxy.address().to_string(), &flow, &receiver, &answered, SETTLE_MAX).await;
        assert!(wrong.is_empty(), "{wrong:#?}\n{}\n{log}", outcome.tails());
        println!("{engine}: {} answered, {}", answered.len(), outcome.figures());
        assert!(platform.terminate(STOP_MAX).success(), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_a_bad_line_loses_and_doubles_nothing() {
    let proxy = Proxy::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config =
        broker::Config { advertised: Some(proxy.address().to_string()), ..broker::Config::new(dir.path()) };
    let broker = broker::Broker::open(config).unwrap();
    let address = broker.handle().addr();
    let shutdown = Shutdown::new(STOP_MAX);
    let running = tokio::spawn(broker.run(shutdown.clone()));
    let stand = Stand::new(proxy, address).await;
    stand.trouble_on_the_line(Duration::from_secs(1)).await;
    stand.away(std::future::ready(())).await;
    stand.judge().await;
    shutdown.begin("the test is over");
    running.await.unwrap().unwrap();
}

/// One Apache Kafka node that the test starts and stops, as `cargo xtask conformance faults` prepared it.
struct Node {
    child: Child,
    address: SocketAddr,
}

fn prepared(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} isn't set: run cargo xtask conformance faults"))
}

impl Node {
    async fn start() -> Self {
        let command: Vec<String> = serde_json::from_str(&prepared("VLTAVA_TEST_NODE_COMMAND")).unwrap();
        let address: SocketAddr = prepared("VLTAVA_TEST_NODE_ADDRESS").parse().unwrap();
        let mut program = Command::new(&command[0]);
        program.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut node = Self { child: program.spawn().unwrap(), address };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(
                node.child.try_wait().unwrap().is_none() && begun.elapsed() < SAID_MAX,
                "it didn't start"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        node
    }

    fn stop(mut self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes, and an Apache Kafka: cargo xtask conformance faults"]
async fn long_apache_kafka_stopped_restarted_cut_and_delayed() {
    let proxy = Proxy::start_at(prepared("VLTAVA_TEST_NODE_ADVERTISED").parse().unwrap()).await.unwrap();
    let mut node = Node::start().await;
    let stand = Stand::new(proxy, node.address).await;
    stand.trouble_on_the_line(Duration::from_secs(15)).await;
    for (signal, gone) in [("-TERM", Duration::from_secs(60)), ("-KILL", Duration::from_secs(5))] {
        let stopped = Instant::now();
        node.stop(signal);
        stand.says_why(&format!("Apache Kafka is gone ({signal})")).await;
        tokio::time::sleep(gone.saturating_sub(stopped.elapsed())).await;
        node = Node::start().await;
        stand.flows("Apache Kafka was started again").await;
        stand.says_well("Apache Kafka was started again").await;
    }
    stand.away(tokio::time::sleep(Duration::from_secs(60))).await;
    stand.judge().await;
}
