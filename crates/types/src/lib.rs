//! The nouns that every part of Vltava shares: topics, records, headers, identities, permissions.
//!
//! Invariant: a value of these types is valid. A [`TopicName`] that exists is one that Kafka takes,
//! [`Headers`] keep order and duplicates. Nothing here does I/O, knows a protocol or a resource kind.

mod access;
mod header;
mod id;
mod naming;
mod record;
mod topic;

pub use access::{Scope, ScopeError, Scopes, TopicPattern, TopicPatternError, TopicPatterns, Workspaces};
pub use header::{Header, HeaderName, Headers, names};
pub use id::{EventId, IdError, InstallationId, RequestId, Uid};
pub use naming::{Naming, NamingError, StageKind, StreamName, consumer_group};
pub use record::{Offset, Partition, Record, TimestampMs};
pub use topic::{TopicName, TopicNameError, TopicPartition};
