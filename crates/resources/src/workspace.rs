//! The Workspace: a tenant, and the rules that its other resources keep.

use serde::{Deserialize, Serialize};
use types::{StreamName, TopicName};

use crate::decode::At;
use crate::problem::Problems;
use crate::reference::Reference;

/// How a workspace's topics are named. Kafka's own rules always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TopicNaming {
    /// `<env>.<workspace>.<stream>.<variant>`: the default.
    #[default]
    Stream,
    /// `<domain>.<event>.v<N>`.
    DomainEventVersion,
    /// `<domain>.<event>`.
    DomainEvent,
    /// Anything that Kafka takes.
    Any,
}

impl TopicNaming {
    /// Checks a name; the error says what the policy wants.
    pub fn check(self, env: &str, workspace: &str, topic: &TopicName) -> Result<(), String> {
        let segments: Vec<&str> = topic.as_str().split('.').collect();
        let filled = segments.iter().all(|segment| !segment.is_empty());
        let (valid, wanted) = match self {
            Self::Stream => (
                StreamName::parse(topic).is_some_and(|name| name.env == env && name.workspace == workspace),
                format!("{env}.{workspace}.<stream>.<variant>"),
            ),
            Self::DomainEventVersion => (
                filled
                    && segments.len() == 3
                    && segments[2].strip_prefix('v').is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n > 0)),
                "<domain>.<event>.v<N>".into(),
            ),
            Self::DomainEvent => (filled && segments.len() == 2, "<domain>.<event>".into()),
            Self::Any => (true, String::new()),
        };
        if valid {
            Ok(())
        } else {
            Err(format!(
                "topic name {topic} must be {wanted}, as the naming policy of workspace {workspace} says \
                 (spec.topicNaming of the Workspace: stream, domainEventVersion, domainEvent or any)"
            ))
        }
    }
}

/// Which environment variables and files a workspace's resources may name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AllowedReferences {
    /// Names; one that ends with `*` is a prefix.
    pub env: Vec<String>,
    /// Paths; one that ends with `/` is a folder with all that is in it.
    pub files: Vec<String>,
}

impl AllowedReferences {
    /// Whether a reference is allowed.
    pub fn allow(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Env(name) => self.env.iter().any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == allowed,
            }),
            Reference::File(path) => self.files.iter().any(|allowed| {
                if allowed.ends_with('/') { path.starts_with(allowed) } else { path == allowed }
            }),
        }
    }
}

/// What a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkspaceSpec {
    /// Who to ask; free text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// How its topics are named.
    pub topic_naming: TopicNaming,
    /// What its resources may name by `${env:..}` and `${file:..}`. `None`: anything that the process can read,
    /// which is right for a local person and for nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<AllowedReferences>,
}

impl WorkspaceSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let owners = object.field("owners").and_then(|at| at.texts(100, problems)).unwrap_or_default();
        let words = [
            ("stream", TopicNaming::Stream),
            ("domainEventVersion", TopicNaming::DomainEventVersion),
            ("domainEvent", TopicNaming::DomainEvent),
            ("any", TopicNaming::Any),
        ];
        let topic_naming =
            object.field("topicNaming").and_then(|at| at.word(&words, problems)).unwrap_or_default();
        let references = object.field("references").and_then(|at| {
            let mut object = at.object(problems)?;
            let env = object.field("env").and_then(|at| at.texts(1000, problems)).unwrap_or_default();
            let files = object.field("files").and_then(|at| at.texts(1000, problems)).unwrap_or_default();
            object.finish(problems);
            Some(AllowedReferences { env, files })
        });
        object.finish(problems);
        Some(Self { owners, topic_naming, references })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_hold() {
        let check = |policy: TopicNaming, name: &str| {
            policy.check("dev", "demo", &TopicName::new(name).unwrap()).is_ok()
        };
        assert!(check(TopicNaming::Stream, "dev.demo.github.raw"));
        for bad in
            ["orders", "dev.other.github.raw", "prod.demo.github.raw", "dev.demo.github", "dev.demo.a.b.c"]
        {
            assert!(!check(TopicNaming::Stream, bad), "{bad}");
        }
        assert!(check(TopicNaming::DomainEventVersion, "shop.order-placed.v2"));
        for bad in ["shop.order.v0", "shop.order.2", "shop..v1", "order.v1"] {
            assert!(!check(TopicNaming::DomainEventVersion, bad), "{bad}");
        }
        assert!(check(TopicNaming::DomainEvent, "shop.order") && !check(TopicNaming::DomainEvent, "order"));
        assert!(check(TopicNaming::Any, "orders"));
    }

    #[test]
    fn references_are_allowed_by_name_prefix_and_folder() {
        let allowed = AllowedReferences {
            env: vec!["TOKEN".into(), "GITHUB_*".into()],
            files: vec!["/run/secrets/".into(), "/etc/one".into()],
        };
        for yes in [Reference::Env("TOKEN".into()), Reference::Env("GITHUB_X".into())] {
            assert!(allowed.allow(&yes), "{yes}");
        }
        assert!(allowed.allow(&Reference::File("/run/secrets/a/b".into())));
        assert!(allowed.allow(&Reference::File("/etc/one".into())));
        for no in [Reference::Env("TOKEN2".into()), Reference::File("/etc/one2".into())] {
            assert!(!allowed.allow(&no), "{no}");
        }
    }
}
