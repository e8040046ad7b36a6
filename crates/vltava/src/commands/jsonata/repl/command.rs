//! Lines that begin with a colon: they are about the session, not expressions.
//!
//! Invariant: one table has them all; help, completion and parsing read it.

use anyhow::{Result, bail};

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Sample,
    Expression,
    Variables,
    Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Input,
    Show,
    Paths,
    Ast,
    Vars,
    Unset,
    Budget,
    Quit,
}

pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) command: Command,
    pub(super) takes: Takes,
    /// As help shows what it takes.
    pub(super) argument: &'static str,
    pub(super) says: &'static str,
}

pub(super) const COMMANDS: [Entry; 9] = {
    const fn entry(
        name: &'static str,
        command: Command,
        takes: Takes,
        argument: &'static str,
        says: &'static str,
    ) -> Entry {
        Entry { name, command, takes, argument, says }
    }
    [
        entry(":help", Command::Help, Takes::Nothing, "", "this list"),
        entry(
            ":input",
            Command::Input,
            Takes::Sample,
            "[FILE|JSON]",
            "takes a sample, of NDJSON the first record; or says which it is",
        ),
        entry(":show", Command::Show, Takes::Nothing, "", "the sample"),
        entry(
            ":paths",
            Command::Paths,
            Takes::Expression,
            "[EXPR]",
            "fields and variables that it reads; else those of the last one",
        ),
        entry(":ast", Command::Ast, Takes::Expression, "[EXPR]", "it as a tree, likewise"),
        entry(":vars", Command::Vars, Takes::Nothing, "", "the variables that are kept"),
        entry(":unset", Command::Unset, Takes::Variables, "$NAME...", "forgets variables"),
        entry(
            ":budget",
            Command::Budget,
            Takes::Limits,
            "[NAME=N...]",
            "sets limits of each evaluation; or shows them, and what was used",
        ),
        entry(":quit", Command::Quit, Takes::Nothing, "", "leaves, as Ctrl-D does"),
    ]
};

pub(super) fn is_command(line: &str) -> bool {
    line.trim_start().starts_with(':')
}

/// A line's first word and the rest.
pub(super) fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim_start()))
}

/// The command of a line, by its name or by the beginning of one that no other begins with.
pub(super) fn find(word: &str) -> Option<&'static Entry> {
    let mut like = COMMANDS.iter().filter(|entry| word.len() > 1 && entry.name.starts_with(word));
    let (first, second) = (like.next(), like.next());
    COMMANDS.iter().find(|entry| entry.name == word).or(if second.is_none() { first } else { None })
}

/// A command and what it is given, or `None` where that is nothing.
pub(super) fn parse(line: &str) -> Result<(Command, Option<&str>)> {
    let (word, rest) = split(line);
    let Some(entry) = find(word) else {
        let names: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
        bail!("there is no command {word:?}; there are {}", names.join(", "));
    };
    if entry.takes == Takes::Nothing && !rest.is_empty() {
        bail!("{} takes nothing, but is followed by {rest:?}", entry.name);
    }
    Ok((entry.command, (!rest.is_empty()).then_some(rest)))
}

/// What `:help` says.
pub(super) fn help() -> String {
    let shown = |entry: &Entry| format!("{} {}", entry.name, entry.argument).trim_end().to_owned();
    let width = COMMANDS.iter().map(|entry| shown(entry).len()).max().unwrap_or(0);
    let mut text = String::from(
        "An expression is evaluated over the sample; while it isn't complete it\ngoes on in the next line, and an empty line ends it as it is. $x := ... keeps $x;\na function is kept as its text.\n\n",
    );
    for entry in &COMMANDS {
        text.push_str(&format!("  {:width$}  {}\n", shown(entry), entry.says));
    }
    text.push_str(
        "\nTab completes, Up and Ctrl-R bring earlier lines back, Ctrl-C cancels a line or stops\nan evaluation. A line that begins with a space isn't kept in the history. Commands\nmay be shortened (:i, :q).",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_by_name_and_by_beginning() {
        assert_eq!(parse(":input  my file.json ").unwrap(), (Command::Input, Some("my file.json")));
        assert_eq!(parse("  :q").unwrap(), (Command::Quit, None));
        assert_eq!(parse(":budget\tsteps=1 wall=2").unwrap(), (Command::Budget, Some("steps=1 wall=2")));
        assert_eq!(parse(":a a.b").unwrap(), (Command::Ast, Some("a.b")));
        for (line, says) in [
            (":nope x", "\":nope\"; there are :help"),
            (":", "\":\""),
            (":show me", ":show takes nothing, but is followed by \"me\""),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        // It fits a screen, and what is shown can be typed.
        assert!(help().lines().all(|line| line.chars().count() <= 90), "{}", help());
        for entry in &COMMANDS {
            assert!(help().contains(entry.name));
            assert_eq!(find(entry.name).map(|found| found.command), Some(entry.command));
            assert_eq!(
                find(&entry.name[..2]).map(|found| found.command),
                Some(entry.command),
                "{}",
                entry.name
            );
        }
    }
}
