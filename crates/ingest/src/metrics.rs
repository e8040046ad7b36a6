//! What ingest counts. Labels come from closed sets (outcome codes) or from topics that exist.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

/// Upper bounds of latency buckets, in seconds. Acks come from a fraction of a millisecond (embedded) to
/// the delivery timeout.
const LATENCY_BUCKETS_S: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// `accepted`, or the code of the problem.
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    topic: String,
}

/// Handles on the metrics.
#[derive(Debug)]
pub(crate) struct IngestMetrics {
    requests: Family<Outcome, Counter>,
    accepted: Counter,
    records: Family<Topic, Counter>,
    bytes: Family<Topic, Counter>,
    latency: Histogram,
    in_flight: Gauge,
}

impl IngestMetrics {
    /// Registers them; once a registry.
    pub(crate) fn new(metrics: &runtime::Metrics) -> Arc<Self> {
        let requests = Family::<Outcome, Counter>::default();
        let accepted = requests.get_or_create(&Outcome { outcome: "accepted".into() }).clone();
        let this = Self {
            requests,
            accepted,
            records: Family::default(),
            bytes: Family::default(),
            latency: Histogram::new(LATENCY_BUCKETS_S),
            in_flight: Gauge::default(),
        };
        metrics.register(|r| {
            r.register("vltava_ingest_requests", "Ingest requests by how they ended", this.requests.clone());
            r.register(
                "vltava_ingest_records",
                "Records stored by ingest requests that were accepted",
                this.records.clone(),
            );
            r.register_with_unit(
                "vltava_ingest_value",
                "Values of those records, as they came",
                Unit::Bytes,
                this.bytes.clone(),
            );
            r.register_with_unit(
                "vltava_ingest_request_duration",
                "From the request's head to its answer",
                Unit::Seconds,
                this.latency.clone(),
            );
            r.register(
                "vltava_ingest_requests_in_flight",
                "Requests without an answer yet",
                this.in_flight.clone(),
            );
        });
        Arc::new(this)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(self.clone())
    }

    pub(crate) fn stored(&self, topic: &str, records: u64, bytes: u64) {
        let topic = Topic { topic: topic.to_owned() };
        self.records.get_or_create(&topic).inc_by(records);
        self.bytes.get_or_create(&topic).inc_by(bytes);
    }

    pub(crate) fn answered(&self, refusal: Option<&str>, took: Duration) {
        match refusal {
            None => self.accepted.inc(),
            Some(code) => self.requests.get_or_create(&Outcome { outcome: code.to_owned() }).inc(),
        };
        self.latency.observe(took.as_secs_f64());
    }
}

/// A request in flight; one whose client goes away is no longer that, either.
pub(crate) struct InFlight(Arc<IngestMetrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}
