//! `vltava jsonata`: expressions on the command line. Touches no engine and no store; everything is
//! evaluated here, under a budget.

mod check;
pub(crate) mod difference;
mod eval;
mod given;
mod indent;
mod records;
mod repl;
pub(crate) mod source;
mod test;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::JsonataCommand;

/// A record, or a file that holds one document, in bytes.
const RECORD_BYTES_MAX: usize = 16 << 20;

pub(crate) fn run(command: JsonataCommand) -> Result<ExitCode> {
    match command {
        JsonataCommand::Eval(eval) => eval::run(&eval),
        JsonataCommand::Repl(repl) => repl::run(&repl),
        JsonataCommand::Check(check) => check::run(&check),
        JsonataCommand::Test(test) => test::run(&test),
    }
}

/// What the command line lacks: as other usage errors, exit status 2.
fn usage(message: &str) -> ExitCode {
    crate::output::note(format_args!("error: {message}"));
    ExitCode::from(2)
}

/// A field's name as an expression has it.
fn written(name: &str) -> String {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    let plain = name.chars().all(letter) && !name.starts_with(|c: char| c.is_ascii_digit());
    let word = ["and", "or", "in", "true", "false", "null", ""].contains(&name);
    if plain && !word { name.to_owned() } else { format!("`{name}`") }
}
