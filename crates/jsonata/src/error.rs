//! Errors carry the code that jsonata-js publishes, a position in the expression, the token and
//! the value that are at fault. `Display` is one line that a person can act on; [`CompileError`]
//! and [`EvalError`] also render the source line with a caret. Values in errors are cut short:
//! a message never grows with the data.

use std::fmt::{self, Write};

use crate::budget::Limit;
use crate::messages;

/// Characters of a value that a message shows.
const VALUE_CHARS_MAX: usize = 120;
/// Characters of a source line that the renderer shows around the caret.
const LINE_CHARS_MAX: usize = 160;

/// A place in the source of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// UTF-16 units from the start of the source to just behind the token, as jsonata-js
    /// reports it.
    pub offset: usize,
    /// Line of the token's first character, from 1.
    pub line: u32,
    /// Column of the token's first character in its line, in characters, from 1.
    pub column: u32,
}

/// A place as the parser and the evaluator carry it: two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// UTF-16 offset of the token's first unit.
    pub(crate) start: u32,
    /// UTF-16 offset behind the token: jsonata-js' `position`.
    pub(crate) end: u32,
}

impl Span {
    pub(crate) const NONE: Span = Span { start: u32::MAX, end: u32::MAX };

    pub(crate) fn is_none(self) -> bool {
        self.end == u32::MAX
    }

    /// Finds line and column in `source`; an unknown place is the start.
    pub(crate) fn locate(self, source: &str) -> Position {
        if self.is_none() {
            return Position { offset: 0, line: 1, column: 1 };
        }
        let (mut line, mut column, mut units) = (1, 1, 0u32);
        for c in source.chars() {
            if units >= self.start {
                break;
            }
            units += c.len_utf16() as u32;
            if c == '\n' {
                line += 1;
                column = 1;
            } else {
                column += 1;
            }
        }
        Position { offset: self.end as usize, line, column }
    }
}

/// An error in the text of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) position: Position,
    pub(crate) token: Option<String>,
    pub(crate) value: Option<String>,
}

impl CompileError {
    /// The published code, such as `S0201`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, as a lowercase fragment.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The token at fault, where there is one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What was expected, or the value at fault.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The message, the source line and a caret under the place.
    pub fn render(&self, source: &str) -> String {
        caret(&self.to_string(), source, self.position)
    }

    pub(crate) fn of(raise: &Raise, source: &str) -> Self {
        Self {
            code: raise.code,
            message: messages::message(raise),
            position: raise.span.locate(source),
            token: raise.token.clone(),
            value: raise.value.clone(),
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(f, self.code, self.position, self.token.as_deref(), &self.message)
    }
}

impl std::error::Error for CompileError {}

/// Why an evaluation gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalError(Box<ErrorKind>);

/// The kinds of [`EvalError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is not JSON.
    InvalidJson(InvalidJson),
    /// The expression failed on this input.
    Expression(ExpressionError),
    /// The evaluation would have used more than its budget.
    OverBudget(OverBudget),
}

/// The place at which the input stops being JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidJson {
    /// What is wrong there, as a lowercase fragment.
    pub message: &'static str,
    /// Bytes from the start of the input.
    pub offset: usize,
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

/// An error that jsonata-js publishes a code for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// The published code, such as `T2001`.
    pub code: &'static str,
    /// What is wrong, as a lowercase fragment.
    pub message: String,
    /// The position that jsonata-js reports: of an error inside a function's body, the place of
    /// the outermost call that is still running.
    pub position: Position,
    /// The innermost place: where a person would look.
    pub origin: Position,
    /// The operator or function at fault.
    pub token: Option<String>,
    /// The value at fault as JSON, cut short.
    pub value: Option<String>,
}

impl ExpressionError {
    /// The message, the source line and a caret under the innermost place.
    pub fn render(&self, source: &str) -> String {
        caret(&self.to_string(), source, self.origin)
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(f, self.code, self.origin, self.token.as_deref(), &self.message)
    }
}

/// Which limit was reached, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverBudget {
    /// The limit.
    pub limit: Limit,
    /// How much the budget allows: steps, levels, bytes or milliseconds.
    pub allowed: u64,
}

impl EvalError {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }

    /// What kind of error this is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// The code: a published one, one of [`Limit::code`], or `invalid_json`.
    pub fn code(&self) -> &'static str {
        match &*self.0 {
            ErrorKind::InvalidJson(_) => "invalid_json",
            ErrorKind::Expression(e) => e.code,
            ErrorKind::OverBudget(o) => o.limit.code(),
        }
    }

    /// Whether the same program gives the same error on the same input everywhere and always:
    /// everything but wall time.
    pub fn is_deterministic(&self) -> bool {
        match &*self.0 {
            ErrorKind::OverBudget(o) => o.limit.is_deterministic(),
            ErrorKind::InvalidJson(_) | ErrorKind::Expression(_) => true,
        }
    }

    /// The message; for an error of the expression also its source line with a caret.
    pub fn render(&self, source: &str) -> String {
        match &*self.0 {
            ErrorKind::Expression(e) => e.render(source),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            ErrorKind::InvalidJson(e) => {
                write!(f, "invalid JSON at line {}, column {}: {}", e.line, e.column, e.message)
            }
            ErrorKind::Expression(e) => e.fmt(f),
            ErrorKind::OverBudget(o) => {
                let unit = match o.limit {
                    Limit::Steps => "evaluation steps",
                    Limit::Depth => "nested evaluations (an endless or very deep recursion?)",
                    Limit::Bytes => "bytes of intermediate values",
                    Limit::OutputBytes => "bytes of output",
                    Limit::RegexSteps => "steps of regular expressions",
                    Limit::WallTime => "milliseconds",
                };
                write!(
                    f,
                    "{}: the budget `{}` of {} {unit} is used up",
                    o.limit.code(),
                    o.limit.name(),
                    o.allowed
                )
            }
        }
    }
}

impl std::error::Error for EvalError {}

fn one_line(
    f: &mut fmt::Formatter<'_>,
    code: &str,
    position: Position,
    token: Option<&str>,
    message: &str,
) -> fmt::Result {
    write!(f, "{code} at line {}, column {}", position.line, position.column)?;
    if let Some(token) = token.filter(|t| !t.is_empty()) {
        write!(f, " near {}", quote(token))?;
    }
    f.write_str(": ")?;
    // The text of `$error` can have lines.
    message.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
}

/// The message, and the source line with a caret under a place. A long line is cut to what is
/// around it.
fn caret(message: &str, source: &str, position: Position) -> String {
    let line = source.lines().nth(position.line.saturating_sub(1) as usize).unwrap_or("");
    let column = position.column.saturating_sub(1) as usize;
    let from = column.saturating_sub(LINE_CHARS_MAX / 2);
    let mut shown = String::new();
    let mut indent = 0;
    if from > 0 {
        shown.push('…');
        indent += 1;
    }
    let mut rest = line.chars().skip(from);
    for (n, c) in rest.by_ref().take(LINE_CHARS_MAX).enumerate() {
        // A tab is as wide as where it stands makes it; a space is always one.
        let c = if c.is_control() { ' ' } else { c };
        shown.push(c);
        if from + n < column {
            indent += width(c);
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(indent);
    format!("{message}\n{margin} |\n{number} | {shown}\n{margin} | {indent}^")
}

/// Columns that a terminal gives a character: none to combining ones, two to those of East Asian
/// scripts and to emoji. The blocks of Unicode that have such characters, roughly.
fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Quotes a token for a message, cut short, without control characters.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

pub(crate) fn shorten(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == VALUE_CHARS_MAX {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// An error on its way up: small parts, made into a public error at the top.
#[derive(Debug, Clone)]
pub(crate) struct Raise {
    pub(crate) code: &'static str,
    /// jsonata-js' position, rewritten on the way up as it does.
    pub(crate) span: Span,
    /// The first position that was known.
    pub(crate) origin: Span,
    pub(crate) token: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) value2: Option<String>,
    pub(crate) index: Option<usize>,
    /// The text of `$error`, `$assert`, and of errors inside `$eval`.
    pub(crate) text: Option<String>,
}

impl Raise {
    pub(crate) fn new(code: &'static str) -> Box<Self> {
        Box::new(Self {
            code,
            span: Span::NONE,
            origin: Span::NONE,
            token: None,
            value: None,
            value2: None,
            index: None,
            text: None,
        })
    }

    pub(crate) fn at(mut self: Box<Self>, span: Span) -> Box<Self> {
        self.span = span;
        if self.origin.is_none() {
            self.origin = span;
        }
        self
    }

    pub(crate) fn token(mut self: Box<Self>, token: impl Into<String>) -> Box<Self> {
        self.token = Some(token.into());
        self
    }

    pub(crate) fn value(mut self: Box<Self>, value: impl Into<String>) -> Box<Self> {
        self.value = Some(value.into());
        self
    }

    pub(crate) fn value2(mut self: Box<Self>, value: impl Into<String>) -> Box<Self> {
        self.value2 = Some(value.into());
        self
    }

    pub(crate) fn index(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.index = Some(index);
        self
    }

    pub(crate) fn text(mut self: Box<Self>, text: impl Into<String>) -> Box<Self> {
        self.text = Some(text.into());
        self
    }
}
