//! One error for all clients. A caller decides by its flags and [`Kind`], a person reads its text,
//! which names what was tried, at which address, and what the engine or the connection said.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use types::{Offset, TopicPartition};

/// What went wrong, as far as callers decide by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The producer's own queue is full (records or bytes): slow down and try again.
    QueueFull,
    /// The record exceeds the topic's `max.message.bytes` or the client's limit.
    TooLarge,
    /// No such topic or partition.
    UnknownTopic,
    /// The topic exists already.
    TopicExists,
    /// The wanted offset isn't in the partition's log any more, or not yet. The partition stands still until a
    /// [`seek`](crate::Handle::seek): going on elsewhere would lose or repeat records, which only its owner may decide.
    OffsetOutOfRange {
        /// Where.
        tp: TopicPartition,
        /// What was asked for, if known.
        wanted: Option<Offset>,
        /// The log's first offset and the next to be written, if known.
        available: Option<(Offset, Offset)>,
    },
    /// No answer in time.
    Timeout,
    /// The engine can't be reached.
    Unreachable,
    /// Another owner took over: the same `transactional.id` or `group.instance.id` was started again elsewhere.
    Fenced,
    /// Credentials or permissions.
    NotAuthorized,
    /// The group has members: its offsets are theirs.
    GroupInUse,
    /// A setting is wrong.
    Config,
    /// The client was closed.
    Closed,
    /// What the peer sent isn't valid.
    Protocol,
    /// Anything else; the text says what.
    Other,
}

/// See the module. Cheap to move: boxed.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    /// What was tried, e.g. `produce to dev.demo.github.raw`.
    operation: String,
    /// What was answered.
    detail: String,
    /// The bootstrap address.
    address: Option<String>,
    /// Kafka's code, when the answer came from the engine.
    code: Option<i16>,
    retriable: bool,
    fatal: bool,
    requires_abort: bool,
    outcome_unknown: bool,
}

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Kafka's error code, where the engine answered with one.
    pub fn code(&self) -> Option<i16> {
        self.0.code
    }

    /// The same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }

    /// The client is of no more use: open a new one.
    pub fn is_fatal(&self) -> bool {
        self.0.fatal || self.is_fenced()
    }

    /// The transaction can only be aborted. [`Transaction::commit`](crate::Transaction::commit) has done so already
    /// when it returns such an error.
    pub fn requires_abort(&self) -> bool {
        self.0.requires_abort
    }

    /// Another owner took over; stop, and don't take back by force.
    pub fn is_fenced(&self) -> bool {
        self.0.kind == Kind::Fenced
    }

    /// A commit that may have happened or not: open the producer again (which ends what is pending), then read the
    /// committed offsets.
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// Whether the transactional producer must be opened again before its next transaction.
    pub fn needs_reopen(&self) -> bool {
        self.is_fatal() || self.0.outcome_unknown
    }

    /// The engine or the connection is away: nothing is wrong with the request.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.0.kind, Kind::Timeout | Kind::Unreachable)
    }

    pub(crate) fn new(kind: Kind, operation: impl Into<String>, detail: impl Into<String>) -> Self {
        let retriable = matches!(kind, Kind::QueueFull | Kind::Timeout | Kind::Unreachable);
        Self(Box::new(Inner {
            kind,
            operation: operation.into(),
            detail: detail.into(),
            address: None,
            code: None,
            retriable,
            fatal: false,
            requires_abort: false,
            outcome_unknown: false,
        }))
    }

    pub(crate) fn config(name: &str, value: &str, why: &str) -> Self {
        let secret = ["password", "secret", "token", "key", "pem"].iter().any(|s| name.contains(s));
        let shown = if secret { "***" } else { value };
        Self::new(Kind::Config, format!("Kafka setting {name}={shown:?}"), why)
    }

    pub(crate) fn closed(operation: impl Into<String>) -> Self {
        Self::new(Kind::Closed, operation, "the client was closed")
    }

    pub(crate) fn timeout(operation: impl Into<String>, after: std::time::Duration) -> Self {
        Self::new(Kind::Timeout, operation, format!("no answer within {} ms", after.as_millis()))
    }

    pub(crate) fn at(mut self, address: &str) -> Self {
        self.0.address = Some(address.to_owned());
        self
    }

    pub(crate) fn with_code(mut self, code: i16) -> Self {
        self.0.code = Some(code);
        self
    }

    pub(crate) fn retriable(mut self, yes: bool) -> Self {
        self.0.retriable = yes;
        self
    }

    pub(crate) fn aborted(mut self) -> Self {
        self.0.requires_abort = true;
        self
    }

    pub(crate) fn fatal(mut self) -> Self {
        self.0.fatal = true;
        self.0.retriable = false;
        self
    }

    pub(crate) fn outcome_unknown(mut self) -> Self {
        self.0.outcome_unknown = true;
        self
    }

    /// Adds to the answer, e.g. what the connection said last.
    pub(crate) fn because(mut self, more: &str) -> Self {
        if !more.is_empty() && !self.0.detail.contains(more) {
            self.0.detail = format!("{}; {more}", self.0.detail);
        }
        self
    }

    /// From the client library.
    pub(crate) fn from_rdkafka(operation: impl Into<String>, error: &KafkaError) -> Self {
        let operation = operation.into();
        match error {
            KafkaError::ClientConfig(_, why, name, value) => Self::config(name, value, why),
            KafkaError::ClientCreation(why) => Self::new(Kind::Config, operation, why),
            KafkaError::Transaction(inner) => {
                let mut made = Self::from_code(operation, inner.code());
                made.0.detail = inner.string();
                made.0.retriable = inner.is_retriable();
                made.0.requires_abort = inner.txn_requires_abort();
                made.0.fatal = inner.is_fatal();
                made
            }
            KafkaError::MessageConsumptionFatal(code) => Self::from_code(operation, *code).fatal(),
            other => match other.rdkafka_error_code() {
                Some(code) => Self::from_code(operation, code),
                None => Self::new(Kind::Other, operation, other.to_string()),
            },
        }
    }

    /// From one of the library's codes, its own or the broker's.
    pub(crate) fn from_code(operation: impl Into<String>, code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as C;
        let kind = match code {
            C::QueueFull => Kind::QueueFull,
            C::MessageSizeTooLarge => Kind::TooLarge,
            C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition | C::UnknownTopicId => {
                Kind::UnknownTopic
            }
            C::TopicAlreadyExists => Kind::TopicExists,
            C::MessageTimedOut | C::OperationTimedOut | C::TimedOutQueue | C::RequestTimedOut => {
                Kind::Timeout
            }
            C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::Resolve
            | C::NetworkException
            | C::BrokerNotAvailable
            | C::CoordinatorNotAvailable
            | C::LeaderNotAvailable => Kind::Unreachable,
            C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch | C::FencedInstanceId => Kind::Fenced,
            C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::SaslAuthenticationFailed
            | C::Authentication => Kind::NotAuthorized,
            C::InvalidConfig | C::InvalidArgument => Kind::Config,
            _ => Kind::Other,
        };
        let retriable = matches!(kind, Kind::QueueFull | Kind::Timeout | Kind::Unreachable)
            || matches!(
                code,
                C::NotCoordinator
                    | C::CoordinatorLoadInProgress
                    | C::NotLeaderForPartition
                    | C::NotEnoughReplicas
                    | C::NotEnoughReplicasAfterAppend
                    | C::RebalanceInProgress
                    | C::ConcurrentTransactions
                    | C::UnstableOffsetCommit
                    | C::NoOffset
                    | C::WaitingForCoordinator
                    | C::PurgeQueue
                    | C::Retry
            );
        let number = code as i32;
        let mut made = Self::new(kind, operation, code.to_string()).retriable(retriable);
        made.0.code = i16::try_from(number).ok().filter(|n| *n > 0);
        made.0.fatal = code == C::Fatal;
        made
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, detail, address, .. } = &*self.0;
        write!(f, "{operation}: {detail}")?;
        match address {
            Some(address) if !detail.contains(address.as_str()) => write!(f, " (engine at {address})"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka::Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_the_code() {
        let fenced = Error::from_code("commit", RDKafkaErrorCode::ProducerFenced);
        assert!(fenced.is_fenced() && fenced.is_fatal() && fenced.needs_reopen() && !fenced.is_retriable());
        let away = Error::from_code("produce", RDKafkaErrorCode::BrokerTransportFailure).at("h:1");
        assert!(away.is_retriable() && away.is_unavailable() && !away.is_fatal());
        assert!(away.to_string().ends_with("(engine at h:1)"), "{away}");
        assert_eq!(Error::from_code("p", RDKafkaErrorCode::MessageSizeTooLarge).code(), Some(10));
        assert_eq!(Error::from_code("p", RDKafkaErrorCode::QueueFull).code(), None);
    }

    #[test]
    fn secrets_stay_out_of_the_text() {
        let error = Error::config("sasl.password", "hunter2", "bad");
        assert!(!error.to_string().contains("hunter2"));
    }
}
