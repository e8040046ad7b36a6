//! The Pipeline: source topics, steps that are transforms at a version, a target topic.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::TopicName;

use crate::decode::At;
use crate::problem::Problems;
use crate::{OnError, RolloutSpec, Source, VersionRef, Versioned, name};

/// Source topics of a stage.
pub const SOURCES_MAX: usize = 64;

/// Steps of a pipeline.
pub const STEPS_MAX: usize = 32;

/// Transactional producers of a pipeline in one instance.
pub const PARALLELISM_MAX: u16 = 64;

/// The longest JSONata of a target's key, in bytes.
pub const KEY_EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// What a pipeline promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Guarantee {
    /// Each record's results are in the target once: results, dead letters and offsets are one transaction.
    #[default]
    ExactlyOnce,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepSpec {
    /// Its name in the pipeline; stands in `x-dlq-stage`.
    pub name: String,
    /// The transform's name.
    pub transform: String,
    /// `None` in a manifest: the version applied with it. What is stored is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionRef>,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    /// The topic.
    pub topic: TopicName,
    /// JSONata over the output that gives its key; `None`: the input's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What a pipeline is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineSpec {
    /// At least one.
    pub sources: Vec<Source>,
    /// At least one, in order.
    pub steps: Vec<StepSpec>,
    /// Where results go.
    pub target: TargetSpec,
    /// What it promises.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// What a record that can't be transformed causes.
    #[serde(default)]
    pub on_error: OnError,
    /// Whether an array as the result becomes one record an element.
    #[serde(default)]
    pub fan_out: bool,
    /// Transactional producers an instance; from 1.
    #[serde(default = "one")]
    pub parallelism: u16,
    /// How another version comes into force; `None`: when it is put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
}

fn one() -> u16 {
    1
}

impl PipelineSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let sources = object.required("sources", problems).and_then(|at| sources(&at, problems));
        let steps = object.required("steps", problems).and_then(|at| steps(&at, problems));
        let target = object.required("target", problems).and_then(|at| {
            let mut object = at.object(problems)?;
            let topic =
                object.required("topic", problems).and_then(|at| at.parsed(problems, TopicName::for_caller));
            let key = object
                .field("key")
                .and_then(|at| at.some_text(KEY_EXPRESSION_BYTES_MAX, problems))
                .map(String::from);
            object.finish(problems);
            Some(TargetSpec { topic: topic?, key })
        });
        let guarantee = object
            .field("guarantee")
            .and_then(|at| at.word(&[("exactlyOnce", Guarantee::ExactlyOnce)], problems))
            .unwrap_or_default();
        let on_error = object
            .field("onError")
            .and_then(|at| at.word(&[("deadLetter", OnError::DeadLetter), ("stop", OnError::Stop)], problems))
            .unwrap_or_default();
        let fan_out = object.field("fanOut").and_then(|at| at.boolean(problems)).unwrap_or_default();
        let parallelism = object
            .field("parallelism")
            .and_then(|at| at.integer(1, PARALLELISM_MAX.into(), problems))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(1);
        let rollout = object.field("rollout").and_then(|at| RolloutSpec::decode(&at, problems));
        object.finish(problems);
        let (sources, steps, target) = (sources?, steps?, target?);
        if sources.iter().any(|source| source.topic == target.topic) {
            problems.add(
                format!("{}/target/topic", at.pointer),
                "conflict",
                format!("{} is a source too: the pipeline would read what it writes, for ever", target.topic),
            );
        }
        Some(Self { sources, steps, target, guarantee, on_error, fan_out, parallelism, rollout })
    }
}

fn sources(at: &At<'_>, problems: &mut Problems) -> Option<Vec<Source>> {
    let list = at.list(SOURCES_MAX, problems)?;
    if list.is_empty() {
        problems.invalid(at.pointer.clone(), "can't be empty: a pipeline needs a source");
    }
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    for at in &list {
        let Some(mut object) = at.object(problems) else { continue };
        let topic =
            object.required("topic", problems).and_then(|at| at.parsed(problems, TopicName::for_caller));
        let from = object.field("from").and_then(|at| at.read(problems)).unwrap_or_default();
        object.finish(problems);
        let Some(topic) = topic else { continue };
        if !seen.insert(topic.clone()) {
            problems.add(format!("{}/topic", at.pointer), "duplicate", format!("{topic} is a source twice"));
        }
        sources.push(Source { topic, from });
    }
    Some(sources)
}

fn steps(at: &At<'_>, problems: &mut Problems) -> Option<Vec<StepSpec>> {
    let list = at.list(STEPS_MAX, problems)?;
    if list.is_empty() {
        problems.invalid(at.pointer.clone(), "can't be empty: a pipeline needs a step");
    }
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    for at in &list {
        let Some(mut object) = at.object(problems) else { continue };
        let step = object
            .required("name", problems)
            .and_then(|at| at.parsed(problems, |text| name(text).map(|()| text.to_owned())));
        let transform = object.required("transform", problems).and_then(|at| at.read::<Versioned>(problems));
        let version = object.field("version").and_then(|at| match at.value.as_i64() {
            Some(_) => at
                .integer(1, u32::MAX.into(), problems)
                .and_then(|n| u32::try_from(n).ok())
                .map(VersionRef::Number),
            None => at.read(problems),
        });
        object.finish(problems);
        let (Some(step), Some(transform)) = (step, transform) else { continue };
        if !seen.insert(step.clone()) {
            problems.add(
                format!("{}/name", at.pointer),
                "duplicate",
                format!("another step is named {step} too"),
            );
        }
        if transform.version.is_some() && version.is_some() {
            problems.add(
                format!("{}/version", at.pointer),
                "conflict",
                format!("the version is given twice: in transform ({transform}) and in version"),
            );
        }
        steps.push(StepSpec {
            name: step,
            transform: transform.name,
            version: version.or(transform.version),
        });
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::StartFrom;

    fn decode(value: &serde_json::Value) -> Result<PipelineSpec, Problems> {
        let mut problems = Problems::new();
        let spec = PipelineSpec::decode(&At { value, pointer: "/spec".into() }, &mut problems);
        problems.or(spec)
    }

    #[test]
    fn a_pipeline_reads_with_its_defaults_and_reads_back() {
        let spec = decode(&json!({
            "sources": [{"topic": "a"}, {"topic": "b", "from": "2026-01-31T12:00:00Z"}],
            "steps": [{"name": "one", "transform": "enrich"}, {"name": "two", "transform": "shape@3"},
                      {"name": "three", "transform": "shape", "version": 2}],
            "target": {"topic": "c", "key": "id"},
            "rollout": {"require": {"backtest": {"maxChanged": "1%"}}},
        }))
        .unwrap();
        assert_eq!(spec.sources[0].from, StartFrom::Earliest);
        assert_eq!(spec.steps[1].version, Some(VersionRef::Number(3)));
        assert_eq!(spec.steps[2].version, Some(VersionRef::Number(2)));
        assert_eq!((spec.parallelism, spec.on_error), (1, OnError::DeadLetter));
        let stored = serde_json::to_value(&spec).unwrap();
        assert_eq!(decode(&stored).unwrap(), spec);
        assert_eq!(serde_json::from_value::<PipelineSpec>(stored).unwrap(), spec);
    }

    #[test]
    fn every_problem_is_collected_with_its_place() {
        let problems = decode(&json!({
            "sources": [{"topic": "a", "from": "yesterday"}, {"topic": "a"}, {"topic": "__x"}, 3],
            "steps": [{"name": "S", "transform": "t@x"}, {"name": "s", "transform": "t@1", "version": 2},
                      {"name": "s", "transform": "t"}],
            "target": {"topic": "a", "keys": "id"},
            "parallelism": 0,
        }))
        .unwrap_err();
        let places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        assert_eq!(
            places,
            [
                "/spec/sources/0/from",
                "/spec/sources/1/topic",
                "/spec/sources/2/topic",
                "/spec/sources/3",
                "/spec/steps/0/name",
                "/spec/steps/0/transform",
                "/spec/steps/1/version",
                "/spec/steps/2/name",
                "/spec/target/keys",
                "/spec/parallelism",
                "/spec/target/topic",
            ]
        );
        let empty = decode(&json!({"sources": [], "steps": [], "target": {"topic": "x"}})).unwrap_err();
        assert_eq!(empty.len(), 2);
    }
}
