//! The conventions of every HTTP listener.
//!
//! Invariants, for each request that reaches a handler: the connection is within the limits; the listener's [`Gate`] has let
//! it in, which unless told otherwise takes only what Host and Origin say to be a local program's ([`guard`]); it has a
//! [`RequestId`](types::RequestId) in its extensions, which the answer carries as `x-request-id`, and the listener's
//! [`Shutdown`](crate::Shutdown), by which an answer that is long in coming ends.
//! Each error leaves as a [`Problem`]: also a 404 or 405 of the router, what an extractor refuses, and a panic.

mod body;
mod gate;
pub mod guard;
mod problem;
mod serve;

pub use body::{BodyError, BodyLimits, BodyMemory, HeldBody, discard, read_body};
pub use gate::{Gate, LocalOnly, Peer, Stranger};
pub use problem::Problem;
pub use serve::{Limits, Server, serve};
