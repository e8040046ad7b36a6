//! The control plane over its own HTTP API, a store in a file, and an engine.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

mod api;
mod backtest;
mod engine;
mod plan;
mod plane;
mod reconcile;
mod rollback;
mod verbs;
