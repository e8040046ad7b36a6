//! HTTP ingest: an event comes in as JSON, and is answered 202 once the engine has it durably.
//!
//! Invariants:
//! - The bytes that came are the bytes that are stored. A body is checked whole before anything of it is sent.
//! - An answer of 202 means that every record of the request is acknowledged (acks=all). Any other answer of 4xx means that
//!   nothing is stored; a 503 says what is stored and what is unknown.
//! - Body size, time, memory, depth, number and size of a batch's records, and the wait for the engine are bounded.
//!
//! It must not know resources' life cycles (a [`TopicTable`] is all that it
//! sees of them), nor what reads the records.
//!
//! Not done: `ingest.quarantine`, NDJSON bodies,
//! content encodings, CloudEvents in structured mode as more than JSON (their `id` isn't the record's
//! `x-event-id`), webhook signatures, schemas, reading back.

mod admission;
mod event;
mod handler;
mod identity;
mod json;
mod key;
mod media;
mod metrics;
#[cfg(feature = "kafka")]
mod producers;
mod sink;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use resources::TopicTable;
use runtime::http::BodyMemory;
use tokio::sync::{Notify, watch};

#[cfg(feature = "kafka")]
pub use producers::{Delivery, Producers};
pub use sink::{Sink, SinkError, Stored};

/// The topics of the moment, published by the control plane.
pub type Topics = watch::Receiver<Arc<TopicTable>>;

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `service.name` on records. Like the next one it goes onto each record, without a copy.
    pub service_name: Bytes,
    /// `deployment.env` on records: the installation's environment.
    pub deployment_env: Bytes,
    /// The largest body that is read, in bytes; a topic with a larger `max.message.bytes` raises it for itself.
    pub body_bytes_max: usize,
    /// What the bodies of all requests may hold together, in bytes.
    pub bodies_bytes_max: usize,
    /// Elements of a batch.
    pub batch_records_max: usize,
    /// A batch's records, encoded and with their headers, in bytes.
    pub batch_bytes_max: u64,
    /// Records of all requests that wait for the engine; fewer than the producer's queue takes.
    pub waiting_records_max: u64,
    /// Their bytes, encoded and with their headers.
    pub waiting_bytes_max: u64,
    /// How long a request waits for the engine: longer than the producer's delivery timeout, after which the
    /// outcome is known.
    pub ack_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_name: "vltava".into(),
            deployment_env: "dev".into(),
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 64 << 20,
            batch_records_max: 10_000,
            batch_bytes_max: 32 << 20,
            waiting_records_max: 50_000,
            waiting_bytes_max: 48 << 20,
            ack_timeout: Duration::from_secs(40),
        }
    }
}

/// What ingest works with.
pub struct Deps<S> {
    /// Where may be written, and how.
    pub topics: Topics,
    /// The engine.
    pub sink: S,
    /// Told where a topic isn't in the table: whoever publishes the table looks again, and publishes it soon.
    pub look: Arc<Notify>,
    /// Where metrics are registered; once a registry.
    pub metrics: runtime::Metrics,
}

/// `POST /ingest/{topic}` (202) and `POST /api/v1/events/{topic}` (200, with partition and offset). To be served by
/// [`runtime::http`], which gives requests their ids and problems their last touch, and whose gate says who calls
/// ([`auth::Access`]); who isn't said may do nothing.
pub fn router<S: Sink>(config: Config, deps: Deps<S>) -> Router {
    let Deps { topics, sink, look, metrics } = deps;
    let bodies = BodyMemory::new(config.bodies_bytes_max);
    let metrics = metrics::IngestMetrics::new(&metrics);
    let admission = admission::Admission::new(config.waiting_records_max, config.waiting_bytes_max);
    let gateway = Arc::new(handler::Gateway { config, admission, topics, look, sink, bodies, metrics });
    Router::new()
        .route("/ingest/{topic}", post(handler::ingest::<S>).fallback(handler::method_not_allowed))
        .route("/api/v1/events/{topic}", post(handler::publish::<S>).fallback(handler::method_not_allowed))
        .with_state(gateway)
}
