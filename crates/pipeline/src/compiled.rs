//! A plan made ready to evaluate.
//!
//! Invariant: it never changes. A batch is evaluated by one of these as a whole, so every record is seen by
//! exactly one generation, and the generation's number goes into the offsets that the batch commits.

use std::sync::Arc;

use bytes::Bytes;
use deadletter::{Reads, Stage};
use jsonata::{Budget, Program};
use resources::{
    HeadersSpec, OnError, PipelinePlan, RouteSpec, StepKind, StepPlan, TransformPlan, ValidateSpec,
};
use types::{HeaderName, TopicName};

use crate::config::Config;
use crate::position::Position;
use crate::redact::Redaction;
use crate::sample::Sample;
use crate::validate::Schema;

/// A plan whose expressions or schemas can't be made ready.
#[derive(Debug, thiserror::Error)]
#[error("{place} doesn't compile")]
pub(crate) struct CompileError {
    /// `step NAME (TRANSFORM@VERSION)`, `step NAME (/filter)` or `target.key`.
    place: String,
    /// What is wrong there.
    source: Box<dyn std::error::Error + Send + Sync>,
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
    pub(crate) does: Does,
    /// Of a transform its version; of any other, which stands in the pipeline itself, the pipeline's generation.
    pub(crate) stage: Stage,
    /// `TRANSFORM@VERSION`; `None`: it is no transform.
    pub(crate) version: Option<String>,
}

/// What it does.
#[derive(Debug)]
pub(crate) enum Does {
    Transform(Program),
    Filter(Program),
    Key(Program),
    Headers { set: Vec<(HeaderName, Program)>, drop: Vec<String> },
    Redact(Redaction),
    Sample(Sample),
    Validate(Box<Schema>),
    Route { to: Program, topics: Vec<TopicName> },
}

impl Does {
    fn new(name: &str, kind: &StepKind<TransformPlan>) -> Result<Self, CompileError> {
        let compile = |what: &str, source: &str| {
            Program::compile(source).map_err(|e| CompileError::new(format!("step {name} ({what})"), e))
        };
        Ok(match kind {
            StepKind::Transform(transform) => {
                Self::Transform(compile(&version(transform), &transform.expression)?)
            }
            StepKind::Filter(source) => Self::Filter(compile("/filter", source)?),
            StepKind::Key(source) => Self::Key(compile("/key", source)?),
            StepKind::Headers(HeadersSpec { set, drop }) => {
                let one = |(header, source): (&String, &String)| {
                    let program = compile(&format!("/headers/set/{header}"), source)?;
                    Ok((HeaderName::from(header.clone()), program))
                };
                let set = set.iter().map(one).collect::<Result<_, CompileError>>()?;
                Self::Headers { set, drop: drop.clone() }
            }
            StepKind::Redact(redact) => Self::Redact(Redaction::new(redact)),
            StepKind::Sample(sample) => Self::Sample(Sample::new(name, sample)),
            StepKind::Route(RouteSpec { topics, to }) => {
                Self::Route { to: compile("/route/to", to)?, topics: topics.clone() }
            }
            StepKind::Validate(ValidateSpec { schema }) => {
                Self::Validate(Box::new(Schema::new(schema).map_err(|e| CompileError {
                    place: format!("step {name} (/validate/schema)"),
                    source: Box::new(e),
                })?))
            }
        })
    }

    fn programs(&self) -> Vec<&Program> {
        match self {
            Self::Transform(program)
            | Self::Filter(program)
            | Self::Key(program)
            | Self::Route { to: program, topics: _ } => vec![program],
            Self::Headers { set, drop: _ } => set.iter().map(|(_, program)| program).collect(),
            Self::Redact(_) | Self::Sample(_) | Self::Validate(_) => Vec::new(),
        }
    }
}

fn version(transform: &TransformPlan) -> String {
    format!("{}@{}", transform.transform, transform.version)
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
    /// One `TRANSFORM@VERSION` a transform: the outputs' `x-transform` headers.
    pub(crate) made_by: Vec<Bytes>,
    /// What the batch's offsets carry.
    pub(crate) metadata: String,
    /// What all expressions may take together for one record.
    pub(crate) budget: Budget,
    /// No record is evaluated by more than one expression: nothing is to be shared out.
    pub(crate) evaluates_once: bool,
    pub(crate) fan_out_max: usize,
    /// `$`, where an input's value may have to be taken apart into its elements.
    pub(crate) whole: Option<Program>,
    /// Every topic that outputs go to.
    pub(crate) targets: Vec<TopicName>,
}

impl Compiled {
    pub(crate) fn new(plan: Arc<PipelinePlan>, config: &Config) -> Result<Self, CompileError> {
        let generation = u32::try_from(plan.generation).unwrap_or(u32::MAX);
        let mut steps = Vec::with_capacity(plan.steps.len());
        for StepPlan { name, kind } in &plan.steps {
            let does = Does::new(name, kind)?;
            let transform = kind.transform();
            let number = transform.map_or(generation, |transform| transform.version);
            let stage = Stage::pipeline(&*plan.workspace, &*plan.name, &**name, number);
            steps.push(Step { name: name.clone(), does, stage, version: transform.map(version) });
        }
        let key = plan
            .target_key
            .as_deref()
            .map(Program::compile)
            .transpose()
            .map_err(|e| CompileError::new("target.key".into(), e))?;
        let versions: Vec<String> = steps.iter().filter_map(|s| s.version.clone()).collect();
        let made_by = versions.iter().map(|v| Bytes::from(v.clone())).collect();
        let programs = || steps.iter().flat_map(|s| s.does.programs()).chain(&key);
        let reads = Reads::of(programs());
        let whole = plan.fan_out.then(|| Program::compile("$"));
        let whole = whole.transpose().map_err(|e| CompileError::new("fanOut".into(), e))?;
        let evaluates_once = !plan.fan_out && programs().count() <= 1;
        let metadata = Position { generation: plan.generation, versions }.encode();
        let budget = Budget {
            steps: config.record_steps_max,
            depth: config.record_depth_max,
            bytes: config.record_bytes_max,
            output_bytes: config.record_output_bytes_max,
            regex_steps: config.record_regex_steps_max,
            wall: std::time::Duration::from_millis(config.record_time_max_ms),
        };
        let fan_out_max = config.fan_out_max;
        let targets = plan.targets().into_iter().cloned().collect();
        Ok(Self {
            plan,
            steps,
            key,
            reads,
            made_by,
            metadata,
            budget,
            evaluates_once,
            fan_out_max,
            whole,
            targets,
        })
    }

    /// Where records are dead-lettered whose first origin is this topic.
    pub(crate) fn dlq_of(&self, origin: &TopicName) -> Option<&TopicName> {
        let topics = &self.plan.topics;
        topics.dlq.get(origin).or_else(|| topics.dlq.get(&topics.retry))
    }

    pub(crate) fn stops_on_error(&self) -> bool {
        self.plan.on_error == OnError::Stop
    }

    /// What runs, for people: `a@1, b@3`; where there is no transform, the generation.
    pub(crate) fn versions(&self) -> String {
        let versions: Vec<_> = self.steps.iter().filter_map(|s| s.version.as_deref()).collect();
        if versions.is_empty() { format!("generation {}", self.plan.generation) } else { versions.join(", ") }
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
            && self.plan.targets() == next.targets()
            && *parallelism == next.parallelism
            && *topics == next.topics
            && *paused == next.paused
            && *restarts == next.restarts
    }
}
