//! What redrives count.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

#[derive(Default)]
struct Metrics {
    redriven: Counter,
    discarded: Counter,
    unroutable: Counter,
    superseded: Counter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// Registers this crate's metrics; once a process.
pub fn register(registry: &mut Registry) {
    let m = &*METRICS;
    let r = registry.sub_registry_with_prefix("vltava_deadletter");
    r.register("redriven", "Dead letters given back", m.redriven.clone());
    r.register("discarded", "Dead letters given up", m.discarded.clone());
    r.register("unroutable", "Selected dead letters that no stage took back", m.unroutable.clone());
    r.register("superseded", "Redrives that ended because another took over", m.superseded.clone());
}

pub(crate) fn settled(outcome: crate::Outcome, count: u64) {
    match outcome {
        crate::Outcome::Redriven => METRICS.redriven.inc_by(count),
        crate::Outcome::Discarded => METRICS.discarded.inc_by(count),
    };
}

pub(crate) fn unroutable() {
    METRICS.unroutable.inc();
}

pub(crate) fn superseded() {
    METRICS.superseded.inc();
}
