//! What the control plane counts. Labels are few and fixed: no resource names.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    kind: &'static str,
    change: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

struct Metrics {
    changes: Family<Change, Counter>,
    passes: Family<Outcome, Counter>,
    pass: Histogram,
    held: Gauge,
    drifted: Gauge,
    reverted: Counter,
    redrives: Family<Outcome, Counter>,
}

/// From 1 ms to 16 s.
const SECONDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    changes: Family::default(),
    passes: Family::default(),
    pass: Histogram::new(SECONDS),
    held: Gauge::default(),
    drifted: Gauge::default(),
    reverted: Counter::default(),
    redrives: Family::default(),
});

/// Registers this crate's metrics; once a process.
pub fn register(registry: &mut Registry) {
    let m = &*METRICS;
    let r = registry.sub_registry_with_prefix("vltava_control");
    r.register(
        "changes",
        "Writes of resources that were answered, by kind and what they did",
        m.changes.clone(),
    );
    r.register("reconcile_passes", "Passes of the reconciler, by outcome (ok, error)", m.passes.clone());
    r.register_with_unit("reconcile_pass", "How long a pass takes", Unit::Seconds, m.pass.clone());
    r.register("stages_held", "Stages that got no plan, or not the newest", m.held.clone());
    r.register(
        "topics_drifted",
        "Topics that the engine has otherwise than their resources say",
        m.drifted.clone(),
    );
    r.register(
        "topics_reverted",
        "Changes of topics behind the control plane's back that were put back",
        m.reverted.clone(),
    );
    r.register("redrives", "Redrives that ended, by outcome (ok, error)", m.redrives.clone());
}

pub(crate) fn changed(kind: &'static str, change: &'static str) {
    METRICS.changes.get_or_create(&Change { kind, change }).inc();
}

fn outcome(ok: bool) -> Outcome {
    Outcome { outcome: if ok { "ok" } else { "error" } }
}

pub(crate) fn passed(ok: bool, took: Duration) {
    METRICS.passes.get_or_create(&outcome(ok)).inc();
    METRICS.pass.observe(took.as_secs_f64());
}

pub(crate) fn held(stages: usize) {
    METRICS.held.set(i64::try_from(stages).unwrap_or(i64::MAX));
}

pub(crate) fn drifted(topics: usize) {
    METRICS.drifted.set(i64::try_from(topics).unwrap_or(i64::MAX));
}

pub(crate) fn reverted() {
    METRICS.reverted.inc();
}

pub(crate) fn redriven(ok: bool) {
    METRICS.redrives.get_or_create(&outcome(ok)).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_right() {
        let metrics = runtime::Metrics::new();
        metrics.register(register);
        passed(true, Duration::from_millis(3));
        changed("Topic", "created");
        let text = metrics.encode().unwrap();
        assert!(text.contains("vltava_control_reconcile_pass_seconds_bucket"), "{text}");
        assert!(text.contains("vltava_control_changes_total{kind=\"Topic\",change=\"created\"}"), "{text}");
    }
}
