//! The control plane's settings.

use std::time::Duration;

/// Which engine it is, as far as replication goes. Nothing else may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// One replica of everything: a larger replication factor is a warning, and becomes 1.
    Embedded,
    /// A cluster.
    Kafka,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The environment: the first part of topic names by the default policy.
    pub env: String,
    /// Which engine it is.
    pub engine: EngineKind,
    /// How often the reconciler looks without a signal: what changed in the engine by itself is seen then.
    pub reconcile_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { env: "dev".into(), engine: EngineKind::Embedded, reconcile_interval: Duration::from_secs(10) }
    }
}

impl Config {
    /// Every problem with the settings, each naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = resources::name(&self.env) {
            problems.push(format!("env: {error}"));
        }
        problems
    }
}
