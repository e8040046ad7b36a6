//! What a spec must be besides valid by itself: it names what exists, is allowed to, and contradicts nothing.
//!
//! Invariant: every problem is collected, and nothing is written here.

mod connector;
mod expression;
mod pipeline;
mod topic;
mod transform;

use std::sync::Arc;

use connect::SinkFactory;
use resources::{Kind, Problems, Resource, Spec, WorkspaceSpec};
use serde_json::{Value, json};
use store::{Key, Read};
use types::{StreamName, TopicName};

use crate::control::all;
use crate::{Config, Error};

pub use expression::Sample;
pub(crate) use expression::{check, sample_bindings, sample_budget};

/// What a spec is checked against.
pub(crate) struct Admission<'a> {
    pub(crate) store: &'a dyn Read,
    pub(crate) config: &'a Config,
    pub(crate) workspace: &'a str,
    pub(crate) rules: &'a WorkspaceSpec,
    pub(crate) name: &'a str,
    pub(crate) existing: Option<&'a Resource>,
    pub(crate) sinks: &'a [Arc<dyn SinkFactory>],
    /// What compiling a transform and running its tests found.
    pub(crate) tested: &'a Problems,
}

/// What comes of it.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// To be stored: versions are numbers now.
    pub(crate) spec: Spec,
    /// To be stored in the status.
    pub(crate) facts: Value,
    /// A version to add before the resource is written.
    pub(crate) new_version: Option<(u32, Value)>,
    /// What the caller should know.
    pub(crate) warnings: Vec<String>,
    /// Why it may not be written. The rest says what it would have been, for what names it.
    pub(crate) problems: Problems,
}

impl Admission<'_> {
    pub(crate) async fn admit(&self, spec: &Spec) -> Result<Admitted, Error> {
        let mut problems = Problems::new();
        let mut admitted = Admitted {
            spec: spec.clone(),
            facts: self.existing.map_or_else(|| json!({}), |existing| existing.status.clone()),
            new_version: None,
            warnings: Vec::new(),
            problems: Problems::new(),
        };
        match &mut admitted.spec {
            Spec::Workspace(_) => {
                if let Err(error) = Kind::Workspace.check_name(self.name) {
                    problems.invalid("/metadata/name", error);
                }
            }
            Spec::Client(_) => {
                if let Err(error) = Kind::Client.check_name(self.name) {
                    problems.invalid("/metadata/name", error);
                }
            }
            Spec::Topic(topic) => self.topic(topic, &mut admitted.warnings, &mut problems).await?,
            Spec::Transform(transform) => {
                let (facts, version) = self.transform(transform, &mut problems).await?;
                admitted.facts = facts;
                admitted.new_version = version;
            }
            Spec::Pipeline(pipeline) => self.pipeline(pipeline, &mut problems).await?,
            Spec::Connector(connector) => self.connector(connector, &mut problems).await?,
        }
        Ok(Admitted { problems, ..admitted })
    }

    /// Checks that the workspace may use the topic. A topic that nobody owns may be used by all; one of another
    /// workspace is refused, without saying whose it is.
    async fn may_use(&self, pointer: &str, topic: &TopicName, problems: &mut Problems) -> Result<(), Error> {
        let owner = owner(self.store, &self.config.env, topic).await?;
        if owner.is_some_and(|owner| owner != self.workspace) {
            problems.add(
                pointer,
                "foreign_topic",
                format!("topic {topic} doesn't belong to workspace {}", self.workspace),
            );
        }
        Ok(())
    }
}

/// The workspace that a topic belongs to: the one with a Topic resource of that name, else the one that the
/// name itself says by the default policy. `None`: nobody's.
pub(crate) async fn owner(store: &dyn Read, env: &str, topic: &TopicName) -> Result<Option<String>, Error> {
    let workspaces = all(store, None, Some(Kind::Workspace)).await?;
    for workspace in &workspaces {
        let key = Key::new(&workspace.metadata.name, Kind::Topic, topic.as_str());
        if store.get(&key).await?.is_some() {
            return Ok(Some(workspace.metadata.name.clone()));
        }
    }
    let by_name = StreamName::parse(topic).filter(|name| name.env == env).map(|name| name.workspace);
    Ok(by_name.filter(|name| workspaces.iter().any(|workspace| workspace.metadata.name == *name)))
}
