//! `vltava jsonata check`: syntax errors with their places, and what an expression reads.

use std::process::ExitCode;

use anyhow::Result;
use jsonata::{CompileError, Program, Reads, SYNTAX_ERRORS_MAX, Syntax};
use serde_json::{Value, json};

use super::source::{self, Source};
use super::written;
use crate::cli::JsonataCheck;
use crate::output;

pub(super) fn run(check: &JsonataCheck) -> Result<ExitCode> {
    let mut failed = false;
    for file in &check.files {
        match source::expressions(file) {
            Ok(sources) => {
                if sources.is_empty() && !check.json.json {
                    output::line(format_args!("{}: has no expressions", file.display()));
                }
                for source in &sources {
                    failed |= !one(source, check)?;
                }
            }
            Err(error) => {
                failed = true;
                if check.json.json {
                    output::json(&json!({ "place": file.display().to_string(), "ok": false,
                        "problem": format!("{error:#}") }))?;
                } else {
                    output::note(format_args!("error: {error:#}"));
                }
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether it is right.
fn one(source: &Source, check: &JsonataCheck) -> Result<bool> {
    let syntax = Syntax::parse(&source.text);
    let errors = syntax.errors();
    let program = Program::compile(&source.text).ok();
    let ok = errors.is_empty();
    if check.json.json {
        let errors: Vec<Value> = errors.iter().map(as_json).collect();
        let mut line = json!({ "place": source.place, "ok": ok, "errors": errors });
        if let Some(program) = &program {
            // Absent: it may read anything.
            if let Reads::Fields(paths) = program.reads() {
                line["reads"] = json!(paths);
            }
            line["variables"] = json!(program.variables());
        }
        output::json(&line)?;
        return Ok(ok);
    }
    for error in errors {
        output::note(format_args!("error: {}: {}", source.place, error.render(&source.text)));
    }
    if syntax.has_more_errors() {
        output::note(format_args!("{}: has more than {SYNTAX_ERRORS_MAX} errors", source.place));
    }
    if let Some(program) = &program {
        output::line(format_args!("{}: ok", source.place));
        if check.verbose {
            output::line(format_args!("  reads: {}", shown_reads(program)));
            output::line(format_args!("  variables: {}", shown_variables(program)));
        }
    }
    Ok(ok)
}

/// Fields of the input for people.
pub(super) fn shown_reads(program: &Program) -> String {
    match program.reads() {
        Reads::Fields(paths) if paths.iter().any(Vec::is_empty) => "the whole input".into(),
        Reads::Fields(paths) => {
            let path =
                |names: &Vec<String>| names.iter().map(|name| written(name)).collect::<Vec<_>>().join(".");
            or_none(paths.iter().map(path).collect::<Vec<_>>())
        }
        _ => "anything".into(),
    }
}

/// Variables that somebody has to bind, for people.
pub(super) fn shown_variables(program: &Program) -> String {
    or_none(program.variables().into_iter().map(|name| format!("${name}")).collect())
}

fn or_none(list: Vec<String>) -> String {
    if list.is_empty() { "nothing".into() } else { list.join(", ") }
}

fn as_json(error: &CompileError) -> Value {
    let position = error.position();
    json!({ "code": error.code(), "message": error.message(), "line": position.line,
        "column": position.column, "offset": position.offset, "token": error.token() })
}
