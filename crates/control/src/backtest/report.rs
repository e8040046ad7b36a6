//! A backtest's report as JSON: in the answer to who asked for one, and in the problem that refuses a version.

use pipeline::backtest::{Counts, Difference, Excerpt, Failed, Made, Place, Progress, Report, Sample, Side};
use serde_json::{Map, Value, json};

use super::{About, Replaced};
use crate::excerpt::shown_of;

/// In milliseconds.
pub(crate) fn millis(time: std::time::Duration) -> f64 {
    // Three digits behind the point are enough for anybody.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The whole of it.
pub(crate) fn report_value(about: &About, report: &Report) -> Value {
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
