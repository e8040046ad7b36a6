//! Why a record was dead-lettered: a stable code to count and select by, and a message for a person.

use std::fmt;

/// A stable code, as it stands in `x-dlq-reason`. New ones are added; none is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The value isn't JSON.
    InvalidJson,
    /// The expression failed; its own code is in the message.
    TransformError,
    /// An expression gave what its step can't take: no boolean for a filter, an object for a key.
    InvalidResult,
    /// A route chose a topic that isn't declared.
    UnknownRoute,
    /// The value has another shape than the paths of what is to be hidden.
    RedactFailed,
    /// The expression took more steps or bytes than it may.
    OverBudget,
    /// The result doesn't fit in the target topic.
    OutputTooLarge,
    /// The destination answered with a status that won't change by asking again.
    HttpStatus,
    /// The destination didn't answer in time.
    HttpTimeout,
    /// The destination couldn't be connected to.
    HttpConnection,
    /// The destination's address isn't allowed.
    AddressNotAllowed,
    /// It was tried as often as it may be.
    RetriesExhausted,
    /// It got too old while it was tried.
    Expired,
    /// The record breaks its schema.
    InvalidSchema,
    /// Ingest refused it.
    Rejected,
    /// Any other; the message says which.
    Other,
}

impl Reason {
    /// All, for lists and for reading back.
    pub const ALL: [Self; 16] = [
        Self::InvalidJson,
        Self::TransformError,
        Self::InvalidResult,
        Self::UnknownRoute,
        Self::RedactFailed,
        Self::OverBudget,
        Self::OutputTooLarge,
        Self::HttpStatus,
        Self::HttpTimeout,
        Self::HttpConnection,
        Self::AddressNotAllowed,
        Self::RetriesExhausted,
        Self::Expired,
        Self::InvalidSchema,
        Self::Rejected,
        Self::Other,
    ];

    /// The code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::TransformError => "transform_error",
            Self::InvalidResult => "invalid_result",
            Self::UnknownRoute => "unknown_route",
            Self::RedactFailed => "redact_failed",
            Self::OverBudget => "over_budget",
            Self::OutputTooLarge => "output_too_large",
            Self::HttpStatus => "http_status",
            Self::HttpTimeout => "http_timeout",
            Self::HttpConnection => "http_connection",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Expired => "expired",
            Self::InvalidSchema => "invalid_schema",
            Self::Rejected => "rejected",
            Self::Other => "other",
        }
    }

    /// The reason of a code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a stage says of a record that it can't do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub reason: Reason,
    /// What a person reads: the error and its position. Cut at [`MESSAGE_BYTES_MAX`](crate::MESSAGE_BYTES_MAX).
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_differ() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::of("Invalid_JSON"), None);
    }
}
