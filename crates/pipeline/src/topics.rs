//! The topics of a plan as the engine has them.
//!
//! Invariant: a loop starts only when every topic that it reads or writes exists; it creates none. Which one
//! is missing is said by name.

use std::collections::{BTreeMap, BTreeSet};

use kafka::Admin;
use resources::PipelinePlan;
use types::TopicName;

use crate::evaluate::Sizes;

/// Kafka's default of `max.message.bytes`, for an engine that doesn't tell it.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// Why a loop can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What isn't there.
    #[error("topic {} doesn't exist", .0.iter().map(TopicName::as_str).collect::<Vec<_>>().join(", "))]
    Missing(Vec<TopicName>),
    /// The engine couldn't be asked.
    #[error("failed to look up the pipeline's topics: {0}")]
    Engine(kafka::Error),
}

impl Error {
    /// Nothing is wrong but that the engine doesn't answer.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Engine(error) if error.is_unavailable())
    }
}

/// Checks that all are there, and asks how large a record they take.
pub(crate) async fn look_up(admin: &Admin, plan: &PipelinePlan) -> Result<Sizes, Error> {
    let dlqs: BTreeSet<_> = plan.topics.dlq.values().cloned().collect();
    let mut all: Vec<_> = plan.sources.iter().map(|s| s.topic.clone()).collect();
    let targets: Vec<TopicName> = plan.targets().into_iter().cloned().collect();
    all.extend(targets.iter().cloned());
    all.push(plan.topics.retry.clone());
    all.extend(dlqs.iter().cloned());
    all.sort();
    all.dedup();
    let found = admin.describe_topics(&all).await.map_err(Error::Engine)?;
    let missing: Vec<_> = all.into_iter().filter(|topic| !found.contains_key(topic)).collect();
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    let written: Vec<_> = dlqs.iter().chain(&targets).cloned().collect();
    let configs = admin.describe_configs(&written).await.map_err(Error::Engine)?;
    let bytes_max = |topic: &TopicName| {
        let entry = configs.get(topic).and_then(|config| config.get("max.message.bytes"));
        entry.and_then(|e| e.value.as_deref()).and_then(|v| v.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX)
    };
    let of = |topics: &mut dyn Iterator<Item = TopicName>| -> BTreeMap<TopicName, usize> {
        topics.map(|topic| (topic.clone(), bytes_max(&topic))).collect()
    };
    let (target_bytes_max, dlq_bytes_max) = (of(&mut targets.into_iter()), of(&mut dlqs.into_iter()));
    Ok(Sizes { target_bytes_max, dlq_bytes_max })
}
