//! What an editor is told of a source, whatever it is: a tree of its parts with their places, and
//! all of its syntax errors. Invariants: any text has a tree; its first error is that of
//! [`Program::compile`](crate::Program::compile), and it has none exactly if that accepts it. Time
//! and memory are linear in the text, and a tree of any depth is dropped without recursion.

use std::fmt;
use std::ops::Range;

use crate::ast::{RawId, RawKind};
use crate::compile;
use crate::error::{CompileError, Position, Raise, Span};
use crate::parse::{self, Parsed};

/// What a part of a source is. In parentheses: its children, in the order of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyntaxKind {
    /// A field name, plain or in backquotes.
    Name,
    /// `$name`, `$` or `$$`.
    Variable,
    /// A string literal.
    String,
    /// A number literal.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`.
    Null,
    /// A regular expression.
    Regex,
    /// `*` as an operand.
    Wildcard,
    /// `**`.
    Descendants,
    /// `%` as an operand.
    Parent,
    /// `?` as an argument.
    Placeholder,
    /// `a.b` (left, right).
    Path,
    /// `a[b]` (what is filtered, predicate). An empty `[]` is part of what it stands behind.
    Filter,
    /// `a{b: c}` (what is grouped, pairs).
    Group,
    /// `a^(b, >c)` (what is sorted, terms).
    Sort,
    /// `$a := b` (variable, value).
    Bind,
    /// `a@$b` (step, variable).
    Focus,
    /// `a#$b` (step, variable).
    Index,
    /// `a ~> b` (left, right).
    Chain,
    /// An operator between two values, also `..` (left, right).
    Binary,
    /// `-a` (operand).
    Negate,
    /// `[a, b]` (elements).
    Array,
    /// `{a: b}` (pairs).
    Object,
    /// `a: b` within an object or a group (key, value).
    Pair,
    /// `a(b, c)` (function, arguments).
    Call,
    /// `a(b, ?)` (function, arguments and placeholders).
    PartialCall,
    /// `function($a){b}` (parameters, body).
    Lambda,
    /// `a ? b : c` (condition, then, else if there is one).
    Condition,
    /// `a ?: b` (left, right).
    Elvis,
    /// `a ?? b` (left, right).
    Coalesce,
    /// `|a|b, c|` (pattern, update, deletions if there are any).
    Transform,
    /// `(a; b)` (expressions).
    Block,
    /// Text with a syntax error, empty where something is missing (what could be read of it).
    Error,
}

/// A stretch of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Its first character: [`Position::offset`] counts the UTF-16 units in front of it.
    pub start: Position,
    /// Just behind its last character, likewise.
    pub end: Position,
    /// The same in bytes of the source.
    pub bytes: Range<usize>,
}

#[derive(Debug)]
struct Part {
    kind: SyntaxKind,
    extent: Extent,
    /// A range of [`Syntax::children`].
    children: Range<usize>,
}

/// The tree and the syntax errors of a source.
#[derive(Debug)]
pub struct Syntax {
    source: Box<str>,
    parts: Vec<Part>,
    children: Vec<u32>,
    root: u32,
    errors: Vec<CompileError>,
    has_more_errors: bool,
}

/// A part of a source: a node of a [`Syntax`].
#[derive(Clone, Copy)]
pub struct SyntaxNode<'s> {
    syntax: &'s Syntax,
    id: u32,
}

impl fmt::Debug for SyntaxNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.kind(), self.extent().bytes)
    }
}

impl Syntax {
    /// Reads a source, recovering from its errors. Behind one the parser goes on at the next
    /// separator or bracket that belongs to what it is in.
    pub fn parse(source: &str) -> Self {
        let units: Vec<u16> = if source.len() > compile::SOURCE_BYTES_MAX {
            Vec::new()
        } else {
            source.encode_utf16().collect()
        };
        if units.is_empty() && !source.is_empty() {
            return Self::unreadable(source, &Raise::new("S0902").at(Span { start: 0, end: 0 }));
        }
        let (parsed, faults) = match parse::parse_recovering(&units) {
            Ok(read) => read,
            Err(raise) => return Self::unreadable(source, &raise),
        };
        drop(units);
        let (parts, children) = tree(source, &parsed);
        let root = parsed.root;
        let (raised, has_more_errors) = match compile::check(parsed, faults) {
            Ok(faults) => faults.finish(),
            Err(raise) => (vec![*raise], false),
        };
        let errors = raised.iter().map(|raise| CompileError::of(raise, source)).collect();
        Self { source: source.into(), parts, children, root, errors, has_more_errors }
    }

    fn unreadable(source: &str, raise: &Raise) -> Self {
        let nowhere = Position { offset: 0, line: 1, column: 1 };
        let extent = Extent { start: nowhere, end: nowhere, bytes: 0..0 };
        Self {
            source: source.into(),
            parts: vec![Part { kind: SyntaxKind::Error, extent, children: 0..0 }],
            children: Vec::new(),
            root: 0,
            errors: vec![CompileError::of(raise, source)],
            has_more_errors: false,
        }
    }

    /// The source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All syntax errors, at most [`SYNTAX_ERRORS_MAX`](crate::SYNTAX_ERRORS_MAX). First those of
    /// the text from its start to its end, then those of what it would mean; no two at one place.
    pub fn errors(&self) -> &[CompileError] {
        &self.errors
    }

    /// Whether there are more errors than [`Syntax::errors`] lists.
    pub fn has_more_errors(&self) -> bool {
        self.has_more_errors
    }

    /// The whole expression.
    pub fn root(&self) -> SyntaxNode<'_> {
        SyntaxNode { syntax: self, id: self.root }
    }
}

impl<'s> SyntaxNode<'s> {
    fn part(self) -> &'s Part {
        &self.syntax.parts[self.id as usize]
    }

    /// What it is.
    pub fn kind(self) -> SyntaxKind {
        self.part().kind
    }

    /// Where it is, with the brackets that belong to it.
    pub fn extent(self) -> &'s Extent {
        &self.part().extent
    }

    /// Its text.
    pub fn text(self) -> &'s str {
        self.syntax.source.get(self.part().extent.bytes.clone()).unwrap_or("")
    }

    /// Its parts, in the order of the source.
    pub fn children(self) -> impl ExactSizeIterator<Item = SyntaxNode<'s>> + DoubleEndedIterator {
        let syntax = self.syntax;
        syntax.children[self.part().children.clone()].iter().map(move |id| SyntaxNode { syntax, id: *id })
    }
}

fn kind_of(kind: &RawKind) -> SyntaxKind {
    match kind {
        RawKind::Name(_) | RawKind::Word(_) => SyntaxKind::Name,
        RawKind::Variable(_) => SyntaxKind::Variable,
        RawKind::String(_) => SyntaxKind::String,
        RawKind::Number(_) => SyntaxKind::Number,
        RawKind::Bool(_) => SyntaxKind::Boolean,
        RawKind::Null => SyntaxKind::Null,
        RawKind::Regex { .. } => SyntaxKind::Regex,
        RawKind::Placeholder => SyntaxKind::Placeholder,
        RawKind::Wildcard => SyntaxKind::Wildcard,
        RawKind::Descendant => SyntaxKind::Descendants,
        RawKind::Parent => SyntaxKind::Parent,
        RawKind::End | RawKind::Invalid(_) => SyntaxKind::Error,
        RawKind::Binary { .. } => SyntaxKind::Binary,
        RawKind::Map { .. } => SyntaxKind::Path,
        RawKind::Filter { .. } => SyntaxKind::Filter,
        RawKind::Group { .. } => SyntaxKind::Group,
        RawKind::Sort { .. } => SyntaxKind::Sort,
        RawKind::Bind { .. } => SyntaxKind::Bind,
        RawKind::Focus { .. } => SyntaxKind::Focus,
        RawKind::Index { .. } => SyntaxKind::Index,
        RawKind::Apply { .. } => SyntaxKind::Chain,
        RawKind::Negate(_) => SyntaxKind::Negate,
        RawKind::Array(_) => SyntaxKind::Array,
        RawKind::Object(_) => SyntaxKind::Object,
        RawKind::Call { partial: false, .. } => SyntaxKind::Call,
        RawKind::Call { partial: true, .. } => SyntaxKind::PartialCall,
        RawKind::Lambda { .. } => SyntaxKind::Lambda,
        RawKind::Condition { .. } => SyntaxKind::Condition,
        RawKind::Default { coalesce: false, .. } => SyntaxKind::Elvis,
        RawKind::Default { coalesce: true, .. } => SyntaxKind::Coalesce,
        RawKind::Transform { .. } => SyntaxKind::Transform,
        RawKind::Block(_) => SyntaxKind::Block,
    }
}

/// A node before its places are known in lines and bytes.
struct Sketch {
    kind: SyntaxKind,
    extent: Span,
    children: Range<usize>,
}

/// Makes the public tree: parts with the same numbers as the parsed nodes, behind them the pairs.
fn tree(source: &str, parsed: &Parsed) -> (Vec<Part>, Vec<u32>) {
    let mut children: Vec<u32> = Vec::new();
    let mut pairs: Vec<Sketch> = Vec::new();
    // Empty nodes for what is missing may lie behind the last token of what they are missing in.
    let around = |extent: Span, ids: &mut dyn Iterator<Item = Span>| {
        ids.fold(extent, |a, b| Span { start: a.start.min(b.start), end: a.end.max(b.end) })
    };
    let mut sketches: Vec<Sketch> = Vec::with_capacity(parsed.nodes.len());
    for node in &parsed.nodes {
        let mut own: Vec<u32> = Vec::new();
        let mut add_pairs = |own: &mut Vec<u32>, list: &[(RawId, RawId)]| {
            for (key, value) in list {
                own.push((parsed.nodes.len() + pairs.len()) as u32);
                let extent = around(
                    sketches[*key as usize].extent,
                    &mut [sketches[*value as usize].extent].into_iter(),
                );
                let start = children.len();
                children.extend([*key, *value]);
                pairs.push(Sketch { kind: SyntaxKind::Pair, extent, children: start..start + 2 });
            }
        };
        match &node.kind {
            RawKind::Binary { lhs, rhs, .. }
            | RawKind::Map { lhs, rhs }
            | RawKind::Filter { lhs, rhs }
            | RawKind::Apply { lhs, rhs }
            | RawKind::Default { lhs, rhs, .. }
            | RawKind::Bind { variable: lhs, rhs }
            | RawKind::Focus { lhs, variable: rhs }
            | RawKind::Index { lhs, variable: rhs } => own.extend([*lhs, *rhs]),
            RawKind::Group { lhs, pairs } => {
                own.push(*lhs);
                add_pairs(&mut own, pairs);
            }
            RawKind::Object(pairs) => add_pairs(&mut own, pairs),
            RawKind::Sort { lhs, terms } => {
                own.push(*lhs);
                own.extend(terms.iter().map(|(_, term)| *term));
            }
            RawKind::Negate(operand) => own.push(*operand),
            RawKind::Array(items) | RawKind::Block(items) | RawKind::Invalid(items) => own.extend(items),
            RawKind::Call { procedure, arguments, .. } => {
                own.push(*procedure);
                own.extend(arguments);
            }
            RawKind::Lambda { parameters, body, .. } => {
                own.extend(parameters);
                own.push(*body);
            }
            RawKind::Condition { condition, then, otherwise } => {
                own.extend([*condition, *then]);
                own.extend(otherwise);
            }
            RawKind::Transform { pattern, update, delete } => {
                own.extend([*pattern, *update]);
                own.extend(delete);
            }
            RawKind::Name(_)
            | RawKind::Word(_)
            | RawKind::Variable(_)
            | RawKind::String(_)
            | RawKind::Number(_)
            | RawKind::Bool(_)
            | RawKind::Null
            | RawKind::Regex { .. }
            | RawKind::Placeholder
            | RawKind::Wildcard
            | RawKind::Descendant
            | RawKind::Parent
            | RawKind::End => {}
        }
        // Children are made before what they are in.
        let extent = around(
            node.extent,
            &mut own.iter().map(|id| match pairs.get((*id as usize).wrapping_sub(parsed.nodes.len())) {
                Some(pair) => pair.extent,
                None => sketches[*id as usize].extent,
            }),
        );
        let start = children.len();
        children.extend(own);
        sketches.push(Sketch { kind: kind_of(&node.kind), extent, children: start..children.len() });
    }
    sketches.append(&mut pairs);
    let places = Places::of(source, sketches.iter().flat_map(|s| [s.extent.start, s.extent.end]));
    let parts = sketches
        .into_iter()
        .map(|s| Part { kind: s.kind, extent: places.extent(s.extent), children: s.children })
        .collect();
    (parts, children)
}

/// UTF-16 offsets with what they are in lines and bytes, found in one pass over the source.
struct Places(Vec<(u32, Position, usize)>);

impl Places {
    fn of(source: &str, offsets: impl Iterator<Item = u32>) -> Self {
        let mut wanted: Vec<u32> = offsets.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut known = Vec::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        let (mut units, mut line, mut column) = (0u32, 1u32, 1u32);
        for (byte, c) in source.char_indices() {
            while let Some(offset) = wanted.next_if(|o| *o <= units) {
                known.push((offset, Position { offset: offset as usize, line, column }, byte));
            }
            units += c.len_utf16() as u32;
            column += 1;
            if c == '\n' {
                line += 1;
                column = 1;
            }
        }
        for offset in wanted {
            known.push((offset, Position { offset: units as usize, line, column }, source.len()));
        }
        Self(known)
    }

    fn at(&self, offset: u32) -> (Position, usize) {
        let index = self.0.partition_point(|(known, ..)| *known < offset);
        self.0.get(index).map_or((Position::default(), 0), |(_, position, byte)| (*position, *byte))
    }

    fn extent(&self, span: Span) -> Extent {
        let ((start, from), (end, to)) = (self.at(span.start), self.at(span.end.max(span.start)));
        Extent { start, end, bytes: from..to }
    }
}
