//! What a pipeline says of itself: its state with a reason, its counters, its lag.
//!
//! Invariant: every state but Running has a reason. The loop and its supervisor write, anyone reads, and
//! reading waits for nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use resources::PipelinePlan;
use runtime::{StageState, StageStatus};
use types::Uid;

use crate::compiled::Compiled;
use crate::metrics::PipelineMetrics;

/// Shared by a pipeline's supervisor, its loop and the runtime's handle.
#[derive(Debug)]
pub(crate) struct Status {
    uid: Uid,
    workspace: String,
    name: String,
    now: Mutex<Now>,
    read: AtomicU64,
    written: AtomicU64,
    dead_lettered: AtomicU64,
    pub(crate) metrics: PipelineMetrics,
}

#[derive(Debug)]
struct Now {
    state: StageState,
    reason: Option<String>,
    since: Timestamp,
    generation_wanted: u64,
    generation_running: u64,
    version: Option<String>,
    /// Step and version, as the gauge has them.
    versions: Vec<(String, String)>,
    lag: Option<u64>,
    lag_seconds: Option<f64>,
}

impl Status {
    pub(crate) fn new(plan: &PipelinePlan, metrics: PipelineMetrics) -> Self {
        Self {
            uid: plan.uid,
            workspace: plan.workspace.clone(),
            name: plan.name.clone(),
            now: Mutex::new(Now {
                state: StageState::Starting,
                reason: Some("not yet started".into()),
                since: Timestamp::now(),
                generation_wanted: plan.generation,
                generation_running: 0,
                version: None,
                versions: Vec::new(),
                lag: None,
                lag_seconds: None,
            }),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dead_lettered: AtomicU64::new(0),
            metrics,
        }
    }

    /// `workspace/name`, for logs.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.workspace, self.name)
    }

    pub(crate) fn wanted(&self, generation: u64) {
        self.now.lock().generation_wanted = generation;
    }

    pub(crate) fn running(&self) {
        self.enter(StageState::Running, None);
    }

    pub(crate) fn starting(&self, reason: &str) {
        self.enter(StageState::Starting, Some(reason));
    }

    pub(crate) fn paused(&self, reason: &str) {
        self.enter(StageState::Paused, Some(reason));
    }

    pub(crate) fn degraded(&self, reason: &str) {
        self.enter(StageState::Degraded, Some(reason));
    }

    pub(crate) fn failed(&self, reason: &str) {
        self.enter(StageState::Failed, Some(reason));
    }

    pub(crate) fn stopped(&self, reason: &str) {
        self.enter(StageState::Stopped, Some(reason));
    }

    fn enter(&self, state: StageState, reason: Option<&str>) {
        let mut now = self.now.lock();
        if now.state == state && now.reason.as_deref() == reason {
            return;
        }
        let pipeline = self.label();
        match (state, reason) {
            (StageState::Degraded | StageState::Failed, Some(reason)) => {
                tracing::warn!(pipeline, ?state, reason, "pipeline is not well");
            }
            _ => tracing::info!(pipeline, ?state, reason, "pipeline changed state"),
        }
        if now.state != state {
            now.since = Timestamp::now();
        }
        now.state = state;
        now.reason = reason.map(Into::into);
    }

    /// A batch of this generation is committed, or nothing is under way and the next will be: it is the one in force.
    pub(crate) fn in_force(&self, compiled: &Compiled) {
        let mut now = self.now.lock();
        let generation = compiled.plan.generation;
        if now.generation_running == generation && now.version.is_some() {
            return;
        }
        now.generation_running = generation;
        now.version = Some(compiled.versions());
        let versions =
            compiled.steps.iter().filter_map(|s| Some((s.name.clone(), s.version.clone()?))).collect();
        for (step, version) in std::mem::replace(&mut now.versions, versions) {
            self.metrics.version_ends(&step, &version);
        }
        for (step, version) in &now.versions {
            self.metrics.version_starts(step, version);
        }
    }

    /// The pipeline was removed: its gauges would stand still for ever.
    pub(crate) fn forget(&self) {
        for (step, version) in std::mem::take(&mut self.now.lock().versions) {
            self.metrics.version_ends(&step, &version);
        }
        self.metrics.forget();
    }

    pub(crate) fn lag(&self, records: Option<u64>, seconds: Option<f64>) {
        let mut now = self.now.lock();
        now.lag = records;
        now.lag_seconds = seconds;
        if let Some(seconds) = seconds {
            self.metrics.lag_seconds(seconds);
        }
    }

    /// A batch is committed.
    pub(crate) fn count(&self, read: u64, written: u64, dead_lettered: u64) {
        self.read.fetch_add(read, Ordering::Relaxed);
        self.written.fetch_add(written, Ordering::Relaxed);
        self.dead_lettered.fetch_add(dead_lettered, Ordering::Relaxed);
        self.metrics.read(read);
        self.metrics.wrote(written);
    }

    pub(crate) fn snapshot(&self) -> StageStatus {
        let now = self.now.lock();
        StageStatus {
            kind: "Pipeline".into(),
            workspace: self.workspace.clone(),
            name: self.name.clone(),
            uid: self.uid,
            state: now.state,
            reason: now.reason.clone(),
            generation_wanted: now.generation_wanted,
            generation_running: now.generation_running,
            version: now.version.clone(),
            lag: now.lag,
            lag_seconds: now.lag_seconds,
            in_total: self.read.load(Ordering::Relaxed),
            out_total: self.written.load(Ordering::Relaxed),
            dead_lettered_total: self.dead_lettered.load(Ordering::Relaxed),
            since: now.since,
        }
    }
}
