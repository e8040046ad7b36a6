//! The listener's gate: who a request's bearer is, found out before anything else looks at the request.
//!
//! Invariants: a token that is shown is checked, also where none is needed: a wrong one is never taken for none. No token is
//! taken from a URL, where logs and histories keep it.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runtime::http::{Gate, Problem, Stranger, guard};

use crate::access::{Access, Denied};
use crate::{Authorizer, TokenError, metrics};

/// What strangers may ask for: a token, the keys to check tokens by, and whether the process is well.
const OPEN_PATHS: [&str; 5] = [crate::http::TOKEN_PATH, crate::http::JWKS_PATH, "/health", "/live", "/ready"];

/// Who is served without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// A local program. For listeners on loopback only.
    OfOthers,
    /// Nobody.
    OfAll,
}

/// The gate of a listener.
#[derive(Debug, Clone)]
pub struct TokenGate {
    authorizer: Arc<Authorizer>,
    demand: Demand,
}

impl TokenGate {
    /// Checks tokens by this authorizer.
    pub fn new(authorizer: Arc<Authorizer>, demand: Demand) -> Self {
        Self { authorizer, demand }
    }
}

impl Gate for TokenGate {
    fn admit(&self, head: &mut Parts) -> Result<(), Problem> {
        match self.demand {
            Demand::OfOthers => guard::check(&head.method, &head.uri, &head.headers)?,
            Demand::OfAll => guard::check_page(&head.method, &head.headers)?,
        }
        if head.uri.query().is_some_and(has_token) {
            return Err(refused("token_in_url", StatusCode::BAD_REQUEST, "invalid_request")
                .detail("a token in a URL ends up in logs: send it as \"Authorization: Bearer TOKEN\"")
                .field("query"));
        }
        let is_open = OPEN_PATHS.contains(&head.uri.path());
        // There the header has the client's own secret, which its handler reads.
        let shown = if head.uri.path() == crate::http::TOKEN_PATH { Ok(None) } else { bearer(&head.headers) };
        let access = match (shown?, self.demand) {
            (Some(token), _) => self.authorizer.authenticate(token).map_err(of_token)?,
            (None, Demand::OfOthers) => Access::local(),
            (None, Demand::OfAll) if is_open => {
                head.extensions.insert(Stranger);
                return Ok(());
            }
            (None, Demand::OfAll) => {
                metrics::request_refused("missing");
                return Err(Denied::Nobody.into());
            }
        };
        head.extensions.insert(access);
        Ok(())
    }
}

/// RFC 6750, 2.3: a way that is known and not taken.
fn has_token(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        ["access_token", "client_secret"].iter().any(|secret| name.eq_ignore_ascii_case(secret))
    })
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let token = text.and_then(|text| text.split_once(' ')).and_then(|(scheme, token)| {
        let token = token.trim_matches(' ');
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    });
    match token {
        Some(token) => Ok(Some(token)),
        None => Err(refused("malformed", StatusCode::UNAUTHORIZED, "invalid_request")
            .detail("the Authorization header must be given once, as \"Bearer TOKEN\"")
            .field("authorization")),
    }
}

fn of_token(error: TokenError) -> Problem {
    refused(error.reason(), StatusCode::UNAUTHORIZED, "invalid_token")
        .detail(error.to_string())
        .field("authorization")
        .with("reason", error.reason())
}

/// Counts it. `error`: as RFC 6750, 3.1 names it.
fn refused(reason: &'static str, status: StatusCode, error: &'static str) -> Problem {
    metrics::request_refused(reason);
    let code = match error {
        "invalid_token" => "token_invalid",
        _ if reason == "token_in_url" => "token_in_url",
        _ => "authorization_invalid",
    };
    let challenge = HeaderValue::from_str(&format!("Bearer realm=\"vltava\", error=\"{error}\""));
    Problem::new(status, code).challenge(challenge.expect("errors' names are ASCII"))
}
