//! `POST /oauth/token` (RFC 6749, 4.4: client credentials), and the keys that others check tokens by.
//!
//! The body is a form: `grant_type=client_credentials`, and at will `scope`, `topics`, `workspaces` (each with spaces between
//! its parts), which may narrow what the client has. The client and its secret stand in `Authorization: Basic` or in the form
//! (`client_id`, `client_secret`), not in both. Errors are those of RFC 6749, 5.2; 429 with `Retry-After` after too many failures.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runtime::http::{BodyLimits, BodyMemory, Peer, Problem, read_body};
use serde_json::json;
use types::Scope;

use crate::access::Access;
use crate::authorizer::{Authorizer, IssueError, Issued, TokenRequest};

/// Where tokens are given.
pub const TOKEN_PATH: &str = "/oauth/token";

/// Where keys are published.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The largest form, in bytes.
const FORM_BYTES_MAX: usize = 16 << 10;

/// What all forms together may hold, in bytes.
const FORMS_BYTES_MAX: usize = 1 << 20;

/// Fields of a form.
const FIELDS_MAX: usize = 16;

#[derive(Clone)]
struct Endpoint {
    authorizer: Arc<Authorizer>,
    memory: BodyMemory,
}

/// The authorizer's routes. A gate must let strangers through to them.
pub fn router(authorizer: Arc<Authorizer>) -> Router {
    let endpoint = Endpoint { authorizer, memory: BodyMemory::new(FORMS_BYTES_MAX) };
    Router::new().route(TOKEN_PATH, post(token)).route(JWKS_PATH, get(jwks)).with_state(endpoint)
}

/// The routes, for callers only that have the scope and the whole installation.
pub fn for_installation(router: Router, scope: Scope) -> Router {
    router.route_layer(middleware::from_fn_with_state(scope, only_installation))
}

async fn only_installation(State(scope): State<Scope>, request: Request, next: Next) -> Response {
    let allowed = Access::from_extensions(request.extensions())
        .and_then(|access| access.scope(scope).and_then(|()| access.installation()));
    match allowed {
        Ok(()) => next.run(request).await,
        Err(denied) => Problem::from(denied).into_response(),
    }
}

async fn jwks(State(endpoint): State<Endpoint>) -> Response {
    let jwks = endpoint.authorizer.keys().jwks(endpoint.authorizer.now());
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(jwks)).into_response()
}

/// An answer as RFC 6749, 5.2 wants it.
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_after_s: Option<u64>,
    /// Whether the client came by `Authorization`.
    is_challenged: bool,
}

impl Refusal {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        let status =
            if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        Self { status, error, description: description.into(), retry_after_s: None, is_challenged: false }
    }

    fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, error, description, retry_after_s, is_challenged } = self;
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if is_challenged {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"vltava\""));
        }
        response
    }
}

async fn token(
    State(endpoint): State<Endpoint>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Without a listener around it there is no peer: a test.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(Peer(address))| address);
    match give(&endpoint, peer, &headers, body).await {
        Ok(issued) => {
            let Issued { token, lifetime_s, grant } = issued;
            let answer = json!({
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": lifetime_s,
                "scope": grant.scopes.to_string(),
                "topics": grant.topics,
                "workspaces": grant.workspaces,
            });
            ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn give(endpoint: &Endpoint, peer: IpAddr, headers: &HeaderMap, body: Body) -> Result<Issued, Refusal> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        runtime::http::discard(headers, body).await;
        return Err(Refusal::request("the body must be application/x-www-form-urlencoded"));
    }
    let limits = BodyLimits { bytes_max: FORM_BYTES_MAX };
    let held = read_body(headers, body, limits, &endpoint.memory).await.map_err(|error| {
        let problem = Problem::from(error);
        Refusal {
            status: problem.status(),
            ..Refusal::request("the form can't be read: it is too long, too slow, or broken off")
        }
    })?;
    let form = form(&held.bytes)?;
    let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let basic = basic(headers)?;
    let by_header = basic.is_some();
    let (client_id, secret) = match (&basic, field("client_id"), field("client_secret")) {
        (Some((id, secret)), named, None) if named.is_none_or(|named| named == id) => (&**id, &**secret),
        (Some(_), ..) => {
            return Err(Refusal::request("the client stands in the Authorization header and in the form"));
        }
        (None, Some(id), Some(secret)) => (id, secret),
        (None, ..) => {
            let refusal = Refusal::new(
                "invalid_client",
                "who asks for a token? Send client_id and client_secret in the form, or by Authorization: Basic",
            );
            return Err(Refusal { is_challenged: true, ..refusal });
        }
    };
    match field("grant_type") {
        Some("client_credentials") => {}
        None => return Err(Refusal::request("grant_type is missing: it must be client_credentials")),
        Some(_) => {
            return Err(Refusal::new("unsupported_grant_type", "grant_type must be client_credentials"));
        }
    }
    let request = TokenRequest {
        client_id,
        secret,
        scope: field("scope"),
        topics: field("topics"),
        workspaces: field("workspaces"),
        peer,
    };
    endpoint.authorizer.issue(&request).map_err(|error| {
        let description = error.to_string();
        match error {
            IssueError::InvalidClient => {
                Refusal { is_challenged: by_header, ..Refusal::new("invalid_client", description) }
            }
            IssueError::InvalidScope(_) => Refusal::new("invalid_scope", description),
            IssueError::Throttled { retry_after_s } => Refusal {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after_s: Some(retry_after_s),
                ..Refusal::request(description)
            },
            IssueError::Keys(_) => Refusal {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                ..Refusal::new("server_error", description)
            },
        }
    })
}

/// A value as it stands in a form.
pub fn form_encoded(value: &str) -> String {
    form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// RFC 6749, 3.2: no field twice.
fn form(bytes: &[u8]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut form = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        if form.len() == FIELDS_MAX {
            return Err(Refusal::request(format!("the form has more than {FIELDS_MAX} fields")));
        }
        if form.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            let name: String = name.chars().take(40).collect();
            return Err(Refusal::request(format!("{name} is given twice")));
        }
    }
    Ok(form)
}

/// The client and its secret by RFC 7617; both are form-encoded before (RFC 6749, 2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let mut read = || {
        let text = value.to_str().ok().filter(|_| values.next().is_none())?;
        let (scheme, encoded) = text.split_once(' ')?;
        let decoded = STANDARD.decode(encoded.trim_matches(' ')).ok()?;
        let decoded = String::from_utf8(decoded).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let (id, secret) = decoded.split_once(':')?;
        let plain = |text: &str| {
            let (name, _) = form_urlencoded::parse(text.as_bytes()).next().unwrap_or_default();
            name.into_owned()
        };
        Some((plain(id), plain(secret)))
    };
    read().map(Some).ok_or_else(|| {
        let refusal =
            Refusal::new("invalid_client", "the Authorization header must be \"Basic\", given once");
        Refusal { is_challenged: true, ..refusal }
    })
}

#[cfg(test)]
mod tests;
