use std::time::Duration;

use types::{Partition, TopicName};

/// Why dead letters couldn't be read or settled.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine or the client.
    #[error("{what} failed")]
    Kafka {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: kafka::Error,
    },
    /// A topic isn't there that must be.
    #[error("{role} topic {topic} doesn't exist")]
    MissingTopic {
        /// `dead-letter`, `settlement`, `retry` or `target`.
        role: &'static str,
        /// Its name.
        topic: TopicName,
    },
    /// Another run works on the same partition: the later one goes on, the earlier one ends.
    #[error(
        "another redrive of {dlq} took over its partition {partition} (or the engine gave this one up after a pause); what this run has done is settled, and it can be begun again"
    )]
    Superseded {
        /// The DLQ.
        dlq: TopicName,
        /// The partition.
        partition: Partition,
    },
    /// Records that must be there didn't come.
    #[error("reading {topic} didn't get on for {} s; a transaction may be open there", after.as_secs())]
    Stalled {
        /// The topic.
        topic: TopicName,
        /// How long was waited.
        after: Duration,
    },
    /// A plan that doesn't fit.
    #[error("{0}")]
    Invalid(String),
}

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<kafka::ScanError> for Error {
    fn from(error: kafka::ScanError) -> Self {
        match error {
            kafka::ScanError::Failed(source) => Self::Kafka { what: "reading dead letters".into(), source },
            kafka::ScanError::Stalled { topic, after } => Self::Stalled { topic, after },
        }
    }
}

impl Error {
    pub(crate) fn kafka(what: impl Into<String>) -> impl FnOnce(kafka::Error) -> Self {
        let what = what.into();
        move |source| Self::Kafka { what, source }
    }

    /// The engine is away: the same may work later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Kafka { source, .. } => source.is_unavailable() || source.is_retriable(),
            Self::Stalled { .. } => true,
            Self::MissingTopic { .. } | Self::Superseded { .. } | Self::Invalid(_) => false,
        }
    }
}
