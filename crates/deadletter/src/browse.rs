//! Looking at a DLQ. Needs Kafka alone.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use jiff::Timestamp;
use kafka::{Admin, ClientConfig, OffsetSpec, Scan, Stretch};
use serde::Serialize;
use types::{TopicName, TopicPartition};

use crate::settled::{Settled, stretches};
use crate::{Error, Letter, LetterId, Result, Selection};

/// Groups of a summary; letters beyond are counted together.
const GROUPS_MAX: usize = 1_000;

/// A DLQ.
#[derive(Clone)]
pub struct Dlq {
    pub(crate) client: ClientConfig,
    pub(crate) admin: Admin,
    pub(crate) topic: TopicName,
}

/// Letters that were asked for.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The latest of them, at most the limit, oldest first within a partition; whether each is settled.
    pub letters: Vec<(Letter, bool)>,
    /// How many were meant, with those that the limit left out.
    pub matched: u64,
    /// How many more would be meant if settled ones weren't hidden.
    pub hidden: u64,
}

/// What lies in a DLQ, by stage and reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// All letters that were meant.
    pub letters: u64,
    /// Those that aren't settled.
    pub unsettled: u64,
    /// Most unsettled first.
    pub groups: Vec<Group>,
    /// Letters in further groups.
    pub others: u64,
}

/// Letters of one stage with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// `x-dlq-stage` as it stands.
    pub stage: String,
    /// `x-dlq-reason` as it stands.
    pub reason: String,
    /// Not settled yet.
    pub unsettled: u64,
    /// Redriven or discarded.
    pub settled: u64,
    /// The first of them.
    pub first_at: Option<Timestamp>,
    /// The last of them.
    pub last_at: Option<Timestamp>,
    /// The last one's message.
    pub message: String,
    /// The last one's id.
    pub example: LetterId,
}

impl Dlq {
    /// Nothing is asked yet.
    pub fn new(client: &ClientConfig, topic: TopicName) -> Result<Self> {
        let admin = Admin::new(client).map_err(Error::kafka("opening a client"))?;
        Ok(Self { client: client.clone(), admin, topic })
    }

    /// The DLQ's topic.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// What there is to read now, by partition.
    pub(crate) async fn extent(&self) -> Result<Vec<Stretch>> {
        let topics = std::slice::from_ref(&self.topic);
        let found = self
            .admin
            .describe_topics(topics)
            .await
            .map_err(Error::kafka("describing the dead-letter topic"))?;
        let Some(description) = found.get(&self.topic) else {
            return Err(Error::MissingTopic { role: "dead-letter", topic: self.topic.clone() });
        };
        let tps: Vec<_> = description
            .partitions
            .iter()
            .map(|p| TopicPartition::new(self.topic.clone(), p.partition))
            .collect();
        stretches(&self.admin, &tps, OffsetSpec::Latest).await
    }

    /// What is settled now. An engine without the settlement topic has settled nothing.
    pub(crate) async fn settled(&self) -> Result<Settled> {
        match Settled::read(&self.client, &self.admin, &self.topic, None, None).await {
            Err(Error::MissingTopic { .. }) => Ok(Settled::default()),
            other => other,
        }
    }

    /// The latest letters that are meant, at most `selection.limit`. Settled ones are hidden unless `with_settled`.
    /// Reads the DLQ from its beginning, so its memory is the limit's letters and its time the DLQ's size.
    pub async fn list(&self, selection: &Selection, with_settled: bool) -> Result<Listing> {
        /// Where nothing is said.
        const LIMIT: u64 = 100;
        let limit = usize::try_from(selection.limit.unwrap_or(LIMIT)).unwrap_or(usize::MAX);
        let extent = self.extent().await?;
        let settled = self.settled().await?;
        let mut listing = Listing::default();
        let mut latest = VecDeque::new();
        Scan::run(&self.client, extent, |record| {
            let letter = Letter::of(record);
            if !selection.matches(&letter) {
                return ControlFlow::Continue(());
            }
            let is_settled = settled.contains(letter.record.tp.partition, letter.record.offset);
            if is_settled && !with_settled {
                listing.hidden += 1;
                return ControlFlow::Continue(());
            }
            listing.matched += 1;
            if latest.len() == limit {
                latest.pop_front();
            }
            if limit > 0 {
                latest.push_back((letter, is_settled));
            }
            ControlFlow::Continue(())
        })
        .await?;
        listing.letters = latest.into();
        listing.letters.sort_by_key(|(letter, _)| (letter.record.timestamp_ms, letter.id()));
        Ok(listing)
    }

    /// One letter, and whether it is settled.
    pub async fn show(&self, id: &LetterId) -> Result<Option<(Letter, bool)>> {
        let extent = self.extent().await?;
        let inside = extent.iter().any(|s| s.tp == id.tp && (s.start..s.end).contains(&id.offset));
        if !inside {
            return Ok(None);
        }
        let settled = self.settled().await?;
        let stretch = Stretch { tp: id.tp.clone(), start: id.offset, end: id.offset + 1 };
        let mut found = None;
        Scan::run(&self.client, vec![stretch], |record| {
            found = Some(Letter::of(record));
            ControlFlow::Break(())
        })
        .await?;
        Ok(found.map(|letter| (letter, settled.contains(id.tp.partition, id.offset))))
    }

    /// Counts by stage and reason.
    pub async fn summary(&self, selection: &Selection) -> Result<Summary> {
        let extent = self.extent().await?;
        let settled = self.settled().await?;
        let mut summary = Summary::default();
        let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
        Scan::run(&self.client, extent, |record| {
            let letter = Letter::of(record);
            if !selection.matches(&letter) {
                return ControlFlow::Continue(());
            }
            let is_settled = settled.contains(letter.record.tp.partition, letter.record.offset);
            summary.letters += 1;
            summary.unsettled += u64::from(!is_settled);
            let name = (letter.stage_text.clone(), letter.reason.clone());
            if groups.len() >= GROUPS_MAX && !groups.contains_key(&name) {
                summary.others += 1;
                return ControlFlow::Continue(());
            }
            let at = letter.at();
            let group = groups.entry(name).or_insert_with(|| Group {
                stage: letter.stage_text.clone(),
                reason: letter.reason.clone(),
                unsettled: 0,
                settled: 0,
                first_at: at,
                last_at: at,
                message: String::new(),
                example: letter.id(),
            });
            if is_settled {
                group.settled += 1
            } else {
                group.unsettled += 1
            }
            group.first_at = group.first_at.min(at).or(at);
            if at >= group.last_at {
                group.last_at = at;
                group.example = letter.id();
                group.message = letter.message;
            }
            ControlFlow::Continue(())
        })
        .await?;
        summary.groups = groups.into_values().collect();
        summary.groups.sort_by_key(|group| std::cmp::Reverse((group.unsettled, group.settled)));
        Ok(summary)
    }
}
