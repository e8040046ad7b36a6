//! What connectors count. Labels are resource names and closed sets only.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use deadletter::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;
use runtime::Metrics;

use crate::sink::Scope;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Connector {
    workspace: String,
    connector: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    workspace: String,
    connector: String,
    /// `record`, `destination`, `throttled`, `gone`.
    scope: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Letter {
    workspace: String,
    connector: String,
    reason: &'static str,
}

/// The families, registered once a process.
#[derive(Debug, Clone)]
pub(crate) struct ConnectMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    delivered: Family<Connector, Counter>,
    write: Family<Connector, Histogram>,
    failed: Family<Failure, Counter>,
    retried: Family<Connector, Counter>,
    dead_lettered: Family<Letter, Counter>,
    parked: Family<Connector, Gauge<u64, AtomicU64>>,
    restarts: Family<Connector, Counter>,
}

/// One connector's.
#[derive(Debug, Clone)]
pub(crate) struct ConnectorMetrics {
    families: Arc<Families>,
    label: Connector,
    delivered: Counter,
    write: Histogram,
}

impl ConnectMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let families = Families {
            delivered: Family::default(),
            // 1 ms to 32 s.
            write: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            failed: Family::default(),
            retried: Family::default(),
            dead_lettered: Family::default(),
            parked: Family::default(),
            restarts: Family::default(),
        };
        metrics.register(|r| {
            r.register(
                "vltava_connector_delivered",
                "Records that the destination took",
                families.delivered.clone(),
            );
            r.register_with_unit(
                "vltava_connector_write",
                "Time from the start of a write to its outcome",
                Unit::Seconds,
                families.write.clone(),
            );
            r.register(
                "vltava_connector_failures",
                "Writes that failed, by whom it is about",
                families.failed.clone(),
            );
            r.register(
                "vltava_connector_retries",
                "Writes that will be tried again",
                families.retried.clone(),
            );
            r.register(
                "vltava_connector_dead_lettered",
                "Records that were dead-lettered, by reason",
                families.dead_lettered.clone(),
            );
            r.register(
                "vltava_connector_parked",
                "Records that wait behind a failing key",
                families.parked.clone(),
            );
            r.register(
                "vltava_connector_restarts",
                "Tasks that failed and were started again",
                families.restarts.clone(),
            );
        });
        Self(Arc::new(families))
    }

    pub(crate) fn of(&self, workspace: &str, connector: &str) -> ConnectorMetrics {
        let label = Connector { workspace: workspace.into(), connector: connector.into() };
        ConnectorMetrics {
            delivered: self.0.delivered.get_or_create_owned(&label),
            write: self.0.write.get_or_create_owned(&label),
            families: Arc::clone(&self.0),
            label,
        }
    }
}

impl ConnectorMetrics {
    pub(crate) fn delivered(&self) {
        self.delivered.inc();
    }

    pub(crate) fn write_seconds(&self, took: Duration) {
        self.write.observe(took.as_secs_f64());
    }

    pub(crate) fn write_failed(&self, scope: Scope) {
        let Connector { workspace, connector } = self.label.clone();
        let scope = match scope {
            Scope::Record => "record",
            Scope::Destination => "destination",
            Scope::Throttled => "throttled",
            Scope::Gone => "gone",
        };
        self.families.failed.get_or_create(&Failure { workspace, connector, scope }).inc();
    }

    pub(crate) fn retried(&self) {
        self.families.retried.get_or_create(&self.label).inc();
    }

    pub(crate) fn dead_lettered(&self, reason: Reason) {
        let Connector { workspace, connector } = self.label.clone();
        self.families
            .dead_lettered
            .get_or_create(&Letter { workspace, connector, reason: reason.as_str() })
            .inc();
    }

    pub(crate) fn parked(&self, records: usize) {
        self.families.parked.get_or_create(&self.label).set(records as u64);
    }

    pub(crate) fn restarted(&self) {
        self.families.restarts.get_or_create(&self.label).inc();
    }
}
