//! What people ask of a stage besides its spec: pause, resume, stop, restart.
//!
//! Invariant: it is a write like any other: a new revision and a new generation, kept in the store, so that it
//! outlives restarts, and a change of the spec leaves it as it is. Asking for what is wanted already changes nothing.

use resources::{ConnectorState, Kind, Resource};
use store::{Expected, Key};

use crate::control::not_found;
use crate::resource::{StageFacts, body, facts, resource};
use crate::{Control, Error, Precondition};

/// What is asked of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What is under way ends and is committed; nothing more is read.
    Pause,
    /// Goes on where its offsets are.
    Resume,
    /// As pause, and a connector gives its tasks up.
    Stop,
    /// Begins anew, also where it had stopped for a reason. A paused stage stays paused.
    Restart,
}

impl Action {
    /// By the word that an URL has.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            _ => return None,
        })
    }

    /// The word that an URL has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    fn apply(self, facts: &mut StageFacts) {
        match self {
            Self::Pause => facts.wanted_state = ConnectorState::Paused,
            Self::Resume => facts.wanted_state = ConnectorState::Running,
            Self::Stop => facts.wanted_state = ConnectorState::Stopped,
            Self::Restart => facts.restarts += 1,
        }
    }
}

impl Control {
    /// Asks it of the pipeline or connector; runtimes follow. The resource as it is then.
    pub async fn act(
        &self,
        key: &Key,
        action: Action,
        precondition: Precondition,
    ) -> Result<Resource, Error> {
        match (key.kind, action) {
            (Kind::Connector, _) | (Kind::Pipeline, Action::Pause | Action::Resume | Action::Restart) => {}
            (Kind::Pipeline, Action::Stop) => {
                let why = "a pipeline has no tasks to give up: pause it (POST ...:pause) instead";
                return Err(Error::NotAllowed(why.into()));
            }
            (kind, action) => {
                let action = action.as_str();
                return Err(Error::NotAllowed(format!(
                    "{action} is for pipelines and connectors, not a {kind}"
                )));
            }
        }
        let _one_at_a_time = self.writes.lock().await;
        let document = self.store.get(key).await?.ok_or_else(|| not_found(key))?;
        precondition.check(Some(document.revision))?;
        let mut stage = resource(&document)?;
        let mut wanted: StageFacts = facts(&stage)?;
        let before = wanted.clone();
        action.apply(&mut wanted);
        if wanted != before {
            stage.status = serde_json::to_value(wanted).expect("words, numbers and maps of text");
            stage.metadata.generation += 1;
            stage.metadata.updated_at = jiff::Timestamp::now();
            let expected = Expected::Revision(document.revision);
            stage.metadata.revision = self.store.put(key, expected, &body(&stage)).await?;
            crate::metrics::changed(key.kind.as_str(), action.as_str());
            tracing::info!(
                kind = %key.kind,
                workspace = key.workspace,
                name = key.name,
                generation = stage.metadata.generation,
                action = action.as_str(),
                "asked of a stage"
            );
        }
        self.add_seen(&mut stage);
        Ok(stage)
    }
}
