//! How the reconciler reaches the runtimes that run stages.

use pipeline::backtest::Backtests;
use resources::{ConnectorPlan, PipelinePlan};
use runtime::StageStatus;
use types::Uid;

/// Runtimes of pipelines and connectors. Called by the reconciler, from one task; calls return at once and never
/// fail: what comes of a plan is in the status.
pub trait Stages: Send + Sync + 'static {
    /// Runs the pipeline so, instead of what ran under its `uid`. The same plan again changes nothing.
    fn apply_pipeline(&self, plan: PipelinePlan);

    /// Runs the connector so, instead of what ran under its `uid`. The same plan again changes nothing.
    fn apply_connector(&self, plan: ConnectorPlan);

    /// Stops the stage and forgets it. An unknown `uid` is no error.
    fn remove(&self, uid: Uid);

    /// All stages, as they are now.
    fn status(&self) -> Vec<StageStatus>;

    /// What puts candidates through recorded input, by the settings of the runtime of pipelines. Called for each backtest.
    /// `None`: this process runs no pipelines.
    fn backtests(&self) -> Option<Backtests> {
        None
    }
}

/// A process without runtimes of stages: plans go nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStages;

impl Stages for NoStages {
    fn apply_pipeline(&self, _: PipelinePlan) {}
    fn apply_connector(&self, _: ConnectorPlan) {}
    fn remove(&self, _: Uid) {}
    fn status(&self) -> Vec<StageStatus> {
        Vec::new()
    }
}
