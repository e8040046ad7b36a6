//! What the authorizer counts. Labels are few and fixed: no names that callers give.

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Default)]
struct Metrics {
    issued: Counter,
    refused: Family<Reason, Counter>,
    requests: Family<Reason, Counter>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// Registers this crate's metrics; once a process.
pub fn register(registry: &mut Registry) {
    let m = &*METRICS;
    let r = registry.sub_registry_with_prefix("vltava_auth");
    r.register("tokens_issued", "Tokens that were issued", m.issued.clone());
    r.register(
        "token_requests_refused",
        "Requests for a token that were refused, by OAuth's error code or throttled",
        m.refused.clone(),
    );
    r.register(
        "requests_refused",
        "Requests that were refused for want of a valid token, by what was wrong with it",
        m.requests.clone(),
    );
}

pub(crate) fn issued() {
    METRICS.issued.inc();
}

pub(crate) fn token_refused(reason: &'static str) {
    METRICS.refused.get_or_create(&Reason { reason }).inc();
}

pub(crate) fn request_refused(reason: &'static str) {
    METRICS.requests.get_or_create(&Reason { reason }).inc();
}
