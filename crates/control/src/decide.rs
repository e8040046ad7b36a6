//! What a write would make of a resource.
//!
//! Invariant: nothing is written here, and everything is read from the one [`Read`] that is given: a PUT, a dry run and
//! a plan over what isn't stored yet decide by the same rules.

use std::collections::BTreeSet;

use auth::{Access, Denied};
use jiff::Timestamp;
use resources::{Kind, Manifest, Problems, Resource, Spec, UNOWNED, WorkspaceSpec};
use serde_json::Value;
use store::{Key, Read};
use types::{Scope, TopicName};

use crate::admit::{Admission, Admitted};
use crate::backtest::Gate;
use crate::control::{new, workspace};
use crate::resource::{resource, spec};
use crate::{Change, Control, Error, Precondition, Write, rollback};

/// What is to be written, and what was found out of it beforehand.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) manifest: Manifest,
    /// What compiling a transform and running its tests found.
    pub(crate) tested: Problems,
    pub(crate) gate: Gate,
}

/// What would become of it.
#[derive(Debug)]
pub(crate) struct Decided {
    /// As it is; `None`: it isn't there.
    pub(crate) before: Option<Resource>,
    /// As it would be, but for its revision.
    pub(crate) resource: Resource,
    pub(crate) change: Change,
    /// A version to add before the resource is written.
    pub(crate) new_version: Option<(u32, Value)>,
    /// Whether its workspace is to be made before.
    pub(crate) new_workspace: bool,
    /// What the caller should know.
    pub(crate) warnings: Vec<String>,
    /// Why it may not be written; the rest says what it would have been.
    pub(crate) problems: Problems,
}

impl Control {
    /// Whether the caller's topics are those that a resource names, as it is.
    pub(crate) async fn may_see_topics(&self, key: &Key, caller: &Access) -> Result<(), Error> {
        // What isn't there is for who asks for more to say.
        let Some(document) = self.store.get(key).await? else { return Ok(()) };
        let spec = spec(&resource(&document)?)?;
        Ok(topics(&spec).into_iter().try_for_each(|topic| caller.topic(topic))?)
    }

    pub(crate) async fn decide(
        &self,
        store: &dyn Read,
        key: &Key,
        wanted: &Wanted,
        precondition: Precondition,
        how: &Write,
    ) -> Result<Decided, Error> {
        let Wanted { manifest, tested, gate } = wanted;
        if let Some(caller) = &how.caller {
            permitted(caller, key, &manifest.spec)?;
        }
        let document = store.get(key).await?;
        let revision = document.as_ref().map(|document| document.revision);
        precondition.check(revision)?;
        let before = document.as_ref().map(resource).transpose()?;
        let (mut rules, new_workspace) = match (key.kind, workspace(store, &key.workspace).await) {
            (Kind::Workspace | Kind::Client, _) => (WorkspaceSpec::default(), false),
            // A workspace that is made by the way has no rules: it is for whom no rules are meant.
            (_, Err(Error::NoWorkspace(_)))
                if how.caller.as_ref().is_none_or(|caller| caller.installation().is_ok()) =>
            {
                (WorkspaceSpec::default(), true)
            }
            (_, found) => (found?, false),
        };
        if how.caller.as_ref().is_some_and(|caller| caller.installation().is_err()) {
            // All that the process can read (the keys of tokens, too) is a local person's to name.
            rules.references.get_or_insert_default();
        }
        let admission = Admission {
            store,
            config: &self.config,
            workspace: &key.workspace,
            rules: &rules,
            name: &key.name,
            existing: before.as_ref(),
            sinks: &self.sinks,
            tested,
        };
        let Admitted { spec, facts, new_version, mut warnings, problems } =
            admission.admit(&manifest.spec).await?;
        if problems.is_empty() {
            warnings.extend(gate.check(revision, &spec)?);
        }
        if new_workspace {
            warnings
                .push(format!("workspace {} didn't exist, and was made with its defaults", key.workspace));
        }
        let spec = spec.to_value();
        let (mut resource, change) = match &before {
            None => (new(key, spec, facts, manifest.labels.clone()), Change::Created),
            Some(before) => {
                let spec_changed = before.spec != spec;
                let metadata_changed = before.metadata.labels != manifest.labels
                    || how.source.as_ref().is_some_and(|source| *source != before.metadata.managed_by);
                let mut resource = before.clone();
                if !spec_changed && !metadata_changed && before.status == facts {
                    (resource, Change::Unchanged)
                } else {
                    resource.metadata.labels = manifest.labels.clone();
                    resource.metadata.generation += u64::from(spec_changed);
                    resource.metadata.updated_at = Timestamp::now();
                    resource.spec = spec;
                    resource.status = facts;
                    (resource, Change::Changed)
                }
            }
        };
        if change != Change::Unchanged {
            match &how.source {
                Some(source) => resource.metadata.managed_by.clone_from(source),
                None if !UNOWNED.contains(&resource.metadata.managed_by.as_str()) => warnings.push(format!(
                    "{} is managed by source {}: its next apply puts its own manifest back",
                    key.name, resource.metadata.managed_by
                )),
                None => {}
            }
            if problems.is_empty() {
                warnings.extend(rollback::note(&mut resource, before.as_ref(), &how.rollout)?);
            }
        }
        Ok(Decided { before, resource, change, new_version, new_workspace, warnings, problems })
    }
}

/// Whether the caller may make the resource be so: whoever could let a pipeline read a topic for him could read it.
fn permitted(caller: &Access, key: &Key, spec: &Spec) -> Result<(), Denied> {
    match key.kind {
        Kind::Workspace | Kind::Client => {
            caller.scope(Scope::Admin)?;
            return caller.installation();
        }
        _ => caller.workspace(&key.workspace)?,
    }
    let own = (key.kind == Kind::Topic).then(|| TopicName::for_caller(&key.name).ok()).flatten();
    topics(spec).into_iter().chain(&own).try_for_each(|topic| caller.topic(topic))
}

/// The topics that a spec names.
fn topics(spec: &Spec) -> Vec<&TopicName> {
    match spec {
        Spec::Pipeline(pipeline) => {
            let targets = pipeline.targets().into_iter().map(|(_, target)| target);
            pipeline.sources.iter().map(|source| &source.topic).chain(targets).collect()
        }
        Spec::Connector(connector) => connector.topics.iter().collect(),
        Spec::Topic(topic) => topic.dead_letter.iter().collect(),
        Spec::Workspace(_) | Spec::Transform(_) | Spec::Client(_) => Vec::new(),
    }
}

/// The topics and transforms that a resource names, in its own workspace.
pub(crate) fn named(resource: &Resource) -> Result<BTreeSet<(Kind, String)>, Error> {
    let spec = match spec(resource) {
        Ok(spec) => spec,
        // A Redrive's record of a run has no spec that people write, and names nothing that must stay.
        Err(_) if resource.kind == Kind::Redrive => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut named: BTreeSet<_> =
        topics(&spec).into_iter().map(|topic| (Kind::Topic, topic.to_string())).collect();
    if let Spec::Pipeline(pipeline) = &spec {
        let transforms = pipeline.steps.iter().filter_map(|step| step.kind.transform());
        named.extend(transforms.map(|transform| (Kind::Transform, transform.transform.clone())));
    }
    Ok(named)
}

/// Whether `other` names the topic or transform.
pub(crate) fn is_named(other: &Resource, kind: Kind, name: &str) -> Result<bool, Error> {
    Ok(named(other)?.contains(&(kind, name.to_owned())))
}
