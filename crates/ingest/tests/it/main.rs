//! Ingest over real HTTP: sockets, the listener with its conventions, and the router.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should panic where it is")]

mod accepted;
mod access;
mod client;
mod engine;
mod engine_trouble;
mod fake;
mod refused;
mod wire_trouble;
