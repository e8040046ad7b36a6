//! Why the control plane didn't do it, and the problem document that each reason is.

use http::StatusCode;
use resources::{Kind, Problems};
use runtime::http::Problem;
use serde_json::{Value, json};

/// When to ask again where as much runs as may, in seconds.
const BUSY_RETRY_S: u64 = 2;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such resource.
    #[error("{kind} {name} doesn't exist")]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The workspace isn't there.
    #[error("workspace {0} doesn't exist: apply a manifest of kind Workspace, or PUT /api/v1/workspaces/{0}")]
    NoWorkspace(String),
    /// `If-Match` or `If-None-Match` doesn't hold.
    #[error("the resource {}", current.map_or("doesn't exist".into(), |r| format!("is at revision {r}")))]
    Precondition {
        /// The revision now.
        current: Option<u64>,
    },
    /// The manifest breaks rules.
    #[error("{0}")]
    Invalid(Problems),
    /// Others name it.
    #[error("{kind} {name} is named by {}", dependants.join(", "))]
    InUse {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// By whom, as `Pipeline enrich`.
        dependants: Vec<String>,
    },
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// As many of these run as may.
    #[error("{0}")]
    Busy(String),
    /// A required backtest came to more than may change or fail.
    #[error("{detail}")]
    Refused {
        /// To how much.
        detail: String,
        /// Its report.
        report: Box<Value>,
    },
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] auth::Denied),
    /// The request says what can't be.
    #[error("{0}")]
    BadRequest(String),
    /// The kind can't be written so.
    #[error("{0}")]
    NotAllowed(String),
    /// The engine didn't do it.
    #[error("the engine failed to {action}: {detail}")]
    Engine {
        /// What it was doing.
        action: String,
        /// What it said.
        detail: String,
    },
    /// The store didn't do it.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A problem document as a part of another.
pub(crate) fn document(problem: &Problem) -> Value {
    serde_json::from_slice(&problem.document()).unwrap_or(Value::Null)
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotFound { kind, name } => Self::new(StatusCode::NOT_FOUND, "resource_not_found")
                .detail(detail)
                .field(kind.as_str().to_lowercase())
                .value(name),
            Error::NoWorkspace(name) => Self::new(StatusCode::NOT_FOUND, "workspace_not_found")
                .detail(detail)
                .field("workspace")
                .value(name),
            Error::Precondition { current } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "revision_conflict")
                    .detail(format!("{detail}: read it again, and send its ETag as If-Match"))
                    .with("revision", current.map_or(Value::Null, |r| json!(r)))
            }
            Error::Invalid(problems) => {
                let first = problems.iter().next();
                let detail = match (first, problems.len()) {
                    (Some(first), 1) => first.to_string(),
                    (Some(first), n) => format!("{first} (and {} more problems)", n - 1),
                    (None, _) => "the request is invalid".into(),
                };
                let pointer = first.map(|problem| problem.pointer.clone()).unwrap_or_default();
                let list: Vec<_> = problems.into_iter().collect();
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_resource")
                    .detail(detail)
                    .field(pointer)
                    .with("problems", json!(list))
            }
            Error::InUse { dependants, .. } => Self::new(StatusCode::CONFLICT, "resource_in_use")
                .detail(detail)
                .with("dependants", json!(dependants)),
            Error::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict").detail(detail),
            Error::Refused { detail: _, report } => {
                Self::new(StatusCode::CONFLICT, "backtest_refused").detail(detail).with("report", *report)
            }
            Error::Busy(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "busy").detail(detail).retry_after(BUSY_RETRY_S)
            }
            Error::Denied(denied) => denied.into(),
            Error::BadRequest(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_request").detail(detail),
            Error::NotAllowed(_) => {
                Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").detail(detail)
            }
            Error::Engine { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable").detail(detail).retry_after(1)
            }
            Error::Store(store::Error::TooLarge { bytes }) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "resource_too_large").detail(detail).value(bytes)
            }
            Error::Store(store::Error::Conflict { .. }) => {
                Self::new(StatusCode::CONFLICT, "revision_conflict")
                    .detail("somebody else changed the resource at the same time: try again")
                    .retry_after(1)
            }
            Error::Store(error) => {
                // The cause (a path, an errno) is for who runs the process.
                tracing::error!(error = runtime::shutdown::chain(&error), "the store failed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable")
                    .detail("the store failed; the process's log says why")
                    .retry_after(1)
            }
        }
    }
}
