//! What runtimes are told to run: plans. Plain data with every name resolved and every version frozen,
//! so that a runtime never asks the store.
//!
//! Invariant: a plan is complete. Two plans of one `uid` are ordered by `generation`; the newer one wins,
//! in effect at a batch boundary.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{InstallationId, TopicName, Uid};

use crate::{OnError, StartFrom, StepPlan};

/// The system topics of a stage. They exist before the plan is handed out; a stage creates none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageTopics {
    /// By source topic: where its dead letters go. A redriven record that fails again goes where its first
    /// origin's do; the retry topic itself is a key too, for records whose first origin is no source any more.
    pub dlq: BTreeMap<TopicName, TopicName>,
    /// The topic that redriven records come back through; the stage consumes it beside its sources.
    pub retry: TopicName,
}

/// A source topic, and where a stage without committed offsets begins in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The topic.
    pub topic: TopicName,
    /// Where to begin where nothing is committed.
    pub from: StartFrom,
}

/// A pipeline to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelinePlan {
    /// Whose pipeline: group and transactional ids derive from it.
    pub installation: InstallationId,
    /// The pipeline's identity: made again under the same name, it has another.
    pub uid: Uid,
    /// Rises with every change of what is wanted: of the spec, and by pause, resume, stop and restart.
    pub generation: u64,
    /// The tenant.
    pub workspace: String,
    /// The pipeline's name.
    pub name: String,
    /// At least one.
    pub sources: Vec<Source>,
    /// In order; at least one.
    pub steps: Vec<StepPlan>,
    /// Where results go.
    pub target: TopicName,
    /// JSONata over the output that gives its key; `None`: the input's key.
    pub target_key: Option<String>,
    /// What a record that can't be transformed causes.
    pub on_error: OnError,
    /// Whether an array as the result becomes one record an element.
    pub fan_out: bool,
    /// Transactional producers an instance, over disjoint partitions; from 1.
    pub parallelism: u16,
    /// DLQs and the retry topic.
    pub topics: StageTopics,
    /// Consumes nothing while true.
    pub paused: bool,
    /// How often a person asked for a restart: a plan with another number runs in a new loop.
    #[serde(default)]
    pub restarts: u64,
}

impl PipelinePlan {
    /// Every topic that results go to: the target, and what routes may choose.
    pub fn targets(&self) -> BTreeSet<&TopicName> {
        let routed = self.steps.iter().flat_map(|step| step.kind.topics());
        routed.chain([&self.target]).collect()
    }
}

/// What a connector is wanted to do: Kafka Connect's target states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConnectorState {
    /// Delivers.
    #[default]
    Running,
    /// Keeps its tasks, delivers nothing.
    Paused,
    /// Has no tasks.
    Stopped,
}

/// A connector to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectorPlan {
    /// Whose connector: group and transactional ids derive from it.
    pub installation: InstallationId,
    /// The connector's identity.
    pub uid: Uid,
    /// Rises with every change of what is wanted: of the spec, and by pause, resume, stop and restart.
    pub generation: u64,
    /// The tenant.
    pub workspace: String,
    /// The connector's name.
    pub name: String,
    /// `http-sink`.
    pub plugin: String,
    /// What it delivers; at least one.
    pub topics: Vec<TopicName>,
    /// From 1.
    pub tasks_max: u16,
    /// As written: `${env:NAME}` and `${file:PATH}` are resolved where they are used (see
    /// [`crate::reference`]).
    pub config: BTreeMap<String, String>,
    /// DLQs and the retry topic.
    pub stage_topics: StageTopics,
    /// What it is wanted to do.
    pub state: ConnectorState,
}
