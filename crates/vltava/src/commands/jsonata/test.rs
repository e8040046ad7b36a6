//! `vltava jsonata test`: the cases of transforms, by the rules by which `vltava apply` runs them.

use std::process::ExitCode;

use anyhow::{Result, bail};
use control::transform_test::{self, Outcome};
use jsonata::{Evaluator, Program};
use owo_colors::OwoColorize as _;
use resources::{Placed, Spec, TransformSpec, TransformTest, folder};
use serde_json::{Value, json};

use super::super::gitops;
use super::difference::{self, Side};
use crate::cli::JsonataTest;
use crate::output;

pub(super) fn run(test: &JsonataTest) -> Result<ExitCode> {
    let files = gitops::read(&test.path)?;
    let manifests = match folder(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))) {
        Ok(manifests) => manifests,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{} problem(s), nothing was run:\n  {}", lines.len(), lines.join("\n  "));
        }
    };
    let mut report = Report { json: test.json.json, passed: 0, failed: 0 };
    for placed in &manifests {
        if let Spec::Transform(transform) = &placed.manifest.spec {
            run_transform(placed, transform, test, &mut report)?;
        }
    }
    let Report { passed, failed, .. } = report;
    if report.json {
        output::json(&json!({ "passed": passed, "failed": failed }))?;
    } else {
        output::line(format_args!("{passed} passed, {failed} failed"));
    }
    if passed + failed == 0 {
        let filter = test.filter.as_ref().map_or_else(String::new, |text| format!(" that match {text:?}"));
        bail!("{}: no test cases{filter}; a transform has them in spec.tests", test.path.display());
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Report {
    json: bool,
    passed: u64,
    failed: u64,
}

impl Report {
    /// One case, as it ended: `None` is right.
    fn case(&mut self, transform: &str, place: &str, name: &str, wrong: Option<Wrong<'_>>) -> Result<()> {
        match wrong {
            None => self.passed += 1,
            Some(_) => self.failed += 1,
        }
        if self.json {
            let mut line = json!({ "transform": transform, "test": name, "place": place,
                "passed": wrong.is_none() });
            match wrong {
                None => {}
                Some(Wrong::Message(message)) => line["error"] = message.into(),
                Some(Wrong::Result { expected, found }) => {
                    line["expected"] = expected.clone();
                    line["found"] = found.clone();
                }
            }
            return output::json(&line);
        }
        let colours = output::has_colours();
        let mark = match (&wrong, colours) {
            (None, false) => "ok  ".to_owned(),
            (None, true) => "ok  ".green().to_string(),
            (Some(_), false) => "FAIL".to_owned(),
            (Some(_), true) => "FAIL".red().bold().to_string(),
        };
        output::line(format_args!("{mark} {transform}: {name}"));
        match wrong {
            None => {}
            Some(Wrong::Message(message)) => {
                output::line(format_args!("     at {place}"));
                message.lines().for_each(|line| output::line(format_args!("     {line}")));
            }
            Some(Wrong::Result { expected, found }) => {
                output::line(format_args!("     at {place}: - expected, + found"));
                for (side, text) in difference::lines(expected, found) {
                    let line = format!("{} {text}", side.sign());
                    match (side, colours) {
                        (Side::Both, _) | (_, false) => output::line(format_args!("     {line}")),
                        (Side::Expected, true) => output::line(format_args!("     {}", line.red())),
                        (Side::Found, true) => output::line(format_args!("     {}", line.green())),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Why a case failed.
enum Wrong<'a> {
    Message(String),
    Result { expected: &'a Value, found: &'a Value },
}

fn run_transform(
    placed: &Placed,
    transform: &TransformSpec,
    test: &JsonataTest,
    report: &mut Report,
) -> Result<()> {
    let name = &placed.manifest.name;
    let wanted = |case: &TransformTest| {
        test.filter.as_ref().is_none_or(|text| case.name.contains(text) || name.contains(text))
    };
    let program = Program::compile(&transform.expression);
    let mut evaluator = Evaluator::new();
    for (i, case) in transform.tests.iter().enumerate().filter(|(_, case)| wanted(case)) {
        let place = placed.place_of(&format!("/spec/tests/{i}")).to_string();
        let found;
        let wrong = match &program {
            Err(error) => Some(Wrong::Message(error.render(&transform.expression))),
            Ok(program) => match transform_test::run(program, &mut evaluator, case) {
                Outcome::Passed => None,
                Outcome::Failed(error) => Some(Wrong::Message(error.render(&transform.expression))),
                Outcome::Unreadable(why) => {
                    Some(Wrong::Message(format!("the result can't be compared: {why}")))
                }
                Outcome::Differs(value) => {
                    found = value;
                    Some(Wrong::Result { expected: &case.expected, found: &found })
                }
            },
        };
        report.case(name, &place, &case.name, wrong)?;
    }
    Ok(())
}
