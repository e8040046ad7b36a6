//! Regular expressions of ECMAScript 2024 without the flags `u` and `v`, as jsonata-js uses
//! them, in one difference: a code point is never cut in half, so `.` matches a whole emoji.
//!
//! A pattern without look-around and back-references takes an engine that is linear in the text,
//! where that gives the same matches; others run on a backtracking matcher whose steps are
//! counted, so that no pattern and text make it run away.

mod class;
mod linear;
mod parse;
mod program;
mod vm;

use std::cell::Cell;

use crate::wtf8;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Regex {
    source: String,
    program: program::Program,
    linear: Option<regex::bytes::Regex>,
}

/// The step limit was reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfSteps;

/// Byte ranges of the match and of its groups.
pub(crate) type Spans = Vec<Option<(usize, usize)>>;

/// Bytes of text that the linear engine reads for one step.
const LINEAR_BYTES_PER_STEP: usize = 8;

impl Regex {
    /// Compiles a pattern; the error says what is wrong with it.
    pub(crate) fn compile(pattern: &[u16], ignore_case: bool, multi_line: bool) -> Result<Self, String> {
        let text = wtf8::from_units(pattern);
        let points: Vec<u32> = wtf8::code_points(&text).collect();
        let parsed = parse::parse(&points)?;
        let linear = linear::translate(&parsed, ignore_case, multi_line);
        let program = program::compile(&parsed, ignore_case, multi_line)?;
        Ok(Self { source: wtf8::to_str(&text).into_owned(), program, linear })
    }

    /// The pattern as written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The first match at or behind byte `from`.
    pub(crate) fn find(
        &self,
        text: &[u8],
        from: usize,
        steps: &Cell<u64>,
    ) -> Result<Option<Spans>, OutOfSteps> {
        match &self.linear {
            Some(linear) if !wtf8::has_lone(text) => {
                let mut locations = linear.capture_locations();
                let found = linear.captures_read_at(&mut locations, text, from);
                let read = found.map_or(text.len(), |m| m.end()) - from;
                let cost = 1 + (read / LINEAR_BYTES_PER_STEP) as u64;
                let left = steps.get().checked_sub(cost).ok_or(OutOfSteps)?;
                steps.set(left);
                Ok(found.is_some().then(|| (0..locations.len()).map(|i| locations.get(i)).collect()))
            }
            _ => vm::find(&self.program, text, from, steps),
        }
    }
}

#[cfg(test)]
mod tests;
