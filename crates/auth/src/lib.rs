//! Who is calling, and what they may do: tokens and their keys, clients and their secrets, decisions.
//!
//! A **client** is a machine identity. It shows its **secret** to get a **token**, a JWT (RFC 7519, 9068) that it shows with
//! each request. A **grant** says what may be done: scopes, in workspaces, on topics. A token's grant is never wider than its
//! client's; what counts is what both allow at the moment of the request.
//!
//! Invariants:
//! - Which algorithm a token is checked by is the key's to say, never the token's.
//! - A secret is kept as its digest only, is compared in constant time, and is in no `Debug` and no error.
//! - Time is given ([`Clock`]): nothing here reads a clock, a file or a socket.
//!
//! The signature is checked by `ring`, which TLS uses too. The token's format (three parts, JSON, base64url) is read here
//! and not by a JWT library: those in use bring a second crypto library with them or take the clock for granted, and only tokens
//! of this installation are read, so that whatever it doesn't write itself can be refused.
//!
//! Not here: people (OIDC, roles), refresh tokens (a client asks anew), Kafka's own listeners.

mod access;
mod authorizer;
mod cache;
mod client;
mod error;
mod gate;
mod grant;
pub mod http;
mod key;
pub mod metrics;
mod secret;
mod throttle;
mod token;

pub use access::{Access, Denied};
pub use authorizer::{
    Authorizer, Clock, FAILURES_OF_ADDRESS, FAILURES_OF_CLIENT, IssueError, Issued, TokenRequest,
};
pub use client::{Client, ClientSecret, Clients};
pub use error::{TokenError, TokenErrorKind};
pub use gate::{Demand, TokenGate};
pub use grant::Grant;
pub use key::{Algorithm, KeySet, KeysError, OVERLAP_S, RotateError};
pub use secret::{NoRandom, Secret, SecretDigest};
pub use throttle::{Throttle, ThrottleConfig};
pub use token::{CLOCK_SKEW_S, Claims, Issuer, LIFETIME_DEFAULT_S, LIFETIME_MAX_S, TOKEN_BYTES_MAX};

/// Seconds since 1970-01-01T00:00:00Z, as JWT's NumericDate without fractions.
pub type UnixSeconds = u64;
