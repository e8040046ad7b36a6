//! What is stored of a good request, and what it is answered.

use types::{Record, Uid};

use crate::client::{Framing, Gateway, Request};
use crate::fake::Fake;

fn value(record: &Record) -> &str {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap()
}

fn key(record: &Record) -> Option<&str> {
    record.key.as_ref().map(|key| std::str::from_utf8(key).unwrap())
}

#[tokio::test]
async fn the_bytes_that_came_are_stored() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let body = "\n { \"b\" : 1.0e2,\r\n\t\"a\":\"\\u00e9 é\", \"a\" : null }  ";
    for framing in [Framing::ContentLength, Framing::Chunked] {
        let answer = gateway.send(&Request::to("orders", body).framing(framing)).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json()["records"], 1);
    }
    let records = sink.records();
    assert_eq!(records.iter().map(value).collect::<Vec<_>>(), [body, body]);
    assert_eq!(sink.topics(), ["orders", "orders"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_record_carries_its_origin_and_no_secret() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::to("keyed", r#"{"a":1}"#)
        .header("x-request-id", "req-1")
        .header("Idempotency-Key", "\"event-1\"")
        .header("traceparent", trace)
        .header("tracestate", "v=1")
        .header("X-GitHub-Event", "push")
        .header("webhook-id", "w1")
        .header("ce-type", "a")
        .header("ce-type", "b")
        .header("x-tenant", "t")
        .header("authorization", "Bearer secret")
        .header("cookie", "session=secret")
        .header("x-dlq-reason", "forged")
        .header("x-origin-topic", "forged")
        .header("x-redrive-id", "forged")
        .header("x-transform", "forged")
        .header("trace_id", "forged")
        .header("user-agent", "test");
    let answer = gateway.send(&request).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (202, Some("req-1")));
    assert_eq!(answer.header("x-event-id"), Some("event-1"));
    let record = sink.records().remove(0);
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|h| (h.name.to_string(), String::from_utf8(h.value.clone().unwrap().to_vec()).unwrap()))
        .collect();
    let expected = [
        ("x-request-id", "req-1"),
        ("traceparent", trace),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("service.name", "vltava"),
        ("deployment.env", "dev"),
        ("content-type", "application/json"),
        ("tracestate", "v=1"),
        ("x-github-event", "push"),
        ("webhook-id", "w1"),
        ("ce-type", "a"),
        ("ce-type", "b"),
        ("x-tenant", "t"),
        ("x-event-id", "event-1"),
    ];
    assert_eq!(headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_caller_does_not_say_is_made() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let request =
        Request::to("orders", r#"{"a":1}"#).header("traceparent", "00-nonsense").header("tracestate", "x=1");
    let answer = gateway.send(&request).await;
    let record = sink.records().remove(0);
    let header = |name| record.headers.get_str(name).unwrap().to_owned();
    for name in ["x-request-id", "x-event-id"] {
        let id: Uid = header(name).parse().unwrap();
        assert_eq!(id.as_uuid().get_version_num(), 7);
        assert_eq!(answer.header(name), Some(&*header(name)));
    }
    assert_ne!(header("x-request-id"), header("x-event-id"));
    assert_eq!(header("traceparent").len(), 55);
    assert_eq!(header("traceparent")[3..35], header("trace_id"));
    assert_eq!(record.headers.get("tracestate"), None);
    gateway.stop().await;
}

#[tokio::test]
async fn the_key_is_the_callers_else_the_pointers_else_none() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    for (topic, header, body, expected) in [
        ("keyed", None, r#"{"repo":{"id":1.50}}"#, Some("1.50")),
        ("keyed", None, r#"{"repo":{"id":"a\u0062"}}"#, Some("ab")),
        ("keyed", None, r#"{"repo":{"id":true}}"#, Some("true")),
        ("keyed", None, r#"{"repo":{"id":null}}"#, None),
        ("keyed", None, r#"{"repo":7}"#, None),
        ("keyed", Some("mine"), r#"{"repo":{"id":{}}}"#, Some("mine")),
        ("orders", Some("mine"), r#"{"repo":{"id":1}}"#, Some("mine")),
        ("orders", None, r#"{"repo":{"id":1}}"#, None),
    ] {
        let mut request = Request::to(topic, body);
        if let Some(header) = header {
            request = request.header("x-entity-key", header);
        }
        assert_eq!(gateway.send(&request).await.status, 202, "{body}");
        assert_eq!(key(sink.records().last().unwrap()), expected, "{topic} {body}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_array_is_a_batch_of_its_elements() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let body = "[ {\"repo\":{\"id\":1}} ,\n[ 2 ],{\"c\":3}]";
    let answer = gateway.send(&Request::to("keyed", body).header("idempotency-key", "k")).await;
    assert_eq!((answer.status, &answer.json()["records"]), (202, &3.into()));
    let records = sink.records();
    assert_eq!(
        records.iter().map(value).collect::<Vec<_>>(),
        [r#"{"repo":{"id":1}}"#, "[ 2 ]", r#"{"c":3}"#]
    );
    assert_eq!(records.iter().map(key).collect::<Vec<_>>(), [Some("1"), None, None]);
    let header = |name| records.iter().map(|r| r.headers.get_str(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(header("x-event-id"), ["k.0", "k.1", "k.2"]);
    assert!(header("x-request-id").iter().all(|id| *id == answer.header("x-request-id").unwrap()));

    // One element is a batch too, and `whole` keeps an array in one piece.
    gateway.send(&Request::to("orders", "[{\"a\":1}]").header("idempotency-key", "k")).await;
    assert_eq!(sink.records()[3].headers.get_str("x-event-id"), Some("k.0"));
    gateway.send(&Request::to("whole", "[1, 2]").header("idempotency-key", "k")).await;
    assert_eq!(value(&sink.records()[4]), "[1, 2]");
    assert_eq!(sink.records()[4].headers.get_str("x-event-id"), Some("k"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_event_api_says_where_the_records_are() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let to = |body: &str| Request::to("orders", body).path("/api/v1/events/orders").header("ce-id", "e");
    let answer = gateway.send(&to(r#"{"a":1}"#)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({"status":"stored","event_id":"e","partition":3,"offset":0}));
    let answer = gateway.send(&to(r#"[{"a":1},{"a":2}]"#)).await.json();
    assert_eq!(
        answer["records"][1],
        serde_json::json!({"status":"stored","event_id":"e.1","partition":3,"offset":2})
    );
    gateway.stop().await;
}

#[tokio::test]
async fn requests_of_one_connection_are_stored_and_answered_in_order() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let mut connection = gateway.connect().await;
    // Sent before the first answer is read, as HTTP/1.1 allows.
    let mut bytes = Vec::new();
    for n in 0..20 {
        let request =
            Request::to("orders", format!("{{\"n\":{n}}}")).header("x-request-id", &format!("r{n}"));
        bytes.extend(
            request.framing(if n % 2 == 0 { Framing::Chunked } else { Framing::ContentLength }).bytes(),
        );
    }
    connection.write(&bytes).await;
    for n in 0..20 {
        let answer = connection.answer().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (202, Some(&*format!("r{n}"))));
    }
    let values: Vec<_> = sink.records().iter().map(|r| value(r).to_owned()).collect();
    assert_eq!(values, (0..20).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>());
    gateway.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_outcome() {
    let gateway = Gateway::start(Fake::new());
    gateway.send(&Request::to("orders", "[{\"a\":1},{\"a\":2}]")).await;
    gateway.send(&Request::to("orders", "{")).await;
    gateway.send(&Request::to("nope", "{}")).await;
    let text = gateway.metrics.encode().unwrap();
    for line in [
        "vltava_ingest_requests_total{outcome=\"accepted\"} 1",
        "vltava_ingest_requests_total{outcome=\"json_invalid\"} 1",
        "vltava_ingest_requests_total{outcome=\"topic_not_found\"} 1",
        "vltava_ingest_records_total{topic=\"orders\"} 2",
        "vltava_ingest_value_bytes_total{topic=\"orders\"} 17",
        "vltava_ingest_request_duration_seconds_count 3",
        "vltava_ingest_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    gateway.stop().await;
}
