//! Topic names by Kafka's own rules, which always hold, whatever naming policy a workspace adds.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Partition;

/// A topic's name: 1 to 249 characters of `a-z A-Z 0-9 . _ -`, neither `.` nor `..` (Kafka's
/// `Topic.validate`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name. Names the text and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// No characters.
    #[error("a topic name can't be empty")]
    Empty,
    /// More than [`TopicName::LENGTH_MAX`] characters.
    #[error("topic name of {0} characters: at most {max} are allowed", max = TopicName::LENGTH_MAX)]
    TooLong(usize),
    /// `.` or `..`.
    #[error("topic name {0:?}: it can't be \".\" or \"..\"")]
    Dots(String),
    /// A character outside of Kafka's set.
    #[error("topic name {name:?}: {character:?} isn't allowed; use letters, digits, \".\", \"_\" and \"-\"")]
    Character {
        /// The whole text, cut at 249 characters.
        name: String,
        /// The first character that isn't allowed.
        character: char,
    },
    /// A name that only Vltava and Kafka themselves may use; see [`TopicName::is_reserved`].
    #[error("topic name {0:?} is reserved: names that begin with \"vltava.\" or \"__\" belong to the system")]
    Reserved(String),
}

impl TopicName {
    /// Kafka's limit, in characters (all of which are single bytes).
    pub const LENGTH_MAX: usize = 249;

    /// Checks Kafka's rules. A reserved name is valid here: see [`TopicName::for_caller`].
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        let shown = || name.chars().take(Self::LENGTH_MAX).collect::<String>();
        if let Some(character) =
            name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
        {
            return Err(TopicNameError::Character { name: shown(), character });
        }
        if name.len() > Self::LENGTH_MAX {
            return Err(TopicNameError::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots(shown()));
        }
        Ok(Self(name.into()))
    }

    /// As [`TopicName::new`], and refuses reserved names: for names that callers give by HTTP, in
    /// manifests or on the command line.
    pub fn for_caller(name: &str) -> Result<Self, TopicNameError> {
        let name = Self::new(name)?;
        if name.is_reserved() { Err(TopicNameError::Reserved(name.0.as_ref().into())) } else { Ok(name) }
    }

    /// Whether the name belongs to the system: `vltava.*` and `__*`.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("vltava.") || self.0.starts_with("__")
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;
    fn from_str(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;
    fn try_from(name: String) -> Result<Self, TopicNameError> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().into()
    }
}

/// One partition of one topic. Prints as `topic-partition`, as Kafka's tools do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: Partition,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: TopicName, partition: Partition) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_hold() {
        for good in ["a", "dev.demo.github.raw", "A_b-9", &"x".repeat(249), "..."] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new(&"x".repeat(250)), Err(TopicNameError::TooLong(250)));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots("..".into())));
        for bad in ["a b", "a/b", "ü", "a\n", "a\0"] {
            assert!(matches!(TopicName::new(bad), Err(TopicNameError::Character { .. })), "{bad:?}");
        }
    }

    #[test]
    fn reserved_names_are_refused_to_callers_only() {
        for reserved in ["vltava.audit", "__consumer_offsets", "__"] {
            assert!(TopicName::new(reserved).unwrap().is_reserved());
            assert_eq!(TopicName::for_caller(reserved), Err(TopicNameError::Reserved(reserved.into())));
        }
        assert!(TopicName::for_caller("vltava").is_ok());
    }
}
