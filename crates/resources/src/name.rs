//! Names: of kinds, of resources, and of a transform at a version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use types::TopicName;

use crate::{ContentHash, ContentHashError};

/// The version of the manifests' format.
pub const API_VERSION: &str = "vltava/v1";

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The tenant: every other resource belongs to one.
    Workspace,
    /// A topic in the engine.
    Topic,
    /// An expression, in immutable versions.
    Transform,
    /// Source topics, steps, a target topic.
    Pipeline,
    /// Topics that are delivered somewhere.
    Connector,
    /// A machine identity; belongs to no workspace.
    Client,
    /// One run that gives dead letters back.
    Redrive,
}

impl Kind {
    /// All kinds, in the order in which they are applied: what is named comes before what names it.
    pub const ALL: [Self; 7] = [
        Self::Workspace,
        Self::Topic,
        Self::Transform,
        Self::Pipeline,
        Self::Connector,
        Self::Client,
        Self::Redrive,
    ];

    /// As it stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "Workspace",
            Self::Topic => "Topic",
            Self::Transform => "Transform",
            Self::Pipeline => "Pipeline",
            Self::Connector => "Connector",
            Self::Client => "Client",
            Self::Redrive => "Redrive",
        }
    }

    /// As it stands in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Workspace => "workspaces",
            Self::Topic => "topics",
            Self::Transform => "transforms",
            Self::Pipeline => "pipelines",
            Self::Connector => "connectors",
            Self::Client => "clients",
            Self::Redrive => "redrives",
        }
    }

    /// Of a URL's segment.
    pub fn from_plural(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == segment)
    }

    /// Checks a resource's name: a topic's by Kafka's rules (a reserved one is refused), any other's by [`name`].
    pub fn check_name(self, text: &str) -> Result<(), NameError> {
        match self {
            Self::Topic => TopicName::for_caller(text).map(drop).map_err(NameError::Topic),
            Self::Workspace
            | Self::Transform
            | Self::Pipeline
            | Self::Connector
            | Self::Client
            | Self::Redrive => name(text),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind; kinds are Workspace, Topic, Transform, Pipeline, Connector, Client")]
pub struct KindError(String);

impl FromStr for Kind {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| KindError(text.chars().take(60).collect()))
    }
}

/// In characters: a DNS label, so that it fits into topic names, groups and URLs.
pub const NAME_LENGTH_MAX: usize = 63;

/// Why a text is no resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a DNS label.
    #[error(
        "name {0:?} must be 1 to {NAME_LENGTH_MAX} characters of a-z, 0-9 and \"-\", and begin and end with a \
         letter or digit"
    )]
    Label(String),
    /// Not a topic's name.
    #[error(transparent)]
    Topic(types::TopicNameError),
    /// Not a source's name.
    #[error(
        "source {0:?} must be 1 to {SOURCE_LENGTH_MAX} characters of letters, digits, \"-\", \"_\", \".\", \":\" and \
         \"/\", and not \"api\" or \"console\""
    )]
    Source(String),
}

/// In characters.
pub const SOURCE_LENGTH_MAX: usize = 128;

/// What `managedBy` says of a resource that no source owns.
pub const UNOWNED: [&str; 2] = ["api", "console"];

/// Checks the name of a GitOps source, which stands in `managedBy` of what it owns: a repository's, for example
/// `github.com/acme/flows`.
pub fn check_source(text: &str) -> Result<(), NameError> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
    let valid = (1..=SOURCE_LENGTH_MAX).contains(&text.len()) && text.bytes().all(inner);
    match valid && !UNOWNED.contains(&text) {
        true => Ok(()),
        false => Err(NameError::Source(text.chars().take(160).collect())),
    }
}

/// Checks a name of anything but a topic: a DNS label (RFC 1123), which has no dot and so can't be confused
/// with a part of a topic's name.
pub fn name(text: &str) -> Result<(), NameError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let valid = bytes.len() <= NAME_LENGTH_MAX
        && bytes.first().is_some_and(|b| inner(*b))
        && bytes.last().is_some_and(|b| inner(*b))
        && bytes.iter().all(|b| inner(*b) || *b == b'-');
    if valid { Ok(()) } else { Err(NameError::Label(text.chars().take(80).collect())) }
}

/// A version of a transform, by number or by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VersionRef {
    /// From 1.
    Number(u32),
    /// Any version of that content.
    Hash(ContentHash),
}

/// A text names no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Neither a number nor a hash.
    #[error("{0:?} is no version: use a number from 1, or \"sha256:...\"")]
    Number(String),
    /// A hash that isn't one.
    #[error(transparent)]
    Hash(#[from] ContentHashError),
}

impl FromStr for VersionRef {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.starts_with("sha256:") {
            return Ok(Self::Hash(text.parse()?));
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(VersionError::Number(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, f),
            Self::Hash(hash) => fmt::Display::fmt(hash, f),
        }
    }
}

/// `name` or `name@version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The transform's name.
    pub name: String,
    /// The version; `None`: the latest, or the one applied with it.
    pub version: Option<VersionRef>,
}

/// A text is no `name@version`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionedError {
    /// Before the `@`.
    #[error(transparent)]
    Name(#[from] NameError),
    /// After it.
    #[error(transparent)]
    Version(#[from] VersionError),
}

impl FromStr for Versioned {
    type Err = VersionedError;

    fn from_str(text: &str) -> Result<Self, VersionedError> {
        let (before, after) = match text.split_once('@') {
            Some((before, after)) => (before, Some(after.parse()?)),
            None => (text, None),
        };
        name(before)?;
        Ok(Self { name: before.into(), version: after })
    }
}

impl fmt::Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.version.map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_repositories_and_never_people() {
        for good in ["default", "github.com/acme/flows", "Team_A:prod", &"x".repeat(128)] {
            assert_eq!(check_source(good), Ok(()), "{good}");
        }
        for bad in ["", "api", "console", "a b", "ü", "a\n", &"x".repeat(129)] {
            assert!(check_source(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "0", "github-enrich", &"x".repeat(63)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ü", "a/b", &"x".repeat(64)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_are_found_by_both_names() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(Kind::from_plural(kind.plural()), Some(kind));
        }
        assert!("topic".parse::<Kind>().is_err());
        assert_eq!(Kind::from_plural("Topic"), None);
    }

    #[test]
    fn versions_read_back() {
        let hash = ContentHash::of(&[b"x"]);
        for text in ["enrich", "enrich@3", &format!("enrich@{hash}")] {
            assert_eq!(text.parse::<Versioned>().unwrap().to_string(), text);
        }
        for bad in ["", "@3", "enrich@", "enrich@0", "enrich@-1", "enrich@latest", "enrich@sha256:1", "a@1@2"]
        {
            assert!(bad.parse::<Versioned>().is_err(), "{bad}");
        }
    }
}
