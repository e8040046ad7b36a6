//! What the line editor asks: is the line complete, what does Tab suggest, what stands behind the cursor.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use owo_colors::OwoColorize as _;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter, MatchingBracketHighlighter};
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Result};

use super::session::Session;
use super::{command, complete, continuation, cursor, signature};

pub(super) struct Assistant {
    pub(super) session: Rc<RefCell<Session>>,
    pub(super) brackets: MatchingBracketHighlighter,
}

/// Only shown: there is nothing to take over from a signature.
pub(super) struct Signature(String);

impl Hint for Signature {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Helper for Assistant {}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(match continuation::is_incomplete(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let (start, found) = complete::suggestions(&mut self.session.borrow_mut(), &line[..at]);
        let pairs = found.into_iter().map(|s| Pair { display: s.shown, replacement: s.text });
        Ok((start, pairs.collect()))
    }
}

impl Hinter for Assistant {
    type Hint = Signature;

    fn hint(&self, line: &str, at: usize, _: &Context<'_>) -> Option<Signature> {
        if at < line.len() || command::is_command(line) {
            return None;
        }
        let name = cursor::before(line).call?;
        let kept = self.session.borrow().variables.iter().any(|(known, _)| known == name);
        let signature = signature::of(name).filter(|_| !kept)?;
        Some(Signature(format!("   ${name}{signature}")))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, at: usize) -> Cow<'l, str> {
        self.brackets.highlight(line, at)
    }

    fn highlight_char(&self, line: &str, at: usize, kind: CmdKind) -> bool {
        self.brackets.highlight_char(line, at, kind)
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(hint.dimmed().to_string())
    }
}
