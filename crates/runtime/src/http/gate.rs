//! What decides whether a request reaches the router at all.

use std::net::IpAddr;

use http::request::Parts;

use super::{Problem, guard};

/// Who sent a request, in its extensions: the other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// In the extensions of a request that nobody answers for: a handler says no more than a stranger may know.
#[derive(Debug, Clone, Copy)]
pub struct Stranger;

/// A listener asks its gate once a request, before anything else looks at it. What the gate finds out about the caller it
/// leaves in the extensions. It must not wait.
pub trait Gate: Send + Sync + 'static {
    /// Says why a request must not be served.
    fn admit(&self, head: &mut Parts) -> Result<(), Problem>;
}

/// Lets local programs in, and nobody else; see [`guard`].
#[derive(Debug, Clone, Copy)]
pub struct LocalOnly;

impl Gate for LocalOnly {
    fn admit(&self, head: &mut Parts) -> Result<(), Problem> {
        guard::check(&head.method, &head.uri, &head.headers)
    }
}
