//! Topics: named by the workspace's policy, owned by one workspace, never shrinking.

use resources::{Problems, Spec, TopicSpec};
use types::{Naming, TopicName};

use super::{Admission, owner};
use crate::resource::spec;
use crate::{EngineKind, Error};

impl Admission<'_> {
    pub(super) async fn topic(
        &self,
        topic: &TopicSpec,
        warnings: &mut Vec<String>,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        let name = match TopicName::for_caller(self.name) {
            Ok(name) => name,
            Err(error) => {
                problems.invalid("/metadata/name", error);
                return Ok(());
            }
        };
        if let Err(message) = self.follows_policy(&name) {
            problems.add("/metadata/name", "naming_policy", message);
        }
        if owner(self.store, &self.config.env, &name).await?.is_some_and(|owner| owner != self.workspace) {
            problems.add("/metadata/name", "taken", format!("topic name {name} is taken"));
        }
        let existing = match self.existing.map(spec).transpose()? {
            Some(Spec::Topic(existing)) => existing.partitions,
            _ => 0,
        };
        if topic.partitions < existing {
            problems.add(
                "/spec/partitions",
                "conflict",
                format!(
                    "is {}, but the topic has {existing}: partitions can be added, not taken away",
                    topic.partitions
                ),
            );
        }
        if let Some(factor) = topic.replication_factor
            && factor > 1
            && self.config.engine == EngineKind::Embedded
        {
            warnings
                .push(format!("replicationFactor {factor} becomes 1: the embedded engine has one replica"));
        }
        match &topic.dead_letter {
            Some(dlq) if *dlq == name => {
                problems.add("/spec/deadLetter", "conflict", "a topic can't be its own dead-letter topic");
            }
            Some(dlq) => self.may_use("/spec/deadLetter", dlq, problems).await?,
            None => {
                let naming = Naming { env: &self.config.env, workspace: self.workspace };
                if let Err(error) = naming.dlq(&name) {
                    problems.invalid("/metadata/name", format!("{error}: {}", error.source));
                }
            }
        }
        Ok(())
    }

    /// Naming policies accept what the system itself makes: `<topic>.dlq`, and retry topics.
    fn follows_policy(&self, name: &TopicName) -> Result<(), String> {
        let policy = self.rules.topic_naming;
        let env = &self.config.env;
        let whole = policy.check(env, self.workspace, name);
        let of_topic = name.as_str().strip_suffix(".dlq").and_then(|base| TopicName::new(base).ok());
        let is_dlq = of_topic.is_some_and(|base| policy.check(env, self.workspace, &base).is_ok());
        let retry = name.as_str().strip_prefix(&format!("{env}.{}.", self.workspace));
        let is_retry = retry.is_some_and(|rest| rest.ends_with(".retry") && rest.matches('.').count() == 1);
        if is_dlq || is_retry { Ok(()) } else { whole }
    }
}
