//! Clients: their list, and what is asked of them, `POST /api/v1/clients/{name}:{verb}`. The rest is as with all resources.
//!
//! `rotateSecret` (`{previousValidSeconds}`, or nothing: a day) answers `{clientId, clientSecret, client}`; the secret is shown this
//! once. `revoke` ends all secrets and tokens at once; `disable` and `enable` do what they say.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use resources::Kind;
use runtime::http::Problem;
use serde_json::json;

use super::Api;
use super::request::{Page, json_as, name_and_verb};
use super::resources::{many, one};
use crate::AskedOfClient;
use crate::clients::Rotation;

type Answer = Result<Response, Problem>;

pub(super) async fn list(State(api): State<Api>, Query(page): Query<Page>) -> Answer {
    let listed = api.control.list(Some(""), Kind::Client, page.cursor.as_deref(), page.limit()?).await?;
    Ok(many(&listed))
}

pub(super) async fn ask(
    State(api): State<Api>,
    Path(segment): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let (name, verb) = name_and_verb(&segment);
    let asked = match verb {
        Some("rotateSecret") => match headers.contains_key(header::CONTENT_TYPE) {
            true => json_as::<Rotation>(&headers, body, &api.memory).await?.asked()?,
            false => Rotation::default().asked()?,
        },
        Some("revoke") => AskedOfClient::Revoke,
        Some("disable") => AskedOfClient::Disable,
        Some("enable") => AskedOfClient::Enable,
        verb => {
            return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_verb")
                .detail(format!(
                    "POST asks something of a Client, as in {name}:rotateSecret; there are rotateSecret, revoke, disable \
                     and enable"
                ))
                .field("name")
                .value(verb.unwrap_or_default()));
        }
    };
    let (client, secret) = api.control.ask_client(&name, asked).await?;
    let Some(secret) = secret else { return Ok(one(&client)) };
    let answer = json!({ "clientId": name, "clientSecret": secret.reveal(), "client": client });
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
