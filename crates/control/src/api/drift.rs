//! What somebody changed in the engine: `GET .../{workspace}/drift`, and `GET .../topics/{topic}/drift` of one topic.
//!
//! Both are answered with `{items, leftOut, lookedAt, error}`; an item is `{topic, state, drift, reverted}`.

use axum::Json;
use axum::extract::{Path, State};
use runtime::http::Problem;

use super::Api;
use crate::drift::Drifts;

pub(super) async fn all(
    State(api): State<Api>,
    Path(workspace): Path<String>,
) -> Result<Json<Drifts>, Problem> {
    Ok(Json(api.control.drifts(&workspace).await?))
}

pub(super) async fn one(
    State(api): State<Api>,
    Path((workspace, name)): Path<(String, String)>,
) -> Result<Json<Drifts>, Problem> {
    Ok(Json(api.control.drift(&workspace, &name).await?))
}
