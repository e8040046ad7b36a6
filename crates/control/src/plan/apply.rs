//! Writing what was planned: what comes before what goes, what is named before what names it.
//!
//! Invariant: each write demands the revision of the plan. Where one fails, what names it is left as it is, and nothing is
//! deleted: what is half done is more than before, never less, and applying again does the rest.

use std::collections::BTreeSet;

use runtime::http::Problem;
use serde::Serialize;
use serde_json::Value;
use store::Key;

use super::entails::Warning;
use super::{Action, Asked, Named, Plan, Planned, Steps};
use crate::error::document;
use crate::{Change, Control, Error, Precondition};

/// What became of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Done {
    Created,
    Changed,
    Renamed,
    Deleted,
    Unchanged,
    /// `error` says why.
    Failed,
    /// It was left as it is, since another failed; `error` says which.
    Skipped,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OneResult {
    outcome: Done,
    #[serde(flatten)]
    named: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// As it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    warnings: Vec<Warning>,
    /// A problem document (RFC 9457).
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    created: usize,
    changed: usize,
    renamed: usize,
    deleted: usize,
    unchanged: usize,
    failed: usize,
    skipped: usize,
}

/// What became of it all.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Applied {
    source: String,
    /// Whether nothing failed.
    pub(crate) complete: bool,
    results: Vec<OneResult>,
    orphans: Vec<Named>,
    summary: Summary,
}

/// Of an apply.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The set has problems: nothing was written.
    Refused(Plan),
    Done(Applied),
}

/// What has failed so far.
#[derive(Debug, Default)]
struct Failures {
    keys: BTreeSet<Key>,
    /// The store itself: nothing more is tried.
    store: bool,
}

impl Failures {
    fn note(&mut self, key: Key, error: &Error) {
        self.store |= matches!(error, Error::Store(store::Error::Backend { .. }));
        self.keys.insert(key);
    }

    /// Why a write isn't tried.
    fn against(&self, steps: &Steps) -> Option<String> {
        if self.store {
            return Some("the store failed before".into());
        }
        let failed = steps.names.iter().find(|name| self.keys.contains(*name))?;
        Some(format!("it names {} {}, which failed or was left", failed.kind, failed.name))
    }
}

impl Control {
    /// Plans the set, and writes what is to be changed.
    pub(crate) async fn apply(&self, asked: &Asked) -> Result<Outcome, Error> {
        let plan = self.plan(asked).await?;
        if !plan.problems.is_empty() {
            return Ok(Outcome::Refused(plan));
        }
        let Plan { source, changes, problems: _, problems_left_out: _, orphans, summary: _ } = plan;
        let mut failures = Failures::default();
        let mut results = Vec::with_capacity(changes.len());
        let mut deletions = Vec::new();
        for change in changes {
            let Planned {
                action,
                named,
                from,
                index,
                revision,
                fields: _,
                fields_left_out: _,
                warnings,
                steps,
            } = change;
            let mut result =
                OneResult { outcome: Done::Unchanged, named, from, index, revision, warnings, error: None };
            if matches!(action, Action::Create | Action::Update | Action::Rename) {
                self.put_planned(asked, &steps, &mut result, &mut failures).await;
            }
            if let Some(delete) = steps.delete {
                deletions.push((results.len(), delete));
            }
            results.push(result);
        }
        for (at, (key, revision)) in deletions {
            let result = &mut results[at];
            let is_rename = result.from.is_some();
            if matches!(result.outcome, Done::Failed | Done::Skipped) {
                continue;
            }
            if !failures.keys.is_empty() {
                let why = "something failed before: nothing is deleted until the rest is as it should be";
                result.left(if is_rename { Done::Failed } else { Done::Skipped }, why);
                continue;
            }
            match self.delete(&key, Precondition::Revision(revision), false).await {
                // Somebody else deleted it: that is what was wanted.
                Ok(()) | Err(Error::NotFound { .. } | Error::NoWorkspace(_)) => {
                    result.outcome = if is_rename { Done::Renamed } else { Done::Deleted };
                    result.revision = result.revision.filter(|_| is_rename);
                }
                Err(error) => {
                    failures.note(key, &error);
                    result.failed(error);
                }
            }
        }
        let mut applied = Applied { source, complete: true, results, orphans, summary: Summary::default() };
        applied.count();
        Ok(Outcome::Done(applied))
    }

    async fn put_planned(
        &self,
        asked: &Asked,
        steps: &Steps,
        result: &mut OneResult,
        failures: &mut Failures,
    ) {
        let Some(manifest) = steps.put.clone() else { return };
        let Named { kind, workspace, name } = &result.named;
        let key = Key::new(workspace, *kind, name);
        if let Some(why) = failures.against(steps) {
            failures.keys.insert(key);
            return result.left(Done::Skipped, &why);
        }
        let planned = result.revision.map_or(Precondition::Absent, Precondition::Revision);
        // Its tests ran in the plan.
        let tested = resources::Problems::new();
        match self.put_tested(&key, manifest, tested, planned, &asked.how()).await {
            Ok(put) => {
                result.outcome = match put.change {
                    Change::Created => Done::Created,
                    Change::Changed => Done::Changed,
                    Change::Unchanged => Done::Unchanged,
                };
                result.revision = Some(put.resource.metadata.revision);
                for text in put.warnings {
                    if result.warnings.iter().all(|known| known.message != text) {
                        result.warnings.push(Warning::new("note", "", text));
                    }
                }
            }
            Err(error) => {
                failures.note(key, &error);
                result.failed(error);
            }
        }
    }
}

impl OneResult {
    fn failed(&mut self, error: Error) {
        self.outcome = Done::Failed;
        let error = match error {
            Error::Precondition { .. } => Error::Conflict(
                "somebody else changed it after it was planned, and it was left as it is: apply again".into(),
            ),
            error => error,
        };
        self.error = Some(document(&Problem::from(error)));
    }

    fn left(&mut self, outcome: Done, why: &str) {
        self.outcome = outcome;
        let problem = Problem::new(http::StatusCode::CONFLICT, "left_undone");
        self.error = Some(document(&problem.detail(format!("{why}: apply again"))));
    }
}

impl Applied {
    fn count(&mut self) {
        for result in &self.results {
            *match result.outcome {
                Done::Created => &mut self.summary.created,
                Done::Changed => &mut self.summary.changed,
                Done::Renamed => &mut self.summary.renamed,
                Done::Deleted => &mut self.summary.deleted,
                Done::Unchanged => &mut self.summary.unchanged,
                Done::Failed => &mut self.summary.failed,
                Done::Skipped => &mut self.summary.skipped,
            } += 1;
        }
        self.complete = self.summary.failed == 0 && self.summary.skipped == 0;
    }
}
