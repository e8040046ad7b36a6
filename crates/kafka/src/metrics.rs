//! What the clients count. Labels are few and fixed: no topic, group or client names.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rdkafka::error::RDKafkaErrorCode;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

struct Metrics {
    produced_records: Counter,
    produced_bytes: Counter,
    produce_errors: Family<What, Counter>,
    produce_seconds: Histogram,
    consumed_records: Counter,
    consumed_bytes: Counter,
    rebalances: Family<What, Counter>,
    transactions: Family<What, Counter>,
    transaction_commit_seconds: Histogram,
    client_errors: Family<What, Counter>,
}

/// From 1 ms to 16 s.
const SECONDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    produced_records: Counter::default(),
    produced_bytes: Counter::default(),
    produce_errors: Family::default(),
    produce_seconds: Histogram::new(SECONDS),
    consumed_records: Counter::default(),
    consumed_bytes: Counter::default(),
    rebalances: Family::default(),
    transactions: Family::default(),
    transaction_commit_seconds: Histogram::new(SECONDS),
    client_errors: Family::default(),
});

/// Registers this crate's metrics; once a process.
pub fn register(registry: &mut Registry) {
    let m = &*METRICS;
    let r = registry.sub_registry_with_prefix("vltava_kafka");
    r.register("produced_records", "Records acknowledged by the engine", m.produced_records.clone());
    r.register(
        "produced_bytes",
        "Bytes of keys, values and headers of acknowledged records",
        m.produced_bytes.clone(),
    );
    r.register(
        "produce_errors",
        "Records that weren't enqueued or not delivered, by cause",
        m.produce_errors.clone(),
    );
    r.register(
        "produce_seconds",
        "From enqueueing a record to its acknowledgement by all replicas",
        m.produce_seconds.clone(),
    );
    r.register("consumed_records", "Records handed to their owner", m.consumed_records.clone());
    r.register(
        "consumed_bytes",
        "Bytes of keys, values and headers of records handed to their owner",
        m.consumed_bytes.clone(),
    );
    r.register(
        "rebalances",
        "Changes of a consumer's partitions: assigned, revoked, lost",
        m.rebalances.clone(),
    );
    r.register(
        "transactions",
        "Transactions by their end: committed, aborted, unknown",
        m.transactions.clone(),
    );
    r.register(
        "transaction_commit_seconds",
        "From the last record's send to the transaction's commit",
        m.transaction_commit_seconds.clone(),
    );
    r.register(
        "client_errors",
        "Errors that clients reported on their own account, by cause",
        m.client_errors.clone(),
    );
}

pub(crate) fn produced(bytes: usize, took: Duration) {
    METRICS.produced_records.inc();
    METRICS.produced_bytes.inc_by(bytes as u64);
    METRICS.produce_seconds.observe(took.as_secs_f64());
}

pub(crate) fn produce_error(error: &crate::Error) {
    METRICS.produce_errors.get_or_create(&What { what: cause(error.kind()) }).inc();
}

pub(crate) fn consumed(records: usize, bytes: usize) {
    METRICS.consumed_records.inc_by(records as u64);
    METRICS.consumed_bytes.inc_by(bytes as u64);
}

pub(crate) fn rebalance(what: &'static str) {
    METRICS.rebalances.get_or_create(&What { what }).inc();
}

pub(crate) fn transaction(what: &'static str) {
    METRICS.transactions.get_or_create(&What { what }).inc();
}

pub(crate) fn transaction_committed(took: Duration) {
    transaction("committed");
    METRICS.transaction_commit_seconds.observe(took.as_secs_f64());
}

pub(crate) fn client_error(code: Option<RDKafkaErrorCode>) {
    let kind = code.map_or(crate::Kind::Other, |c| crate::Error::from_code("", c).kind().clone());
    failure(&kind);
}

pub(crate) fn failure(kind: &crate::Kind) {
    METRICS.client_errors.get_or_create(&What { what: cause(kind) }).inc();
}

fn cause(kind: &crate::Kind) -> &'static str {
    use crate::Kind as K;
    match kind {
        K::QueueFull => "queue_full",
        K::TooLarge => "too_large",
        K::UnknownTopic => "unknown_topic",
        K::TopicExists => "topic_exists",
        K::OffsetOutOfRange { .. } => "offset_out_of_range",
        K::Timeout => "timeout",
        K::Unreachable => "unreachable",
        K::Fenced => "fenced",
        K::NotAuthorized => "not_authorized",
        K::GroupInUse => "group_in_use",
        K::Config => "config",
        K::Closed => "closed",
        K::Protocol => "protocol",
        K::Other => "other",
    }
}
