//! A topic's settings: Kafka's names, types, ranges and defaults, in one table.
//!
//! Invariant: a name that isn't in the table is refused, so that no setting is taken and silently ignored. Some are taken
//! because Kafka's tools and manifests send them, and mean nothing here; the table says which.

use std::collections::BTreeMap;

use wire::records::Compression;

use crate::log::{PartitionConfig, TimestampType};

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic setting {name}={value}: {reason}")]
pub struct ConfigError {
    /// The setting.
    pub name: String,
    /// What was given.
    pub value: String,
    /// The rule.
    pub reason: String,
}

/// The type of a setting, by the numbers of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text, one of a set.
    Text(&'static [&'static str]),
    /// 32 bits, at least this.
    Int(i64),
    /// 64 bits, at least this.
    Long(i64),
    /// A number from 0 to 1.
    Ratio,
    /// Texts with commas between.
    List(&'static [&'static str]),
}

impl Kind {
    /// The number in DescribeConfigs.
    #[must_use]
    pub fn number(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text(_) => 2,
            Self::Int(_) => 3,
            Self::Long(_) => 5,
            Self::Ratio => 6,
            Self::List(_) => 7,
        }
    }
}

/// A setting that a topic can have.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// Its default, in text.
    pub default: &'static str,
    /// False: taken for the sake of tools and manifests; it changes nothing here.
    pub acts: bool,
}

const fn acts(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, kind, default, acts: true }
}

const fn idle(name: &'static str, kind: Kind, default: &'static str) -> Definition {
    Definition { name, kind, default, acts: false }
}

/// All settings, by name. Defaults are Apache Kafka 4's, except where [`PartitionConfig::default`] says why not.
static DEFINITIONS: &[Definition] = &[
    // Compaction isn't done yet: with `compact` alone nothing is deleted by age or size.
    acts("cleanup.policy", Kind::List(&["delete", "compact"]), "delete"),
    acts(
        "compression.type",
        Kind::Text(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
    ),
    idle("delete.retention.ms", Kind::Long(0), "86400000"),
    idle("file.delete.delay.ms", Kind::Long(0), "60000"),
    // When records are synced is the broker's setting, for all topics.
    idle("flush.messages", Kind::Long(1), "9223372036854775807"),
    idle("flush.ms", Kind::Long(0), "9223372036854775807"),
    acts("index.interval.bytes", Kind::Int(0), "4096"),
    acts("max.message.bytes", Kind::Int(0), "1048588"),
    idle("max.compaction.lag.ms", Kind::Long(1), "9223372036854775807"),
    acts("message.timestamp.after.max.ms", Kind::Long(0), "3600000"),
    acts("message.timestamp.before.max.ms", Kind::Long(0), "9223372036854775807"),
    acts("message.timestamp.type", Kind::Text(&["CreateTime", "LogAppendTime"]), "CreateTime"),
    idle("min.cleanable.dirty.ratio", Kind::Ratio, "0.5"),
    idle("min.compaction.lag.ms", Kind::Long(0), "0"),
    // There is one replica, and it is in sync.
    idle("min.insync.replicas", Kind::Int(1), "1"),
    idle("preallocate", Kind::Boolean, "false"),
    acts("retention.bytes", Kind::Long(-1), "-1"),
    acts("retention.ms", Kind::Long(-1), "604800000"),
    acts("segment.bytes", Kind::Int(1024), "268435456"),
    idle("segment.index.bytes", Kind::Int(4), "10485760"),
    idle("segment.jitter.ms", Kind::Long(0), "0"),
    acts("segment.ms", Kind::Long(1), "604800000"),
    idle("unclean.leader.election.enable", Kind::Boolean, "false"),
];

/// All settings that a topic can have.
#[must_use]
pub fn definitions() -> &'static [Definition] {
    DEFINITIONS
}

/// A topic's settings, parsed.
#[derive(Debug, Clone)]
pub struct TopicConfig {
    /// What the log acts on.
    pub partition: PartitionConfig,
    /// `compression.type`; `None` keeps the producer's.
    pub compression: Option<Compression>,
    /// `cleanup.policy` contains `compact`: records must have keys.
    pub compacted: bool,
}

impl TopicConfig {
    /// Parses and judges what was given; the rest has its default.
    ///
    /// # Errors
    /// The first setting that is unknown or out of its range.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, value) in given {
            check(name, value)?;
        }
        let text = |name: &str| -> &str {
            given.get(name).map_or_else(
                || DEFINITIONS.iter().find(|d| d.name == name).map_or("", |d| d.default),
                String::as_str,
            )
        };
        let number = |name: &str| text(name).trim().parse::<i64>().unwrap_or(-1);
        let size = |name: &str| u64::try_from(number(name)).ok();
        let policies: Vec<&str> = text("cleanup.policy").split(',').map(str::trim).collect();
        let deletes = policies.contains(&"delete");
        let unlimited = |value: i64| (value != i64::MAX).then_some(value);
        Ok(Self {
            partition: PartitionConfig {
                retention_ms: size("retention.ms").filter(|_| deletes),
                retention_bytes: size("retention.bytes").filter(|_| deletes),
                segment_bytes: size("segment.bytes").unwrap_or_default(),
                segment_ms: size("segment.ms").unwrap_or_default(),
                index_interval_bytes: u32::try_from(number("index.interval.bytes")).unwrap_or_default(),
                max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or_default(),
                timestamp_type: match text("message.timestamp.type") {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                },
                timestamp_before_max_ms: unlimited(number("message.timestamp.before.max.ms")),
                timestamp_after_max_ms: unlimited(number("message.timestamp.after.max.ms")),
            },
            compression: match text("compression.type") {
                "uncompressed" => Some(Compression::None),
                "gzip" => Some(Compression::Gzip),
                "snappy" => Some(Compression::Snappy),
                "lz4" => Some(Compression::Lz4),
                "zstd" => Some(Compression::Zstd),
                _ => None,
            },
            compacted: policies.contains(&"compact"),
        })
    }
}

fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    let bad = |reason: String| ConfigError { name: name.to_owned(), value: value.to_owned(), reason };
    let definition = DEFINITIONS
        .iter()
        .find(|definition| definition.name == name)
        .ok_or_else(|| bad("there is no such setting".to_owned()))?;
    let range = |least: i64, most: i64| match value.trim().parse::<i64>() {
        Ok(number) if number < least || number > most => {
            Err(bad(format!("it must be from {least} to {most}")))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(bad("it is not a whole number".to_owned())),
    };
    match definition.kind {
        Kind::Boolean if matches!(value, "true" | "false") => Ok(()),
        Kind::Boolean => Err(bad("it must be true or false".to_owned())),
        Kind::Text(words) if words.contains(&value) => Ok(()),
        Kind::Text(words) => Err(bad(format!("it must be one of {}", words.join(", ")))),
        Kind::List(words) => {
            if !value.trim().is_empty() && value.split(',').all(|word| words.contains(&word.trim())) {
                Ok(())
            } else {
                Err(bad(format!("it must be a list of {}", words.join(", "))))
            }
        }
        Kind::Int(least) => range(least, i64::from(i32::MAX)),
        Kind::Long(least) => range(least, i64::MAX),
        Kind::Ratio => match value.trim().parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
            _ => Err(bad("it must be a number from 0 to 1".to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
        TopicConfig::parse(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn defaults_are_the_logs() {
        assert_eq!(parse(&[]).unwrap().partition, PartitionConfig::default());
        // Every default is itself a value that is taken.
        for definition in definitions() {
            parse(&[(definition.name, definition.default)]).unwrap();
        }
    }

    #[test]
    fn compact_alone_deletes_nothing() {
        let config = parse(&[("cleanup.policy", "compact"), ("retention.ms", "1000")]).unwrap();
        assert!(config.compacted);
        assert_eq!(config.partition.retention_ms, None);
        let config = parse(&[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")]).unwrap();
        assert_eq!(config.partition.retention_ms, Some(1000));
    }

    #[test]
    fn refuses_with_name_value_and_rule() {
        for (name, value, says) in [
            ("retention.msx", "1", "no such setting"),
            ("retention.ms", "-2", "from -1"),
            ("retention.ms", "soon", "whole number"),
            ("cleanup.policy", "", "list of"),
            ("compression.type", "brotli", "one of"),
            ("max.message.bytes", "2147483648", "to 2147483647"),
            ("preallocate", "yes", "true or false"),
            ("min.cleanable.dirty.ratio", "1.5", "from 0 to 1"),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert_eq!((error.name.as_str(), error.value.as_str()), (name, value));
            assert!(error.reason.contains(says), "{error}");
        }
    }
}
