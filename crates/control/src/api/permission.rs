//! What each route demands of its caller, before its handler runs.
//!
//! Invariant: a route that isn't in the table is served to nobody. What a body names besides (topics of a spec, workspaces of a set)
//! is checked where it is decided what a write would do.

use auth::{Access, Denied};
use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use runtime::http::Problem;
use types::{Scope, TopicName};

use super::request::name_and_verb;

/// Where a request acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// On nothing by itself: the handler shows, and does, what the caller may.
    Caller,
    /// In the workspace of the path, and on the topic of the path where it has one.
    Workspace,
    /// On the installation.
    Installation,
}

/// The demand of a route; `None`: there is no such route.
fn demand(method: &Method, path: &str) -> Option<(Scope, Reach)> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    let on_resources = if read { Scope::ControlRead } else { Scope::ControlWrite };
    Some(match path {
        "/api/v1:plan" | "/api/v1/workspaces" | "/api/v1/status" => (Scope::ControlRead, Reach::Caller),
        "/api/v1:apply" => (Scope::ControlWrite, Reach::Caller),
        "/api/v1/clients" | "/api/v1/clients/{name}" => (Scope::Admin, Reach::Installation),
        // Its rules bind everybody in it: whoever may change resources in it may not change them.
        "/api/v1/workspaces/{workspace}" if !read => (Scope::Admin, Reach::Installation),
        "/api/v1/workspaces/{workspace}" => (Scope::ControlRead, Reach::Workspace),
        path if path.starts_with("/api/v1/workspaces/{workspace}/") => (on_resources, Reach::Workspace),
        _ => return None,
    })
}

/// The layer around every route of the Control API.
pub(super) async fn permit(
    path: MatchedPath,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    match allowed(&path, &parameters, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let (head, body) = request.into_parts();
            // So that the sender gets to see the answer.
            runtime::http::discard(&head.headers, body).await;
            problem.into_response()
        }
    }
}

fn allowed(path: &MatchedPath, parameters: &RawPathParams, request: &Request) -> Result<(), Problem> {
    let access = Access::from_extensions(request.extensions())?;
    let Some((scope, reach)) = demand(request.method(), path.as_str()) else {
        tracing::error!(path = path.as_str(), "a route says nothing of permissions");
        return Err(Problem::new(StatusCode::FORBIDDEN, "not_permitted").detail("nobody may do this"));
    };
    access.scope(scope)?;
    match reach {
        Reach::Caller => {}
        Reach::Installation => access.installation()?,
        Reach::Workspace => {
            let of = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
            access.workspace(of("workspace").unwrap_or_default())?;
            let topic = match of("kind") {
                Some("topics") => of("name").map(|name| name_and_verb(name).0),
                _ => of("topic").map(str::to_owned),
            };
            // What is no topic's name is the handler's to refuse.
            if let Some(topic) = topic.and_then(|topic| TopicName::new(&topic).ok()) {
                on_topic(access, &topic)?;
            }
        }
    }
    Ok(())
}

/// A topic of the system is refused to everybody by the handler, which says so.
fn on_topic(access: &Access, topic: &TopicName) -> Result<(), Denied> {
    if topic.is_reserved() { Ok(()) } else { access.topic(topic) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_a_demand() {
        // As the router is written.
        let source = include_str!("mod.rs");
        let paths: BTreeSet<&str> = source
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|text| text.starts_with("/api/") && !text.contains(' '))
            .collect();
        assert!(paths.len() > 12, "{paths:?}");
        for path in paths {
            for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
                assert!(demand(&method, path).is_some(), "{method} {path}");
            }
        }
        assert_eq!(demand(&Method::GET, "/api/v1/new"), None);
    }
}
