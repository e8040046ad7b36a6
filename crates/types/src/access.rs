//! The words of permissions: scopes, patterns of topics, sets of workspaces.
//!
//! Invariant: a set that is made of another by narrowing allows nothing that the other doesn't.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{TopicName, TopicNameError};

/// What a caller may do, apart from where. OAuth's `scope` (RFC 6749, 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// `ingest:write`: publish events.
    IngestWrite,
    /// `stream:read`: read what is in topics.
    StreamRead,
    /// `control:read`: see resources, their state and dead letters.
    ControlRead,
    /// `control:write`: change them.
    ControlWrite,
    /// `admin`: the installation itself (clients, workspaces, keys), and every other scope.
    Admin,
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; scopes are ingest:write, stream:read, control:read, control:write and admin")]
pub struct ScopeError(String);

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::IngestWrite, Self::StreamRead, Self::ControlRead, Self::ControlWrite, Self::Admin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IngestWrite => "ingest:write",
            Self::StreamRead => "stream:read",
            Self::ControlRead => "control:read",
            Self::ControlWrite => "control:write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| ScopeError(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;
    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.as_str().to_owned()
    }
}

/// Scopes together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Whether a scope is in it: `admin` holds all, and who may change resources may see them.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
            || self.0.contains(&Scope::Admin)
            || (scope == Scope::ControlRead && self.0.contains(&Scope::ControlWrite))
    }

    /// Whether `other` allows nothing that this doesn't.
    pub fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|scope| self.allow(*scope))
    }

    /// In a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().collect())
    }
}

/// With spaces between them, as OAuth writes them.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&texts.join(" "))
    }
}

/// A topic's name, or all names that begin with a text: `orders`, `dev.demo.*`, `*`. No other form, since Kafka's ACLs
/// know no other (KIP-290).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TopicPattern {
    /// That topic.
    Literal(TopicName),
    /// What begins so; empty: every topic.
    Prefixed(String),
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicPatternError {
    /// The name, or what stands before the `*`, is no topic's.
    #[error(transparent)]
    Name(#[from] TopicNameError),
    /// A `*` that isn't the last character.
    #[error("topic pattern {0:?}: \"*\" may only be its last character")]
    Star(String),
}

impl TopicPattern {
    /// Whether the topic's name is meant. Those of the system never are.
    pub fn matches(&self, topic: &TopicName) -> bool {
        !topic.is_reserved()
            && match self {
                Self::Literal(name) => name == topic,
                Self::Prefixed(prefix) => topic.as_str().starts_with(prefix.as_str()),
            }
    }

    /// Whether `other` means no topic that this doesn't.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(own), Self::Literal(other)) => own == other,
            (Self::Literal(_), Self::Prefixed(_)) => false,
            (Self::Prefixed(prefix), Self::Literal(other)) => other.as_str().starts_with(prefix.as_str()),
            (Self::Prefixed(prefix), Self::Prefixed(other)) => other.starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(name) => fmt::Display::fmt(name, f),
            Self::Prefixed(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;
    fn from_str(text: &str) -> Result<Self, TopicPatternError> {
        let (prefix, starred) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if prefix.contains('*') {
            return Err(TopicPatternError::Star(text.chars().take(80).collect()));
        }
        if !starred {
            return Ok(Self::Literal(TopicName::for_caller(prefix)?));
        }
        match prefix {
            // Not names, but names begin so.
            "" | "." | ".." => {}
            prefix => drop(TopicName::for_caller(prefix)?),
        }
        Ok(Self::Prefixed(prefix.to_owned()))
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = TopicPatternError;
    fn try_from(text: String) -> Result<Self, TopicPatternError> {
        text.parse()
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.to_string()
    }
}

/// Patterns together; none of them: no topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicPatterns(BTreeSet<TopicPattern>);

impl TopicPatterns {
    /// Every topic but the system's.
    pub fn all() -> Self {
        Self([TopicPattern::Prefixed(String::new())].into())
    }

    /// Whether one of them means the topic.
    pub fn allow(&self, topic: &TopicName) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether `other` means no topic that these don't. It is decided pattern by pattern.
    pub fn cover(&self, other: &Self) -> bool {
        other.0.iter().all(|other| self.0.iter().any(|own| own.covers(other)))
    }

    /// Whether every topic is meant.
    pub fn is_all(&self) -> bool {
        self.0.contains(&TopicPattern::Prefixed(String::new()))
    }

    /// In a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &TopicPattern> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<TopicPattern> for TopicPatterns {
    fn from_iter<T: IntoIterator<Item = TopicPattern>>(patterns: T) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// Which tenants a caller belongs to. Written as a list of names, or as `["*"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<String>", into = "BTreeSet<String>")]
pub enum Workspaces {
    /// All, and what belongs to none.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl Workspaces {
    /// What stands for all.
    pub const ALL_TEXT: &str = "*";

    /// Whether it is one of them.
    pub fn allow(&self, workspace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(workspace),
        }
    }

    /// Whether `other` is none that this isn't.
    pub fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Named(_), Self::All) => false,
            (Self::Named(own), Self::Named(other)) => other.is_subset(own),
        }
    }
}

impl Default for Workspaces {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl From<BTreeSet<String>> for Workspaces {
    fn from(names: BTreeSet<String>) -> Self {
        if names.contains(Self::ALL_TEXT) { Self::All } else { Self::Named(names) }
    }
}

impl From<Workspaces> for BTreeSet<String> {
    fn from(workspaces: Workspaces) -> Self {
        match workspaces {
            Workspaces::All => [Workspaces::ALL_TEXT.to_owned()].into(),
            Workspaces::Named(names) => names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TopicPattern {
        text.parse().unwrap()
    }

    fn patterns(texts: &[&str]) -> TopicPatterns {
        texts.iter().map(|text| pattern(text)).collect()
    }

    #[test]
    fn patterns_read_and_read_back() {
        for good in ["orders", "dev.demo.*", "*", ".*", "a*"] {
            assert_eq!(pattern(good).to_string(), good);
        }
        for bad in ["", "a*b", "**", "*a", "a b", "vltava.*", "__*", "vltava.dlq.settled", "..", "ä*"] {
            assert!(bad.parse::<TopicPattern>().is_err(), "{bad}");
        }
        assert!("x".repeat(250).parse::<TopicPattern>().is_err());
    }

    #[test]
    fn a_pattern_covers_what_it_means_and_no_more() {
        for (wide, narrow, covered) in [
            ("*", "*", true),
            ("*", "a", true),
            ("*", "a*", true),
            ("a*", "a", true),
            ("a*", "ab*", true),
            ("a*", "a*", true),
            ("ab*", "a*", false),
            ("ab*", "a", false),
            ("a*", "*", false),
            ("a", "a*", false),
            ("a", "a", true),
            ("a", "b", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), covered, "{wide} over {narrow}");
            assert_eq!(patterns(&["zz", wide]).cover(&patterns(&[narrow])), covered, "{wide} over {narrow}");
        }
        assert!(patterns(&["a"]).cover(&patterns(&[])), "nothing is in everything");
        assert!(!patterns(&[]).cover(&patterns(&["a"])));
    }

    #[test]
    fn a_star_means_no_topic_of_the_system() {
        let topic = |name| TopicName::new(name).unwrap();
        assert!(TopicPatterns::all().allow(&topic("orders")));
        for system in ["vltava.dlq.settled", "__consumer_offsets"] {
            assert!(!TopicPatterns::all().allow(&topic(system)), "{system}");
            assert!(!patterns(&["v*", "_*"]).allow(&topic(system)), "{system}");
        }
        assert!(!TopicPatterns::default().allow(&topic("orders")));
        assert!(!patterns(&["dev.demo.*"]).allow(&topic("dev.demo")));
    }

    #[test]
    fn who_administers_may_do_all_and_who_writes_may_see() {
        let of = |scopes: &[Scope]| scopes.iter().copied().collect::<Scopes>();
        assert!(Scope::ALL.iter().all(|scope| of(&[Scope::Admin]).allow(*scope)));
        assert!(of(&[Scope::ControlWrite]).allow(Scope::ControlRead));
        for (held, asked) in [
            (Scope::ControlRead, Scope::ControlWrite),
            (Scope::ControlWrite, Scope::Admin),
            (Scope::ControlWrite, Scope::IngestWrite),
            (Scope::IngestWrite, Scope::StreamRead),
            (Scope::StreamRead, Scope::ControlRead),
        ] {
            assert!(!of(&[held]).allow(asked), "{held} isn't {asked}");
        }
        assert_eq!(of(&[Scope::Admin, Scope::IngestWrite]).to_string(), "ingest:write admin");
        assert!("Admin".parse::<Scope>().is_err());
    }

    #[test]
    fn a_star_among_workspaces_means_all() {
        let read = |text: &str| named(text);
        assert!(read("*").cover(&read("a,b")) && !read("a,b").cover(&read("*")));
        assert!(read("a,b").cover(&read("a")) && !read("a").cover(&read("a,b")));
        assert!(read("a").allow("a") && !read("a").allow("b") && !Workspaces::default().allow("a"));
        assert_eq!(BTreeSet::from(Workspaces::All), BTreeSet::from(["*".to_owned()]));
    }

    /// Names with commas between them.
    fn named(text: &str) -> Workspaces {
        text.split(',').map(str::to_owned).collect::<BTreeSet<_>>().into()
    }
}
