//! What the parser does where a text has an error. Without [`Faults`] the first error ends it.
//! With them it reports, skips to a separator or bracket that somebody waits for, and goes on.
//! Invariant: whoever skips or repeats either moves on in the text or returns, so that the time
//! is linear in its length.

use super::{Parser, Result, binding_power};
use crate::ast::{RawId, RawKind};
use crate::error::{Raise, Span};
use crate::faults::Faults;
use crate::lex::{Token, TokenKind};

/// The state of a recovering parse.
#[derive(Default)]
pub(super) struct Recovery {
    pub(super) faults: Faults,
    /// How many constructs wait for `)`, `]`, `}`.
    open: [u32; 3],
    /// An unclosed string or comment took brackets with it: that some are missing later says
    /// nothing.
    lost: bool,
}

fn bracket(operator: &str) -> Option<usize> {
    [")", "]", "}"].iter().position(|c| *c == operator)
}

/// Operators that end what stands before them: they are left to whoever waits for them.
fn is_stop(operator: &str) -> bool {
    bracket(operator).is_some() || matches!(operator, "," | ";" | ":" | "..")
}

impl Parser<'_> {
    pub(super) fn recovers(&self) -> bool {
        self.recovery.is_some()
    }

    /// Ends a strict parse with this error; a recovering one goes on behind it.
    pub(super) fn report(&mut self, raise: Box<Raise>) -> Result<()> {
        let Some(recovery) = &mut self.recovery else { return Err(raise) };
        recovery.faults.report(*raise);
        if recovery.faults.stopped() {
            self.abandon();
        }
        Ok(())
    }

    /// As [`Parser::report`] for an error behind which nothing can be made sense of.
    pub(super) fn report_last(&mut self, raise: Box<Raise>) -> Result<()> {
        self.report(raise)?;
        if let Some(recovery) = &mut self.recovery {
            recovery.faults.stop();
        }
        self.abandon();
        Ok(())
    }

    fn abandon(&mut self) {
        self.lexer.give_up();
        let end = self.lexer.position();
        self.token = Token { kind: TokenKind::End, span: Span { start: end, end } };
    }

    pub(super) fn abandoned(&self) -> bool {
        self.recovery.as_ref().is_some_and(|r| r.faults.stopped())
    }

    /// A token in place of text that is none.
    pub(super) fn resume(&mut self, raise: Box<Raise>) -> Result<Token> {
        let Some(recovery) = &mut self.recovery else { return Err(raise) };
        let (token, lost) = self.lexer.resume(&raise);
        recovery.lost |= lost;
        self.report(raise)?;
        Ok(token)
    }

    /// Reports that this operator is not there. Nothing new is said about text that is no token,
    /// and where brackets were lost.
    pub(super) fn missing(&mut self, operator: &'static str) -> Result<()> {
        let at_end = self.token.kind == TokenKind::End;
        let at_bracket = matches!(self.token.kind, TokenKind::Operator(op) if bracket(op).is_some());
        let lost = self.recovery.as_ref().is_some_and(|r| r.lost) && (at_end || at_bracket);
        if lost || self.token.kind == TokenKind::Invalid {
            return Ok(());
        }
        let code = if at_end { "S0203" } else { "S0202" };
        let raise = self.unexpected(code).value(operator);
        self.report(raise)
    }

    /// Notes that a construct waits for this bracket.
    pub(super) fn opened(&mut self, closer: &'static str) {
        if let (Some(recovery), Some(kind)) = (&mut self.recovery, bracket(closer)) {
            recovery.open[kind] += 1;
        }
    }

    fn is_open(&self, operator: &str) -> bool {
        match (&self.recovery, bracket(operator)) {
            (Some(recovery), Some(kind)) => recovery.open[kind] > 0,
            _ => false,
        }
    }

    /// After an element of a list: whether another follows. Behind an error it is looked for.
    pub(super) fn more(&mut self, separator: &'static str, closer: &'static str) -> Result<bool> {
        if self.recovers() && !self.token.is(separator) && !self.token.is(closer) {
            self.missing(closer)?;
            self.skip(separator, closer)?;
        }
        if !self.token.is(separator) {
            return Ok(false);
        }
        self.advance(false)?;
        Ok(true)
    }

    /// The end of a construct that [`Parser::opened`] noted.
    pub(super) fn close(&mut self, closer: &'static str, operand_ended: bool) -> Result<()> {
        if !self.expect(closer, operand_ended)? {
            self.skip("", closer)?;
            if self.token.is(closer) {
                self.advance(operand_ended)?;
            }
        }
        if let (Some(recovery), Some(kind)) = (&mut self.recovery, bracket(closer)) {
            recovery.open[kind] -= 1;
        }
        Ok(())
    }

    /// Skips to this separator, this bracket, or one that a construct further out waits for.
    pub(super) fn skip(&mut self, separator: &str, closer: &str) -> Result<()> {
        let mut inner: Vec<&'static str> = Vec::new();
        loop {
            let mut operand_ended = true;
            match self.token.kind {
                TokenKind::End => return Ok(()),
                TokenKind::Operator(op) => match op {
                    "(" => inner.push(")"),
                    "[" => inner.push("]"),
                    "{" => inner.push("}"),
                    _ if bracket(op).is_some() => {
                        if inner.last() == Some(&op) {
                            inner.pop();
                        } else if op == closer || self.is_open(op) {
                            return Ok(());
                        }
                    }
                    _ if op == separator && inner.is_empty() => return Ok(()),
                    _ => {}
                },
                _ => {}
            }
            if let TokenKind::Operator(op) = self.token.kind {
                operand_ended = bracket(op).is_some();
            }
            self.advance(operand_ended)?;
        }
    }

    /// Whether the next token can begin an operand.
    pub(super) fn operand_begins(&self) -> bool {
        match self.token.kind {
            TokenKind::End | TokenKind::Unknown(_) => false,
            TokenKind::Operator(op) => {
                matches!(op, "(" | "[" | "{" | "-" | "*" | "**" | "%" | "|" | "and" | "or" | "in")
            }
            _ => true,
        }
    }

    /// An operand that may be absent because of an error in front of it.
    pub(super) fn operand_if(&mut self, certain: bool) -> Result<RawId> {
        if certain || self.operand_begins() { self.expression(0) } else { self.invalid(Vec::new()) }
    }

    /// A node for text with an error.
    pub(super) fn invalid(&mut self, parts: Vec<RawId>) -> Result<RawId> {
        let at = self.token.span.start;
        let height = self.height(&parts);
        self.add(RawKind::Invalid(parts), Span { start: at, end: at }, height)
    }

    /// An operator stands where an operand is expected.
    pub(super) fn misplaced(&mut self, token: Token, op: &'static str) -> Result<RawId> {
        self.report(Raise::new("S0211").at(token.span).token(op))?;
        if is_stop(op) && !self.abandoned() {
            self.lexer.rewind(&token);
            self.last_end = token.span.start;
            self.token = token;
            return self.invalid(Vec::new());
        }
        let parts = if self.operand_begins() {
            vec![self.expression(binding_power(&token).max(70))?]
        } else {
            Vec::new()
        };
        self.invalid(parts)
    }

    /// A character that is no operator stands between two operands, or behind one.
    pub(super) fn unknown(&mut self, left: RawId, power: u32) -> Result<RawId> {
        let mut parts = vec![left];
        if self.operand_begins() {
            parts.push(self.expression(power)?);
        }
        self.invalid(parts)
    }

    /// Behind the whole expression there is more text: reports it, and reads on behind
    /// semicolons, as in a block without its parentheses.
    pub(super) fn rest(&mut self, root: RawId) -> Result<RawId> {
        let mut parts = vec![root];
        let mut is_block = false;
        while self.token.kind != TokenKind::End {
            let separates = self.token.is(";");
            if self.token.kind != TokenKind::Invalid && !(separates && is_block) {
                let raise = self.unexpected("S0201");
                self.report(raise)?;
            }
            is_block |= separates;
            self.skip(";", "")?;
            if self.token.is(";") {
                self.advance(false)?;
                if self.token.kind != TokenKind::End {
                    parts.push(self.expression(0)?);
                }
            }
        }
        let root = self.invalid(parts)?;
        self.nodes[root as usize].extent = Span { start: 0, end: self.token.span.end };
        Ok(root)
    }
}
