//! The headers of a delivery: what identifies it, what proves who sent it, and what the event
//! came with.

use connect::kafka::ConsumedRecord;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use types::names;
use uuid::Uuid;

use super::signature::Signer;

/// Headers that no configuration may set.
pub(super) const OWN_HEADERS: [&str; 9] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-request-id",
    "traceparent",
    "content-type",
    "content-length",
    "transfer-encoding",
    "host",
];

/// Record headers that the receiver gets as they came in, by prefix.
const FORWARDED_PREFIXES: [&str; 2] = ["ce-", "x-github-"];

/// Standard Webhooks' three (the id is the event's: stable over retries and redrives), the request
/// id, the trace, the media type, and forwarded ones.
pub(super) fn headers(record: &ConsumedRecord, signer: Option<&Signer>, now: Timestamp) -> HeaderMap {
    let id = event_id(record);
    let timestamp = now.as_second();
    let mut headers = HeaderMap::with_capacity(8);
    for header in &record.headers {
        if FORWARDED_PREFIXES.iter().any(|prefix| header.name.starts_with(prefix))
            && let Ok(name) = HeaderName::from_bytes(header.name.as_bytes())
            && let Some(Ok(value)) = header.value.as_deref().map(HeaderValue::from_bytes)
        {
            headers.append(name, value);
        }
    }
    let mut set = |name: &'static str, value: &str| {
        // A value that can't stand in a header (an id that a foreign producer wrote) is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("webhook-id", &id);
    set("webhook-timestamp", &timestamp.to_string());
    if let Some(signer) = signer {
        set("webhook-signature", &signer.sign(&id, timestamp, record.value.as_deref().unwrap_or_default()));
    }
    if let Some(request_id) = record.headers.get_str(names::REQUEST_ID) {
        set("x-request-id", request_id);
    }
    set("traceparent", &traceparent(record.headers.get_str(names::TRACEPARENT)));
    let content_type = record.headers.get_str(names::CONTENT_TYPE).unwrap_or("application/json");
    set("content-type", content_type);
    headers
}

/// The event's id, or for records that none of ours wrote: where the record lies.
fn event_id(record: &ConsumedRecord) -> String {
    match record.headers.get_str(names::EVENT_ID).filter(|id| HeaderValue::from_str(id).is_ok()) {
        Some(id) => id.to_owned(),
        None => format!("{}-{}", record.tp, record.offset),
    }
}

/// The delivery is a span of its own in the event's trace; without a trace, a new one begins (W3C Trace Context).
fn traceparent(inherited: Option<&str>) -> String {
    let random = Uuid::new_v4().simple().to_string();
    let span = &random[..16];
    if let Some([version, trace, parent, flags]) =
        inherited.map(|t| t.splitn(4, '-').collect::<Vec<_>>()).as_deref()
        && *version == "00"
        && trace.len() == 32
        && parent.len() == 16
        && flags.len() == 2
    {
        return format!("00-{trace}-{span}-{flags}");
    }
    format!("00-{}-{span}-01", Uuid::new_v4().simple())
}
