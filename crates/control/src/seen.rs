//! What is seen of resources: topics in the engine, stages in their runtimes, the reconciler's own state.
//!
//! Invariant: nothing of it is stored. It is found again by looking, and added to a resource's status when the
//! resource is read; so looking makes no revision, and no write waits for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use parking_lot::RwLock;
use resources::{Kind, Resource};
use runtime::{StageState, StageStatus};
use serde::Serialize;
use serde_json::{Value, json};
use types::Uid;

use crate::clients;
use crate::drift::{Drift, REVERTED_MAX, Reverted};

/// How a topic is; MODEL's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) enum TopicState {
    /// Not in the engine yet.
    #[default]
    Pending,
    /// As wanted.
    Ready,
    /// There, but not as wanted, and the reconciler may not change it.
    Drifted,
    /// The engine refuses it.
    Failed,
}

/// A topic as it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicSeen {
    pub(crate) state: TopicState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// In the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partitions: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// What is otherwise in the engine and stays so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) drift: Vec<Drift>,
    /// What was put back, the newest last; at most [`REVERTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reverted: Vec<Reverted>,
}

/// The reconciler as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pass {
    /// When the last whole pass ended; `None`: there was none yet.
    pub(crate) last_success: Option<Timestamp>,
    /// Why the newest pass failed; `None`: it didn't.
    pub(crate) error: Option<String>,
}

/// What was seen by one pass.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// By the Topic resource.
    pub(crate) topics: BTreeMap<Uid, TopicSeen>,
    /// Stages that got no plan, or not the newest, and why.
    pub(crate) held: BTreeMap<Uid, StageStatus>,
}

/// The newest of it all.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    sight: RwLock<Sight>,
    pass: RwLock<Pass>,
    /// Of redrives that run: what their status says meanwhile.
    runs: RwLock<BTreeMap<Uid, Value>>,
}

impl Seen {
    /// A pass has seen all.
    pub(crate) fn passed(&self, mut sight: Sight) {
        let mut seen = self.sight.write();
        for (uid, topic) in &mut sight.topics {
            let mut reverted = seen.topics.remove(uid).map_or_else(Vec::new, |before| before.reverted);
            reverted.append(&mut topic.reverted);
            reverted.drain(..reverted.len().saturating_sub(REVERTED_MAX));
            topic.reverted = reverted;
        }
        *seen = sight;
        drop(seen);
        *self.pass.write() = Pass { last_success: Some(Timestamp::now()), error: None };
    }

    /// A pass has failed; what was seen before it stays.
    pub(crate) fn failed(&self, error: String) {
        self.pass.write().error = Some(error);
    }

    /// How a redrive is that runs; `None`: it has ended, and the store says how.
    pub(crate) fn run(&self, uid: Uid, status: Option<Value>) {
        let mut runs = self.runs.write();
        match status {
            Some(status) => drop(runs.insert(uid, status)),
            None => drop(runs.remove(&uid)),
        }
    }

    /// A Topic resource's topic; `None`: not looked at yet.
    pub(crate) fn topic(&self, uid: Uid) -> Option<TopicSeen> {
        self.sight.read().topics.get(&uid).cloned()
    }

    pub(crate) fn reconciler(&self) -> Pass {
        self.pass.read().clone()
    }

    /// All stages: what runtimes say, corrected where a stage is held back.
    pub(crate) fn stages(&self, mut running: Vec<StageStatus>) -> Vec<StageStatus> {
        let sight = self.sight.read();
        for (uid, held) in &sight.held {
            match running.iter_mut().find(|stage| stage.uid == *uid) {
                // It runs on as it was; the newer spec is what is held back.
                Some(stage) => {
                    stage.generation_wanted = held.generation_wanted;
                    stage.reason = stage.reason.take().or_else(|| held.reason.clone());
                    if stage.state == StageState::Running {
                        stage.state = StageState::Degraded;
                    }
                }
                None => running.push(held.clone()),
            }
        }
        running.sort_by(|a, b| {
            (&a.workspace, &a.kind, &a.name, &a.uid).cmp(&(&b.workspace, &b.kind, &b.name, &b.uid))
        });
        running
    }

    /// Adds what is seen to a resource's status.
    pub(crate) fn add_to(&self, resource: &mut Resource, stages: &[StageStatus]) {
        let uid = resource.metadata.uid;
        let seen = match resource.kind {
            Kind::Topic => {
                let pending = || json!({ "state": TopicState::Pending, "reason": "not looked at yet" });
                self.sight.read().topics.get(&uid).map_or_else(pending, |topic| json!(topic))
            }
            Kind::Pipeline | Kind::Connector => {
                let starting = || json!({ "state": StageState::Starting, "reason": "not looked at yet" });
                stages.iter().find(|stage| stage.uid == uid).map_or_else(starting, |stage| json!(stage))
            }
            Kind::Redrive => self.runs.read().get(&uid).cloned().unwrap_or(Value::Null),
            Kind::Client => {
                // In its place, not beside it: what is stored isn't for anybody's eyes.
                resource.status = clients::shown(&resource.status);
                return;
            }
            Kind::Workspace | Kind::Transform => return,
        };
        let Value::Object(seen) = seen else { return };
        match &mut resource.status {
            Value::Object(status) => {
                // Who the stage is stands in the metadata already.
                let new = seen
                    .into_iter()
                    .filter(|(name, _)| !["kind", "workspace", "name", "uid"].contains(&name.as_str()));
                status.extend(new);
            }
            status => *status = Value::Object(seen),
        }
    }
}
