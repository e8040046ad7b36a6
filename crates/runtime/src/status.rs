//! What a stage says of itself on `GET /api/v1/status`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The states of a stage. Every one but `Running` comes with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageState {
    /// Not yet consuming.
    Starting,
    /// Consuming.
    Running,
    /// Somebody paused it; it holds its offsets.
    Paused,
    /// It makes no progress, or not in full, and goes on by itself when the cause is gone.
    Degraded,
    /// It ended because of an error that it can't mend itself.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

/// One pipeline or connector, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// The resource's kind: `Pipeline`, `Connector`.
    pub kind: String,
    /// The resource's workspace.
    pub workspace: String,
    /// The resource's name.
    pub name: String,
    /// The resource's uid.
    pub uid: types::Uid,
    /// The state.
    pub state: StageState,
    /// Why it is in that state; always set unless it is `Running`.
    pub reason: Option<String>,
    /// The spec's generation that was asked for last.
    pub generation_wanted: u64,
    /// The generation in effect; differs from the wanted one during a rollout.
    pub generation_running: u64,
    /// What runs, e.g. `enrich@3`.
    pub version: Option<String>,
    /// Records between the committed offsets and the end of the inputs; `None` while unknown.
    pub lag: Option<u64>,
    /// The age of the oldest record that isn't processed, in seconds; 0 when there is none.
    pub lag_seconds: Option<f64>,
    /// Records read since the process started.
    pub in_total: u64,
    /// Records written or delivered since the process started.
    pub out_total: u64,
    /// Records dead-lettered since the process started.
    pub dead_lettered_total: u64,
    /// When it entered the state.
    pub since: Timestamp,
}
