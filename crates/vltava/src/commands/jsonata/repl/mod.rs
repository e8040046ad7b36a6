//! `vltava jsonata repl`, and `eval` on a terminal without an input: a line in, an answer out.
//!
//! Invariants: nothing that is typed ends the session but Ctrl-D and `:quit`; what fails is said as `eval` says
//! it, and changes nothing. Results and what was asked for go to standard output, errors and warnings to
//! standard error.

mod command;
mod complete;
mod context;
mod continuation;
mod cursor;
mod editor;
mod history;
mod home;
mod interrupt;
mod paint;
mod session;
mod signature;
mod tree;
mod variables;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use jsonata::{Budget, Program};
use owo_colors::OwoColorize as _;
use rustyline::error::ReadlineError;
use rustyline::highlight::MatchingBracketHighlighter;
use rustyline::history::FileHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

use self::command::Command;
use self::editor::Assistant;
use self::session::{Answer, Sample, Session};
use self::variables::Kept;
use super::check::{shown_reads, shown_variables};
use super::records::{Next, Records};
use super::source::{self, Source};
use super::{RECORD_BYTES_MAX, given, usage};
use crate::cli::{JsonataGiven, JsonataHistory, JsonataRepl};
use crate::output::{self, note};

const PROMPT: &str = "jsonata> ";
/// So many suggestions are shown without asking.
const SUGGESTIONS_UNASKED_MAX: usize = 100;
/// Of a variable's value `:vars` shows so much.
const VALUE_CHARS_MAX: usize = 80;

/// How a session begins.
pub(super) struct Start<'a> {
    /// Evaluated first.
    pub(super) expression: Option<Source>,
    pub(super) input: Option<&'a Path>,
    pub(super) given: &'a JsonataGiven,
    pub(super) history: JsonataHistory,
}

/// Whether somebody is there to ask.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && output::is_terminal()
}

pub(super) fn run(repl: &JsonataRepl) -> Result<ExitCode> {
    if !is_possible() {
        return Ok(usage(
            "standard input and output are to be a terminal; `vltava jsonata eval` reads from files and pipes",
        ));
    }
    let JsonataRepl { input, given, history } = repl;
    start(Start { expression: None, input: input.as_deref(), given, history: *history })
}

pub(super) fn start(start: Start<'_>) -> Result<ExitCode> {
    let Start { expression, input, given, history: JsonataHistory { no_history } } = start;
    let stop = Arc::default();
    let mut session = Session::new(given::budget(given)?, Arc::clone(&stop));
    for (name, value) in given::variables(given)? {
        session.variables.keep(&name, Kept::Value(value.get().to_owned())).context("--bindings")?;
    }
    if let Some(path) = input {
        ensure!(!source::is_stdin(path), "-: standard input is where expressions are typed; give a file");
        load(&mut session, path)?;
    }
    // Only now: until here Ctrl-C ends the process, which may wait for an input.
    interrupt::sets(stop).context("Ctrl-C can't be listened to")?;

    let session = Rc::new(RefCell::new(session));
    let colours = output::has_colours();
    let config = Config::builder()
        .max_history_size(history::HISTORY_ENTRIES_MAX)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .completion_prompt_limit(SUGGESTIONS_UNASKED_MAX)
        .color_mode(if colours { ColorMode::Enabled } else { ColorMode::Disabled })
        .build();
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant {
        session: Rc::clone(&session),
        brackets: MatchingBracketHighlighter::new(),
    }));
    let mut kept = history::Kept::new(!no_history);
    kept.load(editor.history_mut());

    let sample = about(session.borrow().sample.as_ref());
    output::line(format_args!("{sample}. Tab completes, :help lists commands, Ctrl-D leaves."));
    if let Some(Source { place, text }) = expression {
        // A short one as if it had been typed.
        match text.contains('\n') {
            true => output::line(format_args!("{place}:")),
            false => output::line(format_args!("{PROMPT}{text}")),
        }
        kept.add(editor.history_mut(), &text);
        answer(&mut session.borrow_mut(), &text, colours);
    }
    let prompt = (PROMPT, PROMPT.bold().to_string());
    loop {
        match editor.readline(&prompt) {
            Ok(line) => {
                let text = line.trim_end();
                if text.trim().is_empty() {
                    continue;
                }
                kept.add(editor.history_mut(), text);
                let mut session = session.borrow_mut();
                if !command::is_command(text) {
                    answer(&mut session, text, colours);
                    continue;
                }
                match obey(&mut session, text, colours) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => note(format_args!("error: {error:#}")),
                }
            }
            // The line is cancelled, or the window has another size.
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("the terminal can't be read"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn about(sample: Option<&Sample>) -> String {
    match sample {
        Some(Sample { name, json }) => format!("$ is {name}, {}", output::bytes(json.len() as u64)),
        None => "$ is undefined; `:input FILE` or `:input JSON` takes a sample".into(),
    }
}

fn answer(session: &mut Session, text: &str, colours: bool) {
    match session.evaluate(text) {
        Ok(answer) => show(session, &answer, colours),
        Err(error) => {
            if session.is_stopped() {
                // The terminal's own ^C stands in the line.
                note("");
            }
            note(format_args!("error: {error}"));
        }
    }
}

fn show(session: &Session, answer: &Answer, colours: bool) {
    let words = match answer {
        Answer::Json(json) => {
            for line in paint::painted(json, colours).lines() {
                // Much is shown slowly: Ctrl-C ends that too.
                if session.is_stopped() {
                    return note("\nstopped");
                }
                output::line(line);
            }
            return;
        }
        Answer::Undefined => "undefined",
        Answer::Function => "a function",
    };
    match colours {
        true => output::line(words.dimmed()),
        false => output::line(words),
    }
}

/// Whether the session goes on.
fn obey(session: &mut Session, line: &str, colours: bool) -> Result<bool> {
    let (command, rest) = command::parse(line)?;
    match (command, rest) {
        (Command::Help, _) => output::line(command::help()),
        (Command::Input, text) => {
            if let Some(text) = text {
                take(session, text)?;
            }
            output::line(about(session.sample.as_ref()));
        }
        (Command::Show, _) => {
            let whole = session.whole().map_err(anyhow::Error::msg)?;
            show(session, &whole, colours);
        }
        (Command::Paths, text) => {
            let text = text.or(session.last.as_deref()).context("there was no expression yet; give one")?;
            let program = compiled(text)?;
            output::line(format_args!("reads: {}", shown_reads(&program)));
            output::line(format_args!("variables: {}", shown_variables(&program)));
        }
        (Command::Ast, text) => {
            let text = text.or(session.last.as_deref()).context("there was no expression yet; give one")?;
            compiled(text)?;
            tree::lines(text).into_iter().for_each(output::line);
        }
        (Command::Vars, _) => {
            let mut none = true;
            for (name, kept) in session.variables.iter() {
                none = false;
                let shown = match kept {
                    Kept::Value(json) => format!("${name} = {}", output::printable(json, VALUE_CHARS_MAX)),
                    Kept::Undefined => format!("${name} = undefined"),
                    Kept::Function { text, .. } => output::printable(text, VALUE_CHARS_MAX),
                };
                output::line(shown);
            }
            if none {
                output::line("no variables are kept; `$x := ...` keeps one");
            }
        }
        (Command::Unset, None) => bail!(":unset needs the variables to forget, such as `:unset $x`"),
        (Command::Unset, Some(names)) => {
            for name in names.split_whitespace() {
                let known = session.variables.forget(name.strip_prefix('$').unwrap_or(name));
                ensure!(known, "there is no variable {name}; :vars lists them");
            }
        }
        (Command::Budget, Some(limits)) => {
            let mut budget = session.budget.clone();
            for limit in limits.split_whitespace() {
                given::set_limit(&mut budget, limit).with_context(|| format!(":budget {limit}"))?;
            }
            session.budget = budget;
        }
        (Command::Budget, None) => show_budget(session),
        (Command::Quit, _) => return Ok(false),
    }
    Ok(true)
}

fn compiled(text: &str) -> Result<Program> {
    Program::compile(text).map_err(|error| anyhow::Error::msg(error.render(text)))
}

/// A sample from the line: JSON, or a path.
fn take(session: &mut Session, text: &str) -> Result<()> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json || text.starts_with(['{', '[', '"']) {
        ensure!(text.len() <= RECORD_BYTES_MAX, "the sample is longer than {RECORD_BYTES_MAX} bytes");
        let sample = Sample { name: "what was typed".into(), json: text.into() };
        return session.load(sample).map_err(anyhow::Error::msg);
    }
    let path = home::expanded(text);
    let found = path.metadata().with_context(|| path.display().to_string())?;
    // To open a pipe may be to wait for ever.
    ensure!(found.is_file(), "{}: no regular file", path.display());
    load(session, &path)
}

/// A document, or the first record of a file.
fn load(session: &mut Session, path: &Path) -> Result<()> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let mut records = Records::new(BufReader::new(file), false);
    match records.next().with_context(|| name.clone())? {
        Next::End => bail!("{name}: is empty; a JSON document or NDJSON is expected"),
        Next::TooLong => bail!("{name}:{}: longer than {RECORD_BYTES_MAX} bytes", records.line()),
        Next::Record => {}
    }
    let json = records.record().to_vec();
    let line = records.line();
    let more = matches!(records.next(), Ok(Next::Record | Next::TooLong));
    let shown = if more { format!("the first record of {name}") } else { name.clone() };
    // Lines of the error are counted from where the record begins.
    let place = if line > 1 { format!("{name}, from line {line} on") } else { name };
    session.load(Sample { name: shown, json }).map_err(|error| anyhow::anyhow!("{place}: {error}"))
}

fn show_budget(session: &Session) {
    let Budget { steps, depth, bytes, output_bytes, regex_steps, wall } = &session.budget;
    let used = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    let mut rows = output::Rows::new(&["limit", "allowed", "last used"]).right(&[1, 2]);
    for (name, allowed, used) in [
        ("steps", *steps, used(session.usage.map(|usage| usage.steps))),
        ("depth", u64::from(*depth), String::new()),
        ("bytes", *bytes as u64, used(session.usage.map(|usage| usage.bytes as u64))),
        ("output_bytes", *output_bytes as u64, String::new()),
        ("regex_steps", *regex_steps, String::new()),
        ("wall", u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), String::new()),
    ] {
        rows.row(vec![name.into(), allowed.to_string(), used]);
    }
    rows.print();
}
