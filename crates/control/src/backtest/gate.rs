//! What a pipeline asks for before another version comes into force (`rollout.require.backtest`), tried when it is put.
//!
//! Invariants: what was tried is what is stored: the write goes through only if the pipeline is at the revision that was
//! tried against, and its spec is the one that was tried. What can't be tried isn't let through. The requirement of the
//! spec that is put counts, so that a change and what it may change are read together; where it has none, the stored one's:
//! taking it away is a change of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use pipeline::backtest::{self, Asked, Records, Report, Step};
use resources::{PipelineSpec, Problems, RequiredBacktest, Spec, StepKind, TransformRef};
use store::{Key, Read};

use super::report::report_value;
use super::{About, Replaced};
use crate::admit::{Admission, Admitted};
use crate::control::{all, workspace};
use crate::reconcile::{World, pipeline_plan};
use crate::resource::{resource, spec};
use crate::{Control, Error};

/// How long one may take: somebody waits for the answer.
const TIME_MAX: Duration = Duration::from_secs(60);

/// How long it waits for others to end.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Samples of each category in the problem that refuses a version.
const SAMPLES: usize = 2;

/// What a write is held against.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Nothing is required.
    Open,
    /// What was tried, or needn't be: it is as it was.
    Tried {
        /// The pipeline's revision then.
        revision: u64,
        /// The spec, with its versions as numbers.
        spec: Box<PipelineSpec>,
        /// What the caller should know.
        warning: Option<String>,
    },
}

impl Gate {
    /// Whether the write is the one that was tried. Returns what the caller should know.
    pub(crate) fn check(&self, current: Option<u64>, spec: &Spec) -> Result<Option<String>, Error> {
        match (self, spec) {
            (Self::Open, _) => Ok(None),
            (Self::Tried { revision, spec: tried, warning }, Spec::Pipeline(spec))
                if current == Some(*revision) && spec == &**tried =>
            {
                Ok(warning.clone())
            }
            _ => Err(Error::Conflict(
                "the pipeline, or a transform of it, changed while its backtest ran: put it again".into(),
            )),
        }
    }
}

impl Control {
    /// Tries what a pipeline's new spec requires to be tried. `skip`: it is put without, and that is said.
    pub(crate) async fn gate(
        &self,
        store: &dyn Read,
        key: &Key,
        wanted: &PipelineSpec,
        skip: bool,
    ) -> Result<Gate, Error> {
        let Some(document) = store.get(key).await? else { return Ok(Gate::Open) };
        let existing = resource(&document)?;
        let Spec::Pipeline(active) = spec(&existing)? else { return Ok(Gate::Open) };
        let Some(rule) = rule(wanted, &active) else { return Ok(Gate::Open) };
        let admission = Admission {
            store,
            config: &self.config,
            workspace: &key.workspace,
            rules: &workspace(store, &key.workspace).await?,
            name: &key.name,
            existing: Some(&existing),
            sinks: &self.sinks,
            tested: &Problems::new(),
        };
        let candidate = match admission.admit(&Spec::Pipeline(wanted.clone())).await? {
            Admitted { spec: Spec::Pipeline(candidate), problems, .. } if problems.is_empty() => candidate,
            // The write finds the same, and says it.
            _ => return Ok(Gate::Open),
        };
        let tried = |warning: Option<String>| {
            let spec = Box::new(candidate.clone());
            Ok(Gate::Tried { revision: document.revision, spec, warning })
        };
        if same_results(&active, &candidate) {
            return tried(None);
        }
        if skip {
            tracing::warn!(workspace = key.workspace, pipeline = key.name, "a required backtest was skipped");
            return tried(Some("the backtest that rollout.require asks for was skipped".into()));
        }
        let report = self.required(store, key, &candidate, &rule).await?;
        let warning = report.is_none_or(|report| report.counts.compared() == 0);
        tried(warning.then(|| "nothing is recorded: the required backtest had nothing to compare".into()))
    }

    /// The backtest, or why it refuses. `None`: its sources aren't there yet.
    async fn required(
        &self,
        store: &dyn Read,
        key: &Key,
        candidate: &PipelineSpec,
        rule: &RequiredBacktest,
    ) -> Result<Option<Report>, Error> {
        let (workspace, name) = (&key.workspace, &key.name);
        let cannot = |why: String| Error::Conflict(format!("pipeline {name} can't be tried: {why}"));
        let world = World::of(all(store, None, None).await?)?;
        let plan = async |world: &World| match pipeline_plan(self, store, world, workspace, name).await? {
            Some(plan) => plan.map_err(cannot),
            None => Err(crate::control::not_found(key)),
        };
        let active = plan(&world).await?;
        let candidate = plan(&world.with_pipeline(workspace, name, candidate)).await?;
        let old = |name: &str| active.steps.iter().find(|old| old.name == name)?.kind.transform();
        let steps = candidate.steps.iter().filter_map(|step| {
            let transform = step.kind.transform()?;
            Some(Replaced {
                step: step.name.clone(),
                transform: transform.transform.clone(),
                version: old(&step.name).map_or(0, |old| old.version),
                candidate: Some(transform.version),
            })
        });
        let about = About {
            workspace: workspace.clone(),
            pipeline: name.clone(),
            generation: active.generation,
            steps: steps.collect(),
        };
        let Some(backtests) = self.stages.backtests() else {
            return Err(cannot("this process runs no pipelines, and so no backtests".into()));
        };
        let sources: BTreeSet<_> = active.sources.iter().map(|source| source.topic.clone()).collect();
        let records = Records { last: Some(rule.last), ..Records::default() };
        let (samples, time_max, wait_max) = (SAMPLES, TIME_MAX, WAIT_MAX);
        let asked = Asked { active, candidate, records, samples, time_max, wait_max };
        let mut run = match backtests.begin(asked).await {
            Ok(run) => run,
            Err(backtest::Error::MissingTopics(topics))
                if sources.iter().all(|topic| topics.contains(topic)) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let report = loop {
            if let Step::Done(report) = run.next().await? {
                break *report;
            }
        };
        match refusal(&report, rule) {
            None => Ok(Some(report)),
            Some(why) => {
                tracing::info!(workspace, pipeline = name, why, "a required backtest refuses a version");
                let way_out = way_out(&about);
                let detail = format!(
                    "the backtest that pipeline {name} requires doesn't let it through: {why}{way_out}"
                );
                Err(Error::Refused { detail, report: Box::new(report_value(&about, &report)) })
            }
        }
    }
}

/// What a new spec is held against: its own requirement, else the stored one's.
fn rule(wanted: &PipelineSpec, active: &PipelineSpec) -> Option<RequiredBacktest> {
    let rule = |spec: &PipelineSpec| Some(spec.rollout.as_ref()?.require.as_ref()?.backtest.clone());
    rule(wanted).or_else(|| rule(active))
}

/// Whether a backtest decides on a change; both with their versions as numbers.
pub(crate) fn is_required(active: &PipelineSpec, candidate: &PipelineSpec) -> bool {
    rule(candidate, active).is_some() && !same_results(active, candidate)
}

/// How somebody sees more of it; nothing where one command can't show it.
fn way_out(about: &About) -> String {
    let About { workspace, pipeline, generation: _, steps } = about;
    let mut other = steps.iter().filter(|step| step.candidate.is_some_and(|to| to != step.version));
    match (other.next(), other.next()) {
        (Some(Replaced { step, candidate: Some(to), .. }), None) => {
            format!("; `vltava backtest {workspace}/{pipeline} --version {to} --step {step}` shows them")
        }
        _ => String::new(),
    }
}

/// Whether two specs make the same of a record: what else they say is no version.
fn same_results(active: &PipelineSpec, candidate: &PipelineSpec) -> bool {
    fn steps(spec: &PipelineSpec) -> Vec<&StepKind<TransformRef>> {
        spec.steps.iter().map(|step| &step.kind).collect()
    }
    let PipelineSpec {
        sources: _,
        steps: _,
        target,
        guarantee: _,
        on_error: _,
        fan_out,
        parallelism: _,
        rollout: _,
    } = active;
    steps(active) == steps(candidate) && target.key == candidate.target.key && *fan_out == candidate.fan_out
}

/// Why a report isn't good enough.
fn refusal(report: &Report, rule: &RequiredBacktest) -> Option<String> {
    let compared = report.counts.compared();
    let mut why = Vec::new();
    for (count, most, what, field) in [
        (report.counts.different(), rule.max_changed, "changed", "maxChanged"),
        (report.counts.new_failures, rule.max_failed, "fail that don't now", "maxFailed"),
    ] {
        if count > most.of(compared) {
            why.push(format!("{count} of {compared} records {what}, and {field} is {most}"));
        }
    }
    if report.is_cut {
        why.push(format!(
            "only {} of about {} records were compared in {} s",
            report.progress.read,
            report.progress.planned,
            TIME_MAX.as_secs()
        ));
    }
    (!why.is_empty()).then(|| why.join("; "))
}
