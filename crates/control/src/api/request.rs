//! Reading requests: bodies, preconditions, names in paths.

use auth::Access;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use resources::Kind;
use runtime::http::{BodyLimits, BodyMemory, Problem, read_body};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Key;

use crate::clients::client_key;
use crate::{Precondition, Rollout, Write};

/// The largest manifest that is read, in bytes.
const BODY_BYTES_MAX: usize = 2 << 20;

/// Items of a list, unless the request says otherwise.
const LIST_DEFAULT: usize = 100;

/// The most that it may say.
const LIST_MAX: usize = 500;

/// Of PUT and DELETE.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Change {
    pub(super) dry_run: bool,
    /// Of PUT and PATCH of pipelines.
    pub(super) skip_backtest: bool,
    /// Of PUT and PATCH of pipelines.
    pub(super) retry_rollout: bool,
    /// Of DELETE.
    pub(super) cascade: Option<Cascade>,
}

impl Change {
    pub(super) fn write(&self, caller: Access) -> Write {
        let Self { dry_run, skip_backtest, retry_rollout, cascade: _ } = *self;
        let rollout = if retry_rollout { Rollout::Retry } else { Rollout::Forward };
        Write { dry_run, skip_backtest, rollout, source: None, caller: Some(caller) }
    }
}

/// What becomes of those that name what is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Cascade {
    /// It is said which they are, and nothing is deleted.
    Plan,
}

/// Of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Page {
    limit: Option<usize>,
    /// What the page before said in `nextCursor`.
    pub(super) cursor: Option<String>,
}

impl Page {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        match self.limit {
            None => Ok(LIST_DEFAULT),
            Some(limit) if (1..=LIST_MAX).contains(&limit) => Ok(limit),
            Some(limit) => Err(Problem::new(StatusCode::BAD_REQUEST, "limit_invalid")
                .detail(format!("limit must be from 1 to {LIST_MAX}"))
                .field("limit")
                .value(limit)),
        }
    }
}

/// The kind that a path's segment names.
pub(super) fn kind(segment: &str) -> Result<Kind, Problem> {
    // Those are in no workspace, and have paths and permissions of their own.
    let is_inside = |kind: &Kind| !matches!(kind, Kind::Workspace | Kind::Client);
    Kind::from_plural(segment).filter(is_inside).ok_or_else(|| {
        let known: Vec<&str> =
            Kind::ALL.iter().filter(|kind| is_inside(kind)).map(|kind| kind.plural()).collect();
        Problem::new(StatusCode::NOT_FOUND, "unknown_kind")
            .detail(format!("there are no {segment:?}; kinds are {}", known.join(", ")))
            .field("kind")
            .value(segment)
    })
}

/// The resource that a path names: by `{workspace}`, `{kind}` and `{name}`; a workspace by `{workspace}` alone, a client by
/// `{name}` alone. The rules of names are checked where one is written.
pub(super) struct Named(pub(super) Key);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path =
            RawPathParams::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let of = |name: &str| path.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        let name = of("name").unwrap_or_default();
        let key = match (of("workspace"), of("kind")) {
            (Some(workspace), Some(segment)) => kind(segment).map(|kind| Key::new(workspace, kind, name)),
            (Some(workspace), None) => Ok(Key::new(workspace, Kind::Workspace, workspace)),
            (None, _) => Ok(client_key(name)),
        };
        key.map(Self).map_err(Problem::into_response)
    }
}

/// A JSON body, whatever it says.
pub(super) async fn json(headers: &HeaderMap, body: Body, memory: &BodyMemory) -> Result<Value, Problem> {
    json_as(headers, body, memory).await
}

/// A JSON body of this shape.
pub(super) async fn json_as<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    memory: &BodyMemory,
) -> Result<T, Problem> {
    json_up_to(BODY_BYTES_MAX, headers, body, memory).await
}

/// The same of at most so many bytes.
pub(super) async fn json_up_to<T: DeserializeOwned>(
    bytes_max: usize,
    headers: &HeaderMap,
    body: Body,
    memory: &BodyMemory,
) -> Result<T, Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !is_json {
        // What is still being sent is read, so that the sender gets to see the answer.
        runtime::http::discard(headers, body).await;
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            .detail("the body must be application/json; `vltava apply` turns YAML into it")
            .field("content-type")
            .value(media_type));
    }
    let held = read_body(headers, body, BodyLimits { bytes_max }, memory).await?;
    serde_json::from_slice(&held.bytes).map_err(|error| {
        if error.is_data() {
            return Problem::new(StatusCode::BAD_REQUEST, "invalid_request")
                .detail(format!("the body isn't as it must be: {error}"))
                .field("body");
        }
        Problem::new(StatusCode::BAD_REQUEST, "invalid_json")
            .detail(format!("the body is no JSON: {error}"))
            .field("body")
            .with("line", error.line())
            .with("column", error.column())
    })
}

/// What a path's last segment says: a name, and behind a colon what is asked of it.
pub(super) fn name_and_verb(segment: &str) -> (String, Option<&str>) {
    match segment.rsplit_once(':') {
        Some((name, verb)) => (name.to_owned(), Some(verb)),
        None => (segment.to_owned(), None),
    }
}

/// The request's precondition. At most one of `If-Match` and `If-None-Match` is taken.
pub(super) fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let one = |name: header::HeaderName| {
        let mut values = headers.get_all(&name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or("?").trim().to_owned());
        if values.next().is_some() { Some("?".to_owned()) } else { value }
    };
    let invalid = |field: &'static str, value: String, detail: &'static str| {
        Problem::new(StatusCode::BAD_REQUEST, "precondition_invalid").detail(detail).field(field).value(value)
    };
    match (one(header::IF_MATCH), one(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::None),
        (Some(value), Some(_)) => {
            Err(invalid("if-match", value, "If-Match and If-None-Match together mean nothing here"))
        }
        (Some(value), None) if value == "*" => Ok(Precondition::Exists),
        (Some(value), None) => {
            let revision = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            match revision.and_then(|revision| revision.parse().ok()) {
                Some(revision) => Ok(Precondition::Revision(revision)),
                None => {
                    Err(invalid("if-match", value, "must be * or one ETag as it was given, such as \"42\""))
                }
            }
        }
        (None, Some(value)) if value == "*" => Ok(Precondition::Absent),
        (None, Some(value)) => Err(invalid("if-none-match", value, "must be *")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, values: &[&'static str]) -> Result<Precondition, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, header::HeaderValue::from_static(value));
        }
        precondition(&headers)
    }

    #[test]
    fn preconditions_are_read() {
        assert_eq!(of("if-match", &[]), Ok(Precondition::None));
        assert_eq!(of("if-match", &["*"]), Ok(Precondition::Exists));
        assert_eq!(of("if-match", &["\"7\""]), Ok(Precondition::Revision(7)));
        assert_eq!(of("if-none-match", &["*"]), Ok(Precondition::Absent));
        for bad in ["7", "W/\"7\"", "\"x\"", "\"7\", \"8\"", "\"", ""] {
            assert_eq!(of("if-match", &[bad]).unwrap_err().code(), "precondition_invalid", "{bad}");
        }
        assert!(of("if-match", &["\"7\"", "\"8\""]).is_err());
        assert!(of("if-none-match", &["\"7\""]).is_err());
    }
}
