//! Kafka clients as Vltava needs them: the only crate that names rdkafka.
//!
//! Invariants: every produce is acks=all and idempotent, partitioned as the Java clients do
//! (`murmur2_random`), with headers in order and duplicates kept. Every consumer is read_committed and commits only what
//! its owner says; a partition whose offset is gone stops with an error, and never jumps. A transaction is
//! consumed by commit or abort. Nothing here blocks an async thread, every queue and wait has a limit, and no
//! code knows which engine answers.
//!
//! It must not know what records mean: dead letters, stages and topics' roles are other crates'.

mod admin;
mod config;
mod consumer;
mod context;
mod direct;
mod error;
pub mod metrics;
mod producer;
mod raw;
mod scan;
mod transaction;

pub use admin::{
    Admin, Broker, Cluster, ConfigEntry, ListedOffset, NewTopic, OffsetSpec, PartitionDescription,
    TopicDescription,
};
pub use config::ClientConfig;
pub use consumer::{
    AssignedPartition, Committed, ConsumedRecord, Consumer, ConsumerConfig, Event, FetchConfig,
    GroupMetadata, Handle, RevokeAck, StartFrom, Watermarks,
};
pub use error::{Error, Kind, Result};
pub use producer::{Delivered, Delivery, Producer, ProducerConfig};
pub use scan::{Scan, ScanError, Stretch};
pub use transaction::{Transaction, TransactionalProducer, TxnConfig};
