//! `POST .../pipelines/{name}:backtest`: a candidate over recorded input beside the active version. Nothing is written.
//!
//! The body is `{expression | version, step | transform, last, since, where, samples, timeLimit}`. What is wrong with it is
//! answered as a problem, all of it at once, and so is what can't begin. What has begun answers 200 with NDJSON: objects
//! `{"progress": {planned, done, read, compared}}`, and as the last one `{"report": ...}` or `{"error": problem}`; an
//! answer that ends without either was cut off. It ends when the client goes away, too.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{StatusCode, header};
use pipeline::backtest::{
    Backtest, Counts, Difference, Excerpt, Failed, Made, Place, Progress, Report, Sample, Side, Step,
};
use runtime::Shutdown;
use runtime::http::Problem;
use serde_json::{Map, Value, json};

use super::excerpt::shown_of;
use crate::Error;
use crate::backtest::{About, Begun, Replaced};

/// The media type of the answer.
const NDJSON: &str = "application/x-ndjson";

/// What is left to do.
enum State {
    Runs(Box<Backtest>, About),
    Over,
}

/// The answer of one that has begun. `stop`: of the listener, at which it ends.
pub(super) fn answer(begun: Begun, stop: Option<Shutdown>) -> Response {
    let Begun { run, about } = begun;
    let first = progress(&run.progress());
    let lines = stream::unfold(
        (State::Runs(Box::new(run), about), Some(first), stop),
        async |(state, first, stop)| {
            // At once, so that who asked sees that it has begun.
            if let Some(first) = first {
                return Some((Ok::<_, std::convert::Infallible>(line(&first)), (state, None, stop)));
            }
            let State::Runs(mut run, about) = state else { return None };
            let stopped = async {
                match &stop {
                    Some(stop) => stop.requested().await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                step = run.next() => step.map_err(Error::from),
                () = stopped => Err(Error::Conflict("the process stops".into())),
            };
            let (said, state) = match step {
                Ok(Step::Progress(so_far)) => (progress(&so_far), State::Runs(run, about)),
                Ok(Step::Done(report)) => {
                    log(&about, &report);
                    (json!({ "report": report_value(&about, &report) }), State::Over)
                }
                Err(error) => {
                    let document = Problem::from(error).document();
                    let problem: Value = serde_json::from_slice(&document).unwrap_or(Value::Null);
                    (json!({ "error": problem }), State::Over)
                }
            };
            Some((Ok(line(&said)), (state, None, stop)))
        },
    );
    (StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}

fn log(about: &About, report: &Report) {
    let About { workspace, pipeline, generation, steps: _ } = about;
    let Counts { same, changed, new_failures, fixed_failures, .. } = report.counts;
    let (compared, took_ms) = (report.progress.compared, millis(report.took));
    tracing::info!(
        workspace,
        pipeline,
        generation,
        compared,
        same,
        changed,
        new_failures,
        fixed_failures,
        took_ms,
        "backtest ended"
    );
}

fn millis(time: std::time::Duration) -> f64 {
    // Three digits behind the point are enough for anybody.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn progress(so_far: &Progress) -> Value {
    let Progress { planned, done, read, compared } = so_far;
    json!({ "progress": { "planned": planned, "done": done, "read": read, "compared": compared } })
}

fn report_value(about: &About, report: &Report) -> Value {
    let Report {
        progress: Progress { planned, done, read, compared },
        is_cut,
        left_out,
        counts,
        places,
        elsewhere,
        samples,
        active,
        candidate,
        steps_budget,
        took,
    } = report;
    let About { workspace, pipeline, generation, steps } = about;
    let steps: Vec<Value> = steps
        .iter()
        .map(|Replaced { step, transform, version, candidate }| {
            json!({ "step": step, "transform": transform, "version": version, "candidate": candidate })
        })
        .collect();
    json!({
        "workspace": workspace,
        "pipeline": pipeline,
        "generation": generation,
        "steps": steps,
        "counts": counts_value(counts),
        "records": { "planned": planned, "done": done, "read": read, "compared": compared, "leftOut": left_out },
        "complete": !is_cut,
        "tookMs": millis(*took),
        "stepsBudget": steps_budget,
        "active": side_value(active),
        "candidate": side_value(candidate),
        "places": places.iter().map(place_value).collect::<Vec<_>>(),
        "elsewhere": elsewhere,
        "samples": samples.iter().map(sample_value).collect::<Vec<_>>(),
    })
}

fn counts_value(counts: &Counts) -> Value {
    let Counts {
        same,
        changed,
        new_failures,
        fixed_failures,
        still_failing,
        still_failing_otherwise,
        newly_dropped,
        newly_made,
        still_dropped,
    } = counts;
    json!({
        "same": same,
        "changed": changed,
        "newFailures": new_failures,
        "fixedFailures": fixed_failures,
        "stillFailing": still_failing,
        "stillFailingOtherwise": still_failing_otherwise,
        "newlyDropped": newly_dropped,
        "newlyMade": newly_made,
        "stillDropped": still_dropped,
    })
}

fn side_value(side: &Side) -> Value {
    let Side { time, steps, steps_max, steps_max_at, failures } = side;
    let at = steps_max_at
        .as_ref()
        .map(|(tp, offset)| json!({ "topic": tp.topic, "partition": tp.partition, "offset": offset }));
    json!({
        "timeMs": millis(*time),
        "steps": steps,
        "stepsMax": steps_max,
        "stepsMaxAt": at,
        "failures": failures,
    })
}

fn place_value(place: &Place) -> Value {
    let Place { part, pattern, records } = place;
    json!({ "part": part.as_str(), "path": pattern, "records": records })
}

fn sample_value(sample: &Sample) -> Value {
    let Sample { category, tp, offset, timestamp_ms, key, input, active, candidate, differences } = sample;
    let difference = |difference: &Difference| {
        let Difference { output, part, pointer, active, candidate } = difference;
        let part = part.as_str();
        json!({ "output": output, "part": part, "pointer": pointer, "active": active, "candidate": candidate })
    };
    json!({
        "category": category.as_str(),
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": offset,
        "timestamp": timestamp_ms,
        "key": excerpt(key.as_ref()),
        "input": excerpt(input.as_ref()),
        "active": made_value(active),
        "candidate": made_value(candidate),
        "differences": differences.iter().map(difference).collect::<Vec<_>>(),
    })
}

fn excerpt(excerpt: Option<&Excerpt>) -> Value {
    excerpt.map_or(Value::Null, |Excerpt { bytes, length }| shown_of(bytes, *length))
}

fn made_value(made: &Made) -> Value {
    match made {
        Made::Dropped => json!({ "outcome": "dropped" }),
        Made::Outputs(outputs, count) => {
            let output = |(key, value): &(Option<Excerpt>, Option<Excerpt>)| json!({ "key": excerpt(key.as_ref()), "value": excerpt(value.as_ref()) });
            let outputs: Vec<Value> = outputs.iter().map(output).collect();
            json!({ "outcome": "outputs", "count": count, "outputs": outputs })
        }
        Made::Failed(Failed { reason, step, code, position, message, rendered }) => {
            let mut error = Map::new();
            error.insert("reason".into(), json!(reason));
            error.insert("message".into(), json!(message));
            error.insert("rendered".into(), json!(rendered));
            if !step.is_empty() {
                error.insert("step".into(), json!(step));
            }
            if let Some(code) = code {
                error.insert("code".into(), json!(code));
            }
            if let Some((line, column)) = position {
                error.insert("position".into(), json!({ "line": line, "column": column }));
            }
            json!({ "outcome": "failed", "error": error })
        }
    }
}
