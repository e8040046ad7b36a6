//! Our JSONata engine beside npm jsonata: each expression of the suite on every dataset, and cut at
//! each character on its own one. Value, error code, position and token must be the same; a difference
//! that is meant has an entry with its reason in `explained.json`. Invariants: what isn't compared is
//! counted and printed, never passed over; an entry explains by what is in it, and one that explains
//! nothing in a full run is a failure.

mod cases;
mod oracle;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use jsonata::{Bindings, Budget, ErrorKind, Evaluator, Outcome as Kind, Output, Program};
use serde::Deserialize;
use serde_json::Value;

use crate::engine::report as print;
use cases::Suite;
use oracle::{Oracle, Outcome, Request};

/// The clock of both engines, Unix time in milliseconds.
const NOW_MILLIS: i64 = 1_500_000_000_000;
/// The seed of both engines' random numbers.
const SEED: u64 = 42;
/// Cuts of one expression that are compared without `--full`.
const CUTS_MAX: usize = 300;
/// Datasets that an expression is compared on without `--full` after it has timed out on so many.
const TIMEOUTS_MAX: usize = 2;
/// Expressions that are printed with a difference.
const SHOWN_MAX: usize = 200;
const EXPLAINED: &str = include_str!("../../baselines/jsonata-oracle/explained.json");
const DIFFERENCES: &str = include_str!("../../../crates/jsonata/DIFFERENCES.md");

/// How much is compared.
#[derive(Args)]
pub(crate) struct Options {
    /// All cuts of long expressions, and all datasets for expressions that time out.
    #[arg(long)]
    full: bool,
    /// Print every difference, explained ones with their reason.
    #[arg(long)]
    list: bool,
}

/// A kind of difference that is meant. All parts that are given must fit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    /// Why, for a reader.
    reason: String,
    /// Words of the row of DIFFERENCES.md that says it, where one does.
    #[serde(default)]
    difference: Option<String>,
    /// What the expression has in it: all of these.
    #[serde(default)]
    source_has: Vec<String>,
    /// How the other engine's outcome begins, as it is shown.
    #[serde(default)]
    there: Option<String>,
    /// How ours begins.
    #[serde(default)]
    here: Option<String>,
    /// Whether our outcome is that one, but for the position.
    #[serde(default)]
    only_position: bool,
    /// What holds of the other engine's value: `function`, `infinite`.
    #[serde(default)]
    holds: Option<String>,
}

struct Difference {
    source: String,
    on: String,
    there: Outcome,
    here: Outcome,
}

impl Explained {
    fn fits(&self, d: &Difference) -> bool {
        let begins = |wanted: &Option<String>, outcome: &Outcome| {
            wanted.as_ref().is_none_or(|w| outcome.show().starts_with(w.as_str()))
        };
        self.source_has.iter().all(|part| d.source.contains(part.as_str()))
            && begins(&self.there, &d.there)
            && begins(&self.here, &d.here)
            && (!self.only_position || d.there.same_but_for_position(&d.here))
            && match self.holds.as_deref() {
                None => true,
                Some("function") => d.there.function,
                Some("infinite") => d.there.infinite,
                Some(_) => false,
            }
    }
}

#[derive(Default)]
struct Tally {
    compared: usize,
    same: usize,
    explained: usize,
    unexplained: Vec<Difference>,
}

/// Runs everything; an unexplained difference is a failure.
pub(crate) fn run(options: &Options) -> Result<()> {
    let explained: Vec<Explained> = serde_json::from_str(EXPLAINED)?;
    for entry in &explained {
        ensure!(!entry.reason.is_empty(), "an entry of explained.json has no reason");
        let narrows = !entry.source_has.is_empty()
            || entry.there.is_some()
            || entry.here.is_some()
            || entry.holds.is_some();
        ensure!(narrows, "this entry of explained.json explains anything: {}", entry.reason);
        if let Some(words) = &entry.difference {
            ensure!(DIFFERENCES.contains(words.as_str()), "DIFFERENCES.md doesn't say {words:?}");
        }
    }
    let suite = Suite::load()?;
    print(&suite.origin);
    let mut uses = vec![0usize; explained.len()];
    let started = Instant::now();

    let requests: Vec<Request> = suite.on_every_dataset();
    let (tally, left_out) = compare(&suite, &requests, options, &explained, &mut uses)?;
    let whole = report("expressions on every dataset", tally, left_out, started);

    let started = Instant::now();
    let (requests, left_out_cuts) = cuts(&suite, options);
    let (tally, left_out) = compare(&suite, &requests, options, &explained, &mut uses)?;
    let cut = report("cut expressions", tally, left_out + left_out_cuts, started);

    for (entry, uses) in explained.iter().zip(&uses) {
        print(&format!("  explained {uses:>6}: {}", entry.reason));
        ensure!(*uses > 0 || !options.full || suite.is_own, "explains nothing any more: {}", entry.reason);
    }
    ensure!(whole + cut == 0, "{} differences are not explained", whole + cut);
    Ok(())
}

fn report(what: &str, tally: Tally, left_out: usize, started: Instant) -> usize {
    print(&format!(
        "{what}: compared {}, same {}, explained {}, unexplained {}, left out {left_out}, {} s",
        tally.compared,
        tally.same,
        tally.explained,
        tally.unexplained.len(),
        started.elapsed().as_secs()
    ));
    // One of each expression: on other inputs it mostly differs the same way.
    let mut shown = HashSet::new();
    for d in &tally.unexplained {
        if shown.len() < SHOWN_MAX && shown.insert(d.source.as_str()) {
            print_difference("DIFFERENT", d);
        }
    }
    tally.unexplained.len()
}

fn print_difference(label: &str, d: &Difference) {
    let source: String = d.source.chars().take(400).collect();
    let (there, here) = (d.there.show(), d.here.show());
    print(&format!("{label} {source:?} on {}\n    there: {there}\n    here:  {here}", d.on));
}

/// Each beginning of each expression, once.
fn cuts(suite: &Suite, options: &Options) -> (Vec<Request>, usize) {
    let mut seen: HashSet<(String, usize)> = HashSet::new();
    let mut requests = Vec::new();
    let mut left_out = 0;
    for case in &suite.cases {
        for (nth, (at, _)) in case.source.char_indices().enumerate() {
            let source = &case.source[..at];
            if nth >= CUTS_MAX && !options.full {
                left_out += 1;
            } else if seen.insert((source.to_owned(), case.input)) {
                requests.push(Request {
                    source: source.to_owned(),
                    inputs: vec![case.input],
                    bindings: case.bindings.clone(),
                });
            }
        }
    }
    (requests, left_out)
}

fn compare(
    suite: &Suite,
    requests: &[Request],
    options: &Options,
    explained: &[Explained],
    uses: &mut [usize],
) -> Result<(Tally, usize)> {
    let mut tally = Tally::default();
    let mut left_out = 0;
    let mut evaluator = Evaluator::new();
    let timeouts_max = if options.full { usize::MAX } else { TIMEOUTS_MAX };
    Oracle::ask(&suite.inputs, requests, timeouts_max, |request, answers| {
        let program = Program::compile(&request.source);
        // Those that it was not asked for any more.
        left_out += request.inputs.len() - answers.len();
        for (input, there) in request.inputs.iter().zip(answers) {
            let here = ours(&mut evaluator, &program, suite.text(*input), &request.bindings);
            tally.compared += 1;
            if there.same(&here) {
                tally.same += 1;
                continue;
            }
            let on = suite.name(*input).to_owned();
            let difference = Difference { source: request.source.clone(), on, there, here };
            match explained.iter().position(|entry| entry.fits(&difference)) {
                Some(at) => {
                    uses[at] += 1;
                    tally.explained += 1;
                    if options.list {
                        print_difference(&format!("explained ({})", explained[at].reason), &difference);
                    }
                }
                None => tally.unexplained.push(difference),
            }
        }
    })?;
    Ok((tally, left_out))
}

fn budget() -> Budget {
    // Enough for everything that the other engine ends in its time.
    Budget { steps: 5_000_000, wall: Duration::from_secs(10), ..Budget::default() }
}

/// Our outcome, in the other engine's words.
fn ours(
    evaluator: &mut Evaluator,
    program: &Result<Program, jsonata::CompileError>,
    input: Option<&str>,
    given: &Value,
) -> Outcome {
    let program = match program {
        Ok(program) => program,
        Err(e) => return Outcome::error(e.code(), e.position().offset, e.token()),
    };
    let mut bindings = Bindings::new(NOW_MILLIS, SEED);
    if let Value::Object(values) = given {
        for (name, value) in values {
            bindings.set_json(name, value.to_string().as_bytes());
        }
    }
    let mut output = Output::new();
    let result =
        evaluator.eval_counted(program, input.map(str::as_bytes), &bindings, &budget(), &mut output).0;
    match result {
        Ok(Kind::Undefined) => Outcome::undefined(),
        Ok(_) => Outcome::value(String::from_utf8_lossy(output.as_bytes()).into_owned()),
        Err(e) => match e.kind() {
            ErrorKind::Expression(x) => Outcome::error(x.code, x.position.offset, x.token.as_deref()),
            _ => Outcome::error(e.code(), 0, None),
        },
    }
}
