//! The Topic: what is wanted of a topic in the engine, and how ingest and dead-lettering treat it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::TopicName;

use crate::decode::At;
use crate::format;
use crate::problem::{Problems, child};
use crate::{Arrays, IngestSpec};

/// Partitions of a topic whose manifest doesn't say.
pub const PARTITIONS_DEFAULT: i32 = 12;

/// More partitions than this are refused: far beyond what one engine serves well.
pub const PARTITIONS_MAX: i32 = 10_000;

/// Entries of a topic's or connector's config.
pub const CONFIG_ENTRIES_MAX: usize = 200;

/// Kafka's default for `max.message.bytes`, in bytes: 1 MiB and a record batch's own overhead.
pub const MAX_MESSAGE_BYTES_DEFAULT: u64 = 1_048_588;

/// What is wanted of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicSpec {
    /// At least 1; can grow, never shrink.
    pub partitions: i32,
    /// `None`: the engine's default. The embedded broker has one replica of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i16>,
    /// Kafka's topic configuration. Durations and sizes are stored as numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Subject of the keys' schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_subject: Option<String>,
    /// Subject of the values' schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_subject: Option<String>,
    /// Who to ask; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What it is for; free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How HTTP ingest treats it.
    #[serde(default)]
    pub ingest: IngestSpec,
    /// Where its dead letters go; `None`: by the naming convention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<TopicName>,
}

impl Default for TopicSpec {
    fn default() -> Self {
        Self {
            partitions: PARTITIONS_DEFAULT,
            replication_factor: None,
            config: BTreeMap::new(),
            key_subject: None,
            value_subject: None,
            owner: None,
            purpose: None,
            ingest: IngestSpec::default(),
            dead_letter: None,
        }
    }
}

impl TopicSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let partitions = object
            .field("partitions")
            .and_then(|at| at.integer(1, PARTITIONS_MAX.into(), problems))
            .and_then(|n| i32::try_from(n).ok())
            .unwrap_or(PARTITIONS_DEFAULT);
        let replication_factor = object
            .field("replicationFactor")
            .and_then(|at| at.integer(1, 32, problems))
            .and_then(|n| i16::try_from(n).ok());
        let config = object.field("config").and_then(|at| config(&at, problems)).unwrap_or_default();
        let mut text =
            |name| object.field(name).and_then(|at| at.some_text(1024, problems)).map(String::from);
        let (key_subject, value_subject) = (text("keySubject"), text("valueSubject"));
        let (owner, purpose) = (text("owner"), text("purpose"));
        let ingest = object.field("ingest").and_then(|at| ingest(&at, problems)).unwrap_or_default();
        let dead_letter =
            object.field("deadLetter").and_then(|at| at.parsed(problems, TopicName::for_caller));
        object.finish(problems);
        Some(Self {
            partitions,
            replication_factor,
            config,
            key_subject,
            value_subject,
            owner,
            purpose,
            ingest,
            dead_letter,
        })
    }

    /// The `max.message.bytes` that the spec says, in bytes.
    pub fn max_message_bytes(&self) -> Option<u64> {
        self.config.get("max.message.bytes").and_then(|text| text.parse().ok())
    }
}

/// The longest `ingest.headers`.
const HEADERS_MAX: usize = 64;

fn ingest(at: &At<'_>, problems: &mut Problems) -> Option<IngestSpec> {
    let mut object = at.object(problems)?;
    let key = object.field("key").and_then(|at| {
        at.parsed(problems, |text| {
            if is_pointer(text) {
                Ok(text.to_owned())
            } else {
                Err(format!("{text:?} is no JSON pointer: it must begin with \"/\", as in /repository/id"))
            }
        })
    });
    let arrays = object
        .field("arrays")
        .and_then(|at| at.word(&[("split", Arrays::Split), ("whole", Arrays::Whole)], problems))
        .unwrap_or_default();
    let quarantine = object.field("quarantine").and_then(|at| at.boolean(problems)).unwrap_or_default();
    let mut headers = Vec::new();
    for at in object.field("headers").and_then(|at| at.list(HEADERS_MAX, problems)).unwrap_or_default() {
        headers.extend(at.parsed(problems, header_name));
    }
    object.finish(problems);
    Some(IngestSpec { key, arrays, quarantine, headers })
}

/// RFC 6901, of something inside of the document: `""` would make the whole body its key.
fn is_pointer(text: &str) -> bool {
    let escapes_valid = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    text.starts_with('/') && text.len() <= 1024 && escapes_valid
}

fn header_name(text: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = text.to_ascii_lowercase();
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err(format!("{:?} is no header's name", text.chars().take(80).collect::<String>()));
    }
    if ["authorization", "proxy-authorization", "cookie", "set-cookie"].contains(&name.as_str()) {
        return Err(format!("header {name} is a caller's secret and is never stored"));
    }
    if ["x-dlq-", "x-origin-", "x-redrive-", "x-transform"].iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!("header {name} is Vltava's own"));
    }
    Ok(name)
}

/// How the value of a topic config is checked. Names that aren't here are left to the engine, which knows
/// its own version's.
enum Value {
    DurationOrMinusOne,
    SizeOrMinusOne,
    Size,
    Ratio,
    Boolean,
    Words(&'static [&'static str]),
    CleanupPolicy,
}

/// Of Apache Kafka's topic configs (its documentation, "Topic Configs").
fn value_of(name: &str) -> Option<Value> {
    Some(match name {
        "retention.ms" | "local.retention.ms" => Value::DurationOrMinusOne,
        "segment.ms"
        | "delete.retention.ms"
        | "file.delete.delay.ms"
        | "flush.ms"
        | "min.compaction.lag.ms"
        | "max.compaction.lag.ms"
        | "segment.jitter.ms"
        | "message.timestamp.before.max.ms"
        | "message.timestamp.after.max.ms" => Value::DurationOrMinusOne,
        "retention.bytes" | "local.retention.bytes" => Value::SizeOrMinusOne,
        "segment.bytes" | "max.message.bytes" | "index.interval.bytes" | "segment.index.bytes" => Value::Size,
        "min.cleanable.dirty.ratio" => Value::Ratio,
        "preallocate" | "unclean.leader.election.enable" | "remote.storage.enable" => Value::Boolean,
        "compression.type" => Value::Words(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "message.timestamp.type" => Value::Words(&["CreateTime", "LogAppendTime"]),
        "cleanup.policy" => Value::CleanupPolicy,
        _ => return None,
    })
}

fn checked(value: &Value, text: &str) -> Result<String, String> {
    let shown = || text.chars().take(60).collect::<String>();
    match value {
        Value::DurationOrMinusOne | Value::SizeOrMinusOne if text == "-1" => Ok(text.into()),
        Value::DurationOrMinusOne => {
            format::duration_ms(text).map(|ms| ms.to_string()).map_err(|e| e.to_string())
        }
        Value::SizeOrMinusOne => format::size_bytes(text).map(|b| b.to_string()).map_err(|e| e.to_string()),
        Value::Size => match format::size_bytes(text).map_err(|e| e.to_string())? {
            bytes @ 1..=0x7fff_ffff => Ok(bytes.to_string()),
            bytes => Err(format!("is {bytes} bytes, but must be from 1 to {}", i32::MAX)),
        },
        Value::Ratio => match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(text.into()),
            _ => Err(format!("{:?} is no ratio from 0 to 1", shown())),
        },
        Value::Boolean if text == "true" || text == "false" => Ok(text.into()),
        Value::Boolean => Err(format!("{:?} is neither true nor false", shown())),
        Value::Words(words) if words.contains(&text) => Ok(text.into()),
        Value::Words(words) => Err(format!("{:?} must be one of {}", shown(), words.join(", "))),
        Value::CleanupPolicy => {
            let mut policies: Vec<&str> = text.split(',').map(str::trim).collect();
            policies.sort_unstable();
            match policies.as_slice() {
                ["compact"] | ["delete"] | ["compact", "delete"] => Ok(policies.join(",")),
                _ => Err(format!("{:?} must be delete, compact, or compact,delete", shown())),
            }
        }
    }
}

fn config(at: &At<'_>, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let mut config = at.scalars(CONFIG_ENTRIES_MAX, problems)?;
    for (name, text) in &mut config {
        if let Some(value) = value_of(name) {
            match checked(&value, text) {
                Ok(normal) => *text = normal,
                Err(message) => problems.invalid(child(&at.pointer, name), message),
            }
        }
    }
    Some(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(value: &serde_json::Value) -> Result<TopicSpec, Problems> {
        let mut problems = Problems::new();
        let spec = TopicSpec::decode(&At { value, pointer: "/spec".into() }, &mut problems);
        problems.or(spec)
    }

    #[test]
    fn durations_and_sizes_become_numbers() {
        let spec = decode(&json!({
            "partitions": 3,
            "config": {"retention.ms": "30d", "max.message.bytes": "2MiB", "cleanup.policy": "delete, compact",
                       "retention.bytes": -1, "some.new.config": true},
            "ingest": {"key": "/a~1b", "headers": ["X-Tenant"]},
        }))
        .unwrap();
        assert_eq!(spec.config["retention.ms"], "2592000000");
        assert_eq!(spec.max_message_bytes(), Some(2 << 20));
        assert_eq!(spec.config["cleanup.policy"], "compact,delete");
        assert_eq!(spec.config["retention.bytes"], "-1");
        assert_eq!(spec.config["some.new.config"], "true");
        assert_eq!(spec.ingest.headers, ["x-tenant"]);
    }

    #[test]
    fn every_problem_is_collected_with_its_place() {
        let problems = decode(&json!({
            "partitions": 0,
            "replicationFactor": "three",
            "config": {"retention.ms": "soon", "cleanup.policy": "shred", "a/b": {}},
            "ingest": {"key": "repository", "arrays": "both", "quarantine": 1, "headers": ["Cookie", "x-dlq-stage", "a b"]},
            "deadLetter": "vltava.audit",
            "partition": 3,
        }))
        .unwrap_err();
        let mut places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [
                "/spec/config/a~1b",
                "/spec/config/cleanup.policy",
                "/spec/config/retention.ms",
                "/spec/deadLetter",
                "/spec/ingest/arrays",
                "/spec/ingest/headers/0",
                "/spec/ingest/headers/1",
                "/spec/ingest/headers/2",
                "/spec/ingest/key",
                "/spec/ingest/quarantine",
                "/spec/partition",
                "/spec/partitions",
                "/spec/replicationFactor",
            ]
        );
    }
}
