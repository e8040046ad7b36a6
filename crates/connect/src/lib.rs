//! The connector runtime: what every sink has alike, whatever it writes to.
//!
//! Invariants (`docs/connectors.md` says them for users):
//! - At least once: an offset is done only when the destination took its record or its dead letter is
//!   written, and dead letters and offsets are one transaction.
//! - Records of a key are written in order; a key that fails parks, within bounds, and the others flow.
//! - What concerns the destination as a whole (credentials, DNS, TLS, connections) dead-letters nothing.
//!
//! The folder reads from the inside out: [`completion`] (which offsets are done), [`schedule`] (what
//! goes next), [`breaker`] and [`retry`] (when), `task` (reads, writes, commits), `runtime` (starts
//! tasks and keeps them running). [`sink`] is what a connector implements.
//!
//! Not done: source connectors; the Kafka Connect REST surface.

pub mod breaker;
pub mod completion;
pub mod config;
mod metrics;
mod ranges;
pub mod retry;
mod runtime_loop;
pub mod schedule;
pub mod sink;
mod state;
mod task;

pub use deadletter::Reason;
pub use kafka;
pub use resources::reference::Secret;
pub use runtime_loop::{Handle, Runtime};
pub use sink::{ConfigProblem, Retry, Scope, Sink, SinkFactory, WriteError};
