//! What a run is going to do, counted before it does it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use types::{Offset, Partition, TopicName};

use super::Resolve;
use crate::scan::Scan;
use crate::{Dlq, Letter, Result, Selection};

/// Stages that a plan names; letters of further ones are counted, not named.
const STAGES_MAX: usize = 1_000;

/// What is done to the letters that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Action {
    /// Each goes to the retry topic of the stage that failed it.
    Redrive,
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
    /// Partitions with letters that are meant, in order.
    pub partitions: Vec<PartitionPlan>,
    /// Letters that will be settled, the limit considered.
    pub routable: u64,
    /// Letters that are meant and stay, because no stage takes them back.
    pub unroutable: u64,
    /// By stage, most first.
    pub stages: Vec<StagePlan>,
    /// When it was made.
    pub planned_at: Timestamp,
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

/// One stage's part.
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
        match self {
            Self::Redrive => {
                letter.stage.as_ref().and_then(|stage| resolve(stage)).map_or(Route::Unroutable, Route::To)
            }
            Self::RedriveTo { topic } => Route::To(topic.clone()),
            Self::Discard => Route::Nowhere,
        }
    }
}

impl Dlq {
    /// Counts what a run would do and fixes where it ends. Writes nothing: this is also the dry run.
    pub async fn plan(
        &self,
        run: impl Into<String>,
        action: Action,
        selection: Selection,
        resolve: &Resolve,
    ) -> Result<Plan> {
        let extent = self.extent().await?;
        let settled = self.settled().await?;
        let mut partitions: BTreeMap<Partition, PartitionPlan> = BTreeMap::new();
        let mut stages: BTreeMap<String, StagePlan> = BTreeMap::new();
        let (mut routable, mut unroutable) = (0, 0);
        let ends: BTreeMap<_, _> = extent.iter().map(|s| (s.tp.partition, s.end)).collect();
        Scan::run(&self.client, extent, |record| {
            let letter = Letter::of(record);
            let (partition, offset) = (letter.record.tp.partition, letter.record.offset);
            if settled.contains(partition, offset) || !selection.matches(&letter) {
                return ControlFlow::Continue(());
            }
            let to = match action.route(&letter, resolve) {
                Route::Unroutable => {
                    unroutable += 1;
                    None
                }
                route => {
                    routable += 1;
                    let end = ends.get(&partition).copied().unwrap_or(offset + 1);
                    partitions
                        .entry(partition)
                        .or_insert(PartitionPlan { partition, start: offset, end, routable: 0 })
                        .routable += 1;
                    if let Route::To(topic) = route { Some(topic) } else { None }
                }
            };
            if stages.len() < STAGES_MAX || stages.contains_key(&letter.stage_text) {
                let stage = letter.stage_text;
                stages.entry(stage.clone()).or_insert_with(|| StagePlan { stage, to, letters: 0 }).letters +=
                    1;
            }
            ControlFlow::Continue(())
        })
        .await?;
        let mut stages: Vec<_> = stages.into_values().collect();
        stages.sort_by_key(|stage| std::cmp::Reverse(stage.letters));
        Ok(Plan {
            run: run.into(),
            dlq: self.topic.clone(),
            routable: selection.limit.map_or(routable, |limit| routable.min(limit)),
            unroutable,
            action,
            selection,
            partitions: partitions.into_values().collect(),
            stages,
            planned_at: Timestamp::now(),
        })
    }
}
