//! The engine is slow, full, away, or takes only a part.

use std::time::Duration;

use ingest::{Config, SinkError};
use runtime::http::Limits;
use serde_json::json;

use crate::client::{Gateway, Request};
use crate::fake::{Fake, Step};

const EVENT: &str = "{\"a\":1}";
const BATCH: &str = "[{\"a\":1},{\"a\":2},{\"a\":3}]";

fn away() -> SinkError {
    SinkError::Unavailable("connection refused".into())
}

#[tokio::test]
async fn no_answer_before_every_record_is_acknowledged() {
    let sink = Fake::new();
    sink.script([Step::StoreLater, Step::Store, Step::StoreLater]);
    let gateway = Gateway::start(sink.clone());
    let mut connection = gateway.connect().await;
    connection.write(&Request::to("orders", BATCH).bytes()).await;
    for acknowledged in 0..2 {
        // Long enough that an answer that doesn't wait would be here.
        let early = tokio::time::timeout(Duration::from_millis(100), connection.try_answer()).await;
        assert!(early.is_err(), "answered after {acknowledged} of 2: {early:?}");
        sink.open_gate(1);
    }
    assert_eq!(connection.answer().await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for body in [EVENT, BATCH] {
        sink.script([Step::RefuseAtOnce(SinkError::QueueFull)]);
        let answer = gateway.send(&Request::to("orders", body)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
        assert_eq!(answer.problem()["code"], "queue_full");
    }
    assert_eq!(sink.records(), []);
    gateway.stop().await;
}

#[tokio::test]
async fn what_waits_is_bounded_and_requests_are_refused_whole() {
    let sink = Fake::new();
    sink.script(vec![Step::StoreLater; 3]);
    let config = Config { waiting_records_max: 4, ..Config::default() };
    let gateway = Gateway::with(config, Limits::default(), sink.clone());
    let mut first = gateway.connect().await;
    first.write(&Request::to("orders", BATCH).bytes()).await;
    while sink.records().len() < 3 {
        tokio::task::yield_now().await;
    }
    let refused = gateway.send(&Request::to("orders", BATCH)).await;
    assert_eq!((refused.status, refused.problem()["code"].as_str()), (429, Some("queue_full")));
    assert_eq!(gateway.send(&Request::to("orders", EVENT)).await.status, 202);
    assert_eq!(sink.records().len(), 4);
    sink.open_gate(3);
    assert_eq!(first.answer().await.status, 202);
    assert_eq!(gateway.send(&Request::to("orders", BATCH)).await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_away_is_a_503() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for step in
        [Step::RefuseAtOnce(away()), Step::Fail(away()), Step::Fail(SinkError::Failed("broken".into()))]
    {
        sink.script([step]);
        let answer = gateway.send(&Request::to("orders", EVENT)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
        assert_eq!(answer.problem()["code"], "engine_unavailable");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_stored_in_part_says_which() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for steps in [
        [Step::Store, Step::Fail(away()), Step::Store],
        [Step::Store, Step::Fail(SinkError::TooLarge), Step::Store],
    ] {
        sink.script(steps);
        let answer = gateway.send(&Request::to("orders", BATCH).header("idempotency-key", "k")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
        assert_eq!(
            answer.problem()["elements"],
            json!([
                {"index": 0, "event_id": "k.0", "outcome": "stored"},
                {"index": 1, "event_id": "k.1", "outcome": "unknown"},
                {"index": 2, "event_id": "k.2", "outcome": "stored"},
            ])
        );
    }
    // The queue fills up in the middle: nothing after it is sent.
    sink.script([Step::Store, Step::RefuseAtOnce(SinkError::QueueFull)]);
    let before = sink.records().len();
    let problem = gateway.send(&Request::to("orders", BATCH)).await.problem();
    assert_eq!(problem["status"], 503);
    let outcomes: Vec<_> =
        problem["elements"].as_array().unwrap().iter().map(|e| e["outcome"].clone()).collect();
    assert_eq!(outcomes, ["stored", "unknown", "unknown"]);
    assert_eq!(sink.records().len(), before + 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_engine_refuses_for_certain_is_said_so() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for (error, status, code) in
        [(SinkError::TooLarge, 413, "record_too_large"), (SinkError::UnknownTopic, 404, "topic_not_found")]
    {
        sink.script([Step::Fail(error)]);
        let answer = gateway.send(&Request::to("orders", EVENT)).await;
        assert_eq!((answer.status, answer.problem()["code"].as_str()), (status, Some(code)));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_engine_that_never_answers_is_not_waited_for_without_end() {
    let sink = Fake::new();
    sink.script([Step::Never]);
    let config = Config { ack_timeout: Duration::from_millis(100), ..Config::default() };
    let gateway = Gateway::with(config, Limits::default(), sink);
    let answer = gateway.send(&Request::to("orders", EVENT)).await;
    assert_eq!((answer.status, answer.problem()["code"].as_str()), (503, Some("engine_unavailable")));
    gateway.stop().await;
}
