//! Syntax errors while they are collected. Invariants: never more than [`SYNTAX_ERRORS_MAX`], and
//! one for a place only, since what is said second about a place follows from what was said first.

use crate::error::Raise;

/// How many syntax errors of one source are listed. A source with more is not read to its end.
pub const SYNTAX_ERRORS_MAX: usize = 100;

/// The syntax errors of one source, in the order in which they are found.
#[derive(Default)]
pub(crate) struct Faults {
    errors: Vec<Raise>,
    /// Nothing is reported any more: there are too many, or the rest cannot be made sense of.
    stopped: bool,
    /// There was one more than fits.
    too_many: bool,
}

impl Faults {
    pub(crate) fn report(&mut self, raise: Raise) {
        if self.stopped || self.errors.iter().any(|known| known.span.start == raise.span.start) {
            return;
        }
        if self.errors.len() == SYNTAX_ERRORS_MAX {
            self.too_many = true;
            self.stopped = true;
            return;
        }
        self.errors.push(raise);
    }

    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// The errors, and whether there are more than these.
    pub(crate) fn finish(self) -> (Vec<Raise>, bool) {
        (self.errors, self.too_many)
    }
}
