//! A set of manifests at once: `POST /api/v1:plan` and `POST /api/v1:apply`.
//!
//! Both take `{manifests, source, prune, takeOwnership, skipBacktest, retryRollout}`; a plan takes `backtests` too. A plan is
//! answered with `{source, changes, problems, orphans, summary}` and 200, also where there are problems. An apply of a set
//! with problems writes nothing: 409 `owned` where nothing but ownership stands against it, else 422 `invalid_manifests`. Else
//! the answer is `{source, complete, results, orphans, summary}`: 200, or 207 where a resource failed or was left.

use auth::Access;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use runtime::http::Problem;
use serde_json::json;
use tokio::sync::SemaphorePermit;

use super::Api;
use super::request::json_up_to;
use crate::plan::{Asked, Outcome};

/// The largest set that is read, in bytes.
const SET_BYTES_MAX: usize = 8 << 20;

type Answer = Result<Response, Problem>;

/// The set, and its turn, which lasts as long as the set is worked on.
async fn asked<'a>(
    api: &'a Api,
    caller: Access,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Option<SemaphorePermit<'a>>, Asked), Problem> {
    // Before the body is read: a set that waits holds nothing. Never closed.
    let turn = api.plans.acquire().await.ok();
    let mut asked: Asked = json_up_to(SET_BYTES_MAX, headers, body, &api.memory).await?;
    asked.caller = Some(caller);
    Ok((turn, asked))
}

pub(super) async fn plan(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (_turn, asked) = asked(&api, caller, &headers, body).await?;
    Ok(Json(api.control.plan(&asked).await?).into_response())
}

pub(super) async fn apply(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (_turn, asked) = asked(&api, caller, &headers, body).await?;
    match api.control.apply(&asked).await? {
        Outcome::Done(applied) => {
            let status = if applied.complete { StatusCode::OK } else { StatusCode::MULTI_STATUS };
            Ok((status, Json(applied)).into_response())
        }
        Outcome::Refused(plan) => {
            let problems = &plan.problems;
            let (status, code) = match problems.iter().all(|problem| problem.code == "owned") {
                true => (StatusCode::CONFLICT, "owned"),
                false => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_manifests"),
            };
            let detail = format!("{} problem(s), nothing was applied", problems.len());
            Err(Problem::new(status, code).detail(detail).with("problems", json!(problems)))
        }
    }
}
