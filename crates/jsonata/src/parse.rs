//! A top-down operator precedence parser with the binding powers of jsonata-js, so that the two
//! read every text the same way and report the same positions. It checks nesting as it builds:
//! no text makes it, or what works on its tree, recurse without bound.

use crate::ast::{HEIGHT_MAX, Op, Raw, RawId, RawKind};
use crate::error::{Raise, Span};
use crate::lex::{Lexer, Token, TokenKind};
use crate::signature::Signature;
use crate::stack;
use crate::wtf8;

mod recover;

use crate::faults::Faults;
use recover::Recovery;

type Result<T> = std::result::Result<T, Box<Raise>>;

/// A parsed text.
pub(crate) struct Parsed {
    pub(crate) nodes: Vec<Raw>,
    pub(crate) root: RawId,
}

/// Parses a whole text; the first error ends it.
pub(crate) fn parse(units: &[u16]) -> Result<Parsed> {
    let mut parser = Parser::new(units, None);
    let root = parser.whole()?;
    Ok(Parsed { nodes: parser.nodes, root })
}

/// Parses a whole text whatever it is, and lists its errors. The first is that of [`parse`].
pub(crate) fn parse_recovering(units: &[u16]) -> Result<(Parsed, Faults)> {
    let mut parser = Parser::new(units, Some(Recovery::default()));
    let root = parser.whole()?;
    let faults = parser.recovery.map(|r| r.faults).unwrap_or_default();
    Ok((Parsed { nodes: parser.nodes, root }, faults))
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    token: Token,
    nodes: Vec<Raw>,
    depth: u32,
    /// Where the token that was read last ends.
    last_end: u32,
    recovery: Option<Recovery>,
}

/// How strongly an operator binds what stands left of it; 0 does not continue an expression.
fn binding_power(token: &Token) -> u32 {
    let op = match token.kind {
        TokenKind::Operator(op) => op,
        // Most likely meant as a comparison. A strict parse never comes here.
        TokenKind::Unknown(_) => return 40,
        _ => return 0,
    };
    match op {
        "(" | "[" | "@" | "#" => 80,
        "." => 75,
        "{" => 70,
        "*" | "/" | "%" => 60,
        "+" | "-" | "&" => 50,
        "=" | "!=" | "<" | "<=" | ">" | ">=" | "^" | "in" | "~>" | "?:" | "??" => 40,
        "and" => 30,
        "or" => 25,
        "?" => 20,
        ":=" => 10,
        _ => 0,
    }
}

impl<'s> Parser<'s> {
    fn new(units: &'s [u16], recovery: Option<Recovery>) -> Self {
        Self {
            lexer: Lexer::new(units),
            token: Token { kind: TokenKind::End, span: Span { start: 0, end: 0 } },
            nodes: Vec::new(),
            depth: 0,
            last_end: 0,
            recovery,
        }
    }

    fn whole(&mut self) -> Result<RawId> {
        self.advance(false)?;
        let root = self.expression(0)?;
        if self.token.kind == TokenKind::End {
            return Ok(root);
        }
        if self.recovers() { self.rest(root) } else { Err(self.unexpected("S0201")) }
    }
}

impl Parser<'_> {
    fn unexpected(&self, code: &'static str) -> Box<Raise> {
        Raise::new(code).at(self.token.span).token(self.token.text())
    }

    /// Moves to the next token and returns the one before.
    fn advance(&mut self, operand_ended: bool) -> Result<Token> {
        let mut next = match self.lexer.next(operand_ended) {
            Ok(token) => token,
            Err(raise) => self.resume(raise)?,
        };
        if let TokenKind::Unknown(text) = next.kind {
            self.report(Raise::new("S0204").at(next.span).token(text))?;
        }
        if self.abandoned() {
            let end = self.lexer.position();
            next = Token { kind: TokenKind::End, span: Span { start: end, end } };
        }
        if self.token.kind != TokenKind::End {
            self.last_end = self.token.span.end;
        }
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Moves behind this operator; says whether it is there.
    fn expect(&mut self, operator: &'static str, operand_ended: bool) -> Result<bool> {
        if !self.token.is(operator) {
            self.missing(operator)?;
            return Ok(false);
        }
        self.advance(operand_ended)?;
        Ok(true)
    }

    fn add(&mut self, mut kind: RawKind, span: Span, children: u32) -> Result<RawId> {
        let mut height = children + 1;
        if height > HEIGHT_MAX {
            self.report_last(Raise::new("S0901").at(span))?;
            kind = RawKind::Invalid(Vec::new());
            height = 1;
        }
        self.nodes.push(Raw { kind, span, keep_array: false, height, extent: span });
        Ok(self.nodes.len() as RawId - 1)
    }

    /// Notes that a node reaches from here to the last token that was read.
    fn reach(&mut self, id: RawId, start: u32) {
        self.nodes[id as usize].extent = Span { start, end: self.last_end.max(start) };
    }

    fn height(&self, ids: &[RawId]) -> u32 {
        ids.iter().map(|id| self.nodes[*id as usize].height).max().unwrap_or(0)
    }

    fn height_of_pairs(&self, pairs: &[(RawId, RawId)]) -> u32 {
        pairs.iter().map(|(a, b)| self.height(&[*a, *b])).max().unwrap_or(0)
    }

    fn expression(&mut self, power: u32) -> Result<RawId> {
        if self.depth >= HEIGHT_MAX {
            self.report_last(Raise::new("S0901").at(self.token.span))?;
            return self.invalid(Vec::new());
        }
        self.depth += 1;
        let result = stack::grow(|| {
            let token = self.advance(true)?;
            let start = token.span.start;
            let mut left = self.prefix(token)?;
            self.reach(left, start);
            while power < binding_power(&self.token) {
                let token = self.advance(false)?;
                left = self.infix(left, token)?;
                self.reach(left, start);
            }
            Ok(left)
        });
        self.depth -= 1;
        result
    }

    /// What a token means where an operand begins.
    fn prefix(&mut self, token: Token) -> Result<RawId> {
        let span = token.span;
        let kind = match token.kind {
            TokenKind::Name(name) => RawKind::Name(name),
            TokenKind::Variable(name) => RawKind::Variable(name),
            TokenKind::String(text) => RawKind::String(text),
            TokenKind::Number(number) => RawKind::Number(number),
            TokenKind::True => RawKind::Bool(true),
            TokenKind::False => RawKind::Bool(false),
            TokenKind::Null => RawKind::Null,
            TokenKind::Regex { pattern, ignore_case, multi_line } => {
                RawKind::Regex { pattern, ignore_case, multi_line }
            }
            TokenKind::End => RawKind::End,
            TokenKind::Operator(op) => match op {
                "and" | "or" | "in" => RawKind::Word(op),
                "*" => RawKind::Wildcard,
                "**" => RawKind::Descendant,
                "%" => RawKind::Parent,
                "-" => {
                    let operand = self.expression(70)?;
                    let height = self.height(&[operand]);
                    return self.add(RawKind::Negate(operand), span, height);
                }
                "(" => return self.block(span),
                "[" => return self.array(span),
                "{" => {
                    let pairs = self.pairs()?;
                    let height = self.height_of_pairs(&pairs);
                    return self.add(RawKind::Object(pairs), span, height);
                }
                "|" => return self.transform(span),
                _ => return self.misplaced(Token { kind: TokenKind::Operator(op), span }, op),
            },
            TokenKind::Unknown(op) => {
                return self.misplaced(Token { kind: TokenKind::Unknown(op), span }, op);
            }
            TokenKind::Invalid => RawKind::Invalid(Vec::new()),
        };
        self.add(kind, span, 0)
    }

    /// What an operator means behind an operand.
    fn infix(&mut self, left: RawId, token: Token) -> Result<RawId> {
        let span = token.span;
        let power = binding_power(&token);
        let TokenKind::Operator(op) = token.kind else { return self.unknown(left, power) };
        match op {
            "." => {
                let rhs = self.expression(power)?;
                self.two(RawKind::Map { lhs: left, rhs }, span, left, rhs)
            }
            "~>" => {
                let rhs = self.expression(power)?;
                self.two(RawKind::Apply { lhs: left, rhs }, span, left, rhs)
            }
            "?:" | "??" => {
                let rhs = self.expression(0)?;
                self.two(RawKind::Default { lhs: left, rhs, coalesce: op == "??" }, span, left, rhs)
            }
            ":=" => {
                if !matches!(self.nodes[left as usize].kind, RawKind::Variable(_)) {
                    let at = self.nodes[left as usize].span;
                    let token = self.text_of(left);
                    if !self.is_invalid(left) {
                        self.report(Raise::new("S0212").at(at).token(token))?;
                    }
                }
                let rhs = self.expression(power - 1)?;
                self.two(RawKind::Bind { variable: left, rhs }, span, left, rhs)
            }
            "@" | "#" => {
                let variable = self.expression(power)?;
                if !matches!(self.nodes[variable as usize].kind, RawKind::Variable(_)) {
                    let at = self.nodes[variable as usize].span;
                    if !self.is_invalid(variable) {
                        self.report(Raise::new("S0214").at(at).token(op))?;
                    }
                }
                let kind = if op == "@" {
                    RawKind::Focus { lhs: left, variable }
                } else {
                    RawKind::Index { lhs: left, variable }
                };
                self.two(kind, span, left, variable)
            }
            "?" => {
                let then = self.expression(0)?;
                let mut otherwise = None;
                let mut height = self.height(&[left, then]);
                if self.token.is(":") {
                    self.advance(false)?;
                    let id = self.expression(0)?;
                    height = height.max(self.height(&[id]));
                    otherwise = Some(id);
                }
                self.add(RawKind::Condition { condition: left, then, otherwise }, span, height)
            }
            "(" => self.call(left, span),
            "[" => self.filter(left, span),
            "{" => {
                let pairs = self.pairs()?;
                let height = self.height_of_pairs(&pairs).max(self.height(&[left]));
                self.add(RawKind::Group { lhs: left, pairs }, span, height)
            }
            "^" => self.sort(left, span),
            _ => {
                let Some(op) = Op::from_text(op) else { return self.unknown(left, power) };
                let rhs = self.expression(power)?;
                self.two(RawKind::Binary { op, lhs: left, rhs }, span, left, rhs)
            }
        }
    }

    fn two(&mut self, kind: RawKind, span: Span, a: RawId, b: RawId) -> Result<RawId> {
        let height = self.height(&[a, b]);
        self.add(kind, span, height)
    }

    fn block(&mut self, span: Span) -> Result<RawId> {
        self.opened(")");
        let mut expressions = Vec::new();
        while !self.token.is(")") {
            expressions.push(self.expression(0)?);
            if !self.more(";", ")")? {
                break;
            }
        }
        self.close(")", true)?;
        let height = self.height(&expressions);
        self.add(RawKind::Block(expressions), span, height)
    }

    fn array(&mut self, span: Span) -> Result<RawId> {
        self.opened("]");
        let mut items = Vec::new();
        if !self.token.is("]") {
            loop {
                let mut item = self.expression(0)?;
                if self.token.is("..") {
                    let range = self.advance(false)?.span;
                    let rhs = self.expression(0)?;
                    let start = self.nodes[item as usize].extent.start;
                    item = self.two(RawKind::Binary { op: Op::Range, lhs: item, rhs }, range, item, rhs)?;
                    self.reach(item, start);
                }
                items.push(item);
                if !self.more(",", "]")? {
                    break;
                }
            }
        }
        self.close("]", true)?;
        let height = self.height(&items);
        self.add(RawKind::Array(items), span, height)
    }

    fn pairs(&mut self) -> Result<Vec<(RawId, RawId)>> {
        self.opened("}");
        let mut pairs = Vec::new();
        if !self.token.is("}") {
            loop {
                let key = self.expression(0)?;
                let colon = self.expect(":", false)?;
                pairs.push((key, self.operand_if(colon)?));
                if !self.more(",", "}")? {
                    break;
                }
            }
        }
        self.close("}", true)?;
        Ok(pairs)
    }

    fn filter(&mut self, left: RawId, span: Span) -> Result<RawId> {
        if self.token.is("]") {
            // An empty predicate keeps a single result an array; the mark belongs to the step
            // that the predicates hang on.
            let mut step = left;
            while let RawKind::Filter { lhs, .. } = self.nodes[step as usize].kind {
                step = lhs;
            }
            self.nodes[step as usize].keep_array = true;
            self.advance(false)?;
            return Ok(left);
        }
        self.opened("]");
        let rhs = self.expression(0)?;
        let id = self.two(RawKind::Filter { lhs: left, rhs }, span, left, rhs)?;
        self.close("]", true)?;
        Ok(id)
    }

    fn sort(&mut self, left: RawId, span: Span) -> Result<RawId> {
        let opened = self.expect("(", false)?;
        if opened {
            self.opened(")");
        }
        let mut terms = Vec::new();
        let mut height = self.height(&[left]);
        loop {
            let descending = self.token.is(">");
            if descending || self.token.is("<") {
                self.advance(false)?;
            }
            let term = self.operand_if(opened)?;
            height = height.max(self.height(&[term]));
            terms.push((descending, term));
            if !opened || !self.more(",", ")")? {
                break;
            }
        }
        if opened {
            self.close(")", false)?;
        }
        self.add(RawKind::Sort { lhs: left, terms }, span, height)
    }

    fn transform(&mut self, span: Span) -> Result<RawId> {
        let pattern = self.expression(0)?;
        let barred = self.bar()?;
        let update = self.operand_if(barred)?;
        let mut height = self.height(&[pattern, update]);
        let mut delete = None;
        if self.token.is(",") {
            self.advance(false)?;
            let id = self.expression(0)?;
            height = height.max(self.height(&[id]));
            delete = Some(id);
        }
        self.bar()?;
        self.add(RawKind::Transform { pattern, update, delete }, span, height)
    }

    /// The bar behind a part of a transform; says whether it is there.
    fn bar(&mut self) -> Result<bool> {
        if self.expect("|", false)? {
            return Ok(true);
        }
        self.skip("|", "")?;
        let found = self.token.is("|");
        if found {
            self.advance(false)?;
        }
        Ok(found)
    }

    fn is_invalid(&self, id: RawId) -> bool {
        matches!(self.nodes[id as usize].kind, RawKind::Invalid(_))
    }

    fn call(&mut self, left: RawId, span: Span) -> Result<RawId> {
        self.opened(")");
        let mut arguments = Vec::new();
        let mut partial = false;
        if !self.token.is(")") {
            loop {
                if self.token.is("?") {
                    partial = true;
                    let at = self.advance(false)?.span;
                    arguments.push(self.add(RawKind::Placeholder, at, 0)?);
                } else {
                    arguments.push(self.expression(0)?);
                }
                if !self.more(",", ")")? {
                    break;
                }
            }
        }
        self.close(")", true)?;
        let height = self.height(&arguments).max(self.height(&[left]));
        let is_definition = matches!(&self.nodes[left as usize].kind,
            RawKind::Name(name) if &**name == b"function" || &**name == "λ".as_bytes());
        if !is_definition {
            return self.add(RawKind::Call { procedure: left, arguments, partial }, span, height);
        }
        for (index, argument) in arguments.iter().enumerate() {
            let node = &self.nodes[*argument as usize];
            if !matches!(node.kind, RawKind::Variable(_) | RawKind::Invalid(_)) {
                let token = self.text_of(*argument);
                let at = node.span;
                self.report(Raise::new("S0208").at(at).token(token).value((index + 1).to_string()))?;
            }
        }
        let signature = if self.token.is("<") { self.signature()? } else { None };
        let braced = self.expect("{", false)?;
        if braced {
            self.opened("}");
        }
        let body = self.operand_if(braced)?;
        if braced {
            self.close("}", false)?;
        }
        let height = height.max(self.height(&[body]));
        self.add(RawKind::Lambda { parameters: arguments, signature, body }, span, height)
    }

    fn signature(&mut self) -> Result<Option<Signature>> {
        let at = self.token.span;
        let mut depth = 1;
        let mut text = "<".to_owned();
        while depth > 0 && !self.token.is("{") && self.token.kind != TokenKind::End {
            self.advance(false)?;
            if self.token.is(">") {
                depth -= 1;
            } else if self.token.is("<") {
                depth += 1;
            }
            text.push_str(&self.token.text());
        }
        if !self.expect(">", false)? {
            return Ok(None);
        }
        match Signature::parse(&text) {
            Ok(signature) => Ok(Some(signature)),
            Err((raise, offset)) => {
                let end = at.end + offset as u32;
                self.report(raise.at(Span { start: end.saturating_sub(1), end }))?;
                Ok(None)
            }
        }
    }

    /// The token of a node, for errors.
    fn text_of(&self, id: RawId) -> String {
        match &self.nodes[id as usize].kind {
            RawKind::Name(t) | RawKind::Variable(t) | RawKind::String(t) => wtf8::to_str(t).into_owned(),
            RawKind::Number(n) => crate::number::to_string(*n),
            RawKind::Bool(b) => b.to_string(),
            RawKind::Null => "null".to_owned(),
            RawKind::Word(w) => (*w).to_owned(),
            RawKind::Regex { pattern, .. } => wtf8::to_str(&wtf8::from_units(pattern)).into_owned(),
            RawKind::Placeholder => "?".to_owned(),
            RawKind::Wildcard => "*".to_owned(),
            RawKind::Descendant => "**".to_owned(),
            RawKind::Parent => "%".to_owned(),
            RawKind::End => "(end)".to_owned(),
            RawKind::Invalid(_) => String::new(),
            RawKind::Binary { op, .. } => op.text().to_owned(),
            RawKind::Map { .. } => ".".to_owned(),
            RawKind::Filter { .. } | RawKind::Array(_) => "[".to_owned(),
            RawKind::Group { .. } | RawKind::Object(_) => "{".to_owned(),
            RawKind::Sort { .. } => "^".to_owned(),
            RawKind::Bind { .. } => ":=".to_owned(),
            RawKind::Focus { .. } => "@".to_owned(),
            RawKind::Index { .. } => "#".to_owned(),
            RawKind::Apply { .. } => "~>".to_owned(),
            RawKind::Negate(_) => "-".to_owned(),
            RawKind::Call { .. } | RawKind::Lambda { .. } | RawKind::Block(_) => "(".to_owned(),
            RawKind::Condition { .. } => "?".to_owned(),
            RawKind::Default { coalesce, .. } => if *coalesce { "??" } else { "?:" }.to_owned(),
            RawKind::Transform { .. } => "|".to_owned(),
        }
    }
}
