//! Over real sockets: what a caller sees of the conventions and the limits.

use std::net::SocketAddr;

use axum::routing::{get, post};
use axum::{Extension, Json};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

struct Running {
    addr: SocketAddr,
    shutdown: Shutdown,
    task: crate::shutdown::Task,
}

impl Running {
    fn start(limits: Limits, router: Router) -> Self {
        let listener = crate::bind("127.0.0.1:0".parse().unwrap(), "test").unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = Shutdown::new(Duration::from_secs(5));
        let server = Server::new("test", limits).serve(listener, router, shutdown.clone());
        let task = shutdown.spawn("http", crate::OnEnd::Log, server);
        Self { addr, shutdown, task }
    }

    /// Sends the text, and reads until the connection ends.
    async fn raw(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an end, too.
        drop(tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap());
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"))
            .await
    }

    async fn stop(self) {
        self.shutdown.begin("the test is over");
        self.task.ended().await;
    }
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status in {answer:?}"))
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

fn problem(answer: &str) -> Value {
    assert_eq!(header(answer, "content-type"), Some("application/problem+json"), "{answer}");
    let problem: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(problem["status"], status(answer));
    problem
}

fn router() -> Router {
    Router::new()
        .route("/id", get(|Extension(id): Extension<RequestId>| async move { id.to_string() }))
        .route("/json", post(|Json(value): Json<Value>| async move { Json(value) }))
        .route("/panic", get(|| async { assert!(std::hint::black_box(false), "boom") }))
        .route(
            "/problem",
            get(|| async { Problem::new(StatusCode::CONFLICT, "revision_conflict").retry_after(3) }),
        )
}

#[tokio::test]
async fn every_answer_carries_the_requests_id() {
    let server = Running::start(Limits::default(), router());
    let answer = server.get("/id", "x-request-id: mine-1\r\n").await;
    assert_eq!((status(&answer), header(&answer, "x-request-id")), (200, Some("mine-1")));
    assert!(answer.ends_with("mine-1"));
    for insane in ["", "x-request-id: a b\r\n", &format!("x-request-id: {}\r\n", "x".repeat(200))] {
        let answer = server.get("/id", insane).await;
        let id = header(&answer, "x-request-id").unwrap();
        let uuid: types::Uid = id.parse().unwrap();
        assert_eq!(uuid.as_uuid().get_version_num(), 7);
        assert!(answer.ends_with(id));
    }
    server.stop().await;
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let server = Running::start(Limits::default(), router());
    let request = |method: &str, path: &str, more: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: r1\r\n{more}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let json = "content-type: application/json\r\n";
    for (text, status, code) in [
        (request("GET", "/nowhere", "", ""), 404, "not_found"),
        (request("DELETE", "/json", "", ""), 405, "method_not_allowed"),
        (request("POST", "/json", "", "{}"), 415, "media_type_not_supported"),
        (request("POST", "/json", json, "{"), 400, "request_invalid"),
        (request("GET", "/panic", "", ""), 500, "internal"),
        (request("GET", "/problem", "", ""), 409, "revision_conflict"),
        (request("GET", "/id", "origin: http://evil.example\r\n", ""), 403, "origin_not_allowed"),
    ] {
        let answer = server.raw(&text).await;
        let problem = problem(&answer);
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(status), Some(code)),
            "{answer}"
        );
        assert_eq!(problem["requestId"], "r1");
        assert!(!problem["title"].as_str().unwrap().is_empty());
        if status == 405 {
            assert_eq!(header(&answer, "allow"), Some("POST"));
        }
        if status == 409 {
            assert_eq!(header(&answer, "retry-after"), Some("3"));
        }
    }
    let rebound = server.raw("GET /id HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(problem(&rebound)["code"], "host_not_allowed");
    let no_host = server.raw("GET /id HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&no_host), 400);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_or_silent_sender_is_cut_off() {
    let limits = Limits {
        header_read_timeout: Duration::from_millis(100),
        body_read_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Running::start(limits, router());
    // Silent, half a head, and idle after a request: the connection ends without an answer to what isn't whole.
    assert_eq!(server.raw("").await, "");
    assert_eq!(server.raw("GET /id HTTP/1.1\r\nhost: loc").await, "");
    let answer = server.raw("GET /id HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    // Half a body.
    let answer = server
        .raw("POST /json HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
        .await;
    let problem = problem(&answer);
    assert_eq!(problem["status"], 400, "an extractor's own reading: {problem}");
    server.stop().await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let server = Running::start(Limits { header_bytes_max: 8192, ..Limits::default() }, router());
    let big = format!("x-big: {}\r\n", "x".repeat(9000));
    assert_eq!(status(&server.get("/id", &big).await), 431);
    let many: String = (0..150).map(|i| format!("h{i}: v\r\n")).collect();
    assert_eq!(status(&server.get("/id", &many).await), 431);
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let server = Running::start(Limits { connections_max: 1, ..Limits::default() }, router());
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    first.write_all(b"GET /id HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    first.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    let answer = server.raw("").await;
    assert_eq!(problem(&answer)["code"], "too_many_connections");
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let wait = {
        let (entered, go) = (entered.clone(), go.clone());
        move || async move {
            entered.notify_one();
            go.notified().await;
            "done"
        }
    };
    let server = Running::start(Limits::default(), Router::new().route("/wait", get(wait)));
    let addr = server.addr;
    let request = tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    entered.notified().await;
    server.shutdown.begin("test");
    // No new connection: the listener is gone once the accept loop has seen the stop.
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.shutdown.running(), ["http"]);
    go.notify_one();
    assert!(request.await.unwrap().ends_with("done"));
    server.task.ended().await;
    assert!(server.shutdown.drain().await.is_ok());
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_order() {
    let server = Running::start(Limits::default(), router());
    let one = |id: &str, more: &str| {
        format!("GET /id HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\n{more}\r\n")
    };
    let answers = server.raw(&format!("{}{}", one("a", ""), one("b", "connection: close\r\n"))).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
    assert!(answers.find("\r\n\r\na").unwrap() < answers.find("\r\n\r\nb").unwrap());
    server.stop().await;
}
