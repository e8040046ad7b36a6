//! Asking the server to plan or apply a set, and saying its problems where they stand in the files.

use anyhow::{Context as _, Result, bail};
use resources::{Placed, folder};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commands::{http, http_as, problem};

/// Whose manifests are that nobody says whose they are.
const SOURCE_DEFAULT: &str = "default";

/// How a set is applied: the fields of the API's body.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) source: String,
    pub(super) prune: bool,
    pub(super) take_ownership: bool,
    pub(super) skip_backtest: bool,
    pub(super) retry_rollout: bool,
    pub(super) backtests: bool,
}

impl Default for How {
    fn default() -> Self {
        Self {
            source: SOURCE_DEFAULT.into(),
            prune: false,
            take_ownership: false,
            skip_backtest: false,
            retry_rollout: false,
            backtests: false,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Plan,
    Apply,
}

/// A set and what is asked of whom.
pub(super) struct Asked<'a> {
    pub(super) url: &'a str,
    pub(super) how: How,
    pub(super) manifests: &'a [Placed],
    /// What this process shows to itself, where the platform runs in it.
    pub(super) own: Option<&'a auth::Secret>,
}

/// A problem of a set.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetProblem {
    index: Option<usize>,
    kind: Option<String>,
    name: Option<String>,
    #[serde(default)]
    pointer: String,
    message: String,
}

/// Reads manifests; every problem of every file at once.
pub(super) fn manifests(files: &[(String, String)]) -> Result<Vec<Placed>> {
    folder(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} problem(s), nothing was applied:\n  {}", lines.len(), lines.join("\n  "))
    })
}

impl Asked<'_> {
    pub(super) async fn send(&self, verb: Verb) -> Result<Value> {
        let How { source, prune, take_ownership, skip_backtest, retry_rollout, backtests } = &self.how;
        let manifests: Vec<&Value> = self.manifests.iter().map(Placed::value).collect();
        let mut body = json!({
            "manifests": manifests,
            "source": source,
            "prune": prune,
            "takeOwnership": take_ownership,
            "skipBacktest": skip_backtest,
            "retryRollout": retry_rollout,
        });
        let url = self.url.trim_end_matches('/');
        let address = match verb {
            Verb::Plan => {
                body["backtests"] = json!(backtests);
                format!("{url}/api/v1:plan")
            }
            Verb::Apply => format!("{url}/api/v1:apply"),
        };
        let client = match self.own {
            Some(own) => http_as(own.reveal())?,
            None => http(&address).await?,
        };
        let response = client.post(address).json(&body).send().await.map_err(|error| {
            anyhow::Error::new(error.without_url()).context(format!(
                "{url} can't be reached; is `vltava up` running there? --url says where it is"
            ))
        })?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| {
            format!("{url} broke off its answer; what was applied stays: apply again does the rest")
        })?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .with_context(|| format!("{url} answered {status} with no JSON"));
        }
        let problems = serde_json::from_slice::<Value>(&body).ok().and_then(|mut document| {
            serde_json::from_value::<Vec<SetProblem>>(document["problems"].take()).ok()
        });
        self.refuse(&problems.unwrap_or_default())?;
        bail!("{}", problem(status.as_u16(), &body))
    }

    /// The error that these problems are, each with its file and line; none of none.
    pub(super) fn refuse(&self, problems: &[SetProblem]) -> Result<()> {
        if problems.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = problems.iter().map(|problem| self.line(problem)).collect();
        bail!("{} problem(s), nothing was applied:\n  {}", lines.len(), lines.join("\n  "))
    }

    fn line(&self, problem: &SetProblem) -> String {
        let SetProblem { index, kind, name, pointer, message } = problem;
        let named: Vec<&str> = [kind, name].into_iter().flatten().map(String::as_str).collect();
        let parts = [self.place(*index, pointer), named.join(" "), pointer.clone(), message.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }

    /// Where a manifest, or a part of it, stands; empty where that isn't known.
    pub(super) fn place(&self, index: Option<usize>, pointer: &str) -> String {
        let placed = index.and_then(|index| self.manifests.get(index));
        placed.map_or_else(String::new, |placed| placed.place_of(pointer).to_string())
    }
}
