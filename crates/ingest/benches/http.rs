//! What a request costs: requests a second, and CPU seconds of the serving process for 100,000 requests, as ratios to a server
//! of the same stack that only validates the JSON and answers 202.
//!
//! `cargo bench -p ingest` measures the gateway with a sink that acknowledges at once; with
//! `-- --bootstrap HOST:PORT --topic NAME` also with an engine, which must have the topic. The load comes from
//! a process of its own, so that its CPU time isn't counted.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where something fails")]
#![expect(clippy::print_stdout, reason = "printing is what a benchmark does")]

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::StatusCode;
use ingest::{Config, Deps, Producers, Sink, SinkError, Stored};
use kafka::{ClientConfig, ProducerConfig};
use resources::{IngestSpec, TopicEntry, TopicTable};
use runtime::{Metrics, OnEnd, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use types::{Record, TopicName};

const REQUESTS: usize = 100_000;
const CONNECTIONS: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(target) = option("--load") {
        let bytes: usize = option("--body").unwrap().parse().unwrap();
        runtime.block_on(load(target.parse().unwrap(), &option("--path").unwrap(), bytes));
        return;
    }
    let topic = option("--topic").unwrap_or_else(|| "bench".into());
    println!("{REQUESTS} requests, {CONNECTIONS} connections");
    for body in [256, 2048, 13_000] {
        println!("\nbody of {body} bytes:          requests/s   CPU s/100k   CPU ratio");
        let baseline = runtime.block_on(measure("validates only", baseline(), "/ingest/bench", body, None));
        let gateway = |sink| router(&topic, sink);
        let path = format!("/ingest/{topic}");
        runtime.block_on(measure("gateway, no engine", gateway(Void), &path, body, Some(baseline)));
        if let Some(bootstrap) = option("--bootstrap") {
            let sink =
                Producers::open(ClientConfig::new(bootstrap, "bench"), ProducerConfig::default()).unwrap();
            runtime.block_on(measure("gateway, engine", router(&topic, sink), &path, body, Some(baseline)));
        }
    }
}

/// Validates the JSON and answers 202.
fn baseline() -> Router {
    async fn validate(body: Bytes) -> StatusCode {
        match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
            Ok(_) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    }
    Router::new().route("/ingest/{topic}", post(validate))
}

#[derive(Clone)]
struct Void;

impl Sink for Void {
    type Delivery = Ready<Result<Stored, SinkError>>;
    fn send(&self, _: &TopicName, _: u64, _: Record) -> Result<Self::Delivery, SinkError> {
        Ok(ready(Ok(Stored { partition: 0, offset: 0 })))
    }
}

fn router<S: Sink>(topic: &str, sink: S) -> Router {
    let entry = TopicEntry {
        partitions: 12,
        max_message_bytes: 1_048_588,
        ingest: IngestSpec::default(),
        workspace: None,
        dlq: None,
    };
    let table = TopicTable::new([(TopicName::new(topic).unwrap(), entry)]);
    let (_, topics) = watch::channel(Arc::new(table));
    ingest::router(Config::default(), Deps { topics, sink, look: Arc::default(), metrics: Metrics::new() })
        .layer(axum::Extension(auth::Access::local()))
}

/// Returns CPU seconds for 100,000 requests.
async fn measure(what: &str, router: Router, path: &str, body: usize, baseline: Option<f64>) -> f64 {
    let listener = runtime::bind("127.0.0.1:0".parse().unwrap(), what).unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let task = if baseline.is_some() {
        shutdown.spawn("http", OnEnd::Log, runtime::http::serve(listener, router, shutdown.clone()))
    } else {
        let stop = shutdown.requested_owned();
        shutdown.spawn("http", OnEnd::Log, async move {
            axum::serve(listener, router).with_graceful_shutdown(stop).await
        })
    };
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--load", &addr.to_string(), "--path", path, "--body", &body.to_string()])
        .stdin(Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success(), "the load failed");
    let (cpu, took) = (cpu_seconds() - cpu, begun.elapsed().as_secs_f64());
    let cpu = cpu * 100_000.0 / REQUESTS as f64;
    let ratio = baseline.map_or(1.0, |baseline| cpu / baseline);
    println!("{what:<28} {:>12.0} {cpu:>12.2} {ratio:>11.2}", REQUESTS as f64 / took);
    shutdown.begin("measured");
    task.ended().await;
    cpu
}

/// User and system time of this process, its ended children not counted.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may hold spaces: state is field 3, utime 14, stime 15; a hundred ticks a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

async fn load(addr: SocketAddr, path: &str, body: usize) {
    let request = Arc::new(request(path, body));
    let senders = (0..CONNECTIONS).map(|_| tokio::spawn(send(addr, request.clone(), REQUESTS / CONNECTIONS)));
    for sender in futures::future::join_all(senders).await {
        sender.unwrap();
    }
}

async fn send(addr: SocketAddr, request: Arc<Vec<u8>>, count: usize) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = Vec::with_capacity(1024);
    for _ in 0..count {
        stream.write_all(&request).await.unwrap();
        answer.clear();
        loop {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the connection ended");
            if is_whole(&answer) {
                break;
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

/// As a webhook's sender writes it: members of several kinds, most of the bytes in strings.
fn request(path: &str, bytes: usize) -> Vec<u8> {
    let mut body = String::from("{\"action\":\"opened\",\"items\":[");
    while body.len() < bytes - 120 {
        body.push_str(
            "{\"id\":1296269,\"node_id\":\"MDEwOlJlcG9zaXRvcnkxMjk2MjY5\",\"private\":false,\"score\":1.5,\
             \"url\":\"https://api.example.com/repos/octo/hello-world\",\"none\":null},",
        );
    }
    body.push_str("0],\"sender\":{\"login\":\"octo\",\"id\":1}}");
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench/1\r\naccept: */*\r\ncontent-type: application/json\r\n\
         x-github-event: push\r\nx-github-delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\nx-entity-key: octo/hello-world\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body.as_bytes());
    request
}
