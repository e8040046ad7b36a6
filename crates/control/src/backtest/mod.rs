//! Backtests: what is asked of a pipeline, checked as a whole, and handed to the runtime that can do it.
//!
//! Invariant: the active side is the plan by what is stored now, so that what was applied a moment ago is what a candidate
//! is held against, whether a runtime has it already or not.

mod gate;
pub(crate) mod report;

use std::time::Duration;

use deadletter::Predicate;
use jsonata::Program;
use pipeline::backtest::{self, Asked, Backtest, RECORDS_MAX, Records, SAMPLES_MAX, TIME_MAX};
use resources::decode::At;
use resources::format::duration_ms;
use resources::{ContentHash, EXPRESSION_BYTES_MAX, Kind, PipelinePlan, Problems, StepKind, StepPlan};
use serde_json::Value;
use store::Key;
use types::TimestampMs;

pub(crate) use self::gate::{Gate, is_required};
use crate::reconcile::{World, pipeline_plan};
use crate::resource::{TransformFacts, facts, resource, version};
use crate::{Control, Error};

/// Samples of each category, unless the request says otherwise.
const SAMPLES_DEFAULT: usize = 5;

/// What takes the place of what.
#[derive(Debug, Default)]
struct Candidate {
    expression: Option<String>,
    /// A version of the steps' transform, in place of an expression.
    version: Option<u32>,
    /// The step.
    step: Option<String>,
    /// All steps with this transform.
    transform: Option<String>,
}

/// The body of a request, as far as it could be read.
#[derive(Debug)]
struct Body {
    candidate: Candidate,
    records: Records,
    samples: usize,
    time_max: Duration,
}

impl Body {
    fn decode(value: &Value, problems: &mut Problems) -> Self {
        let (candidate, records) = Default::default();
        let mut body = Self { candidate, records, samples: SAMPLES_DEFAULT, time_max: TIME_MAX };
        let Some(mut object) = At::root(value).object(problems) else { return body };
        let (expression, number) = (object.field("expression"), object.field("version"));
        if expression.is_some() == number.is_some() {
            let why = "say what is to be tried: either expression or version, a number of the transform's";
            problems.add("/expression", "missing_field", why);
        }
        if let Some(at) = expression
            && let Some(text) = at.some_text(EXPRESSION_BYTES_MAX, problems)
        {
            if let Err(error) = Program::compile(text) {
                problems.add(at.pointer.clone(), "expression_invalid", error.to_string());
            }
            body.candidate.expression = Some(text.to_owned());
        }
        let number = number.and_then(|at| at.integer(1, i64::from(u32::MAX), problems));
        body.candidate.version = number.and_then(|n| u32::try_from(n).ok());
        let (step, transform) = (object.field("step"), object.field("transform"));
        if step.is_some() && transform.is_some() {
            problems.add("/transform", "conflict", "say either step or transform, whose steps are all meant");
        }
        let mut text = |at: Option<At<'_>>| Some(at?.some_text(1024, problems)?.to_owned());
        (body.candidate.step, body.candidate.transform) = (text(step), text(transform));
        let number = |at: Option<At<'_>>, min, max, problems: &mut Problems| {
            at?.integer(min, max, problems).and_then(|n| u64::try_from(n).ok())
        };
        let most = i64::try_from(RECORDS_MAX).unwrap_or(i64::MAX);
        body.records.last = number(object.field("last"), 1, most, problems);
        body.records.since = object.field("since").and_then(|at| at.parsed(problems, since));
        body.records.predicate = object.field("where").and_then(|at| {
            at.some_text(EXPRESSION_BYTES_MAX, problems)
                .map(|text| Predicate::try_from(text.to_owned()))?
                .map_err(|error| problems.add(at.pointer.clone(), "expression_invalid", error.to_string()))
                .ok()
        });
        if let Some(samples) = number(object.field("samples"), 0, SAMPLES_MAX as i64, problems) {
            body.samples = usize::try_from(samples).unwrap_or(SAMPLES_MAX);
        }
        if let Some(time) = object.field("timeLimit").and_then(|at| at.parsed(problems, time_limit)) {
            body.time_max = time;
        }
        object.finish(problems);
        body
    }
}

/// A time, or how long ago.
fn since(text: &str) -> Result<TimestampMs, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let why = "is no time such as 2026-01-31T12:00:00Z, nor so long ago as 90m, 2h or 7d";
    let ago = duration_ms(text).map_err(|_| format!("{text:?} {why}"))?;
    Ok(jiff::Timestamp::now().as_millisecond().saturating_sub(ago))
}

fn time_limit(text: &str) -> Result<Duration, String> {
    let ms = duration_ms(text).map_err(|error| error.to_string())?;
    match u64::try_from(ms).map(Duration::from_millis) {
        Ok(time) if !time.is_zero() && time <= TIME_MAX => Ok(time),
        _ => Err(format!("is {text:?}, but must be above 0 and at most {} s", TIME_MAX.as_secs())),
    }
}

/// One that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) run: Backtest,
    pub(crate) about: About,
}

/// What is held against what.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) workspace: String,
    pub(crate) pipeline: String,
    /// The pipeline's.
    pub(crate) generation: u64,
    /// The steps that the candidate takes the place of.
    pub(crate) steps: Vec<Replaced>,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(crate) step: String,
    pub(crate) transform: String,
    pub(crate) version: u32,
    /// Of the expression that is tried; none: it isn't a version that is stored.
    pub(crate) candidate: Option<u32>,
}

impl Control {
    /// Begins a backtest of a pipeline.
    pub(crate) async fn backtest(&self, workspace: &str, name: &str, asked: &Value) -> Result<Begun, Error> {
        self.workspace(workspace).await?;
        let world = World::of(self.all(None, None).await?)?;
        let missing = || Error::NotFound { kind: Kind::Pipeline, name: name.to_owned() };
        let active = pipeline_plan(self, &*self.store, &world, workspace, name).await?.ok_or_else(missing)?;
        let active = active.map_err(|why| Error::Conflict(format!("pipeline {name} can't run: {why}")))?;
        let mut problems = Problems::new();
        let body = Body::decode(asked, &mut problems);
        let (candidate, steps) = self.candidate(&active, &body.candidate, &mut problems).await?;
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let Some(backtests) = self.stages.backtests() else {
            return Err(Error::Conflict("this process runs no pipelines, and so no backtests".into()));
        };
        let about = About {
            workspace: workspace.to_owned(),
            pipeline: name.to_owned(),
            generation: active.generation,
            steps,
        };
        let Body { candidate: _, records, samples, time_max } = body;
        // Who asks can ask again, and knows that it waits.
        let wait_max = Duration::ZERO;
        let asked = Asked { active, candidate, records, samples, time_max, wait_max };
        let run = backtests.begin(asked).await?;
        Ok(Begun { run, about })
    }

    /// The plan with the candidate in its steps' places.
    async fn candidate(
        &self,
        active: &PipelinePlan,
        asked: &Candidate,
        problems: &mut Problems,
    ) -> Result<(PipelinePlan, Vec<Replaced>), Error> {
        let (mut plan, mut replaced) = (active.clone(), Vec::new());
        for at in meant(active, asked, problems) {
            let StepPlan { name, kind } = &mut plan.steps[at];
            let StepKind::Transform(step) = kind else { continue };
            let (transform, from) = (step.transform.clone(), step.version);
            match (&asked.expression, asked.version) {
                (Some(expression), _) => {
                    step.expression.clone_from(expression);
                    step.hash = ContentHash::of(&[expression.as_bytes()]);
                    // As the next version: a header's length counts against the target's limit.
                    step.version = step.version.saturating_add(1);
                }
                (None, Some(number)) => match self.expression(&active.workspace, &transform, number).await? {
                    Some((expression, hash)) => {
                        (step.expression, step.hash, step.version) = (expression, hash, number);
                    }
                    None => problems.add(
                        "/version",
                        "not_found",
                        format!("transform {transform} has no version {number}"),
                    ),
                },
                (None, None) => {}
            }
            replaced.push(Replaced {
                step: name.clone(),
                transform,
                version: from,
                candidate: asked.expression.is_none().then_some(step.version),
            });
        }
        Ok((plan, replaced))
    }

    /// A version's expression; `None`: there is no such version.
    async fn expression(
        &self,
        workspace: &str,
        transform: &str,
        number: u32,
    ) -> Result<Option<(String, ContentHash)>, Error> {
        let key = Key::new(workspace, Kind::Transform, transform);
        let Some(document) = self.store.get(&key).await? else { return Ok(None) };
        let resource = resource(&document)?;
        let newest: TransformFacts = facts(&resource)?;
        let body = self.store.version(resource.metadata.uid, number).await?;
        let Some(body) = body.filter(|_| number <= newest.version) else { return Ok(None) };
        let body = version(body)?;
        Ok(Some((body.spec.expression, body.hash)))
    }
}

/// Which steps are meant, by their places: of transforms only, since the others have no versions.
fn meant(plan: &PipelinePlan, asked: &Candidate, problems: &mut Problems) -> Vec<usize> {
    let transforms: Vec<(usize, &str, &str)> = (plan.steps.iter().enumerate())
        .filter_map(|(at, step)| Some((at, &*step.name, &*step.kind.transform()?.transform)))
        .collect();
    let places = |is: &dyn Fn(&str, &str) -> bool| {
        transforms.iter().filter(|(_, step, transform)| is(step, transform)).map(|(at, ..)| *at).collect()
    };
    let known = || {
        let step = |(_, step, transform): &(usize, &str, &str)| format!("{step} (transform {transform})");
        transforms.iter().map(step).collect::<Vec<_>>().join(", ")
    };
    let (pointer, code, why, found): (_, _, _, Vec<usize>) = match (&asked.step, &asked.transform) {
        (Some(name), _) => (
            "/step",
            "not_found",
            format!("pipeline {} has no step {name:?} that is a transform", plan.name),
            places(&|step, _| step == name),
        ),
        (None, Some(name)) => (
            "/transform",
            "not_found",
            format!("no step of pipeline {} uses transform {name:?}: say which step is meant", plan.name),
            places(&|_, transform| transform == name),
        ),
        (None, None) => (
            "/step",
            "missing_field",
            match transforms.len() {
                0 => format!(
                    "pipeline {} has no step that is a transform, and only those are tried",
                    plan.name
                ),
                _ => format!("pipeline {} has several transforms: say which step is meant", plan.name),
            },
            if transforms.len() == 1 { places(&|_, _| true) } else { Vec::new() },
        ),
    };
    if found.is_empty() {
        let known = known();
        let known = if known.is_empty() { known } else { format!("; its transforms are {known}") };
        problems.add(pointer, code, format!("{why}{known}"));
    }
    found
}

impl From<backtest::Error> for Error {
    fn from(error: backtest::Error) -> Self {
        let text = runtime::shutdown::chain(&error);
        match error {
            backtest::Error::Busy => Self::Busy(format!("{text}: try again when one has ended")),
            backtest::Error::MissingTopics(_) => {
                Self::Conflict(format!("{text}: a backtest reads what is recorded"))
            }
            backtest::Error::Engine(_) | backtest::Error::Stalled(_) => {
                Self::Engine { action: "give the recorded input".into(), detail: text }
            }
            _ => Self::Conflict(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(body: &Value) -> Vec<String> {
        let mut problems = Problems::new();
        Body::decode(body, &mut problems);
        problems.into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        assert_eq!(pointers(&json!({"expression": "a"})), [""; 0]);
        assert_eq!(
            pointers(
                &json!({"version": 3, "step": "s", "last": 1, "since": "1h", "where": "a", "samples": 0,
                "timeLimit": "10s"})
            ),
            [""; 0]
        );
        let wrong = json!({"expression": "a +", "version": 0, "step": "s", "transform": "t", "last": 0,
            "since": "yesterday", "where": "b +", "samples": 21, "timeLimit": "11m", "more": 1});
        assert_eq!(
            pointers(&wrong),
            [
                "/expression",
                "/expression",
                "/version",
                "/transform",
                "/last",
                "/since",
                "/where",
                "/samples",
                "/timeLimit",
                "/more"
            ]
        );
        assert_eq!(pointers(&json!([])), [""]);
        assert_eq!(pointers(&json!({})), ["/expression"]);
    }

    #[test]
    fn since_is_a_time_or_so_long_ago() {
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap(), 1_769_860_800_000);
        let ago = jiff::Timestamp::now().as_millisecond() - since("90m").unwrap();
        assert!((5_400_000..5_410_000).contains(&ago), "{ago}");
        assert!(since("-1h").is_err());
    }
}
