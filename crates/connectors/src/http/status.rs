//! What an answer means for the record and for the destination. Only 2xx is success.
//!
//! | answer | record | others |
//! |---|---|---|
//! | 2xx | done | go on |
//! | 400 406 411 413 414 415 417 422 431 | dead-lettered: another try can't end differently | go on |
//! | 401 403 407 | waits, no attempt is counted | the breaker opens |
//! | 410 | waits | the connector stops |
//! | 429, and 503 with `Retry-After` | waits, no attempt is counted | wait as long |
//! | 3xx and all others | tried again, within attempts and age | go on |

use std::time::Duration;

use connect::retry::RETRY_AFTER_MAX;
use connect::{Reason, Retry, Scope, WriteError};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Decides by the table above.
pub fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Result<(), WriteError> {
    if status.is_success() {
        return Ok(());
    }
    let after = retry_after(headers, now);
    let (scope, retry) = match status.as_u16() {
        400 | 406 | 411 | 413 | 414 | 415 | 417 | 422 | 431 => (Scope::Record, Retry::Never),
        401 | 403 | 407 => (Scope::Destination, Retry::Backoff),
        410 => (Scope::Gone, Retry::Never),
        429 => (Scope::Throttled, after.map_or(Retry::Backoff, Retry::After)),
        503 if after.is_some() => (Scope::Throttled, after.map_or(Retry::Backoff, Retry::After)),
        _ => (Scope::Record, after.map_or(Retry::Backoff, Retry::After)),
    };
    let hint = if status.is_redirection() { "; redirects aren't followed" } else { "" };
    let message = format!("the receiver answered {}{hint}", shown(status));
    Err(WriteError { reason: Reason::HttpStatus, message, retry, scope })
}

fn shown(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), bounded.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, retry_after: Option<&str>) -> Result<(), (Scope, Retry)> {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        judge(StatusCode::from_u16(status).unwrap(), &headers, now).map_err(|e| (e.scope, e.retry))
    }

    #[test]
    fn the_table_holds() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(verdict(status, None), Ok(()));
        }
        for status in [100, 301, 302, 304, 307, 308, 404, 408, 409, 425, 500, 502, 503, 504, 599, 600] {
            assert_eq!(verdict(status, None), Err((Scope::Record, Retry::Backoff)), "{status}");
        }
        for status in [400, 413, 422] {
            assert_eq!(verdict(status, None), Err((Scope::Record, Retry::Never)), "{status}");
        }
        for status in [401, 403, 407] {
            assert_eq!(verdict(status, None), Err((Scope::Destination, Retry::Backoff)), "{status}");
        }
        assert_eq!(verdict(410, None), Err((Scope::Gone, Retry::Never)));
        assert_eq!(verdict(429, None), Err((Scope::Throttled, Retry::Backoff)));
    }

    #[test]
    fn retry_after_is_honoured_in_both_forms_and_bounded() {
        let after = |seconds| Err((Scope::Throttled, Retry::After(Duration::from_secs(seconds))));
        assert_eq!(verdict(429, Some("7")), after(7));
        assert_eq!(verdict(503, Some("Thu, 01 Jan 2026 00:01:00 GMT")), after(60));
        assert_eq!(verdict(503, Some("Thu, 01 Jan 2015 00:01:00 GMT")), after(0));
        assert_eq!(verdict(429, Some("99999999999")), after(3600));
        assert_eq!(verdict(429, Some("soon")), Err((Scope::Throttled, Retry::Backoff)));
        assert_eq!(verdict(500, Some("2")), Err((Scope::Record, Retry::After(Duration::from_secs(2)))));
    }
}
