//! Which event it is, and which trace it belongs to.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use runtime::http::Problem;
use types::EventId;
use uuid::Uuid;

/// Headers by which a caller names an event, the most explicit first. All of them mean that sending it again
/// with the same name is the same event.
const EVENT_ID_HEADERS: [&str; 4] = ["x-event-id", "idempotency-key", "webhook-id", "ce-id"];

/// The caller's id of the event, else a new one. An id that can't be kept as it is, is refused: a silent
/// replacement would make each retry another event.
pub(crate) fn event_id(headers: &HeaderMap) -> Result<EventId, Problem> {
    for name in EVENT_ID_HEADERS {
        let Some(value) = headers.get(name) else { continue };
        let text = value.to_str().unwrap_or_default();
        // Idempotency-Key is a structured field (RFC 8941): a string in quotes, though many send it bare.
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = bare.filter(|_| name == "idempotency-key").unwrap_or(text);
        return EventId::from_caller(text).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "event_id_invalid")
                .field(name)
                .value(String::from_utf8_lossy(value.as_bytes()).into_owned())
                .detail(error.to_string())
        });
    }
    Ok(EventId::new())
}

/// W3C Trace Context: what goes into `traceparent`, and the trace's id in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) parent: Bytes,
    pub(crate) id: Bytes,
    /// Whether it is the caller's: then its `tracestate` belongs to it.
    pub(crate) continued: bool,
}

impl Trace {
    /// The caller's, if it is valid and stands once; else a new one, as the specification says (3.3.1).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        const TRACEPARENT: HeaderName = HeaderName::from_static(types::names::TRACEPARENT);
        let mut given = headers.get_all(TRACEPARENT).iter();
        if let (Some(one), None) = (given.next(), given.next())
            && is_traceparent(one.as_bytes())
        {
            let parent = Bytes::copy_from_slice(one.as_bytes());
            return Self { id: parent.slice(TRACE_ID), parent, continued: true };
        }
        let (trace, span) = (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().1);
        // Sampled: whoever traces further on is asked to, as nobody has decided against it.
        let parent = Bytes::from(format!("00-{}-{span:016x}-01", trace.simple()));
        Self { id: parent.slice(TRACE_ID), parent, continued: false }
    }
}

const TRACE_ID: std::ops::Range<usize> = 3..35;

/// `00-<32 hex>-<16 hex>-<2 hex>` in lower case; ids aren't all zero; later versions may add parts.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let zero = |range: std::ops::Range<usize>| text[range].iter().all(|b| *b == b'0');
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let length = match text.get(..2) {
        Some(b"00") => text.len() == 55,
        Some(b"ff") | None => false,
        Some(_) => text.len() == 55 || (text.get(55) == Some(&b'-') && text.len() <= 256),
    };
    dashes
        && length
        && hex(0..2)
        && hex(TRACE_ID)
        && hex(36..52)
        && hex(53..55)
        && !zero(TRACE_ID)
        && !zero(36..52)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn the_callers_id_of_the_event_is_kept() {
        for (given, expected) in [
            (&[("idempotency-key", "k1")][..], "k1"),
            (&[("idempotency-key", "\"k1\"")], "k1"),
            (&[("webhook-id", "msg_1"), ("ce-id", "c")], "msg_1"),
            (&[("ce-id", "c"), ("idempotency-key", "k")], "k"),
            (&[("ce-id", "c"), ("x-event-id", "e")], "e"),
        ] {
            assert_eq!(event_id(&headers(given)).unwrap().as_str(), expected);
        }
        assert_ne!(event_id(&headers(&[])).unwrap(), event_id(&headers(&[])).unwrap());
    }

    #[test]
    fn an_id_that_can_not_be_kept_is_refused_by_name() {
        for bad in ["", "a b", "é", &"x".repeat(129)] {
            let problem = event_id(&headers(&[("webhook-id", bad)])).unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.code()), (400, "event_id_invalid"));
        }
    }

    #[test]
    fn a_valid_trace_goes_on_and_another_begins_anew() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let trace = Trace::of(&headers(&[("traceparent", valid)]));
        assert_eq!(trace.parent, valid);
        assert_eq!(trace.id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(trace.continued);
        assert!(Trace::of(&headers(&[("traceparent", &valid.replacen("00", "cc", 1))])).continued);
        assert!(
            Trace::of(&headers(&[("traceparent", &(valid.replacen("00", "cc", 1) + "-more"))])).continued
        );
        for bad in [
            "",
            "00",
            &valid.to_uppercase(),
            &valid.replacen("00", "ff", 1),
            &(valid.to_owned() + "-more"),
            &valid.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &valid.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &valid.replace('f', "g"),
            &valid[..54],
        ] {
            let trace = Trace::of(&headers(&[("traceparent", bad)]));
            assert!(!trace.continued && is_traceparent(&trace.parent), "{bad}");
        }
        assert!(!Trace::of(&headers(&[("traceparent", valid), ("traceparent", valid)])).continued);
    }
}
