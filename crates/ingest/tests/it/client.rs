//! The listener under test, and a client that sends exactly the bytes that a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingest::{Config, Deps, Sink};
use resources::{Arrays, IngestSpec, TopicEntry, TopicTable};
use runtime::http::{Limits, Server};
use runtime::{Metrics, OnEnd, Shutdown};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use types::TopicName;

use crate::fake::Fake;

/// The topics of the tests: `orders`; `keyed` takes its key from `/repo/id`, and keeps `x-tenant`; `whole` doesn't take arrays apart;
/// `small` takes records of up to 1,000 bytes.
pub(crate) fn table() -> TopicTable {
    let entry = |max_message_bytes, ingest| TopicEntry {
        partitions: 4,
        max_message_bytes,
        ingest,
        workspace: None,
        dlq: None,
    };
    let keyed = IngestSpec {
        key: Some("/repo/id".into()),
        headers: vec!["x-tenant".into(), "x-dlq-reason".into(), "cookie".into(), "x-event-id".into()],
        ..IngestSpec::default()
    };
    let whole = IngestSpec { arrays: Arrays::Whole, ..IngestSpec::default() };
    let usual = 1_048_588;
    let topics = [
        ("orders", entry(usual, IngestSpec::default())),
        ("keyed", entry(usual, keyed)),
        ("whole", entry(usual, whole)),
        ("small", entry(1000, IngestSpec::default())),
    ];
    TopicTable::new(topics.map(|(name, entry)| (TopicName::new(name).unwrap(), entry)))
}

pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) topics: watch::Sender<Arc<TopicTable>>,
    shutdown: Shutdown,
    task: runtime::shutdown::Task,
}

impl Gateway {
    pub(crate) fn start(sink: Fake) -> Self {
        let config = Config { batch_records_max: 100, ..Config::default() };
        Self::with(config, Limits::default(), sink)
    }

    pub(crate) fn with<S: Sink>(config: Config, limits: Limits, sink: S) -> Self {
        let (topics, receiver) = watch::channel(Arc::new(table()));
        let metrics = Metrics::new();
        let router = ingest::router(
            config,
            Deps { topics: receiver, sink, look: Arc::default(), metrics: metrics.clone() },
        )
        .layer(axum::Extension(auth::Access::local()));
        let listener = runtime::bind("127.0.0.1:0".parse().unwrap(), "ingest").unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let server = Server::new("ingest", limits).serve(listener, router, shutdown.clone());
        let task = shutdown.spawn("http", OnEnd::Log, server);
        Self { addr, metrics, topics, shutdown, task }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection { stream: TcpStream::connect(self.addr).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: &Request) -> Answer {
        let mut connection = self.connect().await;
        connection.write(&request.bytes()).await;
        connection.answer().await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.begin("the test is over");
        self.task.ended().await;
        self.shutdown.drain().await.unwrap();
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Ends the connection's sending half.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer; panics if there is none.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// The next answer, or `None` if the connection ends before it is whole.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, length)) = Answer::parse(&self.read) {
                self.read.drain(..length);
                return Some(answer);
            }
            let read = self.stream.read_buf(&mut self.read);
            match tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_end]).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length =
            headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
        let body = bytes.get(head_end..head_end + length)?.to_vec();
        Some((Self { status, headers, body }, head_end + length))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// Checks what every problem has, and returns it.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["requestId"].as_str(), self.header("x-request-id"), "{problem}");
        for member in ["type", "title", "code", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        problem
    }
}

#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Framing {
    ContentLength,
    Chunked,
    /// The test says what it wants among the headers.
    ByHand,
}

impl Request {
    /// A POST of JSON to a topic.
    pub(crate) fn to(topic: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            path: format!("/ingest/{topic}"),
            headers: vec![("content-type", "application/json".into())],
            body: body.into(),
            framing: Framing::ContentLength,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| *n != name);
        self
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        if !self.headers.iter().any(|(name, _)| *name == "host") {
            bytes.extend_from_slice(b"host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match self.framing {
            Framing::ContentLength => {
                bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
                bytes.extend_from_slice(&self.body);
            }
            Framing::ByHand => {
                bytes.extend_from_slice(b"\r\n");
                bytes.extend_from_slice(&self.body);
            }
            Framing::Chunked => {
                bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(7) {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}
