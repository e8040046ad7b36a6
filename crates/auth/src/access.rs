//! What the caller of one request may do.
//!
//! Invariant: who has no [`Access`] in the request's extensions may do nothing. What an answer depends on is only the names
//! that the request gives, never whether there is something of that name.

use std::sync::Arc;

use http::{Extensions, HeaderValue, StatusCode};
use runtime::http::Problem;
use types::{Scope, TopicName, Workspaces};

use crate::client::Client;
use crate::{Claims, Grant};

/// A token that was checked.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) claims: Claims,
    pub(crate) grant: Grant,
}

#[derive(Debug, Clone)]
enum Who {
    /// The person at this machine, or the process itself.
    Local,
    /// What the token allows and the client still does.
    Client { token: Arc<Verified>, client: Arc<Client> },
}

/// Who calls, and what that allows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Who);

/// What a caller lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody said who calls.
    #[error(
        "the request needs a token: send it as \"Authorization: Bearer TOKEN\"; POST /oauth/token gives one"
    )]
    Nobody,
    /// A scope.
    #[error("scope {0} is needed: the token, or its client, doesn't have it")]
    Scope(Scope),
    /// A workspace.
    #[error("workspace {0:?} isn't one of the token's, or of its client's")]
    Workspace(String),
    /// A topic.
    #[error("topic {0:?} isn't meant by the token's topic patterns, or its client's")]
    Topic(String),
    /// All workspaces.
    #[error("this is about the whole installation: a client with all workspaces (\"*\") may do it")]
    Installation,
}

impl Access {
    /// Everything: the person at this machine, on a listener that nobody else reaches, or the process itself.
    pub fn local() -> Self {
        Self(Who::Local)
    }

    pub(crate) fn of(token: Arc<Verified>, client: Arc<Client>) -> Self {
        Self(Who::Client { token, client })
    }

    /// What the listener's gate found out.
    pub fn from_extensions(extensions: &Extensions) -> Result<&Self, Denied> {
        extensions.get().ok_or(Denied::Nobody)
    }

    /// For logs: `local`, or the client's name.
    pub fn name(&self) -> &str {
        match &self.0 {
            Who::Local => "local",
            Who::Client { client, .. } => &client.name,
        }
    }

    /// Whether both the token and its client, as it is now, say so.
    fn all(&self, allows: impl Fn(&Grant) -> bool) -> bool {
        match &self.0 {
            Who::Local => true,
            Who::Client { token, client } => allows(&token.grant) && allows(&client.grant),
        }
    }

    /// Whether the scope is held.
    pub fn scope(&self, scope: Scope) -> Result<(), Denied> {
        if self.all(|grant| grant.scopes.allow(scope)) { Ok(()) } else { Err(Denied::Scope(scope)) }
    }

    /// Whether the workspace is one of the caller's.
    pub fn workspace(&self, workspace: &str) -> Result<(), Denied> {
        if self.all(|grant| grant.workspaces.allow(workspace)) {
            Ok(())
        } else {
            Err(Denied::Workspace(shown(workspace)))
        }
    }

    /// Whether the topic's name is meant by the caller's patterns. Names of the system are for whoever names them to refuse.
    pub fn topic(&self, topic: &TopicName) -> Result<(), Denied> {
        if self.all(|grant| grant.topics.allow(topic)) {
            Ok(())
        } else {
            Err(Denied::Topic(shown(topic.as_str())))
        }
    }

    /// Whether the whole installation is the caller's.
    pub fn installation(&self) -> Result<(), Denied> {
        if self.all(|grant| grant.workspaces == Workspaces::All) { Ok(()) } else { Err(Denied::Installation) }
    }
}

fn shown(name: &str) -> String {
    name.chars().take(TopicName::LENGTH_MAX).collect()
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let forbidden = |code| Self::new(StatusCode::FORBIDDEN, code).detail(denied.to_string());
        match &denied {
            Denied::Nobody => Self::new(StatusCode::UNAUTHORIZED, "token_missing")
                .detail(denied.to_string())
                .field("authorization")
                .challenge(HeaderValue::from_static("Bearer realm=\"vltava\"")),
            // RFC 6750, 3.1.
            Denied::Scope(scope) => {
                forbidden("insufficient_scope").field("scope").value(scope.as_str()).challenge(
                    HeaderValue::from_str(&format!(
                        "Bearer realm=\"vltava\", error=\"insufficient_scope\", scope=\"{scope}\""
                    ))
                    .expect("a scope's name is ASCII"),
                )
            }
            Denied::Workspace(name) => forbidden("workspace_denied").field("workspace").value(name.as_str()),
            Denied::Topic(name) => forbidden("topic_denied").field("topic").value(name.as_str()),
            Denied::Installation => forbidden("installation_denied").field("workspaces"),
        }
    }
}
