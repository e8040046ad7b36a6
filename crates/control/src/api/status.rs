//! `GET /api/v1/status`: every pipeline and connector, what it does and why.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;

pub(super) async fn status(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "installation": api.control.store.installation(),
        "stages": api.control.stages(),
        "reconciler": api.control.seen.reconciler(),
    }))
}
