//! What a change brings with it that its fields don't say: data that goes, offsets that move, readers that no longer
//! understand, and what isn't done at all.
//!
//! Codes: `loses_data`, `incompatible`, `moves_keys`, `offsets`, `not_applied`, `stays`, `loses_versions`, `unmasks`; besides them
//! `note`, `backtest_required` and `backtest_refused`, which a plan adds.

use std::collections::{BTreeMap, BTreeSet};

use resources::{ConnectorSpec, Kind, PipelineSpec, RedactSpec, Spec, StepKind, TopicSpec, TransformSpec};
use serde::Serialize;
use types::TopicName;

/// What a person should know before it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Warning {
    /// Stable, for programs.
    code: &'static str,
    /// Into the manifest; empty: the whole of it.
    pointer: String,
    pub(super) message: String,
}

impl Warning {
    pub(super) fn new(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, pointer: pointer.into(), message: message.into() }
    }
}

/// Of a change of a spec.
pub(super) fn entails(before: &Spec, after: &Spec) -> Vec<Warning> {
    let mut found = Vec::new();
    match (before, after) {
        (Spec::Topic(before), Spec::Topic(after)) => topic(before, after, &mut found),
        (Spec::Transform(before), Spec::Transform(after)) => transform(before, after, &mut found),
        (Spec::Pipeline(before), Spec::Pipeline(after)) => pipeline(before, after, &mut found),
        (Spec::Connector(before), Spec::Connector(after)) => connector(before, after, &mut found),
        _ => {}
    }
    found
}

/// Of a deletion.
pub(super) fn of_deletion(kind: Kind) -> Option<Warning> {
    let (code, message) = match kind {
        Kind::Topic => (
            "stays",
            "the topic and its records stay in the engine, and nobody looks after them: `vltava topics delete` deletes \
             them for good",
        ),
        Kind::Transform => {
            ("loses_versions", "its versions go with it: made again, it begins with version 1")
        }
        Kind::Pipeline => {
            ("offsets", "made again, it begins anew: what it read is read and written once more")
        }
        Kind::Connector => {
            ("offsets", "made again, it begins anew: what it delivered is delivered once more")
        }
        Kind::Workspace | Kind::Client | Kind::Redrive => return None,
    };
    Some(Warning::new(code, "", message))
}

/// Of a rename: the resource is made anew, and the old one deleted.
pub(super) fn of_rename(kind: Kind, from: &str) -> Option<Warning> {
    let (code, message) = match kind {
        Kind::Topic => (
            "loses_data",
            format!(
                "a topic can't be renamed: it is made empty, and the records of {from} stay in the engine"
            ),
        ),
        Kind::Transform => ("loses_versions", format!("it begins with version 1; the versions of {from} go")),
        Kind::Pipeline | Kind::Connector => {
            ("offsets", format!("the offsets of {from} aren't taken along: it begins anew in its topics"))
        }
        Kind::Workspace | Kind::Client | Kind::Redrive => return None,
    };
    Some(Warning::new(code, "/metadata/name", message))
}

fn topic(before: &TopicSpec, after: &TopicSpec, found: &mut Vec<Warning>) {
    if after.partitions > before.partitions {
        let text = "keys go to other partitions from then on: the order of a key's records isn't kept across the change";
        found.push(Warning::new("moves_keys", "/spec/partitions", text));
    }
    if after.replication_factor != before.replication_factor {
        let text = "a topic that is there keeps its replicas: Kafka's own tools move them";
        found.push(Warning::new("not_applied", "/spec/replicationFactor", text));
    }
    for (field, old, new) in [
        ("/spec/keySubject", &before.key_subject, &after.key_subject),
        ("/spec/valueSubject", &before.value_subject, &after.value_subject),
    ] {
        subject(field, old.as_deref(), new.as_deref(), found);
    }
    config(&before.config, &after.config, found);
}

fn config(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, found: &mut Vec<Warning>) {
    // -1 is for ever, or as much as there is.
    let number = |text: &String| text.parse::<i64>().ok().map(|n| if n < 0 { i64::MAX } else { n });
    for (name, old) in before {
        let pointer = format!("/spec/config/{}", name.replace('~', "~0").replace('/', "~1"));
        let Some(new) = after.get(name) else {
            let text = "the engine keeps the value that it has: what is in no spec is left as it is";
            found.push(Warning::new("not_applied", pointer, text));
            continue;
        };
        let is_less = || matches!((number(old), number(new)), (Some(old), Some(new)) if new < old);
        match name.as_str() {
            "retention.ms" | "retention.bytes" if is_less() => {
                let text = "records that are older, or more, than that are deleted";
                found.push(Warning::new("loses_data", pointer, text));
            }
            "max.message.bytes" if is_less() => {
                let text = "who sends larger records is refused";
                found.push(Warning::new("incompatible", pointer, text));
            }
            _ => {}
        }
    }
    const POLICY: &str = "cleanup.policy";
    let says = |config: &BTreeMap<String, String>, word: &str| {
        config.get(POLICY).map_or("delete", String::as_str).split(',').any(|part| part.trim() == word)
    };
    for (word, text) in [
        ("compact", "of each key only the newest record is kept from then on"),
        ("delete", "records older than the topic's retention are deleted from then on"),
    ] {
        if says(after, word) && !says(before, word) {
            found.push(Warning::new("loses_data", format!("/spec/config/{POLICY}"), text));
        }
    }
}

fn subject(pointer: &str, before: Option<&str>, after: Option<&str>, found: &mut Vec<Warning>) {
    if let Some(old) = before.filter(|_| before != after) {
        let text = format!("who reads by subject {old} may not understand what comes from then on");
        found.push(Warning::new("incompatible", pointer, text));
    }
}

fn transform(before: &TransformSpec, after: &TransformSpec, found: &mut Vec<Warning>) {
    subject("/spec/inputSubject", before.input_subject.as_deref(), after.input_subject.as_deref(), found);
    subject("/spec/outputSubject", before.output_subject.as_deref(), after.output_subject.as_deref(), found);
}

fn pipeline(before: &PipelineSpec, after: &PipelineSpec, found: &mut Vec<Warning>) {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (
        before.sources.iter().map(|source| &source.topic).collect(),
        after.sources.iter().map(|source| &source.topic).collect(),
    );
    left_unread("/spec/sources", &old, &new, found);
    for (i, source) in after.sources.iter().enumerate() {
        match before.sources.iter().find(|old| old.topic == source.topic) {
            None => {
                let text = format!("it begins at {} in {}", source.from, source.topic);
                found.push(Warning::new("offsets", format!("/spec/sources/{i}"), text));
            }
            Some(old) if old.from != source.from => {
                let text = "it goes on where its offsets are; `vltava pipelines reset-offsets` moves them";
                found.push(Warning::new("not_applied", format!("/spec/sources/{i}/from"), text));
            }
            Some(_) => {}
        }
    }
    let kept: BTreeSet<_> = after.targets().into_iter().map(|(_, topic)| topic).collect();
    for (place, topic) in before.targets() {
        if !kept.contains(topic) {
            let text = format!("who reads {topic} gets no results from then on");
            // A route that is gone has no place any more.
            let place = if place.starts_with("/target") { place } else { "/steps".into() };
            found.push(Warning::new("incompatible", format!("/spec{place}"), text));
        }
    }
    let keys = |spec: &PipelineSpec| {
        let keys = spec.steps.iter().filter(|step| matches!(step.kind, StepKind::Key(_)));
        keys.flat_map(|step| step.kind.expressions()).map(|(_, key)| key.to_owned()).collect::<Vec<_>>()
    };
    // A key over the output is the one that counts.
    if after.target.key.is_none() && before.target.key.is_none() && keys(before) != keys(after) {
        let text = "results get other keys from then on: their order isn't kept across the change";
        found.push(Warning::new("moves_keys", "/spec/steps", text));
    }
    let hidden = |spec: &PipelineSpec| {
        let redactions = spec.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Redact(RedactSpec { paths, with: _ }) => Some(paths),
            _ => None,
        });
        redactions.flatten().cloned().collect::<BTreeSet<_>>()
    };
    let (old, new) = (hidden(before), hidden(after));
    let shown: Vec<_> = old.difference(&new).map(String::as_str).collect();
    if !shown.is_empty() {
        let text =
            format!("{} isn't hidden any more: it is written as it comes from then on", shown.join(", "));
        found.push(Warning::new("unmasks", "/spec/steps", text));
    }
    if before.target.key != after.target.key {
        let text = "results get other keys from then on: their order isn't kept across the change";
        found.push(Warning::new("moves_keys", "/spec/target/key", text));
    }
}

fn connector(before: &ConnectorSpec, after: &ConnectorSpec, found: &mut Vec<Warning>) {
    let (old, new) = (before.topics.iter().collect(), after.topics.iter().collect());
    left_unread("/spec/topics", &old, &new, found);
    for topic in new.difference(&old) {
        let text = format!("it begins at earliest in {topic}, where it has no offsets");
        found.push(Warning::new("offsets", "/spec/topics", text));
    }
}

fn left_unread(
    pointer: &str,
    before: &BTreeSet<&TopicName>,
    after: &BTreeSet<&TopicName>,
    found: &mut Vec<Warning>,
) {
    for topic in before.difference(after) {
        let text = format!("what it hasn't read of {topic} it doesn't read any more");
        found.push(Warning::new("offsets", pointer, text));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn codes(kind: Kind, before: Value, after: Value) -> Vec<(&'static str, String)> {
        let spec = |value| Spec::decode(kind, &value).unwrap();
        let found = entails(&spec(before), &spec(after));
        found.into_iter().map(|warning| (warning.code, warning.pointer)).collect()
    }

    #[test]
    fn what_topics_lose_is_said() {
        let before = json!({"partitions": 3, "config": {"retention.ms": "7d", "max.message.bytes": "2MiB",
            "cleanup.policy": "compact", "segment.ms": "1d"}});
        let after = json!({"partitions": 4, "config": {"retention.ms": "1d", "max.message.bytes": "1MiB"}});
        let found = codes(Kind::Topic, before.clone(), after);
        let all = [
            ("moves_keys", "/spec/partitions"),
            ("not_applied", "/spec/config/cleanup.policy"),
            ("incompatible", "/spec/config/max.message.bytes"),
            ("loses_data", "/spec/config/retention.ms"),
            ("not_applied", "/spec/config/segment.ms"),
            ("loses_data", "/spec/config/cleanup.policy"),
        ];
        assert_eq!(found, all.map(|(code, pointer)| (code, pointer.to_owned())));
        assert_eq!(codes(Kind::Topic, before.clone(), before.clone()), []);
        let mut more = before.clone();
        more["config"]["retention.ms"] = json!(-1);
        assert_eq!(codes(Kind::Topic, before, more.clone()), []);
        let mut less = more.clone();
        less["config"]["retention.ms"] = json!("99d");
        assert_eq!(codes(Kind::Topic, more, less)[0].0, "loses_data");
    }

    #[test]
    fn keys_that_steps_change_are_said() {
        let of =
            |steps: Value| json!({"sources": [{"topic": "a"}], "steps": steps, "target": {"topic": "b"}});
        let before = of(json!([{"name": "s", "filter": "a"}, {"name": "k", "key": "id"}]));
        let after = of(json!([{"name": "s", "filter": "b"}, {"name": "k", "key": "sku"}]));
        let renamed = of(json!([{"name": "s", "filter": "b"}, {"name": "by", "key": "id"}]));
        let moved = [("moves_keys", "/spec/steps".to_owned())];
        assert_eq!(codes(Kind::Pipeline, before.clone(), after), moved);
        assert_eq!(codes(Kind::Pipeline, before, renamed), []);
    }

    #[test]
    fn targets_that_get_nothing_any_more_are_said() {
        let of = |topics: Value, target: &str| {
            json!({"sources": [{"topic": "a"}], "steps": [{"name": "s", "route": {"topics": topics, "to": "to"}}],
                "target": {"topic": target}})
        };
        let (before, after) = (of(json!(["x", "y"]), "z"), of(json!(["z", "y"]), "w"));
        assert_eq!(codes(Kind::Pipeline, before, after), [("incompatible", "/spec/steps".to_owned())]);
    }

    #[test]
    fn what_is_hidden_no_more_is_said() {
        let of = |paths: Value| {
            json!({"sources": [{"topic": "a"}], "steps": [{"name": "s", "redact": {"paths": paths}}],
                "target": {"topic": "b"}})
        };
        let (both, one) = (of(json!(["/a", "/b"])), of(json!(["/a"])));
        assert_eq!(codes(Kind::Pipeline, one.clone(), both.clone()), []);
        assert_eq!(codes(Kind::Pipeline, both, one), [("unmasks", "/spec/steps".to_owned())]);
    }

    #[test]
    fn offsets_that_move_are_said() {
        let of = |sources: Value, target: &str| {
            json!({"sources": sources, "steps": [{"name": "s", "transform": "t", "version": 1}],
                "target": {"topic": target}})
        };
        let before = of(json!([{"topic": "a"}, {"topic": "b"}]), "x");
        let after = of(json!([{"topic": "b", "from": "latest"}, {"topic": "c"}]), "y");
        let found = codes(Kind::Pipeline, before, after);
        let all = [
            ("offsets", "/spec/sources"),
            ("not_applied", "/spec/sources/0/from"),
            ("offsets", "/spec/sources/1"),
            ("incompatible", "/spec/target/topic"),
        ];
        assert_eq!(found, all.map(|(code, pointer)| (code, pointer.to_owned())));
    }
}
