//! Which topics must be, how, and what to ask of the engine to get there. No I/O.
//!
//! Invariant: nothing here takes anything away. Partitions grow; the limits of system topics rise; a setting
//! that is in the engine but in no spec is shown, not reset.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use resources::MAX_MESSAGE_BYTES_DEFAULT;
use types::TopicName;

use crate::EngineKind;
use crate::drift::{Drift, DriftKind, Reverted};
use crate::engine::{EngineTopic, NewTopic};

/// What a dead letter's headers may add to a record: a DLQ takes so many bytes more than its source.
pub(super) const DLQ_EXTRA_BYTES: u64 = 64 << 10;

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const RETENTION_MS: &str = "retention.ms";
const CLEANUP_POLICY: &str = "cleanup.policy";

/// What a topic must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Want {
    /// At least.
    pub(super) partitions: i32,
    /// `None`: the engine's default.
    pub(super) replication_factor: Option<i16>,
    /// Exactly.
    pub(super) config: BTreeMap<String, String>,
    /// At least, whatever `config` says.
    pub(super) message_bytes_min: Option<u64>,
    /// At least, in milliseconds; [`i64::MAX`] is for ever.
    pub(super) retention_ms_min: Option<i64>,
    /// Whether a Topic resource says so: then more partitions than wanted are drift.
    pub(super) by_resource: bool,
}

impl Want {
    /// As both want it.
    pub(super) fn merge(&mut self, other: Self) {
        let Self { partitions, replication_factor, config, message_bytes_min, retention_ms_min, by_resource } =
            other;
        self.partitions = self.partitions.max(partitions);
        self.replication_factor = self.replication_factor.or(replication_factor);
        for (name, value) in config {
            self.config.entry(name).or_insert(value);
        }
        self.message_bytes_min = self.message_bytes_min.max(message_bytes_min);
        self.retention_ms_min = self.retention_ms_min.max(retention_ms_min);
        self.by_resource |= by_resource;
    }

    /// The settings in force: what is written, raised to what is needed. The second part names what was raised.
    fn settings(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut config = self.config.clone();
        let mut raised = Vec::new();
        let mut raise = |name: &str, enough: bool, least: String| {
            if !enough && let Some(written) = config.insert(name.to_owned(), least.clone()) {
                raised.push(format!(
                    "{name} is {least} instead of {written}: dead letters of its sources must fit"
                ));
            }
        };
        if let Some(least) = self.message_bytes_min {
            let written = self.config.get(MAX_MESSAGE_BYTES).and_then(|text| text.parse::<u64>().ok());
            raise(MAX_MESSAGE_BYTES, written.is_some_and(|bytes| bytes >= least), least.to_string());
        }
        if let Some(least) = self.retention_ms_min {
            let written = self.config.get(RETENTION_MS).map(|text| duration(text));
            raise(RETENTION_MS, written.is_some_and(|ms| ms >= least), show_duration(least));
        }
        (config, raised)
    }
}

/// `-1` is for ever.
fn duration(text: &str) -> i64 {
    text.parse().ok().filter(|ms| *ms >= 0).unwrap_or(i64::MAX)
}

fn show_duration(ms: i64) -> String {
    if ms == i64::MAX { "-1".into() } else { ms.to_string() }
}

/// What is known of a source topic: by its resource, else by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceFacts {
    pub(super) partitions: i32,
    pub(super) message_bytes_max: u64,
    /// [`i64::MAX`] is for ever; `None`: the engine's default, which a new DLQ gets too.
    pub(super) retention_ms: Option<i64>,
}

impl SourceFacts {
    /// `None`: the topic neither is nor will be.
    pub(super) fn of(want: Option<&Want>, engine: Option<&EngineTopic>) -> Option<Self> {
        if want.is_none() && engine.is_none() {
            return None;
        }
        let setting = |name: &str| {
            let wanted = want.and_then(|want| want.settings().0.get(name).cloned());
            wanted.or_else(|| engine.and_then(|topic| topic.config.get(name).cloned()))
        };
        let compacted = setting(CLEANUP_POLICY).is_some_and(|policy| policy == "compact");
        let retention_ms = setting(RETENTION_MS).map(|text| duration(&text));
        Some(Self {
            partitions: want
                .map_or(1, |want| want.partitions)
                .max(engine.map_or(1, |topic| topic.partitions)),
            message_bytes_max: setting(MAX_MESSAGE_BYTES)
                .and_then(|text| text.parse().ok())
                .unwrap_or(MAX_MESSAGE_BYTES_DEFAULT),
            // What is compacted is kept for ever, whatever its retention says.
            retention_ms: if compacted { Some(i64::MAX) } else { retention_ms },
        })
    }

    /// A topic that holds copies of this one's records, with headers more.
    pub(super) fn copies(self) -> Want {
        Want {
            partitions: self.partitions,
            message_bytes_min: Some(self.message_bytes_max + DLQ_EXTRA_BYTES),
            retention_ms_min: self.retention_ms,
            ..Want::default()
        }
    }

    /// A topic for results of this one's records, where nobody says how it should be.
    pub(super) fn results(self) -> Want {
        Want {
            partitions: self.partitions,
            message_bytes_min: Some(self.message_bytes_max)
                .filter(|bytes| *bytes > MAX_MESSAGE_BYTES_DEFAULT),
            ..Want::default()
        }
    }
}

/// Settings to change: the new value, or `None` for the default.
pub(super) type Settings = Vec<(String, Option<String>)>;

/// What to ask of the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) create: Vec<NewTopic>,
    pub(super) grow: Vec<(TopicName, i32)>,
    pub(super) configure: Vec<(TopicName, Settings)>,
}

impl Steps {
    /// Without what the engine refused already, and what it was told to set already.
    pub(super) fn leave_out<T>(
        &mut self,
        refused: &BTreeMap<TopicName, T>,
        configured: &BTreeSet<TopicName>,
    ) {
        self.create.retain(|topic| !refused.contains_key(&topic.name));
        self.grow.retain(|(name, _)| !refused.contains_key(name));
        self.configure.retain(|(name, _)| !refused.contains_key(name) && !configured.contains(name));
    }

    /// Whether nothing is asked of a topic.
    pub(super) fn leaves(&self, name: &TopicName) -> bool {
        let Self { create, grow, configure } = self;
        let asked = create.iter().map(|new| &new.name);
        let asked = asked.chain(grow.iter().map(|(name, _)| name));
        !asked.chain(configure.iter().map(|(name, _)| name)).any(|asked| asked == name)
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { create, grow, configure } = self;
        create.is_empty() && grow.is_empty() && configure.is_empty()
    }
}

/// From what is to what is wanted.
pub(super) fn steps(
    wants: &BTreeMap<TopicName, Want>,
    engine: &BTreeMap<TopicName, EngineTopic>,
    kind: EngineKind,
) -> Steps {
    let mut steps = Steps::default();
    for (name, want) in wants {
        let (config, _) = want.settings();
        let Some(topic) = engine.get(name) else {
            steps.create.push(NewTopic {
                name: name.clone(),
                partitions: Some(want.partitions),
                replication_factor: want.replication_factor.filter(|_| kind == EngineKind::Kafka),
                config,
            });
            continue;
        };
        if topic.partitions < want.partitions {
            steps.grow.push((name.clone(), want.partitions));
        }
        let differs = |(name, value): &(&String, &String)| match topic.config.get(*name) {
            None => true,
            // Only a least is wanted, and there is more.
            Some(there) if want.config.get(*name) != Some(value) => match name.as_str() {
                RETENTION_MS => duration(there) < duration(value),
                _ => there.parse::<u64>().ok() < value.parse().ok(),
            },
            Some(there) => there != *value,
        };
        let changes: Vec<_> =
            config.iter().filter(differs).map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        if !changes.is_empty() {
            steps.configure.push((name.clone(), changes));
        }
    }
    steps
}

/// What is otherwise in a topic that is there, and warnings.
pub(super) fn drift(want: &Want, topic: &EngineTopic) -> (Vec<Drift>, Vec<String>) {
    let (config, mut warnings) = want.settings();
    let mut drift = Vec::new();
    if want.by_resource && topic.partitions > want.partitions {
        drift.push(Drift {
            kind: DriftKind::Differs,
            pointer: PARTITIONS_POINTER.into(),
            wanted: Some(want.partitions.to_string()),
            found: Some(topic.partitions.to_string()),
            message: format!(
                "the engine has {} partitions, the spec says {}: partitions can't be taken away",
                topic.partitions, want.partitions
            ),
        });
    }
    for (name, value) in &want.config {
        let there = topic.config.get(name);
        if config.get(name) == Some(value) && there != Some(value) {
            drift.push(Drift {
                kind: DriftKind::Differs,
                pointer: config_pointer(name),
                wanted: Some(value.clone()),
                found: there.cloned(),
                message: format!(
                    "{name} is {} in the engine, the spec says {value}",
                    there.map_or("unset", |there| there)
                ),
            });
        }
    }
    for name in topic.set.iter().filter(|name| !config.contains_key(*name)) {
        let message = format!("{name} is set in the engine, but not in the spec: it is left as it is");
        warnings.push(message.clone());
        drift.push(Drift {
            kind: DriftKind::Unmanaged,
            pointer: config_pointer(name),
            wanted: None,
            found: topic.config.get(name).cloned(),
            message,
        });
    }
    (drift, warnings)
}

/// What these steps put back, by topic: those for which nothing else is wanted than when they were as they should be.
pub(super) fn reverted(
    steps: &Steps,
    settled: &BTreeMap<TopicName, Want>,
    wants: &BTreeMap<TopicName, Want>,
    engine: &BTreeMap<TopicName, EngineTopic>,
    at: Timestamp,
) -> BTreeMap<TopicName, Vec<Reverted>> {
    let mut reverted: BTreeMap<TopicName, Vec<Reverted>> = BTreeMap::new();
    let is_settled = |name: &TopicName| settled.get(name).is_some_and(|want| wants.get(name) == Some(want));
    let mut add = |name: &TopicName, one: Reverted| {
        if is_settled(name) {
            reverted.entry(name.clone()).or_default().push(one);
        }
    };
    for new in &steps.create {
        let message = "the topic was gone from the engine: it was made again, empty".into();
        add(&new.name, Reverted { pointer: String::new(), wanted: None, found: None, at, message });
    }
    for (name, partitions) in &steps.grow {
        let found = engine.get(name).map(|topic| topic.partitions.to_string());
        let message = format!("the topic had {} partitions", found.as_deref().unwrap_or("no"));
        let wanted = Some(partitions.to_string());
        add(name, Reverted { pointer: PARTITIONS_POINTER.into(), wanted, found, at, message });
    }
    for (name, settings) in &steps.configure {
        for (setting, wanted) in settings {
            let found = engine.get(name).and_then(|topic| topic.config.get(setting)).cloned();
            let message = format!(
                "{setting} was {} in the engine, and is {} again",
                found.as_deref().unwrap_or("unset"),
                wanted.as_deref().unwrap_or("unset")
            );
            let pointer = config_pointer(setting);
            add(name, Reverted { pointer, wanted: wanted.clone(), found, at, message });
        }
    }
    reverted
}

/// Where a topic's partitions stand in its manifest.
const PARTITIONS_POINTER: &str = "/spec/partitions";

/// Where a setting stands in a topic's manifest. Settings' names have nothing to escape.
fn config_pointer(name: &str) -> String {
    format!("/spec/config/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine_topic(partitions: i32, config: &[(&str, &str)]) -> EngineTopic {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        EngineTopic { partitions, config, set: Vec::new() }
    }

    fn one(name: &str, want: Want) -> BTreeMap<TopicName, Want> {
        BTreeMap::from([(TopicName::new(name).unwrap(), want)])
    }

    fn there(name: &str, topic: EngineTopic) -> BTreeMap<TopicName, EngineTopic> {
        BTreeMap::from([(TopicName::new(name).unwrap(), topic)])
    }

    #[test]
    fn a_dlq_takes_and_keeps_what_its_sources_do() {
        let small = engine_topic(3, &[(RETENTION_MS, "1000"), (MAX_MESSAGE_BYTES, "1000000")]);
        let large = engine_topic(12, &[(RETENTION_MS, "500"), (MAX_MESSAGE_BYTES, "2000000")]);
        let mut want = SourceFacts::of(None, Some(&small)).unwrap().copies();
        want.merge(SourceFacts::of(None, Some(&large)).unwrap().copies());
        let made = steps(&one("dlq", want.clone()), &BTreeMap::new(), EngineKind::Embedded);
        let new = &made.create[0];
        assert_eq!(new.partitions, Some(12));
        assert_eq!(new.config[MAX_MESSAGE_BYTES], (2_000_000 + DLQ_EXTRA_BYTES).to_string());
        assert_eq!(new.config[RETENTION_MS], "1000");

        // One that is larger stays; one that is smaller is raised, never lowered.
        let more = there("dlq", engine_topic(20, &[(RETENTION_MS, "-1"), (MAX_MESSAGE_BYTES, "9000000")]));
        assert!(steps(&one("dlq", want.clone()), &more, EngineKind::Embedded).is_empty());
        let less = there("dlq", engine_topic(6, &[(RETENTION_MS, "10"), (MAX_MESSAGE_BYTES, "9000000")]));
        let raised = steps(&one("dlq", want), &less, EngineKind::Embedded);
        assert_eq!(raised.grow[0].1, 12);
        assert_eq!(raised.configure[0].1, [(RETENTION_MS.to_owned(), Some("1000".to_owned()))]);
    }

    #[test]
    fn compacted_sources_are_kept_for_ever() {
        let compacted = engine_topic(1, &[(CLEANUP_POLICY, "compact"), (RETENTION_MS, "1000")]);
        let want = SourceFacts::of(None, Some(&compacted)).unwrap().copies();
        let made = steps(&one("dlq", want), &BTreeMap::new(), EngineKind::Embedded);
        assert_eq!(made.create[0].config[RETENTION_MS], "-1");
    }

    #[test]
    fn a_resource_is_followed_exactly_and_nothing_is_taken_away() {
        let want = Want {
            partitions: 3,
            replication_factor: Some(3),
            config: BTreeMap::from([(RETENTION_MS.to_owned(), "1000".to_owned())]),
            by_resource: true,
            ..Want::default()
        };
        let made = steps(&one("a", want.clone()), &BTreeMap::new(), EngineKind::Embedded);
        assert_eq!(made.create[0].replication_factor, None);
        let made = steps(&one("a", want.clone()), &BTreeMap::new(), EngineKind::Kafka);
        assert_eq!(made.create[0].replication_factor, Some(3));

        let mut topic = engine_topic(5, &[(RETENTION_MS, "2000")]);
        topic.set = vec!["segment.bytes".into(), RETENTION_MS.into()];
        let found = steps(&one("a", want.clone()), &there("a", topic.clone()), EngineKind::Kafka);
        assert!(found.grow.is_empty() && found.create.is_empty());
        assert_eq!(found.configure[0].1, [(RETENTION_MS.to_owned(), Some("1000".to_owned()))]);
        let (drift, warnings) = drift(&want, &topic);
        assert!(drift[0].message.contains("5 partitions"), "{drift:?}");
        assert_eq!(
            (drift[2].kind, drift[2].pointer.as_str()),
            (DriftKind::Unmanaged, "/spec/config/segment.bytes")
        );
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn a_dlqs_own_resource_is_raised_where_letters_would_not_fit() {
        let mut want = Want {
            partitions: 1,
            config: BTreeMap::from([(MAX_MESSAGE_BYTES.to_owned(), "1000".to_owned())]),
            by_resource: true,
            ..Want::default()
        };
        want.merge(
            SourceFacts::of(None, Some(&engine_topic(2, &[(MAX_MESSAGE_BYTES, "5000")]))).unwrap().copies(),
        );
        let made = steps(&one("dlq", want.clone()), &BTreeMap::new(), EngineKind::Embedded);
        assert_eq!(made.create[0].config[MAX_MESSAGE_BYTES], (5000 + DLQ_EXTRA_BYTES).to_string());
        assert_eq!(made.create[0].partitions, Some(2));
        let raised = engine_topic(2, &[(MAX_MESSAGE_BYTES, &(5000 + DLQ_EXTRA_BYTES).to_string())]);
        assert!(
            steps(&one("dlq", want.clone()), &there("dlq", raised.clone()), EngineKind::Embedded).is_empty()
        );
        let (drift, warnings) = drift(&want, &raised);
        assert_eq!(drift, []);
        assert!(warnings[0].contains("must fit"), "{warnings:?}");
    }
}
