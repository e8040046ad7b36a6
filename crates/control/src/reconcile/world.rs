//! All resources, read and sorted once a pass: what the rest of the pass decides by.

use std::collections::BTreeMap;

use resources::{
    AllowedReferences, ConnectorSpec, Kind, PipelineSpec, Resource, Spec, StepKind, TopicSpec, TransformRef,
    VersionRef, WorkspaceSpec,
};
use types::{Naming, StageKind, StreamName, TopicName, Uid};

use crate::Error;
use crate::resource::spec;

/// A resource and its spec.
#[derive(Debug, Clone)]
pub(super) struct Of<T> {
    pub(super) resource: Resource,
    pub(super) spec: T,
}

impl<T> Of<T> {
    pub(super) fn uid(&self) -> Uid {
        self.resource.metadata.uid
    }

    pub(super) fn workspace(&self) -> &str {
        &self.resource.metadata.workspace
    }

    pub(super) fn name(&self) -> &str {
        &self.resource.metadata.name
    }
}

/// Everything that the store holds.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(super) workspaces: BTreeMap<String, WorkspaceSpec>,
    pub(super) topics: BTreeMap<TopicName, Of<TopicSpec>>,
    /// Topic resources whose name an older one has already: two control planes took it at once.
    pub(super) doubles: Vec<Of<TopicSpec>>,
    pub(super) pipelines: Vec<Of<PipelineSpec>>,
    pub(super) connectors: Vec<Of<ConnectorSpec>>,
    /// By workspace and name.
    pub(super) transforms: BTreeMap<(String, String), Uid>,
    /// Runs, waiting, running and over.
    pub(crate) redrives: Vec<Resource>,
}

impl World {
    pub(crate) fn of(resources: Vec<Resource>) -> Result<Self, Error> {
        let mut world = Self::default();
        for resource in resources {
            if resource.kind == Kind::Redrive {
                world.redrives.push(resource);
                continue;
            }
            match spec(&resource)? {
                Spec::Workspace(spec) => {
                    world.workspaces.insert(resource.metadata.name, spec);
                }
                Spec::Topic(spec) => {
                    let Ok(name) = TopicName::for_caller(&resource.metadata.name) else { continue };
                    let mut topic = Of { resource, spec };
                    // A uid sorts by its birth.
                    if let Some(other) = world.topics.get_mut(&name)
                        && topic.uid() < other.uid()
                    {
                        std::mem::swap(other, &mut topic);
                    }
                    match world.topics.contains_key(&name) {
                        true => world.doubles.push(topic),
                        false => drop(world.topics.insert(name, topic)),
                    }
                }
                Spec::Client(_) => {}
                Spec::Transform(_) => {
                    let metadata = resource.metadata;
                    world.transforms.insert((metadata.workspace, metadata.name), metadata.uid);
                }
                Spec::Pipeline(spec) => world.pipelines.push(Of { resource, spec }),
                Spec::Connector(spec) => world.connectors.push(Of { resource, spec }),
            }
        }
        Ok(world)
    }

    /// With another spec of a pipeline.
    pub(crate) fn with_pipeline(mut self, workspace: &str, name: &str, spec: &PipelineSpec) -> Self {
        for of in &mut self.pipelines {
            if of.workspace() == workspace && of.name() == name {
                of.spec.clone_from(spec);
            }
        }
        self
    }

    /// As [`crate::admit::owner`], of what was read.
    fn owner(&self, env: &str, topic: &TopicName) -> Option<String> {
        if let Some(of) = self.topics.get(topic) {
            return Some(of.workspace().to_owned());
        }
        let by_name = StreamName::parse(topic).filter(|name| name.env == env).map(|name| name.workspace);
        by_name.filter(|name| self.workspaces.contains_key(name))
    }

    /// Whether a workspace's stages may touch the topic.
    pub(super) fn may_use(&self, env: &str, workspace: &str, topic: &TopicName) -> bool {
        self.owner(env, topic).is_none_or(|owner| owner == workspace)
    }

    /// Where a source's dead letters go.
    pub(crate) fn dlq(&self, naming: &Naming<'_>, source: &TopicName) -> Result<TopicName, String> {
        let own = self.topics.get(source).filter(|of| of.workspace() == naming.workspace);
        if let Some(dlq) = own.and_then(|of| of.spec.dead_letter.clone()) {
            return Ok(dlq);
        }
        naming.dlq(source).map_err(|error| format!("{error}: {}", error.source))
    }

    /// A pipeline's steps, with their transforms by uid and version in force; none where they aren't known.
    pub(crate) fn steps_of(&self, workspace: &str, pipeline: &str) -> Vec<StepKind<(Uid, u32)>> {
        let of = self.pipelines.iter().find(|of| of.workspace() == workspace && of.name() == pipeline);
        let steps = of.into_iter().flat_map(|of| &of.spec.steps);
        let found = steps.map(|step| {
            step.kind.try_map(|TransformRef { transform, version }| {
                let Some(VersionRef::Number(number)) = *version else { return Err(()) };
                let uid = self.transforms.get(&(workspace.to_owned(), transform.clone())).ok_or(())?;
                Ok((*uid, number))
            })
        });
        found.collect::<Result<Vec<_>, _>>().unwrap_or_default()
    }

    /// Kind, name and sources of a workspace's stages.
    pub(crate) fn stages_of(
        &self,
        workspace: &str,
    ) -> impl Iterator<Item = (StageKind, &str, Vec<&TopicName>)> {
        let pipelines = self.pipelines.iter().filter(move |of| of.workspace() == workspace).map(|of| {
            let sources = of.spec.sources.iter().map(|source| &source.topic).collect();
            (StageKind::Pipeline, of.name(), sources)
        });
        let connectors = self
            .connectors
            .iter()
            .filter(move |of| of.workspace() == workspace)
            .map(|of| (StageKind::Connector, of.name(), of.spec.topics.iter().collect()));
        pipelines.chain(connectors)
    }

    /// What a workspace's resources may name.
    pub(super) fn references(&self, workspace: &str) -> Option<&AllowedReferences> {
        self.workspaces.get(workspace)?.references.as_ref()
    }
}
