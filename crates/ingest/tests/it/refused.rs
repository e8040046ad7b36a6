//! The table of bad input: what each gets, and that nothing of it is stored.

use serde_json::{Value, json};

use crate::client::{Gateway, Request};
use crate::fake::Fake;

struct Case {
    what: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
    /// Null: the problem names none.
    field: Value,
    value: Value,
}

fn case(
    what: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
    field: impl Into<Value>,
    value: impl Into<Value>,
) -> Case {
    Case { what, request, status, code, field: field.into(), value: value.into() }
}

/// An object of that many bytes.
fn object(bytes: usize) -> String {
    format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8))
}

fn bodies() -> Vec<Case> {
    let to = |body: &str| Request::to("orders", body);
    let none = Value::Null;
    let mut cases = vec![
        case("nothing", to(""), 400, "body_empty", "body", none.clone()),
        case("white space", to(" \r\n\t "), 400, "body_empty", "body", none.clone()),
        case("empty object", to("{ }"), 400, "event_empty", "body", none.clone()),
        case("empty array", to("[\n]"), 400, "event_empty", "body", none.clone()),
        case("empty array, kept whole", Request::to("whole", "[]"), 400, "event_empty", "body", none.clone()),
        case("string", to("\"text\""), 400, "event_scalar", "body", none.clone()),
        case("number", to("42"), 400, "event_scalar", "body", none.clone()),
        case("null", to("null"), 400, "event_scalar", "body", none.clone()),
        case("scalar element", to("[{\"a\":1},2]"), 400, "event_scalar", "/1", none.clone()),
        case("null element", to("[null]"), 400, "event_scalar", "/0", none.clone()),
        case("empty element", to("[{\"a\":1},{\"a\":1},{}]"), 400, "event_empty", "/2", none.clone()),
        case("half an object", to("{\"a\":1"), 400, "json_invalid", "body", "the end of the body"),
        case("trailing comma", to("{\"a\":1,}"), 400, "json_invalid", "body", "'}'"),
        case("single quotes", to("{'a':1}"), 400, "json_invalid", "body", "'\\''"),
        case("comment", to("{\"a\":1} // done"), 400, "json_invalid", "body", "'/'"),
        case("two documents", to("{\"a\":1}\n{\"a\":2}"), 400, "json_invalid", "body", "'{'"),
        case("NaN", to("{\"a\":NaN}"), 400, "json_invalid", "body", "'N'"),
        case("hexadecimal", to("{\"a\":0x1}"), 400, "json_invalid", "body", "'x'"),
        case("leading zero", to("{\"a\":01}"), 400, "json_invalid", "body", "'1'"),
        case("raw line break", to("{\"a\":\"b\nc\"}"), 400, "json_invalid", "body", "'\\n'"),
        case("byte order mark", to("\u{feff}{\"a\":1}"), 400, "json_invalid", "body", "'\\u{feff}'"),
        case("broken element", to("[{\"a\":1},{\"a\":tru}]"), 400, "json_invalid", "body", "'t'"),
        case("too deep", to(&"[".repeat(100_000)), 400, "json_invalid", "body", "'['"),
        case("form", to("a=1&b=2"), 400, "json_invalid", "body", "'a'"),
        case(
            "too many elements",
            to(&format!("[{}{{\"a\":1}}]", "{\"a\":1},".repeat(100))),
            413,
            "batch_too_large",
            "body",
            101,
        ),
        case(
            "over the body's limit",
            to(&object((8 << 20) + 1)),
            413,
            "body_too_large",
            "body",
            (8 << 20) + 1,
        ),
        case(
            "key is an object",
            Request::to("keyed", "{\"repo\":{\"id\":{}}}"),
            400,
            "key_invalid",
            "/repo/id",
            none.clone(),
        ),
        case(
            "element's key is an array",
            Request::to("keyed", "[{\"a\":1},{\"repo\":{\"id\":[]}}]"),
            400,
            "key_invalid",
            "/1/repo/id",
            none.clone(),
        ),
    ];
    let utf8 = Request { body: b"{\"a\":\"\xff\"}".to_vec(), ..to("") };
    cases.push(case("not UTF-8", utf8, 400, "json_invalid", "body", "'\u{fffd}'"));
    let utf16 = Request { body: "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect(), ..to("") };
    cases.push(case("UTF-16", utf16, 400, "json_invalid", "body", "'\\0'"));
    cases
}

fn heads() -> Vec<Case> {
    let to = |topic: &str| Request::to(topic, "{\"a\":1}");
    let typed = |media: &str| to("orders").without("content-type").header("content-type", media);
    let none = Value::Null;
    let long = "x".repeat(250);
    vec![
        case("unknown topic", to("nope"), 404, "topic_not_found", "topic", "nope"),
        case("reserved topic", to("vltava.audit"), 422, "topic_name_reserved", "topic", "vltava.audit"),
        case(
            "internal topic",
            to("__consumer_offsets"),
            422,
            "topic_name_reserved",
            "topic",
            "__consumer_offsets",
        ),
        case("space in the name", to("a%20b"), 422, "topic_name_invalid", "topic", "a b"),
        case("slash in the name", to("a%2Fb"), 422, "topic_name_invalid", "topic", "a/b"),
        case("traversal", to("..%2f..%2fetc"), 422, "topic_name_invalid", "topic", "../../etc"),
        case("dots", to(".."), 422, "topic_name_invalid", "topic", ".."),
        case("zero byte", to("a%00"), 422, "topic_name_invalid", "topic", "a\0"),
        case("umlaut", to("%C3%BC"), 422, "topic_name_invalid", "topic", "ü"),
        case("not UTF-8", to("%ff"), 422, "topic_name_invalid", "topic", "%ff"),
        case("long name", to(&long), 422, "topic_name_invalid", "topic", long.clone()),
        case("no topic", to("x").path("/ingest/"), 404, "not_found", none.clone(), none.clone()),
        case("no topic at all", to("x").path("/ingest"), 404, "not_found", none.clone(), none.clone()),
        case("two segments", to("a/b"), 404, "not_found", none.clone(), none.clone()),
        case(
            "no type",
            to("orders").without("content-type"),
            415,
            "media_type_not_supported",
            "content-type",
            none.clone(),
        ),
        case("text", typed("text/plain"), 415, "media_type_not_supported", "content-type", "text/plain"),
        case(
            "NDJSON",
            typed("application/x-ndjson"),
            415,
            "media_type_not_supported",
            "content-type",
            "application/x-ndjson",
        ),
        case(
            "latin-1",
            typed("application/json; charset=iso-8859-1"),
            415,
            "media_type_not_supported",
            "content-type",
            "application/json; charset=iso-8859-1",
        ),
        case(
            "two types",
            to("orders").header("content-type", "text/plain"),
            415,
            "media_type_not_supported",
            "content-type",
            none.clone(),
        ),
        case(
            "gzip",
            to("orders").header("content-encoding", "gzip"),
            415,
            "content_encoding_not_supported",
            "content-encoding",
            "gzip",
        ),
        case(
            "empty key",
            to("orders").header("x-entity-key", ""),
            400,
            "key_invalid",
            "x-entity-key",
            none.clone(),
        ),
        case(
            "two keys",
            to("orders").header("x-entity-key", "a").header("x-entity-key", "b"),
            400,
            "key_invalid",
            "x-entity-key",
            none.clone(),
        ),
        case(
            "id with a space",
            to("orders").header("idempotency-key", "a b"),
            400,
            "event_id_invalid",
            "idempotency-key",
            "a b",
        ),
        case("empty id", to("orders").header("ce-id", ""), 400, "event_id_invalid", "ce-id", ""),
        case(
            "foreign host",
            to("orders").header("host", "evil.example"),
            403,
            "host_not_allowed",
            "host",
            "evil.example",
        ),
        case(
            "foreign page",
            to("orders").header("origin", "http://evil.example"),
            403,
            "origin_not_allowed",
            "origin",
            "http://evil.example",
        ),
        case("GET", to("orders").method("GET"), 405, "method_not_allowed", "method", none.clone()),
        case("PUT", to("orders").method("PUT"), 405, "method_not_allowed", "method", none.clone()),
        case("DELETE", to("nope").method("DELETE"), 405, "method_not_allowed", "method", none.clone()),
        case("OPTIONS", to("orders").method("OPTIONS"), 405, "method_not_allowed", "method", none),
    ]
}

#[tokio::test]
async fn each_is_refused_by_name_and_leaves_nothing() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    let cases: Vec<Case> = bodies().into_iter().chain(heads()).collect();
    for Case { what, request, status, code, field, value } in &cases {
        // Both routes are one path.
        let api = request.path.replacen("/ingest", "/api/v1/events", 1);
        for request in [request.clone(), request.clone().path(&api)] {
            let answer = gateway.send(&request.header("x-request-id", "r-7")).await;
            assert_eq!(answer.header("x-request-id"), Some("r-7"), "{what}");
            let problem = answer.problem();
            let found = (problem["code"].as_str(), answer.status, &problem["field"]);
            assert_eq!(found, (Some(*code), *status, field), "{what}: {problem}");
            let shown = match (&problem["value"], value) {
                // Long values are cut.
                (Value::String(cut), Value::String(whole)) if cut.ends_with('…') => {
                    whole.starts_with(cut.trim_end_matches('…'))
                }
                (found, expected) => found == expected,
            };
            assert!(shown, "{what}: {problem}");
            assert_eq!(answer.header("allow"), (*status == 405).then_some("POST"), "{what}");
        }
    }
    assert_eq!(sink.records(), [], "something was stored");
    gateway.stop().await;
}

#[tokio::test]
async fn broken_json_is_located() {
    let gateway = Gateway::start(Fake::new());
    for (body, line, column) in [
        ("{\"a\":1,}", 1, 8),
        ("{\n  \"a\": 1\n  \"b\": 2\n}", 3, 3),
        ("[{\"é\":1},\n{\"a\" 1}]", 2, 6),
        ("[{\"a\":1}", 1, 9),
    ] {
        let problem = gateway.send(&Request::to("orders", body)).await.problem();
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&json!(line), &json!(column)),
            "{body}: {problem}"
        );
        let place = format!("line {line}, column {column}: ");
        assert!(problem["detail"].as_str().unwrap().starts_with(&place), "{problem}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_topics_limit_is_held_against_the_encoded_record() {
    let sink = Fake::new();
    let gateway = Gateway::start(sink.clone());
    // Ids, trace and media type are headers of the record, so they count. All are fixed here.
    let to = |topic: &str, body: String| {
        Request::to(topic, body)
            .header("x-request-id", "r")
            .header("x-event-id", "e")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    };
    let size = |answer: &crate::client::Answer| answer.problem()["value"].as_u64().unwrap();
    let answer = gateway.send(&to("small", object(1000))).await;
    assert_eq!(answer.problem()["code"], "record_too_large");
    assert_eq!(answer.problem()["field"], "body");
    let overhead = size(&answer) - 1000;
    assert!((200..400).contains(&overhead), "{overhead}");
    let fits = 1000 - overhead as usize;
    assert_eq!(gateway.send(&to("small", object(fits))).await.status, 202);
    assert_eq!(size(&gateway.send(&to("small", object(fits + 1))).await), 1001);
    // The key counts, and so do headers that are kept.
    assert_eq!(gateway.send(&to("small", object(fits)).header("x-entity-key", "k")).await.status, 413);
    assert_eq!(gateway.send(&to("small", object(fits)).header("ce-type", "t")).await.status, 413);
    // A batch is refused whole, and names the element. The body itself may be larger than one record.
    let batch = format!("[{},{},{}]", object(500), object(500), object(900));
    let problem = gateway.send(&to("small", batch)).await.problem();
    assert_eq!((&problem["code"], &problem["field"]), (&json!("record_too_large"), &json!("/2")));
    assert_eq!(sink.records().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_topic_that_appears_is_taken_at_once() {
    let gateway = Gateway::start(Fake::new());
    let known = gateway.topics.send_replace(Default::default());
    assert_eq!(gateway.send(&Request::to("orders", "{\"a\":1}")).await.status, 404);
    gateway.topics.send_replace(known);
    assert_eq!(gateway.send(&Request::to("orders", "{\"a\":1}")).await.status, 202);
    gateway.stop().await;
}
