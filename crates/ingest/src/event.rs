//! From a request to the records that it becomes: all of them, or a refusal.
//!
//! Invariants: a record's value is a slice of the body, byte for byte; all records of a request are
//! within the topic's limit before the first one is sent; no header that belongs to Vltava, and no
//! credential, passes from the request into a record.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use resources::{Arrays, TopicEntry};
use runtime::http::Problem;
use types::{EventId, Headers, Record, RequestId, names};

use crate::Config;
use crate::identity::Trace;
use crate::json::{self, Elements, Kind, SyntaxError, Value};
use crate::key::{Found, Pointer};

/// Of request headers, those under these prefixes are kept.
const KEPT_PREFIXES: [&str; 3] = ["x-github-", "webhook-", "ce-"];

/// Never kept, whatever a topic asks for: credentials, and what Vltava sets itself.
const NEVER_KEPT: [&str; 11] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    names::EVENT_ID,
    names::REQUEST_ID,
    names::TRACEPARENT,
    names::TRACE_ID,
    names::SERVICE_NAME,
    names::DEPLOYMENT_ENV,
    names::CONTENT_TYPE,
];

/// Headers of most records: those that Vltava writes, and a few of the request's.
const HEADERS_USUAL: usize = 10;

/// A record batch's own bytes around its records (Kafka's message format, v2).
const BATCH_OVERHEAD_BYTES: u64 = 61;

/// What is known of a request before its body is read.
pub(crate) struct Envelope {
    pub(crate) request_id: RequestId,
    pub(crate) event_id: EventId,
    pub(crate) trace: Trace,
    pub(crate) content_type: HeaderValue,
    pub(crate) key: Option<Bytes>,
}

/// A record and the name of its event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) record: Record,
}

/// What a body became.
#[derive(Debug)]
pub(crate) struct Events {
    /// In the order of the body; at least one.
    pub(crate) list: Vec<Event>,
    /// Whether the body was an array that was taken apart; one of one element is a batch, too.
    pub(crate) batch: bool,
    /// Their records, encoded and with their headers.
    pub(crate) bytes: u64,
}

/// Makes the records of a body.
pub(crate) fn of_body(
    config: &Config,
    topic: &TopicEntry,
    request_headers: &HeaderMap,
    envelope: &Envelope,
    body: &Bytes,
) -> Result<Events, Problem> {
    let checked = match topic.ingest.arrays {
        Arrays::Split => json::split(body, config.batch_records_max),
        Arrays::Whole => json::check(body).map(|value| value.map(|value| (value, Elements::default()))),
    };
    let (value, elements) = match checked {
        Ok(Some(found)) => found,
        Ok(None) => {
            return Err(refused("body_empty", "body", "the body is empty: send a JSON object or an array"));
        }
        Err(error) => return Err(syntax(&error, body)),
    };
    is_event(&value, "body")?;
    if elements.count > config.batch_records_max {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large")
            .field("body")
            .value(elements.count)
            .detail(format!("a batch may have at most {} elements", config.batch_records_max)));
    }
    let batch = matches!(value.kind, Kind::Array { .. }) && topic.ingest.arrays == Arrays::Split;
    let mut headers = headers(config, topic, request_headers, envelope);
    let pointer = match &envelope.key {
        Some(_) => None,
        None => topic.ingest.key.as_deref().map(|text| (text, Pointer::new(text))),
    };
    let mut list = Vec::with_capacity(elements.list.len().max(1));
    let mut bytes_total = 0;
    let whole = [value];
    let values = if batch { &elements.list[..] } else { &whole[..] };
    for (index, value) in values.iter().enumerate() {
        // An element is named by its JSON pointer.
        let field = || if batch { format!("/{index}") } else { "body".to_owned() };
        if batch {
            is_event(value, field())?;
        }
        let key = match &pointer {
            None => envelope.key.clone(),
            Some((text, pointer)) => key_of(pointer, text, &body[value.range.clone()], index, batch)?,
        };
        let id = if batch { envelope.event_id.element(index) } else { envelope.event_id.clone() };
        // The last record, mostly the only one, takes them: a copy costs an allocation for each name and value.
        let last = index + 1 == values.len();
        let mut headers = if last { std::mem::take(&mut headers) } else { headers.clone() };
        headers.push(names::EVENT_ID, id.to_bytes());
        // White space around the value goes with it, where the body is the record: it is stored as it came.
        let stored = if batch { body.slice(value.range.clone()) } else { body.clone() };
        let record = Record { key, value: Some(stored), headers, timestamp: None };
        let bytes = encoded_bytes(&record);
        if bytes > topic.max_message_bytes {
            return Err(too_large(field(), bytes, topic.max_message_bytes));
        }
        bytes_total += bytes;
        if bytes_total > config.batch_bytes_max {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_large")
                .field(field())
                .detail(format!(
                    "the records of a batch, with their headers, may have at most {} bytes",
                    config.batch_bytes_max
                )));
        }
        list.push(Event { id, record });
    }
    Ok(Events { list, batch, bytes: bytes_total })
}

/// A record that the topic doesn't take.
pub(crate) fn too_large(field: String, bytes: u64, bytes_max: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large").field(field).value(bytes).detail(format!(
        "the record, with its key and headers, has {bytes} bytes; the topic's max.message.bytes is {bytes_max}"
    ))
}

fn syntax(error: &SyntaxError, body: &[u8]) -> Problem {
    let (line, column) = error.line_and_column(body);
    let found = match body.get(error.offset..) {
        None | Some([]) => "the end of the body".to_owned(),
        Some(rest) => match String::from_utf8_lossy(&rest[..rest.len().min(4)]).chars().next() {
            Some(c) => format!("{c:?}"),
            None => String::new(),
        },
    };
    Problem::new(StatusCode::BAD_REQUEST, "json_invalid")
        .field("body")
        .value(found.clone())
        .detail(format!("line {line}, column {column}: {}, found {found}", error.what))
        .with("line", line)
        .with("column", column)
}

fn is_event(value: &Value, field: impl Into<std::borrow::Cow<'static, str>>) -> Result<(), Problem> {
    match value.kind {
        Kind::Object { empty: false } | Kind::Array { empty: false } => Ok(()),
        Kind::Object { empty: true } | Kind::Array { empty: true } => {
            Err(refused("event_empty", field, "an event can't be an empty object or array"))
        }
        Kind::Scalar => {
            Err(refused("event_scalar", field, "an event must be a JSON object or array, not a single value"))
        }
    }
}

fn refused(
    code: &'static str,
    field: impl Into<std::borrow::Cow<'static, str>>,
    detail: &'static str,
) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, code).field(field).detail(detail)
}

fn key_of(
    pointer: &Pointer,
    text: &str,
    json: &[u8],
    index: usize,
    batch: bool,
) -> Result<Option<Bytes>, Problem> {
    let json =
        std::str::from_utf8(json).expect("the whole body was checked as UTF-8, and values begin at ASCII");
    match pointer.find(json) {
        Found::Nothing => Ok(None),
        Found::Key(key) => Ok(Some(key)),
        Found::NoKey => {
            let field = if batch { format!("/{index}{text}") } else { text.to_owned() };
            Err(refused(
                "key_invalid",
                field,
                "the topic takes its keys from here: it must be a string, a number, true, false, or be left out",
            ))
        }
    }
}

/// The headers of every record of the request, but for `x-event-id`.
fn headers(config: &Config, topic: &TopicEntry, request: &HeaderMap, envelope: &Envelope) -> Headers {
    let mut headers = Headers::with_capacity(HEADERS_USUAL);
    headers.push(names::REQUEST_ID, envelope.request_id.to_bytes());
    headers.push(names::TRACEPARENT, envelope.trace.parent.clone());
    headers.push(names::TRACE_ID, envelope.trace.id.clone());
    headers.push(names::SERVICE_NAME, config.service_name.clone());
    headers.push(names::DEPLOYMENT_ENV, config.deployment_env.clone());
    headers.push(names::CONTENT_TYPE, content_type(&envelope.content_type));
    for (name, value) in request {
        if is_kept(name, topic, envelope) {
            headers.push(types::HeaderName::new(name.as_str()), Bytes::copy_from_slice(value.as_bytes()));
        }
    }
    headers
}

/// Nearly always the same one, which needs no copy.
fn content_type(given: &HeaderValue) -> Bytes {
    const JSON: &[u8] = b"application/json";
    if given.as_bytes() == JSON { Bytes::from_static(JSON) } else { Bytes::copy_from_slice(given.as_bytes()) }
}

fn is_kept(name: &HeaderName, topic: &TopicEntry, envelope: &Envelope) -> bool {
    let name = name.as_str();
    let wanted = KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || (name == "tracestate" && envelope.trace.continued)
        || topic.ingest.headers.iter().any(|kept| kept == name);
    wanted && !Headers::is_reserved(name) && !NEVER_KEPT.contains(&name)
}

/// What the record takes as a batch of its own, uncompressed (Kafka's message format, v2): what the topic's
/// `max.message.bytes` is held against.
pub(crate) fn encoded_bytes(record: &Record) -> u64 {
    let sized = |bytes: Option<usize>| match bytes {
        // -1 is one byte as a zigzag varint.
        None => 1,
        Some(bytes) => varint_bytes(bytes) + bytes as u64,
    };
    let Record { key, value, headers, timestamp: _ } = record;
    // Attributes, timestamp delta and offset delta: a byte each in a batch of one.
    let mut bytes = 3 + sized(key.as_ref().map(Bytes::len)) + sized(value.as_ref().map(Bytes::len));
    bytes += varint_bytes(headers.len());
    for header in headers {
        bytes += sized(Some(header.name.len())) + sized(header.value.as_ref().map(Bytes::len));
    }
    BATCH_OVERHEAD_BYTES + varint_bytes(bytes as usize) + bytes
}

/// Bytes of a non-negative number as a zigzag varint.
fn varint_bytes(number: usize) -> u64 {
    let zigzag = (number as u64) << 1;
    u64::from((64 - (zigzag | 1).leading_zeros()).div_ceil(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_grow_where_kafkas_do() {
        for (number, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 20, 4)] {
            assert_eq!(varint_bytes(number), bytes, "{number}");
        }
    }

    #[test]
    fn an_encoded_record_is_counted_as_kafka_counts_it() {
        let mut record = Record { key: None, value: Some(Bytes::from_static(b"12345")), ..Record::default() };
        // length 1, attributes 1, deltas 2, key 1, value 1 + 5, header count 1.
        assert_eq!(encoded_bytes(&record), 61 + 12);
        record.key = Some(Bytes::from_static(b"k"));
        record.headers.push("ab", "cde");
        record.headers.push_nullable("n", None);
        assert_eq!(encoded_bytes(&record), 61 + 12 + 1 + 3 + 4 + 2 + 1);
    }
}
