//! Record headers: an ordered list, in which a name may stand more than once.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// Names of the headers that Vltava writes. Those under a reserved prefix (see
/// [`Headers::strip_reserved`]) are Vltava's alone.
pub mod names {
    /// The event's identity, stable over retries and redrives; `webhook-id` equals it.
    pub const EVENT_ID: &str = "x-event-id";
    /// The HTTP request that brought the record in; a batch shares it.
    pub const REQUEST_ID: &str = "x-request-id";
    /// W3C Trace Context.
    pub const TRACEPARENT: &str = "traceparent";
    /// The trace's id alone, for tools that don't parse `traceparent`.
    pub const TRACE_ID: &str = "trace_id";
    /// What wrote the record.
    pub const SERVICE_NAME: &str = "service.name";
    /// The environment (`env` of the configuration).
    pub const DEPLOYMENT_ENV: &str = "deployment.env";
    /// The schema's version, where there is one.
    pub const SCHEMA_VERSION: &str = "schema.version";
    /// The media type of the value.
    pub const CONTENT_TYPE: &str = "content-type";
    /// `NAME@VERSION` of the transform that made the record.
    pub const TRANSFORM: &str = "x-transform";
    /// A stable code: why the record was dead-lettered.
    pub const DLQ_REASON: &str = "x-dlq-reason";
    /// What a person reads: the error and its position.
    pub const DLQ_MESSAGE: &str = "x-dlq-message";
    /// The stage that failed, e.g. `pipeline/demo/github/enrich@3`.
    pub const DLQ_STAGE: &str = "x-dlq-stage";
    /// Tries inside the stage.
    pub const DLQ_ATTEMPTS: &str = "x-dlq-attempts";
    /// When, as RFC 3339 in UTC.
    pub const DLQ_AT: &str = "x-dlq-at";
    /// The topic of the record's first origin.
    pub const ORIGIN_TOPIC: &str = "x-origin-topic";
    /// Its partition.
    pub const ORIGIN_PARTITION: &str = "x-origin-partition";
    /// Its offset.
    pub const ORIGIN_OFFSET: &str = "x-origin-offset";
    /// Its timestamp, in milliseconds since the epoch.
    pub const ORIGIN_TIMESTAMP: &str = "x-origin-timestamp";
    /// The redrive run that gave the record back.
    pub const REDRIVE_ID: &str = "x-redrive-id";
    /// How many times the record was redriven.
    pub const REDRIVE_COUNT: &str = "x-redrive-count";

    /// Those that most records carry, the most frequent first.
    const FREQUENT: [&str; 10] = [
        EVENT_ID,
        REQUEST_ID,
        TRACEPARENT,
        TRACE_ID,
        SERVICE_NAME,
        DEPLOYMENT_ENV,
        CONTENT_TYPE,
        TRANSFORM,
        "x-github-event",
        "x-github-delivery",
    ];

    /// The constant of this text, if it is one that most records carry.
    pub(super) fn frequent(name: &str) -> Option<&'static str> {
        FREQUENT.into_iter().find(|known| *known == name)
    }
}

/// A header's name, case-sensitive as in Kafka. Cheap to clone, and those that Vltava writes cost no allocation.
#[derive(Clone)]
pub struct HeaderName(Name);

#[derive(Clone)]
enum Name {
    Constant(&'static str),
    Shared(Arc<str>),
}

impl HeaderName {
    /// A name that came from elsewhere.
    pub fn new(name: &str) -> Self {
        Self(names::frequent(name).map_or_else(|| Name::Shared(name.into()), Name::Constant))
    }
}

impl Deref for HeaderName {
    type Target = str;
    fn deref(&self) -> &str {
        match &self.0 {
            Name::Constant(name) => name,
            Name::Shared(name) => name,
        }
    }
}

impl From<&'static str> for HeaderName {
    fn from(name: &'static str) -> Self {
        Self(Name::Constant(name))
    }
}

impl From<String> for HeaderName {
    fn from(name: String) -> Self {
        Self(Name::Shared(name.into()))
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for HeaderName {}

/// Prefixes of header names that are Vltava's: stripped from what callers send.
const RESERVED_PREFIXES: [&str; 4] = ["x-dlq-", "x-origin-", "x-redrive-", "x-transform"];

/// One header. `None` is Kafka's null value, which differs from an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: HeaderName,
    /// The value's bytes.
    pub value: Option<Bytes>,
}

/// A record's headers: order and duplicate names are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// None, with room for so many.
    pub fn with_capacity(headers: usize) -> Self {
        Self(Vec::with_capacity(headers))
    }

    /// Adds one at the end, also where the name stands already.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl Into<Bytes>) {
        self.0.push(Header { name: name.into(), value: Some(value.into()) });
    }

    /// Adds one with a value that may be null.
    pub fn push_nullable(&mut self, name: impl Into<HeaderName>, value: Option<Bytes>) {
        self.0.push(Header { name: name.into(), value });
    }

    /// Replaces every header of that name by one, at the end.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<Bytes>) {
        let name = name.into();
        self.remove(&name);
        self.push(name, value);
    }

    /// Removes every header of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|h| &*h.name != name);
    }

    /// The value of the last header of that name (Kafka's `lastHeader`), if it isn't null.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|h| &*h.name == name).and_then(|h| h.value.as_ref())
    }

    /// As [`Headers::get`], where the value is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Header) -> bool) {
        self.0.retain(keep);
    }

    /// Whether a name belongs to Vltava (`x-dlq-*`, `x-origin-*`, `x-redrive-*`, `x-transform*`), in any case.
    pub fn is_reserved(name: &str) -> bool {
        RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix)))
    }

    /// Removes the headers that only Vltava may write: what callers send of them is never trusted.
    pub fn strip_reserved(&mut self) {
        self.0.retain(|h| !Self::is_reserved(&h.name));
    }

    /// Names and values together, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.0.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        Self(headers.into_iter().collect())
    }
}

impl IntoIterator for Headers {
    type Item = Header;
    type IntoIter = std::vec::IntoIter<Header>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_are_kept_and_the_last_one_is_read() {
        let mut headers = Headers::new();
        headers.push("a", "1");
        headers.push("b", "2");
        headers.push("a", "3");
        headers.push_nullable("n", None);
        assert_eq!(headers.iter().map(|h| &*h.name).collect::<Vec<_>>(), ["a", "b", "a", "n"]);
        assert_eq!(headers.get_str("a"), Some("3"));
        assert_eq!(headers.get("n"), None);
        headers.set("a", "4");
        assert_eq!(headers.iter().filter(|h| &*h.name == "a").count(), 1);
        assert_eq!(headers.get_str("a"), Some("4"));
    }

    #[test]
    fn a_name_is_its_text_wherever_it_came_from() {
        for text in [names::EVENT_ID, "x-of-a-stranger"] {
            assert_eq!(HeaderName::new(text), HeaderName::from(text.to_owned()));
            assert_eq!(HeaderName::new(text), HeaderName::from(text));
        }
        assert_ne!(HeaderName::new("a"), HeaderName::new("A"));
    }

    #[test]
    fn reserved_names_are_stripped_in_any_case() {
        let mut headers = Headers::new();
        for name in [
            "X-DLQ-Reason",
            "x-origin-topic",
            "x-redrive-id",
            "x-transform",
            "x-transformer",
            "x-event-id",
            "x-é",
        ] {
            headers.push(name, "v");
        }
        headers.strip_reserved();
        assert_eq!(headers.iter().map(|h| &*h.name).collect::<Vec<_>>(), ["x-event-id", "x-é"]);
    }
}
