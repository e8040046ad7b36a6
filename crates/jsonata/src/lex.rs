//! The lexer sees UTF-16 units, since jsonata-js' positions count them. A slash is a division
//! where an operand has just ended and begins a regular expression elsewhere, so the parser says
//! which it is with every token that it asks for.

use crate::error::{Raise, Span};
use crate::wtf8;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// An operator or bracket, also `and`, `or`, `in`.
    Operator(&'static str),
    /// A character that no operator begins with stands alone (`!`, `~`).
    Unknown(&'static str),
    /// Text that is no token, reported already. Only where the parser recovers.
    Invalid,
    /// A field name, plain or in backquotes.
    Name(Box<[u8]>),
    /// `$name`; empty for `$`.
    Variable(Box<[u8]>),
    String(Box<[u8]>),
    Number(f64),
    True,
    False,
    Null,
    Regex {
        pattern: Box<[u16]>,
        ignore_case: bool,
        multi_line: bool,
    },
    End,
}

/// A token and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

impl Token {
    pub(crate) fn is(&self, operator: &str) -> bool {
        matches!(self.kind, TokenKind::Operator(o) if o == operator)
    }

    /// The token as an error shows it.
    pub(crate) fn text(&self) -> String {
        match &self.kind {
            TokenKind::Operator(o) | TokenKind::Unknown(o) => (*o).to_owned(),
            TokenKind::Name(n) | TokenKind::Variable(n) | TokenKind::String(n) => {
                wtf8::to_str(n).into_owned()
            }
            TokenKind::Number(n) => crate::number::to_string(*n),
            TokenKind::True => "true".to_owned(),
            TokenKind::False => "false".to_owned(),
            TokenKind::Null => "null".to_owned(),
            TokenKind::Regex { pattern, .. } => {
                format!("/{}/", wtf8::to_str(&wtf8::from_units(pattern)))
            }
            TokenKind::Invalid => String::new(),
            TokenKind::End => "(end)".to_owned(),
        }
    }
}

/// Operators of two characters, which are looked for first.
const PAIRS: [&str; 9] = ["..", ":=", "!=", ">=", "<=", "**", "~>", "?:", "??"];
/// Operators of one character; a name ends at each of them.
const SINGLES: [&str; 25] = [
    ".", "[", "]", "{", "}", "(", ")", ",", "@", "#", ";", ":", "?", "+", "-", "*", "/", "%", "|", "=", "<",
    ">", "^", "&", "!",
];

fn is_space(unit: u16) -> bool {
    matches!(unit, 0x20 | 0x09 | 0x0a | 0x0d | 0x0b)
}

fn single(unit: u16) -> Option<&'static str> {
    if unit == u16::from(b'~') {
        return Some("~");
    }
    SINGLES.into_iter().find(|s| u16::from(s.as_bytes()[0]) == unit)
}

pub(crate) struct Lexer<'s> {
    units: &'s [u16],
    at: usize,
    /// Where the last token that was asked for begins.
    token_start: usize,
}

type Result<T> = std::result::Result<T, Box<Raise>>;

impl<'s> Lexer<'s> {
    pub(crate) fn new(units: &'s [u16]) -> Self {
        Self { units, at: 0, token_start: 0 }
    }

    fn unit(&self, at: usize) -> u16 {
        self.units.get(at).copied().unwrap_or(0)
    }

    fn is(&self, at: usize, c: u8) -> bool {
        self.units.get(at) == Some(&u16::from(c))
    }

    fn fail(&self, code: &'static str, start: usize, end: usize) -> Box<Raise> {
        Raise::new(code).at(Span { start: start as u32, end: end as u32 })
    }

    fn token(&self, kind: TokenKind, start: usize) -> Token {
        Token { kind, span: Span { start: start as u32, end: self.at as u32 } }
    }

    /// The next token. `operand_ended` says that a slash is a division here.
    pub(crate) fn next(&mut self, operand_ended: bool) -> Result<Token> {
        self.skip()?;
        let start = self.at;
        self.token_start = start;
        if start >= self.units.len() {
            return Ok(self.token(TokenKind::End, start));
        }
        let unit = self.unit(start);
        if !operand_ended && unit == u16::from(b'/') {
            self.at += 1;
            let kind = self.regex()?;
            return Ok(self.token(kind, start));
        }
        for pair in PAIRS {
            let b = pair.as_bytes();
            if unit == u16::from(b[0]) && self.is(start + 1, b[1]) {
                self.at += 2;
                return Ok(self.token(TokenKind::Operator(pair), start));
            }
        }
        if let Some(operator) = single(unit) {
            self.at += 1;
            let kind = if operator == "!" || operator == "~" {
                TokenKind::Unknown(operator)
            } else {
                TokenKind::Operator(operator)
            };
            return Ok(self.token(kind, start));
        }
        if unit == u16::from(b'"') || unit == u16::from(b'\'') {
            let text = self.string(unit)?;
            return Ok(self.token(TokenKind::String(text), start));
        }
        if let Some(number) = self.number()? {
            return Ok(self.token(TokenKind::Number(number), start));
        }
        if unit == u16::from(b'`') {
            let from = start + 1;
            let Some(len) = self.units[from..].iter().position(|u| *u == u16::from(b'`')) else {
                return Err(self.fail("S0105", start, self.units.len()));
            };
            self.at = from + len + 1;
            let name = wtf8::from_units(&self.units[from..from + len]).into();
            return Ok(self.token(TokenKind::Name(name), start));
        }
        let len = self.units[start..]
            .iter()
            .position(|u| is_space(*u) || single(*u).is_some())
            .unwrap_or(self.units.len() - start);
        self.at = start + len;
        let word = wtf8::from_units(&self.units[start..self.at]);
        let kind = match word.as_slice() {
            [b'$', name @ ..] => TokenKind::Variable(name.into()),
            b"or" => TokenKind::Operator("or"),
            b"and" => TokenKind::Operator("and"),
            b"in" => TokenKind::Operator("in"),
            b"true" => TokenKind::True,
            b"false" => TokenKind::False,
            b"null" => TokenKind::Null,
            _ => TokenKind::Name(word.into()),
        };
        Ok(self.token(kind, start))
    }

    /// Moves back to just behind a token, to read on from there once more.
    pub(crate) fn rewind(&mut self, to: &Token) {
        self.at = to.span.end as usize;
    }

    /// Where the next token is looked for.
    pub(crate) fn position(&self) -> u32 {
        self.at as u32
    }

    /// Moves to the end: nothing more can be read.
    pub(crate) fn give_up(&mut self) {
        self.at = self.units.len();
    }

    /// After [`Lexer::next`] failed with this error: makes a token of what is there and goes on
    /// behind it. The second part says that text was swallowed which may have held brackets.
    pub(crate) fn resume(&mut self, error: &Raise) -> (Token, bool) {
        let start = self.token_start;
        let mut swallowed = false;
        match error.code {
            "S0102" => {
                let of_number = |u: &u16| {
                    u8::try_from(*u)
                        .is_ok_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-'))
                };
                self.at = start + self.units[start..].iter().take_while(|u| of_number(u)).count();
            }
            "S0103" | "S0104" => match self.closing_quote(start) {
                Some(end) => self.at = end,
                None => swallowed = self.end_of_unclosed(start),
            },
            "S0106" => {
                self.at = self.units.len();
                swallowed = true;
            }
            // Both slashes.
            "S0301" => self.at = start + 2,
            _ => swallowed = self.end_of_unclosed(start),
        }
        (self.token(TokenKind::Invalid, start), swallowed)
    }

    /// Just behind the quote that closes the string which begins at `start`.
    fn closing_quote(&self, start: usize) -> Option<usize> {
        let quote = self.unit(start);
        let mut at = start + 1;
        while at < self.units.len() {
            match self.unit(at) {
                unit if unit == quote => return Some(at + 1),
                unit if unit == u16::from(b'\\') => at += 2,
                _ => at += 1,
            }
        }
        None
    }

    /// Takes what has no closing quote or slash to reach to the end of its line, without the
    /// brackets and separators that end the line: those more likely were meant to follow it.
    /// Says whether it had to take more of the line than that.
    fn end_of_unclosed(&mut self, start: usize) -> bool {
        let rest = &self.units[start + 1..];
        let line = rest.iter().position(|u| *u == u16::from(b'\n')).unwrap_or(rest.len());
        let ending = rest[..line].iter().rev().take_while(|u| {
            is_space(**u) || u8::try_from(**u).is_ok_and(|b| matches!(b, b',' | b';' | b')' | b']' | b'}'))
        });
        let kept = ending.count();
        self.at = start + 1 + line - kept;
        rest[..line - kept].iter().any(|u| u8::try_from(*u).is_ok_and(|b| matches!(b, b')' | b']' | b'}')))
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<()> {
        loop {
            while self.at < self.units.len() && is_space(self.unit(self.at)) {
                self.at += 1;
            }
            if !(self.is(self.at, b'/') && self.is(self.at + 1, b'*')) {
                return Ok(());
            }
            let start = self.at;
            self.token_start = start;
            let mut at = start + 2;
            while !(self.is(at, b'*') && self.is(at + 1, b'/')) {
                at += 1;
                if at >= self.units.len() {
                    return Err(self.fail("S0106", start, start));
                }
            }
            self.at = at + 2;
        }
    }

    fn string(&mut self, quote: u16) -> Result<Box<[u8]>> {
        let start = self.at;
        self.at += 1;
        let mut text: Vec<u16> = Vec::new();
        while self.at < self.units.len() {
            let unit = self.unit(self.at);
            if unit == quote {
                self.at += 1;
                return Ok(wtf8::from_units(&text).into());
            }
            if unit != u16::from(b'\\') {
                text.push(unit);
                self.at += 1;
                continue;
            }
            self.at += 1;
            let escape = self.unit(self.at);
            match u8::try_from(escape).unwrap_or(0) {
                b @ (b'"' | b'\\' | b'/') => text.push(u16::from(b)),
                b'b' => text.push(8),
                b'f' => text.push(12),
                b'n' => text.push(10),
                b'r' => text.push(13),
                b't' => text.push(9),
                b'u' => {
                    let digits =
                        &self.units[(self.at + 1).min(self.units.len())..(self.at + 5).min(self.units.len())];
                    let mut value = 0u16;
                    for digit in digits {
                        let Some(d) = char::from_u32(u32::from(*digit)).and_then(|c| c.to_digit(16)) else {
                            return Err(self.fail("S0104", self.at - 1, self.at));
                        };
                        value = value << 4 | d as u16;
                    }
                    if digits.is_empty() {
                        return Err(self.fail("S0104", self.at - 1, self.at));
                    }
                    text.push(value);
                    self.at += 4;
                }
                _ => {
                    let token = match self.units.get(self.at) {
                        Some(unit) => wtf8::to_str(&wtf8::from_units(&[*unit])).into_owned(),
                        None => String::new(),
                    };
                    return Err(self.fail("S0103", self.at - 1, self.at).token(token));
                }
            }
            self.at += 1;
        }
        Err(self.fail("S0101", start, self.at))
    }

    /// A number: `0` or digits without a leading zero, a fraction, an exponent.
    fn number(&mut self) -> Result<Option<f64>> {
        let start = self.at;
        let digits = |mut at: usize| {
            while self.units.get(at).is_some_and(|u| (0x30..0x3a).contains(u)) {
                at += 1;
            }
            at
        };
        let mut end = if self.is(start, b'0') { start + 1 } else { digits(start) };
        if end == start {
            return Ok(None);
        }
        if self.is(end, b'.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if self.is(end, b'e') || self.is(end, b'E') {
            let from = if self.is(end + 1, b'+') || self.is(end + 1, b'-') { end + 2 } else { end + 1 };
            if digits(from) > from {
                end = digits(from);
            }
        }
        let text: String = self.units[start..end].iter().map(|u| *u as u8 as char).collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.at = end;
                Ok(Some(number))
            }
            _ => Err(Raise::new("S0102").at(Span { start: start as u32, end: start as u32 }).token(text)),
        }
    }

    /// The pattern and flags after the opening slash. A slash inside brackets does not close.
    fn regex(&mut self) -> Result<TokenKind> {
        let start = self.at;
        let mut depth = 0i64;
        while self.at < self.units.len() {
            let unit = self.unit(self.at);
            if unit == u16::from(b'/') && depth == 0 {
                let backslashes =
                    self.units[..self.at].iter().rev().take_while(|u| **u == u16::from(b'\\')).count();
                if backslashes % 2 == 0 {
                    return self.regex_flags(start);
                }
            }
            let escaped = self.at > 0 && self.is(self.at - 1, b'\\');
            match u8::try_from(unit).unwrap_or(0) {
                b'(' | b'[' | b'{' if !escaped => depth += 1,
                b')' | b']' | b'}' if !escaped => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Err(self.fail("S0302", start - 1, self.at))
    }

    fn regex_flags(&mut self, start: usize) -> Result<TokenKind> {
        let end = self.at;
        if end == start {
            return Err(self.fail("S0301", start - 1, end));
        }
        self.at += 1;
        let (mut ignore_case, mut multi_line) = (false, false);
        loop {
            if self.is(self.at, b'i') {
                ignore_case = true;
            } else if self.is(self.at, b'm') {
                multi_line = true;
            } else {
                break;
            }
            self.at += 1;
        }
        Ok(TokenKind::Regex { pattern: self.units[start..end].into(), ignore_case, multi_line })
    }
}
