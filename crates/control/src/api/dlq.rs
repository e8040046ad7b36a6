//! Dead letters: what lies in a DLQ, and giving it back.
//!
//! `GET .../dlq/{topic}` counts by stage and reason; `.../letters` lists the latest, `.../letters/{partition}/{offset}`
//! shows one. `POST .../dlq/{topic}/redrive` plans a run and begins it; its body is
//! `{selection: {stage, reason, ids, since, until, key, header, where, limit}, repair: {value, headers}, rate, dryRun,
//! action: {kind: redrive | redriveToOrigin | redriveTo, topic | discard}}`, its answer `{plan, run, readers, samples}`: `readers`
//! are the groups that read where letters go, where that isn't their stage's own topic; `samples`, of a dry run, are the
//! first letters as they would be sent, and what a pipeline's version in force would make of them. How far the run is says
//! `GET .../redrives/{run}` (`status.state`, `status.progress`); `POST .../redrives/{run}:pause`, `:resume` and `:cancel`.

use auth::Access;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use deadletter::{Action, Letter, LetterId, Predicate, Repair, Selection};
use http::{HeaderMap, StatusCode, header};
use runtime::http::Problem;
use serde::Deserialize;
use serde_json::{Value, json};
use types::{Headers, TopicName, TopicPartition};

use super::Api;
use super::request::json_as;
use crate::excerpt::shown;
use crate::redrive::{Begun, Spec};
use crate::rehearse::Rehearsed;

/// Letters of one answer.
const LETTERS_MAX: u64 = 100;

/// Letters, unless the request says otherwise.
const LETTERS_DEFAULT: u64 = 20;

/// Of a value in a list, so many bytes are shown.
const SHOWN_BYTES_MAX: usize = 16 << 10;

type Answer = Result<Response, Problem>;

/// Of the letters that are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Wanted {
    stage: Option<String>,
    reason: Option<String>,
    key: Option<String>,
    /// `NAME=VALUE`.
    header: Option<String>,
    /// An expression.
    r#where: Option<String>,
    since: Option<jiff::Timestamp>,
    until: Option<jiff::Timestamp>,
    limit: Option<u64>,
    /// Settled ones too.
    settled: bool,
}

impl Wanted {
    fn selection(self) -> Result<Selection, Problem> {
        let Self { stage, reason, key, header, r#where, since, until, limit, settled: _ } = self;
        let limit = limit.unwrap_or(LETTERS_DEFAULT);
        if !(1..=LETTERS_MAX).contains(&limit) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "limit_invalid")
                .detail(format!("limit must be from 1 to {LETTERS_MAX}"))
                .field("limit")
                .value(limit));
        }
        let refuse = |field: &'static str, detail: String, value: &str| {
            Problem::new(StatusCode::BAD_REQUEST, "selection_invalid")
                .detail(detail)
                .field(field)
                .value(value)
        };
        let header = header
            .map(|text| match text.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(refuse("header", "header is NAME=VALUE".into(), &text)),
            })
            .transpose()?;
        let predicate = r#where
            .map(|text| Predicate::try_from(text.clone()).map_err(|e| refuse("where", e.to_string(), &text)))
            .transpose()?;
        let (ids, limit) = (Default::default(), Some(limit));
        Ok(Selection { stage, reason, ids, since, until, key, header, predicate, limit })
    }
}

/// A redrive that is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Asked {
    selection: Selection,
    repair: Repair,
    rate: Option<u32>,
    dry_run: bool,
    action: Action,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            repair: Repair::default(),
            rate: None,
            dry_run: false,
            action: Action::Redrive,
        }
    }
}

fn topic(name: &str) -> Result<TopicName, Problem> {
    TopicName::for_caller(name).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "topic_name_invalid")
            .detail(error.to_string())
            .field("topic")
            .value(name)
    })
}

fn letter_value(letter: &Letter, settled: bool, bytes_max: usize) -> Value {
    let headers: Vec<Value> = letter
        .record
        .headers
        .iter()
        .map(|header| json!([&*header.name, shown(header.value.as_ref(), bytes_max)]))
        .collect();
    let origin = letter.origin.as_ref().map(
        |origin| json!({ "topic": origin.topic, "partition": origin.partition, "offset": origin.offset }),
    );
    json!({
        "id": letter.id(),
        "settled": settled,
        "stage": letter.stage_text,
        "reason": letter.reason,
        "message": letter.message,
        "attempts": letter.attempts,
        "at": letter.at(),
        "eventId": letter.event_id(),
        "origin": origin,
        "redriveCount": letter.redrive_count,
        "key": shown(letter.record.key.as_ref(), bytes_max),
        "value": shown(letter.record.value.as_ref(), bytes_max),
        "headers": headers,
    })
}

fn rehearsed_value(rehearsed: &Rehearsed) -> Value {
    let Rehearsed { sample, made } = rehearsed;
    let mut value = json!({ "letter": letter_value(&sample.letter, false, SHOWN_BYTES_MAX) });
    match &sample.sent {
        Ok(Some(sent)) => {
            let headers = sent.headers.iter().filter(|header| !Headers::is_reserved(&header.name));
            let headers: Vec<Value> =
                headers.map(|h| json!([&*h.name, shown(h.value.as_ref(), SHOWN_BYTES_MAX)])).collect();
            value["sent"] = json!({
                "key": shown(sent.key.as_ref(), SHOWN_BYTES_MAX),
                "value": shown(sent.value.as_ref(), SHOWN_BYTES_MAX),
                "headers": headers,
            });
        }
        Ok(None) => {}
        Err(why) => value["stays"] = json!(why),
    }
    if let Some(made) = made {
        value["made"] = json!(made);
    }
    value
}

async fn turn(api: &Api) -> Option<tokio::sync::SemaphorePermit<'_>> {
    // Never closed.
    api.scans.acquire().await.ok()
}

pub(super) async fn summary(
    State(api): State<Api>,
    Path((workspace, name)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let _turn = turn(&api).await;
    let summary = api.control.letters_by_stage(&workspace, &topic(&name)?, &wanted.selection()?).await?;
    Ok(Json(summary).into_response())
}

pub(super) async fn letters(
    State(api): State<Api>,
    Path((workspace, name)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let _turn = turn(&api).await;
    let with_settled = wanted.settled;
    let listing = api.control.letters(&workspace, &topic(&name)?, &wanted.selection()?, with_settled).await?;
    let items: Vec<Value> = listing
        .letters
        .iter()
        .map(|(letter, settled)| letter_value(letter, *settled, SHOWN_BYTES_MAX))
        .collect();
    Ok(Json(json!({ "items": items, "matched": listing.matched, "hidden": listing.hidden })).into_response())
}

pub(super) async fn letter(
    State(api): State<Api>,
    Path((workspace, name, partition, offset)): Path<(String, String, i32, i64)>,
) -> Answer {
    let id = LetterId { tp: TopicPartition::new(topic(&name)?, partition), offset };
    let (letter, settled) = api.control.letter(&workspace, &id).await?;
    Ok(Json(letter_value(&letter, settled, usize::MAX)).into_response())
}

pub(super) async fn redrive(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    Path((workspace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Asked { selection, repair, rate, dry_run, action } = json_as(&headers, body, &api.memory).await?;
    if let Action::RedriveTo { topic } = &action {
        caller.topic(topic)?;
    }
    let spec = Spec { topic: topic(&name)?, action, selection, repair, rate };
    let _turn = turn(&api).await;
    let Begun { plan, readers, run, samples } = api.control.redrive(&workspace, spec, dry_run).await?;
    let samples: Vec<Value> = samples.iter().map(rehearsed_value).collect();
    let answer = json!({ "plan": plan, "run": run, "readers": readers, "samples": samples });
    Ok(match run {
        None => Json(answer).into_response(),
        Some(run) => {
            let location = format!("/api/v1/workspaces/{workspace}/redrives/{run}");
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(answer)).into_response()
        }
    })
}
