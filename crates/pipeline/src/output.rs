//! What a result looks like as a record: its headers, its key and what it weighs on the wire.
//!
//! Invariant: of the headers that only Vltava may write, an output carries `x-transform` alone. What a dead
//! letter or a redrive said about the input isn't true of the output.

use bytes::Bytes;
use deadletter::Origin;
use types::{Headers, Record, names};

/// What every output says of its value.
const JSON: &[u8] = b"application/json";

/// The id of an event that came without one: the same, however often it is read or redriven.
fn event_id(origin: &Origin) -> String {
    format!("{}-{}-{}", origin.topic, origin.partition, origin.offset)
}

/// Which of several outputs of one input this is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// The only one.
    Whole,
    /// An element of a fan-out, from 0.
    Element(usize),
}

/// The headers of an output: the input's in their order without Vltava's own, the event's id, the media type
/// and the transforms that made it.
pub(crate) fn headers(
    input: &Headers,
    origin: &Origin,
    part: Part,
    is_json: bool,
    made_by: &[Bytes],
) -> Headers {
    let mut headers: Headers = input
        .iter()
        .filter(|h| !Headers::is_reserved(&h.name) && &*h.name != names::EVENT_ID)
        .filter(|h| !(is_json && h.name.eq_ignore_ascii_case(names::CONTENT_TYPE)))
        .cloned()
        .collect();
    let id = match input.get_str(names::EVENT_ID) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => event_id(origin),
    };
    let id = match part {
        Part::Whole => id,
        Part::Element(index) => format!("{id}.{index}"),
    };
    headers.push(names::EVENT_ID, id);
    if is_json {
        headers.push(names::CONTENT_TYPE, Bytes::from_static(JSON));
    }
    for transform in made_by {
        headers.push(names::TRANSFORM, transform.clone());
    }
    headers
}

/// A key from the JSON text that the key's expression gave: a string's characters, any other value's JSON
/// text; JSON null is no key.
pub(crate) fn key_of_json(json: &[u8]) -> Result<Option<Bytes>, serde_json::Error> {
    if json == b"null" {
        return Ok(None);
    }
    if json.first() == Some(&b'"') {
        return serde_json::from_slice::<String>(json).map(|text| Some(text.into()));
    }
    Ok(Some(Bytes::copy_from_slice(json)))
}

/// What isn't one value that a key or a header can hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotScalar {
    /// It has parts.
    #[error("the expression gives {0}, not a text, a number or a boolean; `$string(...)` makes a text of it")]
    Parts(&'static str),
    /// A text that no UTF-8 says.
    #[error("the expression gives a text that can't be written: {0}")]
    Text(serde_json::Error),
}

/// As [`key_of_json`], of a text, a number or a boolean only: the order of an object's fields must decide nothing.
pub(crate) fn scalar_of_json(json: &[u8]) -> Result<Option<Bytes>, NotScalar> {
    match json.first() {
        Some(b'{') => Err(NotScalar::Parts("an object")),
        Some(b'[') => Err(NotScalar::Parts("an array")),
        _ => key_of_json(json).map_err(NotScalar::Text),
    }
}

/// What a record weighs against a topic's `max.message.bytes`: as a batch of its own, uncompressed (Kafka's
/// record batch format v2). It doesn't depend on what it would be batched with.
pub(crate) fn encoded_bytes(record: &Record) -> usize {
    const BATCH_HEADER_BYTES: usize = 61;
    /// Attributes, and the deltas of a batch's first record: one byte each.
    const RECORD_HEADER_BYTES: usize = 3;
    let field = |len: usize| varint_bytes(len) + len;
    let nullable = |bytes: Option<&Bytes>| bytes.map_or(1, |b| field(b.len()));
    let headers: usize =
        record.headers.iter().map(|h| field(h.name.len()) + nullable(h.value.as_ref())).sum();
    let body = RECORD_HEADER_BYTES
        + nullable(record.key.as_ref())
        + nullable(record.value.as_ref())
        + varint_bytes(record.headers.len())
        + headers;
    BATCH_HEADER_BYTES + varint_bytes(body) + body
}

/// Bytes of a zigzag varint of a length.
fn varint_bytes(len: usize) -> usize {
    let mut zigzag = len << 1;
    let mut bytes = 1;
    while zigzag >= 0x80 {
        zigzag >>= 7;
        bytes += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use types::TopicName;

    use super::*;

    fn origin() -> Origin {
        Origin { topic: TopicName::new("s").unwrap(), partition: 2, offset: 5, timestamp_ms: 0 }
    }

    fn of(pairs: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.push(types::HeaderName::new(name), value.as_bytes().to_vec());
        }
        headers
    }

    fn shown(headers: &Headers) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|h| (h.name.to_string(), String::from_utf8_lossy(h.value.as_deref().unwrap()).into_owned()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn outputs_inherit_what_is_true_of_them() {
        let from = of(&[
            ("x-github-event", "push"),
            ("x-event-id", "e1"),
            ("x-request-id", "r1"),
            ("traceparent", "00-a-b-01"),
            ("Content-Type", "application/cloudevents+json"),
            ("x-dlq-reason", "transform_error"),
            ("x-origin-topic", "s"),
            ("x-redrive-count", "1"),
            ("x-transform", "earlier@9"),
            ("dup", "1"),
            ("dup", "2"),
        ]);
        let origin = origin();
        let made = headers(&from, &origin, Part::Whole, true, &[Bytes::from("enrich@3")]);
        assert_eq!(
            shown(&made),
            pairs(&[
                ("x-github-event", "push"),
                ("x-request-id", "r1"),
                ("traceparent", "00-a-b-01"),
                ("dup", "1"),
                ("dup", "2"),
                ("x-event-id", "e1"),
                ("content-type", "application/json"),
                ("x-transform", "enrich@3"),
            ])
        );
        let tombstone = headers(&from, &origin, Part::Whole, false, &[]);
        assert_eq!(tombstone.get_str("Content-Type"), Some("application/cloudevents+json"));
    }

    #[test]
    fn an_event_without_id_gets_its_origins_place_and_elements_are_numbered() {
        let id = |from: &[(&str, &str)], part| {
            headers(&of(from), &origin(), part, true, &[]).get_str("x-event-id").map(ToOwned::to_owned)
        };
        assert_eq!(id(&[], Part::Whole).as_deref(), Some("s-2-5"));
        assert_eq!(id(&[("x-event-id", "")], Part::Element(3)).as_deref(), Some("s-2-5.3"));
        assert_eq!(id(&[("x-event-id", "e")], Part::Element(0)).as_deref(), Some("e.0"));
    }

    #[test]
    fn keys_are_texts() {
        let key = |json: &str| key_of_json(json.as_bytes()).unwrap();
        assert_eq!(key(r#""a\nü""#), Some("a\nü".into()));
        assert_eq!(key("12.5"), Some("12.5".into()));
        assert_eq!(key(r#"{"a":1}"#), Some(r#"{"a":1}"#.into()));
        assert_eq!(key("null"), None);
    }

    #[test]
    fn scalars_are_texts_and_nothing_else_is() {
        let scalar = |json: &str| scalar_of_json(json.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(scalar(r#""a""#), Ok(Some("a".into())));
        assert_eq!(scalar("1e3"), Ok(Some("1e3".into())));
        assert_eq!(scalar("false"), Ok(Some("false".into())));
        assert_eq!(scalar("null"), Ok(None));
        for (json, what) in [("{}", "an object"), ("[1]", "an array"), (r#""\ud800""#, "can't be written")] {
            assert!(scalar(json).unwrap_err().contains(what), "{json}");
        }
    }

    #[test]
    fn weight_is_that_of_a_batch_of_one() {
        assert_eq!(encoded_bytes(&Record::default()), 61 + 1 + 6);
        let record = Record {
            key: Some("k".into()),
            value: Some(vec![b'x'; 200].into()),
            headers: of(&[("a", "b")]),
            timestamp: None,
        };
        // attributes, deltas: 3; key 2; value 2 + 200; header count 1; header 4
        assert_eq!(encoded_bytes(&record), 61 + 2 + (3 + 2 + 202 + 1 + 4));
    }
}
