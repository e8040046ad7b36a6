//! The expression engine beside jsonata-js on node and the crate jsonata-core: the same expressions over the
//! same bytes, from bytes to bytes, in one run.
//!
//! Invariants: before anything is measured, all engines have given the same result for every case. They are
//! measured in turn, round by round, so that whatever else the machine does hits all alike; a figure is the
//! median of its rounds.

mod inputs;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Better, Figure, publish};
use crate::engine::report;
use crate::packages;

/// The version of jsonata-js that defines the language here.
const NODE_PACKAGE: &str = "jsonata@2.2.2";
/// Real deliveries, outside the repository; they may be absent.
const PAYLOADS: &str = "../shared/payloads/github-webhooks.ndjson";

const WORKLOADS: [(&str, &str); 3] = [
    ("small", include_str!("small.jsonata")),
    ("medium", include_str!("medium.jsonata")),
    ("heavy", include_str!("heavy.jsonata")),
];
const DELIVERIES: [(&str, &str); 3] = [
    ("push", include_str!("push.jsonata")),
    ("pull_request", include_str!("pull_request.jsonata")),
    ("issues", include_str!("issues.jsonata")),
];

/// Of one engine, one case, one round: short, so that a machine that has other work to do interrupts few of them.
const TURN: Duration = Duration::from_millis(2);
const ROUNDS_MIN: usize = 7;

/// How long and how often.
struct Plan {
    rounds: usize,
    /// Of one case, after which no further round begins once there are [`ROUNDS_MIN`].
    time: Duration,
    /// Of each engine and case: node compiles what runs often.
    warm_up: Duration,
}

struct Case {
    name: String,
    /// Of an order, in KiB.
    size: Option<usize>,
    expression: &'static str,
    input: Vec<u8>,
}

pub(super) fn run(quick: bool) -> Result<()> {
    let plan = if quick {
        Plan { rounds: 15, time: Duration::from_secs(3), warm_up: Duration::from_millis(200) }
    } else {
        Plan { rounds: 101, time: Duration::from_secs(15), warm_up: Duration::from_millis(800) }
    };
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = cases(&home.join("..").join(PAYLOADS))?;
    let folder = tempfile::tempdir()?;
    for case in &cases {
        std::fs::write(folder.path().join(format!("{}.jsonata", case.name)), case.expression)?;
        std::fs::write(folder.path().join(format!("{}.json", case.name)), &case.input)?;
    }
    let mut engines = start(home, folder.path())?;
    for case in &cases {
        agree(&mut engines, case)?;
    }
    report(&format!("{} cases, the same results from all engines; measuring ...", cases.len()));
    let mut times = Vec::new();
    for case in &cases {
        times.push(measure(&mut engines, case, &plan)?);
    }
    publish("jsonata", &figures(&cases, &times))?;
    Ok(())
}

fn cases(payloads: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, expression) in WORKLOADS {
        for kib in [1, 10, 100] {
            let (name, input) = (format!("{name}-{kib}k"), inputs::order(kib).into_bytes());
            cases.push(Case { name, size: Some(kib), expression, input });
        }
    }
    let Ok(deliveries) = std::fs::read_to_string(payloads) else {
        report(&format!("{PAYLOADS} is absent: no GitHub deliveries in this run"));
        return Ok(cases);
    };
    let deliveries: Vec<Value> = deliveries.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (name, expression) in DELIVERIES {
        let input = deliveries
            .iter()
            .filter(|d| d["event"] == name)
            .map(|d| d["payload"].to_string().into_bytes())
            .max_by_key(Vec::len)
            .with_context(|| format!("{PAYLOADS} has no delivery of {name}"))?;
        cases.push(Case { name: name.to_owned(), size: None, expression, input });
    }
    Ok(cases)
}

/// An engine in a process of its own, which answers a line with a line.
struct Engine {
    name: &'static str,
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Engine {
    fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("standard output is a pipe")?;
        Ok(Self { name, process, stdin, stdout: BufReader::new(stdout) })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        let stdin = self.stdin.as_mut().context("standard input is a pipe")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).with_context(|| self.name)?;
        let mut answer = String::new();
        let n = self.stdout.read_line(&mut answer)?;
        ensure!(n > 0, "{} ended at {line:?}; what it said stands above", self.name);
        Ok(answer)
    }

    /// Nanoseconds of an evaluation.
    fn time(&mut self, verb: &str, case: &str, count: u64) -> Result<f64> {
        let nanos: f64 = self.ask(&format!("{verb} {case} {count}"))?.trim().parse()?;
        Ok(nanos / count as f64)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The end of its input is what it stops at.
        self.stdin = None;
        let _ = self.process.wait();
    }
}

/// Ours first.
fn start(home: &Path, cases: &Path) -> Result<[Engine; 3]> {
    let packages = packages::npm("jsonata", &[NODE_PACKAGE])?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| home.join("..").join("target"), PathBuf::from);
    let build = |folder: &Path, target: &Path, arguments: &[&str]| -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--release", "--locked"]).args(arguments);
        cargo.current_dir(folder).env("CARGO_TARGET_DIR", target);
        let status = cargo.status().with_context(|| format!("{cargo:?}"))?;
        ensure!(status.success(), "{cargo:?} failed: {status}");
        Ok(())
    };
    report("building ...");
    build(home, &target, &["--package", "jsonata", "--example", "bench"])?;
    let theirs = target.join("jsonata-core");
    build(&home.join("baselines/jsonata-core"), &theirs, &[])?;
    let mut ours = Command::new(target.join("release/examples/bench"));
    ours.arg(cases);
    let mut node = Command::new("node");
    node.arg(home.join("baselines/jsonata-node/worker.mjs")).arg(packages).arg(cases);
    let mut core = Command::new(theirs.join("release/jsonata-core-worker"));
    core.arg(cases);
    Ok([Engine::start("ours", ours)?, Engine::start("node", node)?, Engine::start("jsonata-core", core)?])
}

/// Fails unless all engines give the same result.
fn agree(engines: &mut [Engine], case: &Case) -> Result<()> {
    let mut first = None;
    for engine in engines {
        let text = engine.ask(&format!("show {}", case.name))?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: {} gave {text}", case.name, engine.name))?;
        match &first {
            None => first = Some((engine.name, value)),
            Some((name, known)) if !same(known, &value) => {
                bail!("{}: {name} gave\n{known}\nand {}\n{value}", case.name, engine.name)
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Numbers are compared by value: `12.50` is `12.5`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Microseconds of an evaluation: ours, node's, jsonata-core's, and of serde_json's check.
type Times = [f64; 4];

fn measure(engines: &mut [Engine; 3], case: &Case, plan: &Plan) -> Result<Times> {
    // Which engine runs what.
    let runs = [(0, "run"), (1, "run"), (2, "run"), (0, "check")];
    let mut counts = [0u64; 4];
    for (count, (engine, verb)) in counts.iter_mut().zip(runs) {
        let engine = &mut engines[engine];
        let first = engine.time(verb, &case.name, 3)?;
        engine.time(verb, &case.name, (plan.warm_up.as_nanos() as f64 / first) as u64 + 1)?;
        let warm = engine.time(verb, &case.name, (TURN.as_nanos() as f64 / first) as u64 + 1)?;
        *count = (TURN.as_nanos() as f64 / warm) as u64 + 1;
    }
    let mut rounds: [Vec<f64>; 4] = Default::default();
    let started = Instant::now();
    for round in 0..plan.rounds {
        if round >= ROUNDS_MIN && started.elapsed() > plan.time {
            break;
        }
        for (i, (engine, verb)) in runs.iter().enumerate() {
            rounds[i].push(engines[*engine].time(verb, &case.name, counts[i])? / 1e3);
        }
    }
    Ok(rounds.map(|mut round| {
        round.sort_by(f64::total_cmp);
        round[round.len() / 2]
    }))
}

fn figures(cases: &[Case], times: &[Times]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (case, [ours, node, core, check]) in cases.iter().zip(times) {
        let baselines = [("node", *node), ("jsonata-core", *core), ("ignored_any", *check)];
        let name = format!("{} ({} bytes)", case.name, case.input.len());
        let mut figure = Figure::new(name, "time", "us", Better::Lower, *ours, &baselines);
        let is_small = case.name.starts_with("small");
        if case.size == Some(1) {
            figure = figure.goal("node", if is_small { 20.0 } else { 10.0 }).goal("jsonata-core", 2.0);
        }
        if case.size == Some(10) && !case.name.starts_with("heavy") {
            // At most 2.5 times the check.
            figure = figure.goal("ignored_any", 0.4);
        }
        figures.push(figure);
    }
    for first in 0..cases.len() {
        // 1x, 10x and 100x stand one after the other.
        let (Some(1), Some(last)) = (cases[first].size, cases.get(first + 2)) else { continue };
        for (to, step) in [(first + 1, "10x"), (first + 2, "100x")] {
            let input = cases[to].input.len() as f64 / cases[first].input.len() as f64;
            let growth = times[to][0] / times[first][0] / input;
            let name = format!("{} to {step}", cases[first].name);
            let figure = Figure::new(name, "time growth by input growth", "x", Better::Lower, growth, &[]);
            figures.push(figure.goal("ours", 1.0));
        }
        debug_assert_eq!(last.size, Some(100));
    }
    figures
}
