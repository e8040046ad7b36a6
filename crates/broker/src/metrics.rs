//! What the broker counts. Labels come from closed sets: the APIs it serves, and how connections end.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

/// Which API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Api {
    /// The protocol's name of it.
    pub(crate) api: &'static str,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct End {
    /// `ordinary`, `refused` (too many connections) or `failed` (its peer did what may not be done, or stalled).
    pub(crate) end: &'static str,
}

/// Handles on the metrics; they count whether or not they are registered.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: Family<Api, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) connections_ended: Family<End, Counter>,
    pub(crate) received: Counter,
    pub(crate) fetched: Counter,
}

impl Metrics {
    /// Registers them; once a registry.
    pub(crate) fn register(&self, metrics: &runtime::Metrics) {
        let Self { requests, connections, connections_ended, received, fetched } = self;
        metrics.register(|registry| {
            registry.register("vltava_broker_requests", "Kafka requests begun, by API", requests.clone());
            registry.register(
                "vltava_broker_connections",
                "Kafka connections that are open",
                connections.clone(),
            );
            registry.register(
                "vltava_broker_connections_ended",
                "Kafka connections that ended, by how",
                connections_ended.clone(),
            );
            registry.register_with_unit(
                "vltava_broker_received",
                "Kafka requests read",
                Unit::Bytes,
                received.clone(),
            );
            registry.register_with_unit(
                "vltava_broker_fetched",
                "Record batches read by Fetch",
                Unit::Bytes,
                fetched.clone(),
            );
        });
    }
}
