//! The Pipeline: source topics, steps, a target topic.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::TopicName;

use crate::decode::At;
use crate::problem::Problems;
use crate::{OnError, RolloutSpec, Source, StepSpec};

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
        // As they are written: steps and topics with problems of their own are left out of what was read.
        for (i, step) in at.value["steps"].as_array().into_iter().flatten().enumerate() {
            let topics = step.pointer("/route/topics").and_then(Value::as_array);
            for (j, topic) in topics.into_iter().flatten().enumerate() {
                if let Some(source) =
                    sources.iter().find(|source| topic.as_str() == Some(source.topic.as_str()))
                {
                    problems.add(
                        format!("{}/steps/{i}/route/topics/{j}", at.pointer),
                        "conflict",
                        format!(
                            "{} is a source too: the pipeline would read what it writes, for ever",
                            source.topic
                        ),
                    );
                }
            }
        }
        Some(Self { sources, steps, target, guarantee, on_error, fan_out, parallelism, rollout })
    }
}

impl PipelineSpec {
    /// Every topic that results go to, each with its JSON pointer from the spec on: the target, and what routes may choose.
    pub fn targets(&self) -> Vec<(String, &TopicName)> {
        let mut targets = vec![("/target/topic".to_owned(), &self.target.topic)];
        for (i, step) in self.steps.iter().enumerate() {
            let topics = step.kind.topics().iter().enumerate();
            targets.extend(topics.map(|(j, topic)| (format!("/steps/{i}/route/topics/{j}"), topic)));
        }
        targets
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
        let Some(step) = StepSpec::decode(at, problems) else { continue };
        if !seen.insert(step.name.clone()) {
            let message = format!("another step is named {} too", step.name);
            problems.add(format!("{}/name", at.pointer), "duplicate", message);
        }
        steps.push(step);
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{StartFrom, StepKind, VersionRef};

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
        let version = |step: &StepSpec| step.kind.transform().unwrap().version;
        assert_eq!(version(&spec.steps[1]), Some(VersionRef::Number(3)));
        assert_eq!(version(&spec.steps[2]), Some(VersionRef::Number(2)));
        assert_eq!((spec.parallelism, spec.on_error), (1, OnError::DeadLetter));
        let stored = serde_json::to_value(&spec).unwrap();
        assert_eq!(decode(&stored).unwrap(), spec);
        assert_eq!(serde_json::from_value::<PipelineSpec>(stored).unwrap(), spec);
    }

    #[test]
    fn steps_of_every_kind_read_back_as_they_were_written() {
        let steps = json!([
            {"name": "a", "transform": "t", "version": 2},
            {"name": "b", "filter": "total > 1"},
            {"name": "c", "key": "id"},
            {"name": "d", "headers": {"set": {"tenant": "tenant", "a/b": "1"}, "drop": ["cookie"]}},
            {"name": "e", "redact": {"paths": ["/a~1b/*", "/c"], "with": "drop"}},
            {"name": "f", "sample": {"percent": 12.5, "by": "record"}},
            {"name": "g", "validate": {"schema": {"type": "object"}}},
            {"name": "h", "route": {"topics": ["x", "y"], "to": "kind"}},
        ]);
        let spec = decode(&json!({"sources": [{"topic": "a"}], "steps": steps, "target": {"topic": "c"}}));
        let spec = spec.unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap()["steps"], steps);
        let words: Vec<_> = spec.steps.iter().map(|step| step.kind.word()).collect();
        assert_eq!(words, ["transform", "filter", "key", "headers", "redact", "sample", "validate", "route"]);
        let targets: Vec<_> = spec.targets().into_iter().map(|(at, topic)| format!("{at} {topic}")).collect();
        assert_eq!(targets, ["/target/topic c", "/steps/7/route/topics/0 x", "/steps/7/route/topics/1 y"]);
        let StepKind::Headers(_) = &spec.steps[3].kind else { panic!("{spec:?}") };
        let places: Vec<_> = spec.steps[3].kind.expressions().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/headers/set/a~1b", "/headers/set/tenant"]);
    }

    #[test]
    fn a_step_is_of_one_kind_and_says_what_is_wrong_with_it() {
        let long = "x".repeat(300);
        let steps = json!([
            {"name": "none"},
            {"name": "two", "filter": "a", "key": "b"},
            {"name": "versioned", "filter": "a", "version": 1},
            {"name": "typed", "filter": 7},
            {"name": "empty", "key": " "},
            {"name": "nothing", "headers": {}},
            {"name": "names", "headers": {"set": {"x-dlq-reason": "1", "": "1", "a b": "1", "X-Event-Id": "1", (long): "1"},
                "drop": ["x-transform", "a", "a", "b\r\nc", 1]}},
            {"name": "unknown", "filtre": "a"},
            {"name": "paths", "redact": {"paths": ["a", "", "/a~2", "/ok", "/x".repeat(40)], "with": "hide"}},
            {"name": "no-path", "redact": {"paths": []}},
            {"name": "percent", "sample": {"percent": "10%", "by": "value"}},
            {"name": "schema", "validate": {"schema": 3}},
            {"name": "no-topic", "route": {"topics": [], "to": "a"}},
            {"name": "topics", "route": {"topics": ["x", "x", "__y", "a"], "to": "a"}},
            {"name": "no-to", "route": {"topics": ["x"]}},
        ]);
        let spec = json!({"sources": [{"topic": "a"}], "steps": steps, "target": {"topic": "c"}});
        let problems = decode(&spec).unwrap_err();
        let found: Vec<_> =
            problems.iter().map(|p| (p.pointer.strip_prefix("/spec/steps/").unwrap(), &*p.code)).collect();
        assert_eq!(
            found,
            [
                ("0", "missing_field"),
                ("1/key", "conflict"),
                ("2/version", "conflict"),
                ("3/filter", "wrong_type"),
                ("4/key", "invalid_value"),
                ("5/headers", "missing_field"),
                ("6/headers/set/x-dlq-reason", "invalid_value"),
                ("6/headers/set/", "invalid_value"),
                ("6/headers/set/a b", "invalid_value"),
                ("6/headers/set/X-Event-Id", "invalid_value"),
                (&*format!("6/headers/set/{}", "x".repeat(300)), "invalid_value"),
                ("6/headers/drop/0", "invalid_value"),
                ("6/headers/drop/2", "duplicate"),
                ("6/headers/drop/3", "invalid_value"),
                ("6/headers/drop/4", "wrong_type"),
                ("7/filtre", "unknown_field"),
                ("7", "missing_field"),
                ("8/redact/paths/0", "invalid_value"),
                ("8/redact/paths/1", "invalid_value"),
                ("8/redact/paths/2", "invalid_value"),
                ("8/redact/paths/4", "invalid_value"),
                ("8/redact/with", "invalid_value"),
                ("9/redact/paths", "invalid_value"),
                ("10/sample/percent", "invalid_value"),
                ("10/sample/by", "invalid_value"),
                ("11/validate/schema", "wrong_type"),
                ("12/route/topics", "invalid_value"),
                ("13/route/topics/1", "duplicate"),
                ("13/route/topics/2", "invalid_value"),
                ("14/route/to", "missing_field"),
                ("13/route/topics/3", "conflict"),
            ]
        );
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
