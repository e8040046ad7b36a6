//! What a sink connector is to the runner.
//!
//! A sink only writes. Order, retries, parking, dead letters and offsets are the runner's, so that
//! every connector has them alike: a sink that retries or sleeps by itself hides what it does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadletter::Reason;
use futures::future::BoxFuture;
use kafka::ConsumedRecord;
use resources::reference::Secret;

/// Writes records to a destination.
///
/// The runner calls [`Sink::write`] from several tasks at once, up to [`Sink::in_flight_max`], never
/// twice at once for the same key, and drops the future where the partition is taken away: a write
/// must bear being cut at any await.
pub trait Sink: Send + Sync + 'static {
    /// How many writes may be under way at once in one task.
    fn in_flight_max(&self) -> usize;

    /// Writes one record whole. `Ok` means that the destination has taken it; only then is the offset
    /// counted as completed. `attempt` is 1 for the first try.
    fn write<'a>(&'a self, record: &'a ConsumedRecord, attempt: u32)
    -> BoxFuture<'a, Result<(), WriteError>>;
}

/// Makes the sinks of one plugin, named as in `Connector.spec.plugin`.
pub trait SinkFactory: Send + Sync + 'static {
    /// The plugin's name.
    fn plugin(&self) -> &'static str;

    /// The configuration keys that belong to the plugin; the runner's own are in [`crate::config`].
    fn keys(&self) -> &'static [&'static str];

    /// Checks the configuration without I/O and opens nothing yet. References (`${env:..}`) are
    /// resolved already. Every problem is reported, not just the first.
    fn create(&self, config: &BTreeMap<String, Secret>) -> Result<Arc<dyn Sink>, Vec<ConfigProblem>>;
}

/// One thing that is wrong in a connector's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key.
    pub key: String,
    /// What is wrong and the way out; it never repeats a secret's value.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Why a write failed, and what the runner shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteError {
    /// The stable code of a dead letter, where it comes to that.
    pub reason: Reason,
    /// What a person reads: no secrets, no bodies.
    pub message: String,
    /// What the runner does next.
    pub retry: Retry,
    /// Whom the failure is about.
    pub scope: Scope,
}

/// What the runner does with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Dead-letters it at once: another try can't end differently.
    Never,
    /// Tries again after the runner's backoff, until attempts or age are used up.
    Backoff,
    /// Tries again when the destination said that it may.
    After(Duration),
}

/// Whom a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This record: the others go on. Counts as an attempt.
    Record,
    /// The whole destination (credentials refused, DNS, TLS, connection): opens the breaker. Never
    /// counts as an attempt, so that nothing is dead-lettered for it.
    Destination,
    /// The destination asks for a pause (429, 503 with Retry-After): everything waits, nothing counts as an attempt.
    Throttled,
    /// The destination is gone for good (410): the connector stops.
    Gone,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WriteError {}
