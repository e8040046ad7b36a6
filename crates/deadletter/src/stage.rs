//! Who dead-lettered a record. A text of `x-dlq-stage` that isn't one of these names no stage.

use std::fmt;
use std::str::FromStr;

use types::TopicName;

/// A stage, as it stands in `x-dlq-stage`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// `pipeline/WORKSPACE/NAME/STEP@VERSION`.
    Pipeline {
        /// The tenant.
        workspace: String,
        /// The pipeline.
        name: String,
        /// The step that failed.
        step: String,
        /// The transform's version.
        version: u32,
    },
    /// `connector/WORKSPACE/NAME`.
    Connector {
        /// The tenant.
        workspace: String,
        /// The connector.
        name: String,
    },
    /// `job/WORKSPACE/NAME`.
    Job {
        /// The tenant.
        workspace: String,
        /// The stream job.
        name: String,
    },
    /// `ingest/TOPIC`: a request that was refused and quarantined. It has no retry topic.
    Ingest {
        /// Where it was to go.
        topic: TopicName,
    },
}

/// The text names no stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no stage; stages are pipeline/WORKSPACE/NAME/STEP@VERSION, connector/WORKSPACE/NAME, job/WORKSPACE/NAME and ingest/TOPIC"
)]
pub struct StageError(String);

impl Stage {
    /// A pipeline's step.
    pub fn pipeline(
        workspace: impl Into<String>,
        name: impl Into<String>,
        step: impl Into<String>,
        version: u32,
    ) -> Self {
        Self::Pipeline { workspace: workspace.into(), name: name.into(), step: step.into(), version }
    }

    /// A connector.
    pub fn connector(workspace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Connector { workspace: workspace.into(), name: name.into() }
    }

    /// A stream job.
    pub fn job(workspace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Job { workspace: workspace.into(), name: name.into() }
    }

    /// Ingest into a topic.
    pub fn ingest(topic: TopicName) -> Self {
        Self::Ingest { topic }
    }

    /// The tenant; ingest's is its topic's.
    pub fn workspace(&self) -> Option<&str> {
        match self {
            Self::Pipeline { workspace, .. }
            | Self::Connector { workspace, .. }
            | Self::Job { workspace, .. } => Some(workspace),
            Self::Ingest { .. } => None,
        }
    }

    /// Whether `selector` names it: the whole text, or a head of it that ends at `/` or `@`
    /// (`pipeline/demo/github` for all its steps, `pipeline/demo/github/enrich` for all versions of one).
    pub fn matches(&self, selector: &str) -> bool {
        let text = self.to_string();
        text.strip_prefix(selector.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipeline { workspace, name, step, version } => {
                write!(f, "pipeline/{workspace}/{name}/{step}@{version}")
            }
            Self::Connector { workspace, name } => write!(f, "connector/{workspace}/{name}"),
            Self::Job { workspace, name } => write!(f, "job/{workspace}/{name}"),
            Self::Ingest { topic } => write!(f, "ingest/{topic}"),
        }
    }
}

impl FromStr for Stage {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, StageError> {
        /// Longer texts are shown cut.
        const SHOWN_CHARS: usize = 256;
        let parts: Vec<&str> = text.split('/').collect();
        let stage = match parts.as_slice() {
            _ if parts.iter().any(|part| part.is_empty()) => None,
            ["pipeline", workspace, name, step] => step.rsplit_once('@').and_then(|(step, version)| {
                let version = version.parse().ok().filter(|_| !step.is_empty())?;
                Some(Self::pipeline(*workspace, *name, step, version))
            }),
            ["connector", workspace, name] => Some(Self::connector(*workspace, *name)),
            ["job", workspace, name] => Some(Self::job(*workspace, *name)),
            ["ingest", topic] => TopicName::new(topic).ok().map(Self::ingest),
            _ => None,
        };
        stage.ok_or_else(|| StageError(text.chars().take(SHOWN_CHARS).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_read_back() {
        for text in ["pipeline/demo/github/enrich@3", "connector/demo/crm", "job/demo/count", "ingest/a.b"] {
            assert_eq!(text.parse::<Stage>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "pipeline/demo/github",
            "pipeline/demo/github/x@",
            "pipeline/demo/github/@1",
            "pipeline/demo/github/x@-1",
            "connector//crm",
            "connector/a/b/c",
            "ingest/a b",
            "x/y/z",
        ] {
            assert!(text.parse::<Stage>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_selector_ends_at_a_boundary() {
        let stage = Stage::pipeline("demo", "github", "enrich", 3);
        for yes in [
            "pipeline",
            "pipeline/demo/github",
            "pipeline/demo/github/",
            "pipeline/demo/github/enrich",
            "pipeline/demo/github/enrich@3",
        ] {
            assert!(stage.matches(yes), "{yes}");
        }
        for no in [
            "pipeline/demo/git",
            "pipeline/demo/github/enrich@",
            "connector",
            "pipeline/demo/github/enrich@33",
        ] {
            assert!(!stage.matches(no), "{no}");
        }
    }
}
