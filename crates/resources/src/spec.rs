//! The small words that specs and plans share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use types::TimestampMs;

/// Where a stage begins in a topic in which it has committed nothing. Written `earliest`, `latest`, or a time
/// (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StartFrom {
    /// The oldest record that is kept. The default: a new stage loses nothing.
    #[default]
    Earliest,
    /// What comes after the stage has started.
    Latest,
    /// The first record at or after this time.
    Time(TimestampMs),
}

/// A text says no start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no start: use \"earliest\", \"latest\" or a time such as 2026-01-31T12:00:00Z")]
pub struct StartFromError(String);

impl fmt::Display for StartFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => fmt::Display::fmt(&time, f),
                Err(_) => write!(f, "{ms}"),
            },
        }
    }
}

impl FromStr for StartFrom {
    type Err = StartFromError;

    fn from_str(text: &str) -> Result<Self, StartFromError> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => text
                .parse::<jiff::Timestamp>()
                .map(|time| Self::Time(time.as_millisecond()))
                .map_err(|_| StartFromError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for StartFrom {
    type Error = StartFromError;
    fn try_from(text: String) -> Result<Self, StartFromError> {
        text.parse()
    }
}

impl From<StartFrom> for String {
    fn from(from: StartFrom) -> Self {
        from.to_string()
    }
}

/// What a record that a pipeline can't transform causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// The record is dead-lettered, its neighbours go on.
    #[default]
    DeadLetter,
    /// The pipeline fails with the reason, and holds its offset.
    Stop,
}

/// What ingest does with a JSON array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arrays {
    /// One record an element.
    #[default]
    Split,
    /// One record.
    Whole,
}

/// How HTTP ingest treats a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IngestSpec {
    /// JSON pointer (RFC 6901) to the record's key in the body, where no `x-entity-key` header is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What an array is.
    pub arrays: Arrays,
    /// Whether authenticated rejects are stored in the topic's DLQ.
    pub quarantine: bool,
    /// Request headers that become record headers, beside the fixed ones; lower case.
    pub headers: Vec<String>,
}
