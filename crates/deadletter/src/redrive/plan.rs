//! What a run is going to do, counted before it does it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;
use kafka::{ConsumedRecord, Scan};
use serde::{Deserialize, Serialize};
use types::{Offset, Partition, TopicName};

use super::Resolve;
use crate::{Dlq, Error, Letter, Repair, Result, Selection};

/// Letters that a plan shows.
const SAMPLES_MAX: usize = 10;

/// Stages that a plan names; letters of further ones are counted, not named.
const STAGES_MAX: usize = 1_000;

/// What is done to the letters that are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Action {
    /// Each goes to the retry topic of the stage that failed it.
    #[default]
    Redrive,
    /// Each goes to the topic in which it failed first, where that is one of its stage's sources; other groups that read
    /// there see it again.
    RedriveToOrigin,
    /// All go to one topic, whose readers are the caller's to know.
    #[serde(rename_all = "camelCase")]
    RedriveTo {
        /// That topic.
        topic: TopicName,
    },
    /// They are given up.
    Discard,
}

/// A run's plan; see the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The run's id: in `x-redrive-id` and in its settlements. Begun again under it, a run goes on.
    pub run: String,
    /// The DLQ.
    pub dlq: TopicName,
    /// What is done.
    pub action: Action,
    /// What is meant.
    pub selection: Selection,
    /// How letters are mended on their way.
    #[serde(default, skip_serializing_if = "Repair::is_empty")]
    pub repair: Repair,
    /// Partitions with letters that are meant, in order.
    pub partitions: Vec<PartitionPlan>,
    /// Letters that will be settled, the limit considered.
    pub routable: u64,
    /// Letters that are meant and stay, because no stage takes them back.
    pub unroutable: u64,
    /// Letters that are meant and stay, because the repair fails for them.
    #[serde(default)]
    pub unrepaired: u64,
    /// By stage, most first.
    pub stages: Vec<StagePlan>,
    /// When it was made.
    pub planned_at: Timestamp,
}

/// One letter, and what a run would make of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// As it lies there.
    pub letter: Letter,
    /// What would be sent; `None`: it is only settled. Or why it stays.
    pub sent: Result<Option<ConsumedRecord>, String>,
}

/// One partition's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionPlan {
    /// Its number.
    pub partition: Partition,
    /// The first letter that is meant.
    pub start: Offset,
    /// The run ends before this offset.
    pub end: Offset,
    /// Letters that are meant and can be settled.
    pub routable: u64,
}

/// One stage's part, by where its letters go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagePlan {
    /// `x-dlq-stage` as it stands.
    pub stage: String,
    /// Where its letters go; `None`: they stay (or, discarding, nowhere).
    pub to: Option<TopicName>,
    /// How many.
    pub letters: u64,
}

/// What a letter's part in a run is.
pub(super) enum Route {
    /// A copy goes there.
    To(TopicName),
    /// It is only settled.
    Nowhere,
    /// It stays.
    Unroutable,
}

impl Action {
    pub(super) fn route(&self, letter: &Letter, resolve: &Resolve) -> Route {
        let way = || letter.stage.as_ref().and_then(|stage| resolve(stage));
        match self {
            Self::Redrive => way().map_or(Route::Unroutable, |way| Route::To(way.retry)),
            Self::RedriveToOrigin => {
                let origin = letter.origin.as_ref().map(|origin| origin.topic.clone());
                let is_source = |topic: &TopicName| way().is_some_and(|way| way.sources.contains(topic));
                origin.filter(is_source).map_or(Route::Unroutable, Route::To)
            }
            Self::RedriveTo { topic } => Route::To(topic.clone()),
            Self::Discard => Route::Nowhere,
        }
    }
}

impl Dlq {
    /// Counts what a run would do and fixes where it ends; beside it, the first letters that are meant and what would be sent
    /// of them, for people who look before they act. Writes nothing: this is also the dry run.
    pub async fn plan(
        &self,
        run: impl Into<String>,
        action: Action,
        selection: Selection,
        repair: Repair,
        resolve: &Resolve,
    ) -> Result<(Plan, Vec<Sample>)> {
        if action == Action::Discard && !repair.is_empty() {
            return Err(Error::Invalid("what is discarded isn't sent, so there is nothing to repair".into()));
        }
        let extent = self.extent().await?;
        let settled = self.settled().await?;
        let mut partitions: BTreeMap<Partition, PartitionPlan> = BTreeMap::new();
        let mut stages: BTreeMap<(String, Option<TopicName>), StagePlan> = BTreeMap::new();
        let (mut routable, mut unroutable, mut unrepaired) = (0, 0, 0);
        let mut samples = Vec::new();
        let ends: BTreeMap<_, _> = extent.iter().map(|s| (s.tp.partition, s.end)).collect();
        Scan::run(&self.client, extent, |record| {
            let letter = Letter::of(record);
            let (partition, offset) = (letter.record.tp.partition, letter.record.offset);
            if settled.contains(partition, offset) || !selection.matches(&letter) {
                return ControlFlow::Continue(());
            }
            let sampled = samples.len() < SAMPLES_MAX;
            let mut sample = |sent| {
                if sampled {
                    samples.push(Sample { letter: letter.clone(), sent });
                }
            };
            let to = match action.route(&letter, resolve) {
                Route::Unroutable => {
                    unroutable += 1;
                    sample(Err("no stage of this workspace takes it back".into()));
                    None
                }
                route => {
                    let is_sent = matches!(route, Route::To(_));
                    match is_sent.then(|| repair.apply(&letter)).transpose() {
                        Ok(sent) => sample(Ok(sent)),
                        Err(why) => {
                            unrepaired += 1;
                            sample(Err(why));
                            return ControlFlow::Continue(());
                        }
                    }
                    routable += 1;
                    let end = ends.get(&partition).copied().unwrap_or(offset + 1);
                    partitions
                        .entry(partition)
                        .or_insert(PartitionPlan { partition, start: offset, end, routable: 0 })
                        .routable += 1;
                    if let Route::To(topic) = route { Some(topic) } else { None }
                }
            };
            let name = (letter.stage_text, to);
            if stages.len() < STAGES_MAX || stages.contains_key(&name) {
                let (stage, to) = name.clone();
                stages.entry(name).or_insert(StagePlan { stage, to, letters: 0 }).letters += 1;
            }
            ControlFlow::Continue(())
        })
        .await?;
        let mut stages: Vec<_> = stages.into_values().collect();
        stages.sort_by_key(|stage| std::cmp::Reverse(stage.letters));
        let plan = Plan {
            run: run.into(),
            dlq: self.topic.clone(),
            routable: selection.limit.map_or(routable, |limit| routable.min(limit)),
            unroutable,
            unrepaired,
            action,
            selection,
            repair,
            partitions: partitions.into_values().collect(),
            stages,
            planned_at: Timestamp::now(),
        };
        Ok((plan, samples))
    }
}
