//! Measurements, each beside its baselines in the same run.
//!
//! Invariant: a figure is a ratio; a ratio above 1 means that ours is better. What a run measured is
//! printed as a table and written to `$CARGO_TARGET_DIR/bench/NAME.json`.

mod jsonata;
mod path;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde::Serialize;

use crate::engine::report;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The expression engine, jsonata-js on node and the crate jsonata-core, from bytes to bytes.
    Jsonata {
        /// Fewer and shorter rounds: a minute less, and noisier.
        #[arg(long)]
        quick: bool,
    },
    /// Ingest, pipeline and delivery, on the embedded broker and on Apache Kafka.
    Path(path::Options),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Jsonata { quick } => jsonata::run(*quick),
        Bench::Path(options) => path::run(options),
    }
}

/// What a larger figure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// More of it is better: a rate.
    Higher,
    /// Less of it is better: a time, memory.
    Lower,
}

/// One measured figure beside what others reached in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    case: String,
    metric: String,
    unit: String,
    ours: f64,
    baseline: BTreeMap<String, f64>,
    ratio: BTreeMap<String, f64>,
    goal: BTreeMap<String, f64>,
}

impl Figure {
    /// Baselines are in the same unit as `ours`.
    pub(crate) fn new(
        case: impl Into<String>,
        metric: &str,
        unit: &str,
        better: Better,
        ours: f64,
        baselines: &[(&str, f64)],
    ) -> Self {
        let ratio = |theirs: f64| match better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        };
        Self {
            case: case.into(),
            metric: metric.into(),
            unit: unit.into(),
            ours,
            baseline: baselines.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ratio: baselines.iter().map(|(name, value)| ((*name).to_owned(), ratio(*value))).collect(),
            goal: BTreeMap::new(),
        }
    }

    /// The ratio to this baseline that is to be reached; the name `ours` is for a bound on our own
    /// figure, in its unit.
    pub(crate) fn goal(mut self, baseline: &str, goal: f64) -> Self {
        self.goal.insert(baseline.into(), goal);
        self
    }
}

/// Prints the table and writes the file; returns where.
pub(crate) fn publish(name: &str, figures: &[Figure]) -> Result<PathBuf> {
    report(&table(figures));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let file = folder.join(format!("{name}.json"));
    fs::write(&file, serde_json::to_vec_pretty(figures)?)?;
    report(&format!("written to {}", file.display()));
    Ok(file)
}

fn table(figures: &[Figure]) -> String {
    let mut rows = vec![["case", "metric", "ours", "baseline", "ratio", "goal"].map(str::to_owned)];
    for f in figures {
        let ours = format!("{} {}", short(f.ours), f.unit);
        if f.baseline.is_empty() || f.goal.contains_key("ours") {
            let goal = f.goal.get("ours").map(|goal| format!("{} {}", short(*goal), f.unit));
            rows.push([
                f.case.clone(),
                f.metric.clone(),
                ours.clone(),
                String::new(),
                String::new(),
                goal.unwrap_or_default(),
            ]);
        }
        for (name, value) in &f.baseline {
            let goal = f.goal.get(name).map(|goal| format!("{}x", short(*goal)));
            rows.push([
                f.case.clone(),
                f.metric.clone(),
                ours.clone(),
                format!("{name} {}", short(*value)),
                format!("{}x", short(f.ratio[name])),
                goal.unwrap_or_default(),
            ]);
        }
    }
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        a if a >= 100.0 => format!("{value:.0}"),
        a if a >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_unit() {
        let rate = Figure::new("small", "rate", "1/s", Better::Higher, 200.0, &[("node", 100.0)]);
        let time =
            Figure::new("small", "time", "us", Better::Lower, 5.0, &[("node", 10.0)]).goal("node", 2.0);
        assert!((rate.ratio["node"] - 2.0).abs() < 1e-9 && (time.ratio["node"] - 2.0).abs() < 1e-9);
        let text = table(&[rate, time]);
        assert!(text.lines().nth(2).unwrap().ends_with("node 10.0  2.00x  2.00x"), "{text}");
    }
}
