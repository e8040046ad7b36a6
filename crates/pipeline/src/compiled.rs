//! A plan made ready to evaluate.
//!
//! Invariant: it never changes. A batch is evaluated by one of these as a whole, so every record is seen by
//! exactly one generation, and the generation's number goes into the offsets that the batch commits.

use std::sync::Arc;

use bytes::Bytes;
use deadletter::{Reads, Stage};
use jsonata::{Budget, Program};
use resources::{OnError, PipelinePlan};
use types::TopicName;

use crate::config::Config;
use crate::position::Position;

/// A plan whose expressions can't be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} doesn't compile")]
pub(crate) struct CompileError {
    /// `step NAME (TRANSFORM@VERSION)` or `target.key`.
    place: String,
    /// What is wrong with the expression there.
    source: Box<jsonata::CompileError>,
}

impl CompileError {
    fn new(place: String, source: jsonata::CompileError) -> Self {
        Self { place, source: Box::new(source) }
    }
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) program: Program,
    pub(crate) stage: Stage,
    /// `TRANSFORM@VERSION`.
    pub(crate) version: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) plan: Arc<PipelinePlan>,
    pub(crate) steps: Vec<Step>,
    /// The target's key over the output.
    pub(crate) key: Option<Program>,
    /// What the expressions read of a record beside its value.
    pub(crate) reads: Reads,
    /// One `TRANSFORM@VERSION` a step: the outputs' `x-transform` headers.
    pub(crate) made_by: Vec<Bytes>,
    /// What the batch's offsets carry.
    pub(crate) metadata: String,
    pub(crate) budget: Budget,
    pub(crate) fan_out_max: usize,
}

impl Compiled {
    pub(crate) fn new(plan: Arc<PipelinePlan>, config: &Config) -> Result<Self, CompileError> {
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let version = format!("{}@{}", step.transform, step.version);
            let program = Program::compile(&step.expression)
                .map_err(|e| CompileError::new(format!("step {} ({version})", step.name), e))?;
            let stage = Stage::pipeline(&*plan.workspace, &*plan.name, &*step.name, step.version);
            steps.push(Step { name: step.name.clone(), program, stage, version });
        }
        let key = plan
            .target_key
            .as_deref()
            .map(Program::compile)
            .transpose()
            .map_err(|e| CompileError::new("target.key".into(), e))?;
        let versions: Vec<String> = steps.iter().map(|s| s.version.clone()).collect();
        let made_by = versions.iter().map(|v| Bytes::from(v.clone())).collect();
        let reads = Reads::of(steps.iter().map(|s| &s.program).chain(&key));
        let metadata = Position { generation: plan.generation, versions }.encode();
        let budget = Budget {
            steps: config.record_steps_max,
            depth: config.record_depth_max,
            bytes: config.record_bytes_max,
            output_bytes: config.record_output_bytes_max,
            regex_steps: config.record_regex_steps_max,
            wall: std::time::Duration::from_millis(config.record_time_max_ms),
        };
        Ok(Self { plan, steps, key, reads, made_by, metadata, budget, fan_out_max: config.fan_out_max })
    }

    /// Where records are dead-lettered whose first origin is this topic.
    pub(crate) fn dlq_of(&self, origin: &TopicName) -> Option<&TopicName> {
        let topics = &self.plan.topics;
        topics.dlq.get(origin).or_else(|| topics.dlq.get(&topics.retry))
    }

    pub(crate) fn stops_on_error(&self) -> bool {
        self.plan.on_error == OnError::Stop
    }

    /// What runs, for people: `a@1, b@3`.
    pub(crate) fn versions(&self) -> String {
        self.steps.iter().map(|s| s.version.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether a loop that runs this can go on with `next` at a batch boundary: what it reads, writes and how
    /// many lanes it has stay as they are.
    pub(crate) fn same_loop(&self, next: &PipelinePlan) -> bool {
        let PipelinePlan {
            installation,
            uid,
            generation: _,
            workspace,
            name,
            sources,
            steps: _,
            target,
            target_key: _,
            on_error: _,
            fan_out: _,
            parallelism,
            topics,
            paused,
            restarts,
        } = &*self.plan;
        *installation == next.installation
            && *uid == next.uid
            && *workspace == next.workspace
            && *name == next.name
            && *sources == next.sources
            && *target == next.target
            && *parallelism == next.parallelism
            && *topics == next.topics
            && *paused == next.paused
            && *restarts == next.restarts
    }
}
