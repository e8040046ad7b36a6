//! Pipelines: versions are frozen, topics are the workspace's, nothing goes round in a circle.

use pipeline::SchemaError;
use resources::{Kind, PipelineSpec, Problems, StepKind, TransformRef, ValidateSpec, VersionRef};
use store::{Key, LIST_MAX};
use types::{Naming, StageKind, TopicName};

use super::{Admission, expression};
use crate::Error;
use crate::resource::{TransformFacts, facts, resource, version};

impl Admission<'_> {
    pub(super) async fn pipeline(
        &self,
        spec: &mut PipelineSpec,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        for (i, step) in spec.steps.iter_mut().enumerate() {
            let pointer = format!("/spec/steps/{i}");
            for (place, source) in step.kind.expressions() {
                expression::compile(&format!("{pointer}{place}"), source, problems);
            }
            if let StepKind::Validate(ValidateSpec { schema }) = &step.kind
                && let Err(SchemaError { at, message }) = pipeline::check_schema(schema)
            {
                problems.add(format!("{pointer}/validate/schema{at}"), "schema_invalid", message);
            }
            if let StepKind::Transform(TransformRef { transform, version }) = &mut step.kind {
                let found = self.version(&pointer, transform, *version, problems).await?;
                *version = found.map(VersionRef::Number).or(*version);
            }
        }
        if let Some(key) = &spec.target.key {
            expression::compile("/spec/target/key", key, problems);
        }
        let sources: Vec<TopicName> = spec.sources.iter().map(|source| source.topic.clone()).collect();
        for (i, topic) in sources.iter().enumerate() {
            self.may_use(&format!("/spec/sources/{i}/topic"), topic, problems).await?;
        }
        for (place, topic) in spec.targets() {
            self.may_use(&format!("/spec{place}"), topic, problems).await?;
        }
        let dlqs =
            self.system_topics(StageKind::Pipeline, "/spec/sources", "/topic", &sources, problems).await?;
        let naming = Naming { env: &self.config.env, workspace: self.workspace };
        let retry = naming.retry(StageKind::Pipeline, self.name).ok();
        for (place, topic) in spec.targets() {
            let why = if dlqs.contains(topic) {
                format!("{topic} is the dead-letter topic of a source: results belong elsewhere")
            } else if retry.as_ref() == Some(topic) {
                format!("{topic} is the pipeline's own retry topic: it would read what it writes, for ever")
            } else {
                continue;
            };
            problems.add(format!("/spec{place}"), "conflict", why);
        }
        Ok(())
    }

    /// The number that a step's version means.
    async fn version(
        &self,
        pointer: &str,
        transform: &str,
        wanted: Option<VersionRef>,
        problems: &mut Problems,
    ) -> Result<Option<u32>, Error> {
        let key = Key::new(self.workspace, Kind::Transform, transform);
        let Some(document) = self.store.get(&key).await? else {
            problems.add(
                format!("{pointer}/transform"),
                "not_found",
                format!("transform {transform} doesn't exist in workspace {}", self.workspace),
            );
            return Ok(None);
        };
        let resource = resource(&document)?;
        let newest: TransformFacts = facts(&resource)?;
        match wanted {
            // The version applied with it: what applies a folder puts transforms first.
            None => Ok(Some(newest.version)),
            Some(VersionRef::Number(number)) => {
                let uid = resource.metadata.uid;
                // A version that nobody was told of (a crash left it) isn't there for anybody.
                if number <= newest.version && self.store.version(uid, number).await?.is_some() {
                    return Ok(Some(number));
                }
                problems.add(
                    format!("{pointer}/version"),
                    "not_found",
                    format!(
                        "transform {transform} has no version {number}; the newest is {}",
                        newest.version
                    ),
                );
                Ok(None)
            }
            Some(VersionRef::Hash(hash)) => {
                if newest.hash == hash {
                    return Ok(Some(newest.version));
                }
                for (number, body) in self.store.versions(resource.metadata.uid, LIST_MAX).await? {
                    if number <= newest.version && version(body)?.hash == hash {
                        return Ok(Some(number));
                    }
                }
                problems.add(
                    format!("{pointer}/version"),
                    "not_found",
                    format!("transform {transform} has no version with content {hash}"),
                );
                Ok(None)
            }
        }
    }

    /// The dead-letter topics of a stage's sources. Problems: names that can't be made, and sources that are
    /// their own dead-letter topic, in which a bad record would go round for ever.
    pub(super) async fn system_topics(
        &self,
        kind: StageKind,
        list: &str,
        field: &str,
        sources: &[TopicName],
        problems: &mut Problems,
    ) -> Result<Vec<TopicName>, Error> {
        let naming = Naming { env: &self.config.env, workspace: self.workspace };
        let retry = match naming.retry(kind, self.name) {
            Ok(retry) => Some(retry),
            Err(error) => {
                problems.invalid("/metadata/name", format!("{error}: {}", error.source));
                None
            }
        };
        let mut dlqs = Vec::new();
        for (i, source) in sources.iter().enumerate() {
            let pointer = format!("{list}/{i}{field}");
            if retry.as_ref() == Some(source) {
                problems.add(pointer, "conflict", format!("{source} is the stage's own retry topic"));
                continue;
            }
            match self.dlq(source).await? {
                Ok(dlq) if dlq == *source => problems.add(
                    pointer,
                    "conflict",
                    format!("{source} is its own dead-letter topic: a bad record would go round for ever"),
                ),
                Ok(dlq) => dlqs.push(dlq),
                Err(message) => problems.invalid(pointer, message),
            }
        }
        Ok(dlqs)
    }

    async fn dlq(&self, source: &TopicName) -> Result<Result<TopicName, String>, Error> {
        let key = Key::new(self.workspace, Kind::Topic, source.as_str());
        let spec = match self.store.get(&key).await? {
            Some(document) => Some(crate::resource::spec(&resource(&document)?)?),
            None => None,
        };
        if let Some(resources::Spec::Topic(topic)) = spec
            && let Some(dlq) = topic.dead_letter
        {
            return Ok(Ok(dlq));
        }
        let naming = Naming { env: &self.config.env, workspace: self.workspace };
        Ok(naming.dlq(source).map_err(|error| format!("{error}: {}", error.source)))
    }
}
