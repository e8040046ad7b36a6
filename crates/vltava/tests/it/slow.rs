//! Clients that are slow, idle or take nothing hold a bounded amount of memory, and the others go on.
//!
//! Measured as resident memory of the process: generous bounds, that a kept body or answer for each client would pass by far.
//! The number of connections respects the limit of open files: it is raised as far as the system lets, else fewer are made
//! (and said).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{Receiver, Reply};

use crate::flow::Flow;
use crate::load::{Event, Posted};
use crate::process::{Platform, client, log_of};

/// What all bodies together may hold is 64 MiB by default; the same again for what isn't a body.
const HALF_SENT_GROWTH_MAX: u64 = 160 << 20;
/// Of each: so many bytes of a body, and never the last.
const HALF_SENT: usize = 1000;
const HALF_SENT_BYTES: usize = 900 << 10;
/// Connections to either port, most of which are refused: the listeners hold 4,096 and 2,048.
const IDLE: u64 = 10_000;
/// Some ten KiB for each that is let in.
const IDLE_GROWTH_MAX: u64 = 160 << 20;
/// Answers of about 10 KiB that nobody takes: 200 clients, 500 each, would be a gigabyte.
const READERS: usize = 200;
const ANSWERS: usize = 500;
const READERS_GROWTH_MAX: u64 = 160 << 20;
/// For a socket that takes no more.
const WRITE_MAX: Duration = Duration::from_millis(20);
/// Files that both processes need for other things.
const FILES_SPARE: u64 = 1000;

/// Connections that can be made, of those that are wanted.
fn connections(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(1 << 20);
    let raised = Rlimit { current: Some(hard), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        println!("the limit of open files stays {:?}: {error}", limit.current);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(hard);
    let possible = wanted.min(files.saturating_sub(FILES_SPARE));
    if possible < wanted {
        println!("{possible} connections in place of {wanted}: at most {files} files may be open");
    }
    possible
}

struct Stand {
    dir: tempfile::TempDir,
    platform: Platform,
    flow: Flow,
    /// Was there before: it keeps its connection.
    client: reqwest::Client,
    next: u64,
}

impl Stand {
    async fn new() -> (Self, Receiver) {
        connections(0);
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(|_| Reply::Status(204)).await.unwrap();
        let platform = Platform::start(dir.path(), &[]);
        let flow = Flow::write(dir.path(), receiver.address(), true);
        flow.apply(&platform).await;
        let mut stand = Self { dir, platform, flow, client: client(Duration::from_secs(60)), next: 0 };
        for _ in 0..50 {
            stand.goes_on().await;
        }
        (stand, receiver)
    }

    /// An event is taken, by the connection that was there before.
    async fn goes_on(&mut self) {
        let n = self.next;
        self.next += 1;
        let event = Event { id: format!("e-{n}"), n, seq: n };
        let posted = event.post(&self.client, &self.platform.url, &self.flow.raw, "k", "").await;
        assert_eq!(posted, Posted::Stored, "{}", log_of(self.dir.path()));
    }

    /// Does something, and how much memory the process has more of then, at most over a while.
    async fn growth<T>(&mut self, what: &str, bound: u64, act: impl FnOnce(&Self) -> Vec<T>) {
        let before = self.platform.resident();
        let held = act(self);
        let mut most = 0;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(self.platform.resident());
        }
        self.goes_on().await;
        let grown = most.saturating_sub(before);
        let mib = |bytes: u64| bytes >> 20;
        println!("{what}: {} MiB before, {} MiB more", mib(before), mib(grown));
        assert!(grown < bound, "{what}: {grown} bytes more, {bound} at most");
        drop(held);
    }

    fn http(&self) -> TcpStream {
        let stream = TcpStream::connect(self.platform.url.trim_start_matches("http://")).unwrap();
        stream.set_write_timeout(Some(WRITE_MAX)).unwrap();
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_hold_what_all_bodies_may() {
    let (mut stand, _receiver) = Stand::new().await;
    let count = usize::try_from(connections(HALF_SENT as u64)).unwrap();
    let part = vec![b' '; HALF_SENT_BYTES];
    let send = |stand: &Stand| {
        let head = format!(
            "POST /ingest/{} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            stand.flow.raw,
            HALF_SENT_BYTES + 1
        );
        let send = |mut stream: TcpStream| {
            stream.write_all(head.as_bytes()).unwrap();
            // Where the process takes no more of it, that is what is asked for.
            let _ = stream.write_all(&part);
            stream
        };
        (0..count).map(|_| send(stand.http())).collect()
    };
    stand.growth(&format!("{count} half-sent requests"), HALF_SENT_GROWTH_MAX, send).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_take_nothing_hold_little() {
    let (mut stand, _receiver) = Stand::new().await;
    let ask = |stand: &Stand| {
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(ANSWERS);
        let ask = |mut stream: TcpStream| {
            let _ = stream.write_all(request.as_bytes());
            stream
        };
        (0..READERS).map(|_| ask(stand.http())).collect()
    };
    stand.growth(&format!("{READERS} readers that take nothing"), READERS_GROWTH_MAX, ask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_bounded_and_hold_little() {
    let (mut stand, _receiver) = Stand::new().await;
    let count = connections(2 * IDLE) / 2;
    let open = |stand: &Stand| {
        let mut open = Vec::new();
        for address in [stand.platform.url.trim_start_matches("http://"), &stand.platform.kafka] {
            let mut refused = 0;
            for _ in 0..count {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nonblocking(true).unwrap();
                // A refusal may come later, too: this one only counts.
                refused += u64::from(stream.read(&mut [0; 16]).is_ok());
                open.push(stream);
            }
            println!("{count} connections to {address}, {refused} refused at once");
        }
        open
    };
    stand.growth(&format!("twice {count} idle connections"), IDLE_GROWTH_MAX, open).await;
}
