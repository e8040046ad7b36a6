//! What applying a set of manifests would change, and applying it.
//!
//! A **source** is where manifests come from: a repository, a folder in it. What it applies it **owns**: its name stands in
//! `metadata.managedBy`. What it owns and doesn't have any more is an **orphan**; with `prune` orphans are deleted.
//!
//! Invariants:
//! - A plan writes nothing. It decides over a snapshot, each manifest by the rules of a PUT ([`crate::decide`]) after those
//!   that it may name, so that a plan and an apply can't disagree but by what others write in between.
//! - Every problem of every manifest is reported at once, and a set with a problem isn't applied at all.
//! - What another source owns is neither changed (unless its ownership is taken) nor deleted; what nobody owns is never
//!   deleted.
//! - A write goes through only at the revision that was planned for. What fails leaves what names it, and all deletions, for
//!   the next apply; applying again does the rest.

mod apply;
mod entails;
mod fields;
mod prune;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use auth::Access;
use resources::{
    Kind, MANIFESTS_MAX, Manifest, Origin, Problems, Resource, Spec, UNOWNED, WORKSPACE_DEFAULT,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Key;
use types::Scope;

use self::entails::{Warning, entails};
use self::fields::{Field, changed};
use self::snapshot::Snapshot;
use crate::backtest::{Gate, is_required};
use crate::decide::{Decided, Wanted, named};
use crate::resource::{body, spec};
use crate::{Control, Error, Precondition, Rollout, Write};

pub(crate) use self::apply::Outcome;

/// All tests of all transforms of a set. Past it the rest is a problem, not a wait.
const TESTS_TIME_MAX: Duration = Duration::from_secs(60);

/// Problems of one plan that are listed.
const PROBLEMS_MAX: usize = 1000;

/// A set of manifests, and how it is to be applied.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Asked {
    /// At most [`MANIFESTS_MAX`], in any order. One that names no workspace belongs to [`WORKSPACE_DEFAULT`].
    manifests: Vec<Value>,
    /// Who owns them from then on.
    source: String,
    /// Deletes what the source owns and the manifests don't have.
    #[serde(default)]
    prune: bool,
    /// Changes also what another source owns, which then is this one's.
    #[serde(default)]
    take_ownership: bool,
    /// Pipelines' versions come into force without the backtest that they require.
    #[serde(default)]
    skip_backtest: bool,
    /// Also versions that pipelines were rolled back from.
    #[serde(default)]
    retry_rollout: bool,
    /// Of a plan: required backtests run now, each for up to a minute. An apply always runs them.
    #[serde(default)]
    backtests: bool,
    /// Whose permissions bound it; `None`: the process' own.
    #[serde(skip)]
    pub(crate) caller: Option<Access>,
}

/// What would become of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    Create,
    Update,
    /// It is made, and the one of the same spec under another name is deleted.
    Rename,
    Delete,
    Unchanged,
}

/// Names a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Named {
    kind: Kind,
    workspace: String,
    name: String,
}

impl From<&Key> for Named {
    fn from(key: &Key) -> Self {
        Self { kind: key.kind, workspace: key.workspace.clone(), name: key.name.clone() }
    }
}

/// One change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Planned {
    action: Action,
    #[serde(flatten)]
    named: Named,
    /// Of a rename: the name before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Which manifest says so, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// At which the resource was looked at; absent: it isn't there.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    fields: Vec<Field>,
    /// Fields beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    fields_left_out: usize,
    warnings: Vec<Warning>,
    #[serde(skip)]
    steps: Steps,
}

/// What is done for one change.
#[derive(Debug, Default)]
struct Steps {
    /// With its versions as numbers.
    put: Option<Manifest>,
    /// What it names, which is written before.
    names: BTreeSet<Key>,
    delete: Option<(Key, u64)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Why a set can't be applied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanProblem {
    /// Which manifest, from 0; absent: one that would be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// Absent where it can't be read.
    #[serde(flatten)]
    named: Option<Named>,
    /// Into the manifest.
    pointer: String,
    /// As in a PUT's answer; besides them `owned`, `duplicate`, `in_use`.
    pub(crate) code: String,
    message: String,
}

/// How many of each.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    create: usize,
    update: usize,
    rename: usize,
    delete: usize,
    unchanged: usize,
}

/// What applying would change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    source: String,
    /// In the order in which they are applied.
    changes: Vec<Planned>,
    pub(crate) problems: Vec<PlanProblem>,
    /// Problems beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    problems_left_out: usize,
    /// What the source owns, the manifests don't have, and stays, since pruning wasn't asked for.
    orphans: Vec<Named>,
    summary: Summary,
}

impl Plan {
    fn problem(&mut self, index: Option<usize>, key: Option<&Key>, problem: resources::Problem) {
        if self.problems.len() == PROBLEMS_MAX {
            self.problems_left_out += 1;
            return;
        }
        let resources::Problem { pointer, code, message } = problem;
        self.problems.push(PlanProblem { index, named: key.map(Named::from), pointer, code, message });
    }

    fn count(&mut self) {
        for change in &self.changes {
            *match change.action {
                Action::Create => &mut self.summary.create,
                Action::Update => &mut self.summary.update,
                Action::Rename => &mut self.summary.rename,
                Action::Delete => &mut self.summary.delete,
                Action::Unchanged => &mut self.summary.unchanged,
            } += 1;
        }
    }
}

fn problem(pointer: &str, code: &str, message: impl Into<String>) -> resources::Problem {
    resources::Problem { pointer: pointer.into(), code: code.into(), message: message.into() }
}

/// A manifest and where it belongs.
struct Read {
    index: usize,
    key: Key,
    manifest: Manifest,
}

impl Control {
    /// What applying the set would change, and all that stands against it.
    pub(crate) async fn plan(&self, asked: &Asked) -> Result<Plan, Error> {
        resources::check_source(&asked.source).map_err(|error| Error::BadRequest(error.to_string()))?;
        if asked.manifests.len() > MANIFESTS_MAX {
            return Err(Error::BadRequest(format!(
                "manifests: are {}, but at most {MANIFESTS_MAX} are taken at once",
                asked.manifests.len()
            )));
        }
        let mut plan = Plan {
            source: asked.source.clone(),
            changes: Vec::new(),
            problems: Vec::new(),
            problems_left_out: 0,
            orphans: Vec::new(),
            summary: Summary::default(),
        };
        let (read, kept) = read(&asked.manifests, &mut plan);
        let mut snapshot = Snapshot::of(&*self.store).await?;
        let mut tests = Tests { begun: Instant::now() };
        for Read { index, key, manifest } in read {
            self.plan_one(asked, index, &key, manifest, &mut snapshot, &mut tests, &mut plan).await?;
        }
        let orphans = snapshot.owned_by(&asked.source)?;
        let orphans =
            orphans.into_iter().filter(|(key, _)| !kept.contains(key) && asked.may_delete(key)).collect();
        if asked.prune {
            prune::prune(orphans, &snapshot, &mut plan)?;
        } else {
            plan.orphans = orphans.iter().map(|(key, _): &(Key, Resource)| Named::from(key)).collect();
        }
        plan.count();
        Ok(plan)
    }

    #[expect(clippy::too_many_arguments, reason = "the loop's own state, in one place")]
    async fn plan_one(
        &self,
        asked: &Asked,
        index: usize,
        key: &Key,
        manifest: Manifest,
        snapshot: &mut Snapshot<'_>,
        tests: &mut Tests,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let existing = snapshot.resource(key)?;
        let owner = existing.as_ref().map(|existing| existing.metadata.managed_by.as_str());
        if let Some(owner) = owner.filter(|o| *o != asked.source && !UNOWNED.contains(o))
            && !asked.take_ownership
        {
            let message = format!(
                "{} {} is owned by source {owner}: take it out of this set, or take its ownership \
                 (`--take-ownership`, takeOwnership)",
                key.kind, key.name
            );
            plan.problem(Some(index), Some(key), problem("/metadata/name", "owned", message));
        }
        let tested = tests.run(self, existing.as_ref(), &manifest.spec).await?;
        let wanted = Wanted { manifest, tested, gate: Gate::Open };
        let how = asked.how();
        let decided = match self.decide(&*snapshot, key, &wanted, Precondition::None, &how).await {
            Ok(decided) => decided,
            Err(Error::Conflict(why)) => {
                plan.problem(Some(index), Some(key), problem("", "conflict", why));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Decided { before, resource, change, new_version, new_workspace, warnings, problems } = decided;
        let is_valid = problems.is_empty();
        problems.into_iter().for_each(|found| plan.problem(Some(index), Some(key), found));
        let mut warnings: Vec<Warning> =
            warnings.into_iter().map(|text| Warning::new("note", "", text)).collect();
        let action = match change {
            crate::Change::Created => Action::Create,
            crate::Change::Changed => Action::Update,
            crate::Change::Unchanged => Action::Unchanged,
        };
        let mut steps = Steps::default();
        let (fields, fields_left_out) = changed(before.as_ref(), &resource);
        if action != Action::Unchanged && is_valid {
            if let Some(before) = &before {
                warnings.extend(entails(&spec(before)?, &spec(&resource)?));
                warnings.extend(self.backtested(asked, key, before, &resource, snapshot).await?);
            }
            let workspace = &key.workspace;
            let names = named(&resource)?.into_iter().map(|(kind, name)| Key::new(workspace, kind, name));
            steps.names = names.chain([Key::new(workspace, Kind::Workspace, workspace)]).collect();
            steps.names.remove(key);
            // Its versions as numbers: what was planned is what is written.
            steps.put = Some(Manifest {
                name: key.name.clone(),
                workspace: Some(workspace.clone()),
                labels: resource.metadata.labels.clone(),
                spec: spec(&resource)?,
            });
        }
        let revision = before.map(|before| before.metadata.revision);
        snapshot.put(key, revision, &resource, new_version, new_workspace);
        let named = Named::from(key);
        plan.changes.push(Planned {
            action,
            named,
            from: None,
            index: Some(index),
            revision,
            fields,
            fields_left_out,
            warnings,
            steps,
        });
        Ok(())
    }

    /// What the backtest that a pipeline requires says, or that there will be one.
    async fn backtested(
        &self,
        asked: &Asked,
        key: &Key,
        before: &Resource,
        after: &Resource,
        snapshot: &Snapshot<'_>,
    ) -> Result<Option<Warning>, Error> {
        let (Spec::Pipeline(active), Spec::Pipeline(candidate)) = (spec(before)?, spec(after)?) else {
            return Ok(None);
        };
        if !is_required(&active, &candidate) {
            return Ok(None);
        }
        let warning = |code, text: String| Some(Warning::new(code, "/spec/rollout", text));
        if !asked.backtests && !asked.skip_backtest {
            let text = "its rollout requires a backtest: apply runs it first, and leaves the pipeline as it is where \
                        it doesn't pass (`--backtest` runs it now)";
            return Ok(warning("backtest_required", text.into()));
        }
        Ok(match self.gate(snapshot, key, &candidate, asked.skip_backtest).await {
            Ok(Gate::Tried { warning: found, .. }) => {
                found.and_then(|text| warning("backtest_required", text))
            }
            Ok(Gate::Open) => None,
            Err(Error::Refused { detail, .. } | Error::Conflict(detail) | Error::Busy(detail)) => {
                warning("backtest_refused", detail)
            }
            Err(error) => return Err(error),
        })
    }
}

impl Asked {
    /// Whether what the source owns and doesn't have any more is the caller's to delete.
    fn may_delete(&self, key: &Key) -> bool {
        self.caller.as_ref().is_none_or(|caller| match key.kind {
            Kind::Workspace | Kind::Client => caller.scope(Scope::Admin).and(caller.installation()).is_ok(),
            _ => caller.workspace(&key.workspace).is_ok(),
        })
    }

    /// How each of them is written.
    fn how(&self) -> Write {
        Write {
            dry_run: false,
            skip_backtest: self.skip_backtest,
            rollout: if self.retry_rollout { Rollout::Retry } else { Rollout::Forward },
            source: Some(self.source.clone()),
            caller: self.caller.clone(),
        }
    }
}

/// The time that tests have taken.
struct Tests {
    begun: Instant,
}

impl Tests {
    /// Runs them where the transform isn't as it was.
    async fn run(
        &mut self,
        control: &Control,
        existing: Option<&Resource>,
        wanted: &Spec,
    ) -> Result<Problems, Error> {
        let Spec::Transform(transform) = wanted else { return Ok(Problems::new()) };
        if existing.is_some_and(|existing| existing.spec == wanted.to_value()) {
            return Ok(Problems::new());
        }
        if !transform.tests.is_empty() && self.begun.elapsed() > TESTS_TIME_MAX {
            let mut problems = Problems::new();
            let seconds = TESTS_TIME_MAX.as_secs();
            let message =
                format!("the set's tests before them took more than {seconds} s: apply it in parts");
            problems.add("/spec/tests", "test_not_run", message);
            return Ok(problems);
        }
        control.test(wanted).await
    }
}

/// Reads the manifests, in the order in which they are applied; and the keys of all of them, also of those that
/// can't be read as far as they say who they are.
fn read(manifests: &[Value], plan: &mut Plan) -> (Vec<Read>, BTreeSet<Key>) {
    let mut found = Vec::new();
    let mut first: BTreeMap<Key, usize> = BTreeMap::new();
    for (index, value) in manifests.iter().enumerate() {
        let key = key(value);
        match Manifest::decode(value, Origin::Api) {
            Err(problems) => {
                problems.into_iter().for_each(|one| plan.problem(Some(index), key.as_ref(), one));
            }
            Ok(manifest) => {
                if let Some(key) = key.clone().filter(|key| !first.contains_key(key)) {
                    found.push(Read { index, key, manifest });
                }
            }
        }
        let Some(key) = key else { continue };
        if let Some(earlier) = first.get(&key) {
            let message = format!("{} {} is in manifest {earlier} too", key.kind, key.name);
            plan.problem(Some(index), Some(&key), problem("/metadata/name", "duplicate", message));
        } else {
            first.insert(key, index);
        }
    }
    // Stable: within a kind the set's order stays.
    found.sort_by_key(|read| read.key.kind);
    (found, first.into_keys().collect())
}

/// Who a manifest says that it is.
fn key(value: &Value) -> Option<Key> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let kind: Kind = text("/kind")?.parse().ok()?;
    let name = text("/metadata/name")?;
    let workspace = match kind {
        Kind::Workspace => name,
        Kind::Client => "",
        _ => text("/metadata/workspace").unwrap_or(WORKSPACE_DEFAULT),
    };
    Some(Key::new(workspace, kind, name))
}
