//! The clients against an engine.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails where it stands")]

mod admin;
mod consumer;
mod engine;
mod producer;
mod transaction;
