//! Topics that were changed in the engine behind the control plane's back.
//!
//! Invariant: what is shown was seen by the reconciler's newest pass; nothing of it is stored. A setting of a spec is put back, and
//! kept as reverted; what the reconciler may not change is drift for as long as it is so.

use jiff::Timestamp;
use resources::Kind;
use serde::Serialize;
use store::Key;

use crate::seen::TopicState;
use crate::{Control, Error};

/// What was put back in one topic that is remembered, the newest; a restart forgets it.
pub(crate) const REVERTED_MAX: usize = 10;

/// Topics of one answer.
const SHOWN_MAX: usize = 1_000;

/// Why something is drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DriftKind {
    /// The spec says otherwise, and it couldn't be put back.
    Differs,
    /// Set on the topic in the engine, but no spec names it: it is left as it is.
    Unmanaged,
}

/// One thing that is otherwise in the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Drift {
    pub(crate) kind: DriftKind,
    /// Into the Topic's manifest.
    pub(crate) pointer: String,
    /// What the spec says; `None`: nothing.
    pub(crate) wanted: Option<String>,
    /// In the engine; `None`: it isn't set.
    pub(crate) found: Option<String>,
    /// For people.
    pub(crate) message: String,
}

/// One thing that was otherwise and was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reverted {
    /// Into the Topic's manifest; empty: the topic itself was gone.
    pub(crate) pointer: String,
    /// What the spec says, and what is there again.
    pub(crate) wanted: Option<String>,
    /// What was found; `None`: nothing.
    pub(crate) found: Option<String>,
    /// When it was put back.
    pub(crate) at: Timestamp,
    /// For people.
    pub(crate) message: String,
}

/// A topic's drift.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TopicDrift {
    topic: String,
    state: TopicState,
    drift: Vec<Drift>,
    reverted: Vec<Reverted>,
}

/// Of all topics of a workspace.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Drifts {
    /// Those with anything to show, by name.
    items: Vec<TopicDrift>,
    /// More than fit into one answer.
    left_out: usize,
    /// When the engine was looked at last; `None`: not yet.
    looked_at: Option<Timestamp>,
    /// Why it couldn't be looked at since.
    error: Option<String>,
}

impl Control {
    /// What is otherwise in the engine than a workspace's topics say.
    pub(crate) async fn drifts(&self, workspace: &str) -> Result<Drifts, Error> {
        self.workspace(workspace).await?;
        let topics = self.all(Some(workspace), Some(Kind::Topic)).await?;
        let mut items: Vec<TopicDrift> = topics
            .into_iter()
            .filter_map(|topic| {
                let seen = self.seen.topic(topic.metadata.uid)?;
                let has_any = !(seen.drift.is_empty() && seen.reverted.is_empty());
                has_any.then_some(TopicDrift {
                    topic: topic.metadata.name,
                    state: seen.state,
                    drift: seen.drift,
                    reverted: seen.reverted,
                })
            })
            .collect();
        let left_out = items.len().saturating_sub(SHOWN_MAX);
        items.truncate(SHOWN_MAX);
        let pass = self.seen.reconciler();
        Ok(Drifts { items, left_out, looked_at: pass.last_success, error: pass.error })
    }

    /// The same of one topic, which may have none.
    pub(crate) async fn drift(&self, workspace: &str, name: &str) -> Result<Drifts, Error> {
        let topic = self.get(&Key::new(workspace, Kind::Topic, name)).await?;
        let seen = self.seen.topic(topic.metadata.uid);
        let item = seen.map(|seen| TopicDrift {
            topic: topic.metadata.name,
            state: seen.state,
            drift: seen.drift,
            reverted: seen.reverted,
        });
        let pass = self.seen.reconciler();
        let items = item.into_iter().collect();
        Ok(Drifts { items, left_out: 0, looked_at: pass.last_success, error: pass.error })
    }
}
