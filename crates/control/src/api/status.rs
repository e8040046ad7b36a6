//! `GET /api/v1/status`: every pipeline and connector of the caller's workspaces, what it does and why.

use auth::Access;
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Api;

pub(super) async fn status(State(api): State<Api>, Extension(caller): Extension<Access>) -> Json<Value> {
    let mut stages = api.control.stages();
    stages.retain(|stage| caller.workspace(&stage.workspace).is_ok());
    // Its errors name topics of everybody.
    let reconciler = caller.installation().is_ok().then(|| api.control.seen.reconciler());
    Json(json!({
        "installation": api.control.store.installation(),
        "stages": stages,
        "reconciler": reconciler,
    }))
}
