//! What is asked of a resource besides what it is to be: `POST .../{kind}/{name}:{verb}`.
//!
//! Pipelines and connectors: `pause`, `resume`, `restart`, and for connectors `stop`; the answer is the resource.
//! `resetOffsets` moves where they read on (`{to | shift, topics}`, `?dryRun=true`), while they are paused. Transforms:
//! `evaluate` tries an expression or a version on a sample; the transform needn't exist where the expression is given.
//! Redrives: `pause`, `resume`, `cancel`. Pipelines: `backtest`, see [`backtest`]; `rollBack` (`{generation, reason}`, or nothing) gives the
//! steps the versions of an earlier generation.

use auth::Access;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, header};
use resources::Kind;
use runtime::Shutdown;
use runtime::http::Problem;
use serde_json::json;
use store::Key;

use super::request::{self, Change, json_as, kind, name_and_verb, precondition};
use super::resources::one;
use super::{Api, backtest};
use crate::redrive::AskedOfRun;
use crate::{Action, Evaluate, Reset, RollBack};

pub(super) async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    Path((workspace, segment, name)): Path<(String, String, String)>,
    Query(change): Query<Change>,
    stop: Option<Extension<Shutdown>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = kind(&segment)?;
    let (name, verb) = name_and_verb(&name);
    let key = Key { workspace, kind, name };
    match verb {
        Some("evaluate") if kind == Kind::Transform => {
            let asked: Evaluate = json_as(&headers, body, &api.memory).await?;
            Ok(Json(api.control.evaluate(&key, asked).await?).into_response())
        }
        Some("backtest") if kind == Kind::Pipeline => {
            // It shows what is in them.
            api.control.may_see_topics(&key, &caller).await?;
            let asked = request::json(&headers, body, &api.memory).await?;
            let begun = api.control.backtest(&key.workspace, &key.name, &asked).await?;
            Ok(backtest::answer(begun, stop.map(|Extension(stop)| stop)))
        }
        Some("rollBack") if kind == Kind::Pipeline => {
            let asked = match headers.contains_key(header::CONTENT_TYPE) {
                true => json_as(&headers, body, &api.memory).await?,
                false => RollBack::default(),
            };
            let put = api.control.roll_back(&key, asked, precondition(&headers)?).await?;
            Ok(one(&put.resource))
        }
        Some("resetOffsets") => {
            let asked: Reset = json_as(&headers, body, &api.memory).await?;
            let moved = api.control.reset_offsets(&key, &asked, change.dry_run).await?;
            Ok(Json(json!({ "dryRun": change.dry_run, "partitions": moved })).into_response())
        }
        Some(verb)
            if kind == Kind::Redrive
                && let Some(asked) = AskedOfRun::parse(verb) =>
        {
            Ok(one(&api.control.ask_run(&key, asked).await?))
        }
        Some(verb)
            if kind != Kind::Redrive
                && let Some(action) = Action::parse(verb) =>
        {
            Ok(one(&api.control.act(&key, action, precondition(&headers)?).await?))
        }
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "unknown_verb")
            .detail(format!(
                "POST asks something of a {kind}, as in {}:pause; there are {}",
                key.name,
                verbs(kind)
            ))
            .field("name")
            .value(verb.unwrap_or_default())),
    }
}

fn verbs(kind: Kind) -> &'static str {
    match kind {
        Kind::Pipeline => "pause, resume, restart, resetOffsets, rollBack and backtest",
        Kind::Connector => "pause, resume, stop, restart and resetOffsets",
        Kind::Transform => "evaluate",
        Kind::Redrive => "pause, resume and cancel",
        Kind::Client => "rotateSecret, revoke, disable and enable",
        Kind::Workspace | Kind::Topic => "none for it",
    }
}
