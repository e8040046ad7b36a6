//! Which letters are settled: what [`SETTLED_TOPIC`](crate::SETTLED_TOPIC) says.
//!
//! Invariant: a settlement is written in the transaction that does what it says. Who reads it to act on it must have fenced
//! earlier writers of that partition first, and reads up to the high watermark: the last stable offset may be held
//! back, by a transaction of another run, before settlements that count.
//!
//! Not done: settlements of letters whose retention is over stay (about 100 bytes each, compacted).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use jiff::Timestamp;
use kafka::{Admin, ClientConfig, OffsetSpec, Scan, Stretch};
use serde::{Deserialize, Serialize};
use types::{Offset, Partition, Record, TopicName, TopicPartition};

use crate::{Error, LetterId, Result, SETTLED_TOPIC};

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Given back to its stage, or to another topic.
    Redriven,
    /// Given up.
    Discarded,
}

/// A settlement's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// What became of it.
    pub outcome: Outcome,
    /// The run that did it.
    pub run: String,
    /// When.
    pub at: Timestamp,
}

impl Settlement {
    /// The record that says so.
    pub fn record(&self, letter: &LetterId) -> Record {
        let value = serde_json::to_vec(self).expect("a struct of texts is JSON");
        Record {
            key: Some(letter.to_string().into()),
            value: Some(value.into()),
            timestamp: Some(self.at.as_millisecond()),
            ..Record::default()
        }
    }
}

/// The settled letters of one DLQ, as ranges of offsets: settling goes mostly in order, so they are few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    partitions: BTreeMap<Partition, Ranges>,
    /// How many are the asked run's, by partition.
    by_run: BTreeMap<Partition, u64>,
}

impl Settled {
    /// Whether a letter is settled.
    pub fn contains(&self, partition: Partition, offset: Offset) -> bool {
        self.partitions.get(&partition).is_some_and(|ranges| ranges.contains(offset))
    }

    /// How many letters of a partition the run settled that [`read`](Settled::read) was asked for.
    pub(crate) fn by_run(&self, partition: Partition) -> u64 {
        self.by_run.get(&partition).copied().unwrap_or(0)
    }

    /// Reads the settlements of a DLQ; of one partition of it, if said. `run`: whose are counted.
    pub(crate) async fn read(
        client: &ClientConfig,
        admin: &Admin,
        dlq: &TopicName,
        partition: Option<Partition>,
        run: Option<&str>,
    ) -> Result<Self> {
        let topic = TopicName::new(SETTLED_TOPIC).expect("a constant that is a topic's name");
        let described = admin
            .describe_topics(std::slice::from_ref(&topic))
            .await
            .map_err(Error::kafka("reading settlements"))?;
        let Some(description) = described.get(&topic) else {
            return Err(Error::MissingTopic { role: "settlement", topic });
        };
        let tps: Vec<_> =
            description.partitions.iter().map(|p| TopicPartition::new(topic.clone(), p.partition)).collect();
        let stretches = stretches(admin, &tps, OffsetSpec::HighWatermark).await?;
        let mut settled = Self::default();
        Scan::run(client, stretches, |record| {
            settled.learn(record.key.as_ref(), record.value.as_ref(), dlq, partition, run);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(settled)
    }

    fn learn(
        &mut self,
        key: Option<&Bytes>,
        value: Option<&Bytes>,
        dlq: &TopicName,
        partition: Option<Partition>,
        run: Option<&str>,
    ) {
        let id =
            key.and_then(|key| std::str::from_utf8(key).ok()).and_then(|key| key.parse::<LetterId>().ok());
        let Some(LetterId { tp, offset }) = id else { return };
        if tp.topic != *dlq || partition.is_some_and(|wanted| wanted != tp.partition) {
            return;
        }
        let ranges = self.partitions.entry(tp.partition).or_default();
        let Some(value) = value else {
            ranges.remove(offset);
            return;
        };
        // A value that can't be read settles all the same: the other way, a letter might be redriven twice.
        let is_new = ranges.insert(offset);
        let by = serde_json::from_slice::<Settlement>(value).map(|settlement| settlement.run);
        if is_new && by.is_ok_and(|by| Some(by.as_str()) == run) {
            *self.by_run.entry(tp.partition).or_default() += 1;
        }
    }
}

/// From their beginning up to an end.
pub(crate) async fn stretches(
    admin: &Admin,
    tps: &[TopicPartition],
    end: OffsetSpec,
) -> Result<Vec<Stretch>> {
    let list = async |spec| {
        let asked: Vec<_> = tps.iter().map(|tp| (tp.clone(), spec)).collect();
        admin.list_offsets(&asked).await.map_err(Error::kafka("listing offsets"))
    };
    let (starts, ends) = (list(OffsetSpec::Earliest).await?, list(end).await?);
    let of = |found: &BTreeMap<TopicPartition, kafka::ListedOffset>, tp| {
        found.get(tp).map_or(0, |listed| listed.offset.max(0))
    };
    Ok(tps.iter().map(|tp| Stretch { tp: tp.clone(), start: of(&starts, tp), end: of(&ends, tp) }).collect())
}

/// Offsets as disjoint ranges, by start, with the end without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<Offset, Offset>);

impl Ranges {
    fn contains(&self, offset: Offset) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Whether it wasn't there.
    fn insert(&mut self, offset: Offset) -> bool {
        if self.contains(offset) {
            return false;
        }
        let before =
            self.0.range(..offset).next_back().filter(|(_, end)| **end == offset).map(|(start, _)| *start);
        let end = self.0.remove(&(offset + 1)).unwrap_or(offset + 1);
        self.0.insert(before.unwrap_or(offset), end);
        true
    }

    fn remove(&mut self, offset: Offset) {
        let found = self.0.range(..=offset).next_back().map(|(start, end)| (*start, *end));
        let Some((start, end)) = found.filter(|(_, end)| offset < *end) else { return };
        self.0.remove(&start);
        if start < offset {
            self.0.insert(start, offset);
        }
        if offset + 1 < end {
            self.0.insert(offset + 1, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_are_a_set() {
        let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offset = (seed >> 33) as i64 % 64;
            if seed >> 63 == 0 {
                assert_eq!(ranges.insert(offset), model.insert(offset));
            } else {
                ranges.remove(offset);
                model.remove(&offset);
            }
            for o in 0..64 {
                assert_eq!(ranges.contains(o), model.contains(&o), "{o} {ranges:?}");
            }
            let merged =
                ranges.0.iter().zip(ranges.0.iter().skip(1)).all(|((_, end), (start, _))| end < start);
            assert!(merged, "{ranges:?}");
        }
    }

    #[test]
    fn settlements_of_other_topics_and_garbage_are_passed_over() {
        let dlq = TopicName::new("a.dlq").unwrap();
        let mut settled = Settled::default();
        let value = |run: &str| {
            let settlement =
                Settlement { outcome: Outcome::Redriven, run: run.into(), at: Timestamp::UNIX_EPOCH };
            settlement.record(&"a.dlq/0/1".parse().unwrap()).value
        };
        let mut learn = |key: &'static str, value: Option<Bytes>| {
            settled.learn(Some(&key.into()), value.as_ref(), &dlq, None, Some("me"));
        };
        learn("a.dlq/0/1", value("me"));
        learn("a.dlq/0/2", value("other"));
        learn("a.dlq/0/3", Some("garbage".into()));
        learn("a.dlq/0/4", value("me"));
        learn("a.dlq/0/4", None);
        learn("b.dlq/0/5", value("me"));
        learn("nonsense", value("me"));
        let found: Vec<_> = (0..7).filter(|o| settled.contains(0, *o)).collect();
        assert_eq!(found, [1, 2, 3]);
        assert_eq!(settled.by_run(0), 2, "counted when it was settled");
    }

    #[test]
    fn a_settlement_is_as_the_contract_says() {
        let at = "2026-11-21T10:00:00Z".parse().unwrap();
        let record = Settlement { outcome: Outcome::Discarded, run: "r1".into(), at }
            .record(&"a.dlq/3/42".parse().unwrap());
        assert_eq!(record.key.unwrap(), "a.dlq/3/42");
        assert_eq!(
            record.value.unwrap(),
            r#"{"outcome":"discarded","run":"r1","at":"2026-11-21T10:00:00Z"}"#
        );
    }
}
