//! What a connector says of itself, gathered from its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use resources::ConnectorPlan;
use runtime::{StageState, StageStatus};
use types::Uid;

/// The states of all connectors. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<Uid, Entry>>>);

#[derive(Debug)]
struct Entry {
    status: StageStatus,
    /// By task: why it doesn't make progress in full, and its lag.
    tasks: BTreeMap<u16, TaskState>,
}

#[derive(Debug, Default)]
struct TaskState {
    degraded: Option<String>,
    lag: Option<u64>,
    lag_seconds: Option<f64>,
}

impl Board {
    /// A plan was taken: what runs by it starts.
    pub(crate) fn planned(&self, plan: &ConnectorPlan, state: StageState, reason: &str) {
        let mut board = self.0.lock();
        let entry = board.entry(plan.uid).or_insert_with(|| Entry {
            tasks: BTreeMap::new(),
            status: StageStatus {
                kind: "Connector".into(),
                workspace: plan.workspace.clone(),
                name: plan.name.clone(),
                uid: plan.uid,
                state,
                reason: Some(reason.into()),
                generation_wanted: plan.generation,
                generation_running: 0,
                version: None,
                lag: None,
                lag_seconds: None,
                in_total: 0,
                out_total: 0,
                dead_lettered_total: 0,
                since: Timestamp::now(),
            },
        });
        entry.tasks.clear();
        entry.status.generation_wanted = plan.generation;
        entry.turn(state, Some(reason.into()));
    }

    /// The tasks of this generation run.
    pub(crate) fn running(&self, plan: &ConnectorPlan) {
        self.with(plan.uid, |entry| {
            entry.status.generation_running = plan.generation;
            entry.settle();
        });
    }

    /// It isn't running, and why.
    pub(crate) fn halted(&self, uid: Uid, state: StageState, reason: &str) {
        self.with(uid, |entry| {
            entry.tasks.clear();
            entry.turn(state, Some(reason.into()));
        });
    }

    pub(crate) fn remove(&self, uid: Uid) {
        self.0.lock().remove(&uid);
    }

    pub(crate) fn list(&self) -> Vec<StageStatus> {
        self.0.lock().values().map(|entry| entry.status.clone()).collect()
    }

    fn with(&self, uid: Uid, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.0.lock().get_mut(&uid) {
            change(entry);
        }
    }
}

impl Entry {
    fn turn(&mut self, state: StageState, reason: Option<String>) {
        if self.status.state != state {
            self.status.since = Timestamp::now();
        }
        self.status.state = state;
        self.status.reason = reason;
    }

    /// The state that follows from the tasks'.
    fn settle(&mut self) {
        let degraded = self.tasks.values().find_map(|task| task.degraded.clone());
        match degraded {
            Some(reason) => self.turn(StageState::Degraded, Some(reason)),
            None => self.turn(StageState::Running, None),
        }
    }
}

/// One task's voice on the board.
#[derive(Debug, Clone)]
pub(crate) struct TaskReport {
    pub(crate) board: Board,
    pub(crate) uid: Uid,
    pub(crate) task: u16,
}

impl TaskReport {
    fn with(&self, change: impl FnOnce(&mut StageStatus)) {
        self.board.with(self.uid, |entry| change(&mut entry.status));
    }

    pub(crate) fn read(&self, records: usize) {
        self.with(|status| status.in_total += records as u64);
    }

    pub(crate) fn delivered(&self) {
        self.with(|status| status.out_total += 1);
    }

    pub(crate) fn dead_lettered(&self) {
        self.with(|status| status.dead_lettered_total += 1);
    }

    /// Why it doesn't make progress in full; `None`: it does.
    pub(crate) fn degraded(&self, reason: Option<&str>) {
        self.board.with(self.uid, |entry| {
            let task = entry.tasks.entry(self.task).or_default();
            if task.degraded.as_deref() != reason {
                task.degraded = reason.map(Into::into);
                entry.settle();
            }
        });
    }

    /// Records between what is committed and the end, and the age of the oldest of them in seconds.
    pub(crate) fn lag(&self, records: Option<u64>, seconds: Option<f64>) {
        self.board.with(self.uid, |entry| {
            let task = entry.tasks.entry(self.task).or_default();
            task.lag = records;
            task.lag_seconds = seconds;
            entry.status.lag = entry.tasks.values().map(|t| t.lag).sum();
            entry.status.lag_seconds = entry.tasks.values().filter_map(|t| t.lag_seconds).reduce(f64::max);
        });
    }
}
