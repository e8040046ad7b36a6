//! One registry of metrics for the process, and its text endpoint.
//!
//! A crate declares its metrics in its own `metrics.rs` (name, unit, help) and registers them once.
//! Names are whole (`vltava_ingest_requests`); the encoder adds the unit and, to counters, `_total`.
//! Label values must come from a closed set or from resource names, never from what callers send.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

/// The media type of the text that [`Metrics::encode`] makes: OpenMetrics 1.0, which Prometheus reads.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A handle on the process's registry. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry; one a process, and one a test.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers metrics. Names must not be registered twice: the text would be invalid.
    pub fn register<T>(&self, declare: impl FnOnce(&mut Registry) -> T) -> T {
        declare(&mut self.0.lock())
    }

    /// The text of all metrics now.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(8 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.0.lock())?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// `GET /metrics`.
pub fn router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(serve)).with_state(metrics)
}

async fn serve(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => crate::http::Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics_unavailable")
            .detail("a metric couldn't be written")
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_registered_is_in_the_text() {
        let metrics = Metrics::new();
        let counter = Counter::<u64>::default();
        metrics.register(|r| r.register("vltava_test_things", "Things seen", counter.clone()));
        counter.inc_by(3);
        let text = metrics.encode().unwrap();
        assert!(text.contains("vltava_test_things_total 3"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
