//! A report for people: counts, what either took, where outputs differ, and samples with both sides' values.

use owo_colors::OwoColorize as _;
use serde_json::Value;

use super::super::jsonata::difference::{self, Side};
use crate::output::{self, Rows, printable};

/// Of an input or a key, so many characters are shown; `--json` shows all that the process tells.
const SHOWN_CHARS_MAX: usize = 300;
/// Of a line of a difference.
const LINE_CHARS_MAX: usize = 200;
/// Lines of one difference.
const LINES_MAX: usize = 40;
/// Places in the list of where outputs differ.
const PLACES_SHOWN_MAX: usize = 15;

pub(super) fn print(report: &Value) {
    heading(report);
    counts(report);
    sides(report);
    places(report);
    report["samples"].as_array().into_iter().flatten().for_each(sample);
    output::line("");
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or(0)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn heading(report: &Value) {
    let steps = report["steps"].as_array().into_iter().flatten();
    let step = |step: &Value| {
        let (transform, version) = (text(step, "transform"), number(step, "version"));
        let candidate = match step["candidate"].as_u64() {
            Some(candidate) => format!("{transform}@{candidate}"),
            None => "the candidate".to_owned(),
        };
        format!("step {}: {candidate} beside {transform}@{version}", text(step, "step"))
    };
    let steps: Vec<String> = steps.map(step).collect();
    let (workspace, pipeline) = (text(report, "workspace"), text(report, "pipeline"));
    output::line(format_args!("{workspace}/{pipeline}, {}", steps.join(", ")));
    let records = &report["records"];
    let (read, compared, left_out) =
        (number(records, "read"), number(records, "compared"), number(records, "leftOut"));
    let seconds = report["tookMs"].as_f64().unwrap_or(0.0) / 1e3;
    let of = if compared == read { String::new() } else { format!(" of {read} that were read") };
    let before = if left_out == 0 { String::new() } else { format!("; {left_out} older ones were left out") };
    output::line(format_args!(
        "compared {compared} record(s){of} in {seconds:.1} s; nothing was written{before}\n"
    ));
}

fn counts(report: &Value) {
    let counts = &report["counts"];
    let otherwise = match number(counts, "stillFailingOtherwise") {
        0 => String::new(),
        n => format!("{n} of them for another reason"),
    };
    let mut table = Rows::new(&["records", "count", ""]).right(&[1]);
    for (name, count, more) in [
        ("same", "same", ""),
        ("changed", "changed", "other outputs"),
        ("new failures", "newFailures", ""),
        ("fixed failures", "fixedFailures", ""),
        ("still failing", "stillFailing", &*otherwise),
        ("newly dropped", "newlyDropped", "no result any more"),
        ("newly made", "newlyMade", "a result, where there was none"),
        ("still dropped", "stillDropped", ""),
    ] {
        let count = number(counts, count);
        let more = if count == 0 { "" } else { more };
        table.row(vec![name.into(), count.to_string(), more.into()]);
    }
    table.print();
    output::line("");
}

fn sides(report: &Value) {
    let budget = number(report, "stepsBudget");
    let mut table = Rows::new(&["version", "time", "steps", "most for a record", "of budget", "failures"])
        .right(&[1, 2, 3, 4]);
    for name in ["active", "candidate"] {
        let side = &report[name];
        let most = number(side, "stepsMax");
        #[expect(clippy::cast_precision_loss, reason = "for people, rounded anyway")]
        let share = if budget == 0 { 0.0 } else { most as f64 * 100.0 / budget as f64 };
        let failures = side["failures"].as_object().into_iter().flatten();
        let failures: Vec<String> = failures.map(|(reason, n)| format!("{reason} {n}")).collect();
        table.row(vec![
            name.into(),
            format!("{:.1} ms", side["timeMs"].as_f64().unwrap_or(0.0)),
            number(side, "steps").to_string(),
            most.to_string(),
            format!("{share:.2}%"),
            failures.join(", "),
        ]);
    }
    table.print();
}

fn places(report: &Value) {
    let places: Vec<&Value> = report["places"].as_array().into_iter().flatten().collect();
    if places.is_empty() {
        return;
    }
    output::line("");
    let mut table = Rows::new(&["outputs differ at", "records"]).right(&[1]);
    for place in places.iter().take(PLACES_SHOWN_MAX) {
        table.row(vec![
            place_name(text(place, "part"), text(place, "path")),
            number(place, "records").to_string(),
        ]);
    }
    table.print();
    let more = places.len().saturating_sub(PLACES_SHOWN_MAX);
    if more > 0 || number(report, "elsewhere") > 0 {
        output::line("and at further places; --json lists more");
    }
}

/// A place in an output: within the value a JSON pointer, else the part.
fn place_name(part: &str, pointer: &str) -> String {
    match (part, pointer) {
        ("value", "") => "the value as a whole".into(),
        ("value", pointer) => printable(pointer, SHOWN_CHARS_MAX),
        ("outputs", _) => "the number of outputs".into(),
        (part, _) => format!("the {part}"),
    }
}

fn sample(sample: &Value) {
    let name = match text(sample, "category") {
        "changed" => "changed",
        "newFailure" => "new failure",
        "fixedFailure" => "fixed failure",
        "stillFailing" => "still failing, for another reason",
        "newlyDropped" => "newly dropped",
        "newlyMade" => "newly made",
        other => other,
    };
    let (partition, offset) = (&sample["partition"], &sample["offset"]);
    let place = format!("{}/{partition}/{offset}", printable(text(sample, "topic"), 249));
    let heading = if output::is_terminal() { name.bold().to_string() } else { name.to_owned() };
    output::line(format_args!("\n{heading}  {place}  key {}", excerpt(&sample["key"], 120)));
    output::line(format_args!("  input     {}", excerpt(&sample["input"], SHOWN_CHARS_MAX)));
    if text(sample, "category") == "changed" {
        changed(sample);
        return;
    }
    made("active", &sample["active"]);
    made("candidate", &sample["candidate"]);
}

/// Bytes as the API shows them, on one line.
fn excerpt(value: &Value, chars_max: usize) -> String {
    let cut = if value["cutFromBytes"].is_u64() { "…" } else { "" };
    match (value["text"].as_str(), value["base64"].as_str()) {
        (Some(text), _) => printable(text, chars_max) + cut,
        (None, Some(bytes)) => format!("(base64) {}{cut}", printable(bytes, chars_max)),
        (None, None) => "(none)".into(),
    }
}

fn made(side: &str, made: &Value) {
    match text(made, "outcome") {
        "dropped" => output::line(format_args!("  {side:<9} nothing: it is dropped")),
        "failed" => {
            let error = &made["error"];
            let mut lines = text(error, "rendered").lines();
            let first = printable(lines.next().unwrap_or_default(), SHOWN_CHARS_MAX);
            let step = match text(error, "step") {
                "" => String::new(),
                step => format!(" at step {}", printable(step, 60)),
            };
            output::line(format_args!(
                "  {side:<9} fails{step}: {}: {first}",
                printable(text(error, "reason"), 40)
            ));
            lines.for_each(|line| {
                output::line(format_args!("            {}", printable(line, LINE_CHARS_MAX)))
            });
        }
        _ => {
            let outputs: Vec<&Value> = made["outputs"].as_array().into_iter().flatten().collect();
            for (i, one) in outputs.iter().enumerate() {
                let label = if i == 0 { side } else { "" };
                output::line(format_args!("  {label:<9} {}", excerpt(&one["value"], SHOWN_CHARS_MAX)));
            }
            let more = number(made, "count").saturating_sub(outputs.len() as u64);
            if more > 0 {
                output::line(format_args!("            and {more} more"));
            }
        }
    }
}

/// Both sides' values line by line; where they can't be had whole, the places at which they differ.
fn changed(sample: &Value) {
    let differences: Vec<&Value> = sample["differences"].as_array().into_iter().flatten().collect();
    let only_values = differences.iter().all(|one| text(one, "part") == "value" && one["output"] == 0);
    let whole = |side: &str| -> Option<Value> {
        let made = &sample[side];
        let value = &made["outputs"][0]["value"];
        let is_whole = made["count"] == 1 && value["cutFromBytes"].is_null();
        serde_json::from_str(value["text"].as_str().filter(|_| is_whole)?).ok()
    };
    output::line("  - active, + candidate");
    if let (true, Some(active), Some(candidate)) = (only_values, whole("active"), whole("candidate")) {
        let lines = difference::lines(&active, &candidate);
        // Numbers that no double tells apart look the same there.
        if lines.iter().any(|(side, _)| *side != Side::Both) {
            lines.iter().take(LINES_MAX).for_each(|(side, line)| signed(*side, line));
            if lines.len() > LINES_MAX {
                output::line(format_args!("    and {} more lines", lines.len() - LINES_MAX));
            }
            return;
        }
    }
    for one in differences {
        let output = match number(one, "output") {
            0 => String::new(),
            n => format!("output {n}: "),
        };
        let place = place_name(text(one, "part"), text(one, "pointer"));
        output::line(format_args!("    {output}{place}"));
        for (side, name) in [(Side::Expected, "active"), (Side::Found, "candidate")] {
            signed(side, one[name].as_str().unwrap_or("(nothing)"));
        }
    }
}

fn signed(side: Side, line: &str) {
    let line = format!("{} {}", side.sign(), printable(line, LINE_CHARS_MAX));
    match (side, output::is_terminal()) {
        (Side::Both, _) | (_, false) => output::line(format_args!("    {line}")),
        (Side::Expected, true) => output::line(format_args!("    {}", line.red())),
        (Side::Found, true) => output::line(format_args!("    {}", line.green())),
    }
}
