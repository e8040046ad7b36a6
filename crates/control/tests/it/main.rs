//! The control plane over its own HTTP API, a store in a file, and an engine.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

mod access;
mod api;
mod backtest;
mod clients;
mod engine;
mod plan;
mod plane;
mod reconcile;
mod rollback;
mod verbs;
