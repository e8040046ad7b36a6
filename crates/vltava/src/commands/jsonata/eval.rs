//! `vltava jsonata eval`: a record in, a result out, one after another.
//!
//! Invariants: memory doesn't grow with the input; results stand in the order of their records; a
//! record that fails is reported with its file and line, and costs no other record its result.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Read, StdoutLock, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Outcome, Output, Program};

use super::records::{Next, Records};
use super::source::{self, Source};
use super::{RECORD_BYTES_MAX, given, indent, repl, usage};
use crate::cli::JsonataEval;
use crate::output::note;

/// What is read and written at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) fn run(eval: &JsonataEval) -> Result<ExitCode> {
    if !eval.no_input
        && repl::is_possible()
        && let Some(expression) = repl_instead(eval)
    {
        return repl::start(repl::Start {
            expression: expression.transpose()?,
            input: None,
            given: &eval.given,
            history: eval.history,
        });
    }
    let (source, mut inputs) = match (&eval.expression, &eval.files[..]) {
        (Some(text), inputs) => (Source { place: "-e".into(), text: text.clone() }, inputs.to_vec()),
        (None, [file, inputs @ ..]) => (source::expression(file)?, inputs.to_vec()),
        (None, []) => return Ok(usage("there is no expression: give one with -e, or a file that has it")),
    };
    if eval.no_input && !inputs.is_empty() {
        return Ok(usage("--no-input takes no inputs"));
    }
    let variables = given::variables(&eval.given)?;
    let budget = given::budget(&eval.given)?;
    let program = match Program::compile(&source.text) {
        Ok(program) => program,
        Err(error) => {
            note(format_args!("error: {}: {}", source.place, error.render(&source.text)));
            return Ok(ExitCode::FAILURE);
        }
    };
    // A terminal is nobody's input: where only standard output isn't one, what is asked for is the
    // expression's own value.
    let no_input = eval.no_input || (inputs.is_empty() && io::stdin().is_terminal());
    if inputs.is_empty() && !no_input {
        inputs.push(PathBuf::from("-"));
    }
    let mut run = Run {
        eval,
        program,
        bindings: given::bindings(&variables),
        budget,
        evaluator: Evaluator::new(),
        result: Output::new(),
        out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()),
        tried: 0,
        failed: 0,
    };
    if no_input {
        run.one("no input", None)?;
    }
    for input in &inputs {
        if run.ended() {
            break;
        }
        run.input(input)?;
    }
    quiet(run.out.flush())?;
    if run.failed > 0 && run.tried > 1 {
        note(format_args!("{} of {} record(s) failed", run.failed, run.tried));
    }
    Ok(if run.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// With which expression a session begins, where one is meant: no input is given.
fn repl_instead(eval: &JsonataEval) -> Option<Option<Result<Source>>> {
    match (&eval.expression, &eval.files[..]) {
        (Some(text), []) => Some(Some(Ok(Source { place: "-e".into(), text: text.clone() }))),
        (None, []) => Some(None),
        // Standard input can't be the expression's file and ask for more expressions.
        (None, [file]) if !source::is_stdin(file) => Some(Some(source::expression(file))),
        _ => None,
    }
}

struct Run<'a> {
    eval: &'a JsonataEval,
    program: Program,
    bindings: Bindings,
    budget: Budget,
    evaluator: Evaluator,
    result: Output,
    out: BufWriter<StdoutLock<'static>>,
    tried: u64,
    failed: u64,
}

impl Run<'_> {
    fn ended(&self) -> bool {
        self.eval.fail_fast && self.failed > 0
    }

    fn failure(&mut self, place: &str, message: impl std::fmt::Display) -> Result<()> {
        self.failed += 1;
        // On a terminal both are seen: in the order in which they came about.
        quiet(self.out.flush())?;
        note(format_args!("error: {place}: {message}"));
        Ok(())
    }

    fn input(&mut self, path: &Path) -> Result<()> {
        let shown = path.display().to_string();
        let (name, input): (&str, Box<dyn Read>) = if source::is_stdin(path) {
            ("standard input", Box::new(io::stdin().lock()))
        } else {
            match File::open(path) {
                Ok(file) => (&shown, Box::new(file)),
                Err(error) => {
                    self.tried += 1;
                    return self.failure(&shown, error);
                }
            }
        };
        let mut records = Records::new(BufReader::with_capacity(BUFFER_BYTES, input), self.eval.lines);
        while !self.ended() {
            // What is to come may be waited for: what is there isn't held back meanwhile.
            if !records.is_buffered() {
                quiet(self.out.flush())?;
            }
            let next = records.next();
            let place = || format!("{name}:{}", records.line());
            match next {
                Ok(Next::End) => break,
                Ok(Next::Record) => self.record(name, &records)?,
                Ok(Next::TooLong) => {
                    self.tried += 1;
                    self.failure(&place(), format_args!("longer than {RECORD_BYTES_MAX} bytes"))?;
                }
                Err(error) => {
                    self.tried += 1;
                    self.failure(&place(), error)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn record<R: io::BufRead>(&mut self, name: &str, records: &Records<R>) -> Result<()> {
        let place = (name, records.line());
        self.evaluate(Some(records.record()), |error| match error.kind() {
            // Where in the file, not where in the record.
            ErrorKind::InvalidJson(invalid) => {
                let line = place.1 + u64::from(invalid.line) - 1;
                (
                    format!("{}:{line}:{}", place.0, invalid.column),
                    format!("invalid JSON: {}", invalid.message),
                )
            }
            ErrorKind::Expression(_) | ErrorKind::OverBudget(_) => {
                (format!("{}:{}", place.0, place.1), String::new())
            }
        })
    }

    fn one(&mut self, place: &str, input: Option<&[u8]>) -> Result<()> {
        self.evaluate(input, |_| (place.to_owned(), String::new()))
    }

    /// `describe` says where an error is, and what it is where the error itself doesn't say it better.
    fn evaluate(
        &mut self,
        input: Option<&[u8]>,
        describe: impl FnOnce(&EvalError) -> (String, String),
    ) -> Result<()> {
        self.tried += 1;
        let Self { program, bindings, budget, evaluator, result, .. } = self;
        let outcome = match input {
            Some(input) => evaluator.eval(program, input, bindings, budget, result),
            None => evaluator.eval_undefined(program, bindings, budget, result),
        };
        match outcome {
            Ok(Outcome::Undefined) if !self.eval.show_undefined => Ok(()),
            Ok(Outcome::Undefined) => quiet(writeln!(self.out, "undefined")),
            Ok(Outcome::Null | Outcome::Value) if self.eval.pretty => {
                let text = String::from_utf8_lossy(self.result.as_bytes());
                quiet(writeln!(self.out, "{}", indent::indented(&text)))
            }
            Ok(Outcome::Null | Outcome::Value) => {
                let written = self.out.write_all(self.result.as_bytes());
                quiet(written.and_then(|()| self.out.write_all(b"\n")))
            }
            Err(error) => {
                let (place, message) = describe(&error);
                let message = if message.is_empty() { error.render(self.program.source()) } else { message };
                self.failure(&place, message)
            }
        }
    }
}

/// A reader that went away (`| head`) ends the process quietly, as it does other tools.
fn quiet(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
