//! The metrics of the transform runtime: name, unit, help. Labels are a pipeline's workspace and name and
//! closed sets, never what a record says.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in milliseconds.
const LATENCY_BUCKETS_MS: [f64; 12] =
    [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 10_000.0];

/// Which pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    pub(crate) workspace: String,
    pub(crate) pipeline: String,
}

/// Which pipeline, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    workspace: String,
    pipeline: String,
    /// As in `x-dlq-reason`, `undefined` for what a transform gave no result for,
    /// `filtered` and `sampled` for what such steps dropped, or of an abort.
    reason: String,
}

/// Which pipeline, and which partition of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PartitionLabels {
    workspace: String,
    pipeline: String,
    topic: String,
    partition: i32,
}

/// Which pipeline, and which version of what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct VersionLabels {
    workspace: String,
    pipeline: String,
    step: String,
    version: String,
}

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS_MS)
}

/// All families; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    records_in: Family<Labels, Counter>,
    records_out: Family<Labels, Counter>,
    dropped: Family<ReasonLabels, Counter>,
    dead_lettered: Family<ReasonLabels, Counter>,
    aborts: Family<ReasonLabels, Counter>,
    restarts: Family<Labels, Counter>,
    process_latency: Family<Labels, Histogram, fn() -> Histogram>,
    commit_latency: Family<Labels, Histogram, fn() -> Histogram>,
    lag: Family<PartitionLabels, Gauge>,
    lag_seconds: Family<Labels, Gauge<f64, AtomicU64>>,
    version: Family<VersionLabels, Gauge>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records_in: Family::default(),
            records_out: Family::default(),
            dropped: Family::default(),
            dead_lettered: Family::default(),
            aborts: Family::default(),
            restarts: Family::default(),
            process_latency: Family::new_with_constructor(latency),
            commit_latency: Family::new_with_constructor(latency),
            lag: Family::default(),
            lag_seconds: Family::default(),
            version: Family::default(),
        };
        let Self {
            records_in,
            records_out,
            dropped,
            dead_lettered,
            aborts,
            restarts,
            process_latency,
            commit_latency,
            lag,
            lag_seconds,
            version,
        } = metrics.clone();
        registry.register(
            "vltava_pipeline_records_in",
            "Input records whose result is committed",
            records_in,
        );
        registry.register(
            "vltava_pipeline_records_out",
            "Records written to the target, committed",
            records_out,
        );
        registry.register("vltava_pipeline_dropped", "Input records that led to no output", dropped);
        registry.register(
            "vltava_pipeline_dead_lettered",
            "Records written to a dead-letter topic, committed",
            dead_lettered,
        );
        registry.register("vltava_pipeline_aborts", "Transactions that didn't commit", aborts);
        registry.register("vltava_pipeline_restarts", "New starts after a failure", restarts);
        registry.register("process_latency_ms", "Evaluation of one batch, in milliseconds", process_latency);
        registry.register(
            "commit_latency_ms",
            "Transaction of one batch from begin to commit, in milliseconds",
            commit_latency,
        );
        registry.register("vltava_pipeline_lag", "Input records behind the end of the partition", lag);
        registry.register(
            "vltava_pipeline_lag_seconds",
            "Age of the oldest input record that isn't committed, in seconds",
            lag_seconds,
        );
        registry.register("vltava_pipeline_active_version", "1 for the version that a step runs", version);
        metrics
    }

    /// The metrics of one pipeline.
    pub(crate) fn of(&self, workspace: &str, pipeline: &str) -> PipelineMetrics {
        PipelineMetrics {
            all: self.clone(),
            labels: Labels { workspace: workspace.into(), pipeline: pipeline.into() },
        }
    }
}

/// The metrics of one pipeline.
#[derive(Debug, Clone)]
pub(crate) struct PipelineMetrics {
    all: Metrics,
    labels: Labels,
}

impl PipelineMetrics {
    fn reason(&self, reason: &str) -> ReasonLabels {
        let Labels { workspace, pipeline } = self.labels.clone();
        ReasonLabels { workspace, pipeline, reason: reason.into() }
    }

    fn partition(&self, tp: &types::TopicPartition) -> PartitionLabels {
        let Labels { workspace, pipeline } = self.labels.clone();
        PartitionLabels { workspace, pipeline, topic: tp.topic.to_string(), partition: tp.partition }
    }

    fn version_labels(&self, step: &str, version: &str) -> VersionLabels {
        let Labels { workspace, pipeline } = self.labels.clone();
        VersionLabels { workspace, pipeline, step: step.into(), version: version.into() }
    }

    pub(crate) fn read(&self, records: u64) {
        self.all.records_in.get_or_create(&self.labels).inc_by(records);
    }

    pub(crate) fn wrote(&self, records: u64) {
        self.all.records_out.get_or_create(&self.labels).inc_by(records);
    }

    pub(crate) fn dropped(&self, reason: &str, records: u64) {
        self.all.dropped.get_or_create(&self.reason(reason)).inc_by(records);
    }

    pub(crate) fn dead_lettered(&self, reason: &str, records: u64) {
        self.all.dead_lettered.get_or_create(&self.reason(reason)).inc_by(records);
    }

    pub(crate) fn aborted(&self, reason: &str) {
        self.all.aborts.get_or_create(&self.reason(reason)).inc();
    }

    pub(crate) fn restarted(&self) {
        self.all.restarts.get_or_create(&self.labels).inc();
    }

    pub(crate) fn evaluated(&self, took: std::time::Duration) {
        self.all.process_latency.get_or_create(&self.labels).observe(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn committed(&self, took: std::time::Duration) {
        self.all.commit_latency.get_or_create(&self.labels).observe(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn lag(&self, tp: &types::TopicPartition, records: u64) {
        self.all.lag.get_or_create(&self.partition(tp)).set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// The partition is another instance's now.
    pub(crate) fn forget_partition(&self, tp: &types::TopicPartition) {
        self.all.lag.remove(&self.partition(tp));
    }

    pub(crate) fn lag_seconds(&self, seconds: f64) {
        self.all.lag_seconds.get_or_create(&self.labels).set(seconds);
    }

    pub(crate) fn version_starts(&self, step: &str, version: &str) {
        self.all.version.get_or_create(&self.version_labels(step, version)).set(1);
    }

    pub(crate) fn version_ends(&self, step: &str, version: &str) {
        self.all.version.remove(&self.version_labels(step, version));
    }

    /// The pipeline was removed: gauges of it would stand still for ever.
    pub(crate) fn forget(&self) {
        self.all.lag_seconds.remove(&self.labels);
    }
}
