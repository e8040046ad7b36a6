//! Whether the process lives, and whether it is ready for work, with reasons.
//!
//! A [`Check`] belongs to the part that it is about. It begins as not ready, and when its owner ends
//! without retiring it, it is not ready again: a part that died can't leave a green light behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;

use crate::Shutdown;
use crate::http::Stranger;

/// All checks of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: String,
    version: String,
    started: Instant,
    shutdown: Shutdown,
    checks: Mutex<BTreeMap<u64, (String, Option<String>)>>,
    next: std::sync::atomic::AtomicU64,
}

/// One part's check. Dropped, it says that its owner has ended; see [`Check::retire`].
#[derive(Debug)]
pub struct Check {
    health: Health,
    key: u64,
}

/// The answer of `/ready` and `/health`.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Report {
    /// `ready` or `not_ready`.
    pub status: &'static str,
    /// The process's service name.
    pub service: String,
    /// The process's version.
    pub version: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Every check, in the order in which they were made.
    pub checks: Vec<CheckReport>,
}

/// One check of a [`Report`].
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct CheckReport {
    /// What is checked.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// No checks yet: ready, until `shutdown` is requested.
    pub fn new(service: impl Into<String>, version: impl Into<String>, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            service: service.into(),
            version: version.into(),
            started: Instant::now(),
            shutdown,
            checks: Mutex::default(),
            next: Default::default(),
        }))
    }

    /// A new check that isn't ready, because it is starting.
    pub fn check(&self, name: impl Into<String>) -> Check {
        let key = self.0.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.checks.lock().insert(key, (name.into(), Some("starting".into())));
        Check { health: self.clone(), key }
    }

    /// The state of everything now.
    pub fn report(&self) -> Report {
        let mut checks: Vec<CheckReport> = self
            .0
            .checks
            .lock()
            .values()
            .map(|(name, reason)| CheckReport {
                name: name.clone(),
                ready: reason.is_none(),
                reason: reason.clone(),
            })
            .collect();
        if self.0.shutdown.is_requested() {
            let reason = Some("the process is shutting down".into());
            checks.push(CheckReport { name: "shutdown".into(), ready: false, reason });
        }
        let status = if checks.iter().all(|check| check.ready) { "ready" } else { "not_ready" };
        Report {
            status,
            service: self.0.service.clone(),
            version: self.0.version.clone(),
            uptime_seconds: self.0.started.elapsed().as_secs(),
            checks,
        }
    }

    /// Whether every check is ready and no stop was requested.
    pub fn is_ready(&self) -> bool {
        !self.0.shutdown.is_requested() && self.0.checks.lock().values().all(|(_, reason)| reason.is_none())
    }

    /// `GET /health` (always 200, with the report), `/live` (200 while the process answers),
    /// `/ready` (503 with the reasons unless everything is ready).
    pub fn router(&self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/live", get(live))
            .route("/ready", get(ready))
            .with_state(self.clone())
    }

    fn set(&self, key: u64, reason: Option<String>) {
        if let Some((_, current)) = self.0.checks.lock().get_mut(&key) {
            *current = reason;
        }
    }
}

impl Check {
    /// Ready from now on.
    pub fn ready(&self) {
        self.health.set(self.key, None);
    }

    /// Not ready, and why: a fragment for people, e.g. `"no connection to 127.0.0.1:9092"`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.health.set(self.key, Some(reason.into()));
    }

    /// Takes the check away: what it was about no longer exists, on purpose.
    pub fn retire(self) {
        self.health.0.checks.lock().remove(&self.key);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.health.set(self.key, Some("its task has ended".into()));
    }
}

/// A stranger learns whether it is well, and no more.
type Caller = Option<axum::Extension<Stranger>>;

fn shown(mut report: Report, stranger: &Caller) -> Report {
    if stranger.is_some() {
        report.checks.clear();
    }
    report
}

async fn health(State(health): State<Health>, stranger: Caller) -> Json<Report> {
    Json(shown(health.report(), &stranger))
}

async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

async fn ready(State(health): State<Health>, stranger: Caller) -> Response {
    let report = health.report();
    let status = if report.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(shown(report, &stranger))).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn ready_only_while_every_owner_says_so() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let health = Health::new("vltava", "0.1.0", shutdown.clone());
        assert!(health.is_ready());
        let (a, b) = (health.check("a"), health.check("b"));
        assert!(!health.is_ready());
        a.ready();
        b.ready();
        assert!(health.is_ready());
        b.not_ready("engine away");
        let report = health.report();
        assert_eq!(report.status, "not_ready");
        assert_eq!(report.checks[1].reason.as_deref(), Some("engine away"));
        b.retire();
        assert!(health.is_ready());
        drop(a);
        assert_eq!(health.report().checks[0].reason.as_deref(), Some("its task has ended"));
    }

    #[tokio::test]
    async fn a_stop_makes_it_unready_with_a_503() {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let health = Health::new("vltava", "0.1.0", shutdown.clone());
        assert_eq!(ready(State(health.clone()), None).await.status(), StatusCode::OK);
        shutdown.begin("test");
        let response = ready(State(health.clone()), None).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = async |stranger| {
            let body = ready(State(health.clone()), stranger).await.into_body();
            let bytes = axum::body::to_bytes(body, 1 << 10).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert!(body(None).await.contains("shutting down"));
        let told = body(Some(axum::Extension(Stranger))).await;
        assert!(told.contains("not_ready") && !told.contains("shutting down"), "{told}");
        assert!(!health.is_ready());
    }
}
