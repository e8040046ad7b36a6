//! Resources: get, list, put, delete, and the versions of a transform.

use auth::Access;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use resources::{Kind, Resource};
use runtime::http::Problem;
use serde_json::{Value, json};
use store::Key;

use super::Api;
use super::request::{Cascade, Change, Named, Page, json as json_body, kind, precondition};
use crate::{Listed, Put};

/// Says what a PUT did.
const X_CHANGE: &str = "x-vltava-change";

/// What the caller should know though it is no error; once a warning.
const X_WARNING: &str = "x-vltava-warning";

type Answer = Result<Response, Problem>;

fn etag(resource: &Resource) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", resource.metadata.revision))
        .expect("digits and quotes are a header's value")
}

pub(super) fn one(resource: &Resource) -> Response {
    ([(header::ETAG, etag(resource))], Json(resource)).into_response()
}

pub(super) fn many(listed: &Listed) -> Response {
    let Listed { items, next } = listed;
    Json(json!({ "items": items, "nextCursor": next })).into_response()
}

fn done(put: &Put) -> Response {
    let Put { resource, change, warnings } = put;
    let status = if *change == crate::Change::Created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, Json(resource)).into_response();
    let headers = response.headers_mut();
    // Revision 0 is a dry run's: there is nothing yet that a precondition could name.
    if resource.metadata.revision > 0 {
        headers.insert(header::ETAG, etag(resource));
    }
    headers.insert(X_CHANGE, HeaderValue::from_static(change.as_str()));
    for warning in warnings {
        // Names are ASCII by the rules of resources, so that this holds.
        if let Ok(value) = HeaderValue::from_str(warning) {
            headers.append(X_WARNING, value);
        }
    }
    response
}

pub(super) async fn get(State(api): State<Api>, Named(key): Named) -> Answer {
    Ok(one(&api.control.get(&key).await?))
}

pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    Named(key): Named,
    Query(change): Query<Change>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let precondition = precondition(&headers)?;
    let manifest: Value = json_body(&headers, body, &api.memory).await?;
    if key.kind == Kind::Redrive {
        let why = "a Redrive is a run: POST .../dlq/{topic}/redrive begins one";
        return Err(crate::Error::NotAllowed(why.into()).into());
    }
    Ok(done(&api.control.put(&key, &manifest, precondition, change.write(caller)).await?))
}

pub(super) async fn patch(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    Named(key): Named,
    Query(change): Query<Change>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let precondition = precondition(&headers)?;
    let patch: Value = json_body(&headers, body, &api.memory).await?;
    if key.kind == Kind::Redrive {
        return Err(crate::Error::NotAllowed("a Redrive is a run: it can't be changed".into()).into());
    }
    Ok(done(&api.control.patch(&key, &patch, precondition, change.write(caller)).await?))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Named(key): Named,
    Query(change): Query<Change>,
    headers: HeaderMap,
) -> Answer {
    if change.cascade == Some(Cascade::Plan) {
        let items: Vec<Value> = api
            .control
            .cascade(&key)
            .await?
            .iter()
            .map(|going| json!({ "kind": going.kind, "workspace": going.metadata.workspace, "name": going.metadata.name }))
            .collect();
        return Ok(Json(json!({ "items": items })).into_response());
    }
    api.control.delete(&key, precondition(&headers)?, change.dry_run).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn workspaces(
    State(api): State<Api>,
    Extension(caller): Extension<Access>,
    Query(page): Query<Page>,
) -> Answer {
    if caller.installation().is_ok() {
        let listed = api.control.list(None, Kind::Workspace, page.cursor.as_deref(), page.limit()?).await?;
        return Ok(many(&listed));
    }
    // A few, and so all at once: a cursor would name those of others.
    let mut items = api.control.all(None, Some(Kind::Workspace)).await?;
    items.retain(|workspace| caller.workspace(&workspace.metadata.name).is_ok());
    Ok(many(&Listed { items, next: None }))
}

pub(super) async fn list(
    State(api): State<Api>,
    Path((workspace, segment)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Answer {
    let kind = kind(&segment)?;
    let listed = api.control.list(Some(&workspace), kind, page.cursor.as_deref(), page.limit()?).await?;
    Ok(many(&listed))
}

pub(super) async fn versions(
    State(api): State<Api>,
    Path((workspace, name)): Path<(String, String)>,
    Query(page): Query<Page>,
) -> Answer {
    let key = Key { workspace, kind: Kind::Transform, name };
    let versions = api.control.versions(&key, page.limit()?).await?;
    Ok(Json(json!({ "items": versions })).into_response())
}

pub(super) async fn version(
    State(api): State<Api>,
    Path((workspace, name, version)): Path<(String, String, u32)>,
) -> Answer {
    let key = Key { workspace, kind: Kind::Transform, name };
    Ok(Json(api.control.version(&key, version).await?).into_response())
}

/// Of a diff.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct With {
    with: u32,
}

pub(super) async fn version_diff(
    State(api): State<Api>,
    Path((workspace, name, version)): Path<(String, String, u32)>,
    Query(With { with }): Query<With>,
) -> Answer {
    let key = Key { workspace, kind: Kind::Transform, name };
    let diff = api.control.version_diff(&key, version, with).await?;
    Ok(Json(json!({ "from": version, "to": with, "diff": diff })).into_response())
}
