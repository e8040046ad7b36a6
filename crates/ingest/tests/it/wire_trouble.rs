//! Requests that come in pieces, stop half way, lie about their length, or never end: nothing of them is stored, or one whole
//! event, and the listener goes on.

use std::time::Duration;

use ingest::Config;
use runtime::http::Limits;

use crate::client::{Framing, Gateway, Request};
use crate::fake::{Fake, Step};

fn request() -> Request {
    Request::to("orders", "{\"a\":\"b\"}")
}

/// The gateway still takes an event, and that one is all that was stored.
async fn is_well_and_empty(gateway: Gateway, sink: &Fake) {
    let answer = gateway.send(&request()).await;
    assert_eq!(answer.status, 202);
    assert_eq!(sink.records().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_half_way_stores_nothing() {
    for framing in [Framing::ContentLength, Framing::Chunked] {
        let sink = Fake::new();
        let gateway = Gateway::start(sink.clone());
        let bytes = request().framing(framing).bytes();
        // At every byte: also with the whole JSON there, but the chunked body not at its end.
        for end in 1..bytes.len() {
            let mut connection = gateway.connect().await;
            connection.write(&bytes[..end]).await;
            connection.half_close().await;
            if let Some(answer) = connection.try_answer().await {
                assert!((400..500).contains(&answer.status), "{answer:?}");
            }
        }
        is_well_and_empty(gateway, &sink).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_stores_one_whole_event() {
    let sink = Fake::new();
    sink.script(vec![Step::StoreLater; 3]);
    let gateway = Gateway::start(sink.clone());
    let mut connection = gateway.connect().await;
    connection.write(&Request::to("orders", "[{\"a\":1},{\"a\":2},{\"a\":3}]").bytes()).await;
    while sink.records().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(connection);
    assert_eq!(sink.records().len(), 3, "a batch is sent whole or not at all");
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_in_single_bytes_is_a_request() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for framing in [Framing::ContentLength, Framing::Chunked] {
        let mut connection = gateway.connect().await;
        for byte in request().framing(framing).bytes() {
            connection.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.answer().await.status, 202);
    }
    assert!(sink.records().iter().all(|r| r.value.as_deref() == Some(b"{\"a\":\"b\"}")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_loris_is_cut_off() {
    let sink = Fake::new();
    let limits = Limits {
        header_read_timeout: Duration::from_millis(200),
        body_read_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let gateway = Gateway::with(Config::default(), limits, sink.clone());
    let bytes = request().bytes();
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    // A byte now and then doesn't buy time.
    for (sent, answered) in [(head - 10, None), (head + 3, Some(408))] {
        let mut connection = gateway.connect().await;
        connection.write(&bytes[..sent]).await;
        let answer = connection.try_answer().await;
        assert_eq!(answer.as_ref().map(|a| a.status), answered);
        if let Some(answer) = answer {
            assert_eq!(answer.problem()["code"], "body_timeout");
        }
    }
    is_well_and_empty(gateway, &sink).await;
}

#[tokio::test]
async fn a_wrong_length_stores_nothing() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let by_hand = |headers: &[(&'static str, &str)], body: &str| {
        let mut request = Request::to("orders", body).framing(Framing::ByHand);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
    };
    for (what, headers, body) in [
        ("too short", &[("content-length", "5")][..], "{\"a\":1}"),
        ("none", &[], "{\"a\":1}"),
        ("negative", &[("content-length", "-1")], "{\"a\":1}"),
        ("no number", &[("content-length", "seven")], "{\"a\":1}"),
        ("beyond 64 bits", &[("content-length", "99999999999999999999")], "{\"a\":1}"),
        ("two that differ", &[("content-length", "7"), ("content-length", "8")], "{\"a\":1}"),
        ("list that differs", &[("content-length", "7, 8")], "{\"a\":1}"),
        ("bad chunk size", &[("transfer-encoding", "chunked")], "zz\r\n{\"a\":1}\r\n0\r\n\r\n"),
        (
            "chunk overflow",
            &[("transfer-encoding", "chunked")],
            "fffffffffffffffff\r\n{\"a\":1}\r\n0\r\n\r\n",
        ),
        ("chunk shorter than said", &[("transfer-encoding", "chunked")], "9\r\n{\"a\":1}\r\n0\r\n\r\n"),
        ("unknown coding", &[("transfer-encoding", "gzip")], "{\"a\":1}"),
    ] {
        let mut connection = gateway.connect().await;
        connection.write(&by_hand(headers, body).bytes()).await;
        connection.half_close().await;
        if let Some(answer) = connection.try_answer().await {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        }
        assert_eq!(sink.records().len(), 0, "{what}");
    }
    is_well_and_empty(gateway, &sink).await;
}

#[tokio::test]
async fn a_request_can_not_be_smuggled_in_a_body() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    // Both framings at once: whichever is believed, the second request isn't a second event.
    let smuggled = String::from_utf8(request().bytes()).unwrap();
    let both = Request::to("orders", format!("0\r\n\r\n{smuggled}"))
        .header("transfer-encoding", "chunked")
        .header("content-length", &(5 + smuggled.len()).to_string())
        .framing(Framing::ByHand);
    let mut connection = gateway.connect().await;
    connection.write(&both.bytes()).await;
    connection.half_close().await;
    while let Some(answer) = connection.try_answer().await {
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    is_well_and_empty(gateway, &sink).await;
}

#[tokio::test]
async fn a_body_without_end_is_refused_in_bounded_memory() {
    let sink = Fake::new();
    let config = Config { body_bytes_max: 64 * 1024, ..Config::default() };
    let gateway = Gateway::with(config, Limits::default(), sink.clone());
    let mut endless = gateway.connect().await;
    let head = request().header("transfer-encoding", "chunked").framing(Framing::ByHand);
    endless.write(&Request { body: Vec::new(), ..head }.bytes()).await;
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend(vec![b' '; 0x10000]);
    chunk.extend(b"\r\n");
    // More than the topic's limit, which raises the body's.
    for _ in 0..20 {
        endless.write(&chunk).await;
    }
    let answer = endless.answer().await;
    assert_eq!((answer.status, answer.problem()["code"].as_str()), (413, Some("body_too_large")));
    is_well_and_empty(gateway, &sink).await;
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let sink = Fake::new();
    sink.script([Step::StoreLater]);
    let config = Config { bodies_bytes_max: 1024, ..Config::default() };
    let gateway = Gateway::with(config, Limits::default(), sink.clone());
    let mut first = gateway.connect().await;
    first.write(&request().bytes()).await;
    while sink.records().is_empty() {
        tokio::task::yield_now().await;
    }
    let answer = gateway.send(&request()).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.problem()["code"], "overloaded");
    sink.open_gate(1);
    assert_eq!(first.answer().await.status, 202);
    is_well(gateway).await;
}

async fn is_well(gateway: Gateway) {
    assert_eq!(gateway.send(&request()).await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn who_asks_first_is_told_before_sending() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    // Refused without the body; taken with it.
    for (topic, length, status) in [("nope", 9, 404), ("orders", 100 << 20, 413)] {
        let mut connection = gateway.connect().await;
        let request = Request::to(topic, "")
            .header("expect", "100-continue")
            .header("content-length", &length.to_string());
        connection.write(&request.framing(Framing::ByHand).bytes()).await;
        assert_eq!(connection.answer().await.status, status);
    }
    let mut connection = gateway.connect().await;
    let asks = request().header("expect", "100-continue");
    let bytes = asks.bytes();
    let head = bytes.len() - asks.body.len();
    connection.write(&bytes[..head]).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.write(&bytes[head..]).await;
    assert_eq!(connection.answer().await.status, 202);
    assert_eq!(sink.records().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for request in [
        request().header("x-big", &"x".repeat(40_000)),
        (0..200).fold(request(), |r, _| r.header("ce-x", "v")),
    ] {
        let answer = gateway.send(&request).await;
        assert_eq!(answer.status, 431);
    }
    is_well_and_empty(gateway, &sink).await;
}
