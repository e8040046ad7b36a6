//! Where a stage reads on: asked and moved, while it is paused.
//!
//! Invariant: offsets are moved only while nobody reads: the stage is wanted paused (or stopped), and the engine says
//! that its group is empty. What is between the old and the new place is then read again, or never: the answer says
//! how many records that are, and `dry_run` says it without doing it.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::{Admin, OffsetSpec};
use resources::{ConnectorState, Spec, StartFrom};
use serde::{Deserialize, Serialize};
use store::Key;
use tokio::time::Instant;
use types::{Offset, Partition, TopicName, TopicPartition, consumer_group};

use crate::resource::{StageFacts, facts, spec};
use crate::{Control, Error};

/// A static member that has gone keeps its place in the group for its session: waited for so long.
const EMPTY_MAX: Duration = Duration::from_secs(20);
/// Between looks.
const EMPTY_RETRY: Duration = Duration::from_millis(250);

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reset {
    /// `earliest`, `latest` or a time. Either this or `shift`.
    #[serde(default)]
    pub to: Option<StartFrom>,
    /// So many records forward, or back where it is negative, within what the topic has.
    #[serde(default)]
    pub shift: Option<i64>,
    /// Only of these sources; else of all.
    #[serde(default)]
    pub topics: Option<Vec<TopicName>>,
}

/// One partition's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Where.
    pub topic: TopicName,
    /// Where.
    pub partition: Partition,
    /// Read up to here until now; `None`: nothing was committed.
    pub from: Option<Offset>,
    /// Read on from here.
    pub to: Offset,
}

impl Control {
    /// Moves a stage's offsets in its sources; what it redrives isn't moved. Returns every partition's old and new
    /// place. `dry_run` moves nothing, and doesn't ask for the stage to be paused.
    pub async fn reset_offsets(&self, key: &Key, reset: &Reset, dry_run: bool) -> Result<Vec<Moved>, Error> {
        let stage = self.get(key).await?;
        let sources: Vec<TopicName> = match spec(&stage)? {
            Spec::Pipeline(pipeline) => pipeline.sources.into_iter().map(|source| source.topic).collect(),
            Spec::Connector(connector) => connector.topics,
            _ => {
                let why = format!("a {} has no offsets: pipelines and connectors do", key.kind);
                return Err(Error::NotAllowed(why));
            }
        };
        let topics = match &reset.topics {
            None => sources,
            Some(asked) => match asked.iter().find(|topic| !sources.contains(topic)) {
                Some(other) => {
                    let why = format!("topics: {other} is no source of {} {}", key.kind, key.name);
                    return Err(Error::BadRequest(why));
                }
                None => asked.clone(),
            },
        };
        let wanted: StageFacts = facts(&stage)?;
        if !dry_run && wanted.wanted_state == ConnectorState::Running {
            let plural = key.kind.plural();
            return Err(Error::Conflict(format!(
                "offsets are moved only while the {} is paused: POST .../{plural}/{}:pause first, and :resume afterwards",
                key.kind.as_str().to_lowercase(),
                key.name
            )));
        }
        let admin = Admin::new(&self.client).map_err(|error| failed("reach the group", key, &error))?;
        let group = consumer_group(self.store.installation(), stage.metadata.uid);
        let places = Places::ask(&admin, &group, &topics, reset.to)
            .await
            .map_err(|error| failed("read the offsets", key, &error))?;
        let moved = places.moved(reset)?;
        if !dry_run {
            self.commit_offsets(&admin, key, &group, &moved).await?;
        }
        Ok(moved)
    }

    async fn commit_offsets(
        &self,
        admin: &Admin,
        key: &Key,
        group: &str,
        moved: &[Moved],
    ) -> Result<(), Error> {
        let offsets: Vec<_> = moved
            .iter()
            .map(|moved| (TopicPartition::new(moved.topic.clone(), moved.partition), moved.to))
            .collect();
        let deadline = Instant::now() + EMPTY_MAX;
        loop {
            match admin.alter_group_offsets(group, &offsets).await {
                Ok(()) => break,
                Err(error) if *error.kind() == kafka::Kind::GroupInUse && Instant::now() < deadline => {
                    tokio::time::sleep(EMPTY_RETRY).await;
                }
                Err(error) if *error.kind() == kafka::Kind::GroupInUse => {
                    return Err(Error::Conflict(format!(
                        "an instance of {} {} still reads: wait until all of them are paused, and try again",
                        key.kind, key.name
                    )));
                }
                Err(error) => {
                    return Err(failed("move the offsets", key, &error));
                }
            }
        }
        crate::metrics::changed(key.kind.as_str(), "offsets");
        tracing::info!(
            kind = %key.kind,
            workspace = key.workspace,
            name = key.name,
            partitions = moved.len(),
            "offsets moved"
        );
        Ok(())
    }
}

fn failed(action: &str, key: &Key, error: &kafka::Error) -> Error {
    let action = format!("{action} of {} {}", key.kind, key.name);
    Error::Engine { action, detail: error.to_string() }
}

/// What the engine says of the partitions.
#[derive(Debug, Default)]
struct Places {
    partitions: Vec<TopicPartition>,
    committed: BTreeMap<TopicPartition, Offset>,
    first: BTreeMap<TopicPartition, Offset>,
    next: BTreeMap<TopicPartition, Offset>,
    /// By the time that was asked for; -1: no record is that young.
    at: BTreeMap<TopicPartition, Offset>,
}

impl Places {
    async fn ask(
        admin: &Admin,
        group: &str,
        topics: &[TopicName],
        to: Option<StartFrom>,
    ) -> Result<Self, kafka::Error> {
        let committed = admin.group_offsets(group).await?;
        let described = admin.describe_topics(topics).await?;
        let partitions: Vec<TopicPartition> = described
            .values()
            .flat_map(|topic| {
                topic.partitions.iter().map(|p| TopicPartition::new(topic.name.clone(), p.partition))
            })
            .collect();
        Ok(Self {
            first: listed(admin, &partitions, OffsetSpec::Earliest).await?,
            next: listed(admin, &partitions, OffsetSpec::Latest).await?,
            at: match to {
                Some(StartFrom::Time(ms)) => listed(admin, &partitions, OffsetSpec::Timestamp(ms)).await?,
                _ => BTreeMap::new(),
            },
            committed: committed.into_iter().map(|(tp, committed)| (tp, committed.offset)).collect(),
            partitions,
        })
    }

    fn moved(&self, reset: &Reset) -> Result<Vec<Moved>, Error> {
        let of = |offsets: &BTreeMap<TopicPartition, Offset>, tp| offsets.get(tp).copied();
        let mut moved = Vec::with_capacity(self.partitions.len());
        for tp in &self.partitions {
            let (first, next) = (of(&self.first, tp).unwrap_or(0), of(&self.next, tp).unwrap_or(0));
            let from = of(&self.committed, tp);
            let to = match (reset.to, reset.shift) {
                (Some(StartFrom::Earliest), None) => first,
                (Some(StartFrom::Latest), None) => next,
                (Some(StartFrom::Time(_)), None) => of(&self.at, tp).filter(|at| *at >= 0).unwrap_or(next),
                (None, Some(shift)) => {
                    from.unwrap_or(first).saturating_add(shift).clamp(first, next.max(first))
                }
                (Some(_), Some(_)) | (None, None) => {
                    let why = "say either to (earliest, latest or a time) or shift (a number of records)";
                    return Err(Error::BadRequest(why.into()));
                }
            };
            moved.push(Moved { topic: tp.topic.clone(), partition: tp.partition, from, to });
        }
        Ok(moved)
    }
}

async fn listed(
    admin: &Admin,
    partitions: &[TopicPartition],
    of: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, Offset>, kafka::Error> {
    let asked: Vec<_> = partitions.iter().map(|tp| (tp.clone(), of)).collect();
    let listed = admin.list_offsets(&asked).await?;
    Ok(listed.into_iter().map(|(tp, listed)| (tp, listed.offset)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_within_what_the_topic_has() {
        let tp = TopicPartition::new(TopicName::new("t").unwrap(), 0);
        let at = |offset| BTreeMap::from([(tp.clone(), offset)]);
        let places = Places {
            partitions: vec![tp.clone()],
            committed: at(50),
            first: at(10),
            next: at(90),
            at: at(-1),
        };
        let of = |places: &Places, to: Option<StartFrom>, shift| {
            places.moved(&Reset { to, shift, topics: None }).map(|moved| moved[0].to).ok()
        };
        assert_eq!(of(&places, Some(StartFrom::Earliest), None), Some(10));
        assert_eq!(of(&places, Some(StartFrom::Latest), None), Some(90));
        assert_eq!(of(&places, Some(StartFrom::Time(5)), None), Some(90), "nothing is that young");
        assert_eq!(of(&Places { at: at(33), ..places }, Some(StartFrom::Time(5)), None), Some(33));
        let places =
            Places { partitions: vec![tp.clone()], first: at(10), next: at(90), ..Places::default() };
        assert_eq!(of(&places, None, Some(5)), Some(15), "without a commit from the first on");
        let places = Places { committed: at(50), ..places };
        for (shift, to) in [(-20, 30), (20, 70), (-1_000, 10), (1_000, 90), (i64::MIN, 10), (i64::MAX, 90)] {
            assert_eq!(of(&places, None, Some(shift)), Some(to), "{shift}");
        }
        assert_eq!(of(&places, None, None), None);
        assert_eq!(of(&places, Some(StartFrom::Latest), Some(1)), None);
    }
}
