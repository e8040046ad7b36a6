//! How topics are named: the built-in policy `<env>.<workspace>.<stream>.<variant>`, and where a
//! stage's system topics (DLQ, retry) lie.
//!
//! A name that follows the policy gets its stream's DLQ (`<env>.<workspace>.<stream>.dlq`); any
//! other name gets `<topic>.dlq`. Both engines, every stage and the CLI use these functions, so
//! that nobody guesses.

use std::fmt;

use crate::{InstallationId, TopicName, TopicNameError, Uid};

/// What owns a retry topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    /// A transform pipeline.
    Pipeline,
    /// A connector.
    Connector,
    /// A stream job.
    Job,
}

impl StageKind {
    /// As it stands in topic names and in `x-dlq-stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Connector => "connector",
            Self::Job => "job",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name of the built-in policy, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamName {
    /// `dev`, `prod`, ...
    pub env: String,
    /// The tenant.
    pub workspace: String,
    /// The stream; its variants share one DLQ.
    pub stream: String,
    /// `raw`, `enriched`, `dlq`, `retry`, ...
    pub variant: String,
}

impl StreamName {
    /// Four non-empty segments between dots; `None` for any other name.
    pub fn parse(name: &TopicName) -> Option<Self> {
        let mut segments = name.as_str().split('.');
        let mut next = || segments.next().filter(|s| !s.is_empty()).map(String::from);
        let parsed = Self { env: next()?, workspace: next()?, stream: next()?, variant: next()? };
        segments.next().is_none().then_some(parsed)
    }
}

/// A system topic's name can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {role} topic's name for {of:?} can't be made")]
pub struct NamingError {
    /// `dlq` or `retry`.
    pub role: &'static str,
    /// The topic or stage it is for.
    pub of: String,
    /// Which rule it breaks (most often the length).
    #[source]
    pub source: TopicNameError,
}

/// Where system topics lie, by the default policy.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// The environment, as configured.
    pub env: &'a str,
    /// The workspace.
    pub workspace: &'a str,
}

impl Naming<'_> {
    /// The topic that records of `source` are dead-lettered to, unless `Topic.spec.deadLetter` says otherwise.
    pub fn dlq(&self, source: &TopicName) -> Result<TopicName, NamingError> {
        let name = match StreamName::parse(source) {
            Some(s) if s.env == self.env && s.workspace == self.workspace => {
                format!("{}.{}.{}.dlq", s.env, s.workspace, s.stream)
            }
            _ => format!("{source}.dlq"),
        };
        TopicName::new(&name).map_err(|e| NamingError { role: "dlq", of: source.to_string(), source: e })
    }

    /// The topic through which redriven records come back to a stage.
    pub fn retry(&self, kind: StageKind, name: &str) -> Result<TopicName, NamingError> {
        let retry = format!("{}.{}.{kind}-{name}.retry", self.env, self.workspace);
        TopicName::new(&retry).map_err(|e| NamingError {
            role: "retry",
            of: format!("{kind} {name}"),
            source: e,
        })
    }
}

/// The consumer group of a pipeline or connector: `vltava.<installation>.<uid>`. Made again under the same name, a
/// stage has another group, and begins anew.
pub fn consumer_group(installation: InstallationId, uid: Uid) -> String {
    format!("vltava.{installation}.{uid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMING: Naming<'_> = Naming { env: "dev", workspace: "demo" };

    #[test]
    fn a_stream_has_one_dlq() {
        let of = |name: &str| NAMING.dlq(&TopicName::new(name).unwrap()).unwrap().to_string();
        assert_eq!(of("dev.demo.github.raw"), "dev.demo.github.dlq");
        assert_eq!(of("dev.demo.github.enriched"), "dev.demo.github.dlq");
        assert_eq!(of("orders"), "orders.dlq");
        assert_eq!(of("dev.other.github.raw"), "dev.other.github.raw.dlq");
        assert_eq!(of("a.b.c.d.e"), "a.b.c.d.e.dlq");
        assert_eq!(of("dev.demo..raw"), "dev.demo..raw.dlq");
    }

    #[test]
    fn a_stage_has_one_retry_topic() {
        let retry = NAMING.retry(StageKind::Connector, "crm").unwrap();
        assert_eq!(retry.as_str(), "dev.demo.connector-crm.retry");
        assert!(NAMING.retry(StageKind::Pipeline, &"x".repeat(249)).is_err());
    }
}
