//! The Control API: `/api/v1`.
//!
//! Preconditions (RFC 9110, 13.1): a PUT without one creates or changes, which is what applying a folder again
//! and again needs; `If-Match: "<revision>"` compares and sets, `If-Match: *` only changes, `If-None-Match: *`
//! only creates; where one doesn't hold the answer is 412 with the revision that is. DELETE takes `If-Match` too.
//! `?dryRun=true` checks everything and writes nothing. A PUT that changes nothing makes no revision.
//! PATCH takes a merge patch (RFC 7396) over the manifest. DELETE refuses while others name the resource;
//! `?cascade=plan` says which they are. The answer of a PUT says what it did in `x-vltava-change` (created, changed, unchanged), and what the caller
//! should know in `x-vltava-warning`, once a warning.

mod backtest;
mod clients;
mod dlq;
mod drift;
mod permission;
mod plan;
mod request;
mod resources;
mod status;
mod verbs;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use runtime::http::BodyMemory;
use tokio::sync::Semaphore;

use crate::Control;

/// What all requests of the API together may hold of bodies, in bytes.
const BODY_MEMORY_BYTES: usize = 16 << 20;

/// Requests that read a whole DLQ at once; others wait.
const SCANS_MAX: usize = 2;

/// Sets of manifests that are planned or applied at once; others wait.
const PLANS_MAX: usize = 2;

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) control: Arc<Control>,
    pub(crate) memory: BodyMemory,
    /// Requests that read a whole DLQ.
    pub(crate) scans: Arc<Semaphore>,
    /// Sets of manifests.
    pub(crate) plans: Arc<Semaphore>,
}

/// What is done with one resource, whatever its path names it by.
fn resource() -> MethodRouter<Api> {
    get(resources::get).put(resources::put).patch(resources::patch).delete(resources::delete)
}

/// Routes of the Control API. They carry no limits, guard or request id of their own: a listener of
/// [`runtime::http`] does, and its gate says who calls ([`auth::Access`]); who isn't said may do nothing.
pub fn router(control: Arc<Control>) -> Router {
    let scans = Arc::new(Semaphore::new(SCANS_MAX));
    let plans = Arc::new(Semaphore::new(PLANS_MAX));
    let api = Api { control, memory: BodyMemory::new(BODY_MEMORY_BYTES), scans, plans };
    Router::new()
        .route("/api/v1:plan", post(plan::plan))
        .route("/api/v1:apply", post(plan::apply))
        .route("/api/v1/clients", get(clients::list))
        .route("/api/v1/clients/{name}", resource().post(clients::ask))
        .route("/api/v1/workspaces", get(resources::workspaces))
        .route("/api/v1/workspaces/{workspace}", resource())
        .route("/api/v1/workspaces/{workspace}/drift", get(drift::all))
        .route("/api/v1/workspaces/{workspace}/topics/{topic}/drift", get(drift::one))
        .route("/api/v1/workspaces/{workspace}/{kind}", get(resources::list))
        .route("/api/v1/workspaces/{workspace}/{kind}/{name}", resource().post(verbs::ask))
        .route("/api/v1/workspaces/{workspace}/transforms/{name}/versions", get(resources::versions))
        .route("/api/v1/workspaces/{workspace}/transforms/{name}/versions/{version}", get(resources::version))
        .route(
            "/api/v1/workspaces/{workspace}/transforms/{name}/versions/{version}/diff",
            get(resources::version_diff),
        )
        .route("/api/v1/workspaces/{workspace}/dlq/{topic}", get(dlq::summary))
        .route("/api/v1/workspaces/{workspace}/dlq/{topic}/letters", get(dlq::letters))
        .route("/api/v1/workspaces/{workspace}/dlq/{topic}/letters/{partition}/{offset}", get(dlq::letter))
        .route("/api/v1/workspaces/{workspace}/dlq/{topic}/redrive", post(dlq::redrive))
        .route("/api/v1/status", get(status::status))
        .route_layer(middleware::from_fn(permission::permit))
        .with_state(api)
}
