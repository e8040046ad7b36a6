//! Whether a line is to go on.
//!
//! Invariant: only what more text could make right goes on, and an empty line ends anything: nobody is
//! caught in a line that can't be ended.

use jsonata::Program;

use super::super::records;
use super::command::{self, Takes};

/// Errors of a text that ends too early, besides those that name its end as the token.
const UNCLOSED: [&str; 5] = ["S0101", "S0105", "S0106", "S0203", "S0302"];

pub(super) fn is_incomplete(text: &str) -> bool {
    let ended = text.rsplit_once('\n').is_some_and(|(_, last)| last.trim().is_empty());
    if text.trim().is_empty() || ended {
        return false;
    }
    if !command::is_command(text) {
        return is_open(text);
    }
    let (word, rest) = command::split(text);
    match command::find(word).map(|entry| entry.takes) {
        Some(Takes::Sample) => rest.starts_with(['{', '[', '"']) && records::is_beginning(rest.as_bytes()),
        Some(Takes::Expression) => !rest.is_empty() && is_open(rest),
        Some(Takes::Nothing | Takes::Variables | Takes::Limits) | None => false,
    }
}

fn is_open(expression: &str) -> bool {
    Program::compile(expression)
        .is_err_and(|error| UNCLOSED.contains(&error.code()) || error.token() == Some("(end)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_text_could_make_right_goes_on() {
        for text in [
            "{",
            "{ 'a': 1,",
            "items[price > 1",
            "1 +",
            "a.",
            "$f := function($x",
            "$f := function(",
            "function($x)",
            "function($x) {",
            "(a; b",
            "a ? b :",
            "'text",
            "\"a\nb",
            "`name",
            "/* note",
            "$match(a, /x",
            "$x :=",
            "$f($x",
            "a ~>",
            "a^(",
            "| a | {}",
            ":input {",
            ":input [1,\n2",
            ":paths a +",
            ":a (",
        ] {
            assert!(is_incomplete(text), "{text}");
        }
        for text in [
            "",
            "  ",
            "a",
            "a)",
            "a b",
            "a ? b",
            "1 + )",
            "'text'",
            "{'a': 1}",
            "[1 +]",
            "{\n",
            "'open\n  ",
            ":",
            ":nope (",
            ":input",
            ":input file(",
            ":input {}",
            ":input {]",
            ":budget (",
            ":paths",
        ] {
            assert!(!is_incomplete(text), "{text:?}");
        }
    }
}
