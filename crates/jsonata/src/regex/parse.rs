//! The grammar of patterns, with what browsers accept beyond it (Annex B): a brace that begins
//! no quantifier, unknown escapes, octal escapes.

use super::class::{Class, DIGITS, SPACE, WORD, complement};

/// How deep groups nest.
const NESTING_MAX: u32 = 250;
/// Capture groups of a pattern.
const GROUPS_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Empty,
    Char(u32),
    Any,
    Class(Class),
    Start,
    End,
    /// `\b`, or with `false` `\B`.
    WordEdge(bool),
    /// A group with its number.
    Capture(usize, Box<Node>),
    Look {
        behind: bool,
        negated: bool,
        body: Box<Node>,
    },
    BackReference(usize),
    Sequence(Vec<Node>),
    Alternatives(Vec<Node>),
    Repeat {
        body: Box<Node>,
        min: u32,
        max: u32,
        greedy: bool,
    },
}

#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) node: Node,
    /// Capture groups, without the whole match.
    pub(super) groups: usize,
}

type Result<T> = std::result::Result<T, String>;

struct Parser<'p> {
    text: &'p [u32],
    at: usize,
    depth: u32,
    groups: usize,
    groups_in_all: usize,
    names: Vec<(Vec<u32>, usize)>,
}

pub(super) fn parse(text: &[u32]) -> Result<Parsed> {
    let (groups_in_all, names) = count_groups(text);
    if groups_in_all > GROUPS_MAX {
        return Err("too many groups".to_owned());
    }
    let mut parser = Parser { text, at: 0, depth: 0, groups: 0, groups_in_all, names };
    for (i, (name, _)) in parser.names.iter().enumerate() {
        if parser.names[..i].iter().any(|(n, _)| n == name) {
            return Err("two groups have the same name".to_owned());
        }
    }
    let node = parser.alternatives()?;
    if parser.at < text.len() {
        return Err("a ) closes no group".to_owned());
    }
    Ok(Parsed { node, groups: parser.groups })
}

/// Capture groups are counted ahead: `\2` is a back-reference only if there is a second group.
fn count_groups(text: &[u32]) -> (usize, Vec<(Vec<u32>, usize)>) {
    let (mut count, mut names, mut in_class, mut at) = (0, Vec::new(), false, 0);
    let is = |at: usize, c: char| text.get(at) == Some(&u32::from(c));
    while at < text.len() {
        if is(at, '\\') {
            at += 1;
        } else if is(at, '[') {
            in_class = true;
        } else if is(at, ']') {
            in_class = false;
        } else if is(at, '(') && !in_class {
            if !is(at + 1, '?') {
                count += 1;
            } else if is(at + 2, '<') && !is(at + 3, '=') && !is(at + 3, '!') {
                count += 1;
                let name: Vec<u32> =
                    text[at + 3..].iter().copied().take_while(|c| *c != u32::from('>')).collect();
                names.push((name, count));
            }
        }
        at += 1;
    }
    (count, names)
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).map(|c| char::from_u32(*c).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn eat(&mut self, text: &str) -> bool {
        let matches =
            text.chars().enumerate().all(|(i, c)| self.text.get(self.at + i) == Some(&u32::from(c)));
        if matches {
            self.at += text.chars().count();
        }
        matches
    }

    fn alternatives(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err("groups are nested too deeply".to_owned());
        }
        let mut all = vec![self.sequence()?];
        while self.eat("|") {
            all.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Alternatives(all) })
    }

    fn sequence(&mut self) -> Result<Node> {
        let mut terms = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let (atom, quantifiable) = self.atom()?;
            terms.push(if quantifiable { self.quantified(atom)? } else { atom });
        }
        Ok(match terms.len() {
            0 => Node::Empty,
            1 => terms.remove(0),
            _ => Node::Sequence(terms),
        })
    }

    fn quantified(&mut self, atom: Node) -> Result<Node> {
        let (min, max) = match self.peek() {
            Some('*') => (0, u32::MAX),
            Some('+') => (1, u32::MAX),
            Some('?') => (0, 1),
            Some('{') => match self.braces() {
                Some((min, max, end)) => {
                    if max < min {
                        return Err("the numbers of {} are out of order".to_owned());
                    }
                    self.at = end - 1;
                    (min, max)
                }
                None => return Ok(atom),
            },
            _ => return Ok(atom),
        };
        self.at += 1;
        let greedy = !self.eat("?");
        Ok(Node::Repeat { body: Box::new(atom), min, max, greedy })
    }

    /// The numbers of `{n}`, `{n,}`, `{n,m}` here, and the place behind.
    fn braces(&self) -> Option<(u32, u32, usize)> {
        let number = |at: &mut usize| {
            let start = *at;
            let mut n = 0u32;
            while let Some(d) =
                self.text.get(*at).and_then(|c| char::from_u32(*c)).and_then(|c| c.to_digit(10))
            {
                n = n.saturating_mul(10).saturating_add(d);
                *at += 1;
            }
            (*at > start).then_some(n)
        };
        let mut at = self.at + 1;
        let min = number(&mut at)?;
        let mut max = min;
        if self.text.get(at) == Some(&u32::from(',')) {
            at += 1;
            max = number(&mut at).unwrap_or(u32::MAX);
        }
        (self.text.get(at) == Some(&u32::from('}'))).then_some((min, max, at + 1))
    }

    /// An atom, and whether a quantifier may follow.
    fn atom(&mut self) -> Result<(Node, bool)> {
        let Some(c) = self.peek() else { return Ok((Node::Empty, false)) };
        let unit = self.text[self.at];
        self.at += 1;
        Ok((
            match c {
                '^' => return Ok((Node::Start, false)),
                '$' => return Ok((Node::End, false)),
                '.' => Node::Any,
                '(' => return self.group(),
                '[' => Node::Class(self.class()?),
                '*' | '+' | '?' => return Err("there is nothing to repeat".to_owned()),
                '{' => {
                    self.at -= 1;
                    let is_quantifier = self.braces().is_some();
                    self.at += 1;
                    if is_quantifier {
                        return Err("there is nothing to repeat".to_owned());
                    }
                    Node::Char(unit)
                }
                '\\' => return self.escape(),
                _ => Node::Char(unit),
            },
            true,
        ))
    }

    fn group(&mut self) -> Result<(Node, bool)> {
        let look = |parser: &mut Self, behind, negated| -> Result<(Node, bool)> {
            let body = Box::new(parser.alternatives()?);
            parser.close()?;
            Ok((Node::Look { behind, negated, body }, !behind))
        };
        if self.eat("?:") {
            let node = self.alternatives()?;
            self.close()?;
            // A sequence of its own, so that a quantifier repeats all of it.
            return Ok((node, true));
        }
        if self.eat("?=") {
            return look(self, false, false);
        }
        if self.eat("?!") {
            return look(self, false, true);
        }
        if self.eat("?<=") {
            return look(self, true, false);
        }
        if self.eat("?<!") {
            return look(self, true, true);
        }
        if self.eat("?<") {
            let name_at = self.at;
            while self.peek().is_some_and(|c| c != '>') {
                self.at += 1;
            }
            let name = &self.text[name_at..self.at];
            let valid = name.iter().enumerate().all(|(i, c)| {
                char::from_u32(*c)
                    .is_some_and(|c| c == '$' || c == '_' || c.is_alphabetic() || (i > 0 && c.is_numeric()))
            });
            if name.is_empty() || !valid || !self.eat(">") {
                return Err("this group's name is not valid".to_owned());
            }
        } else if self.eat("?") {
            return Err("this kind of group does not exist".to_owned());
        }
        self.groups += 1;
        let number = self.groups;
        let body = Box::new(self.alternatives()?);
        self.close()?;
        Ok((Node::Capture(number, body), true))
    }

    fn close(&mut self) -> Result<()> {
        if self.eat(")") { Ok(()) } else { Err("a group is not closed".to_owned()) }
    }

    fn escape(&mut self) -> Result<(Node, bool)> {
        let Some(c) = self.peek() else { return Err("the pattern ends with a backslash".to_owned()) };
        match c {
            'b' => {
                self.at += 1;
                return Ok((Node::WordEdge(true), false));
            }
            'B' => {
                self.at += 1;
                return Ok((Node::WordEdge(false), false));
            }
            '1'..='9' => {
                let start = self.at;
                let mut n = 0usize;
                while let Some(d) = self.peek().and_then(|c| c.to_digit(10)) {
                    n = n.saturating_mul(10).saturating_add(d as usize);
                    self.at += 1;
                }
                if n <= self.groups_in_all {
                    return Ok((Node::BackReference(n), true));
                }
                self.at = start;
            }
            'k' if !self.names.is_empty() => {
                self.at += 1;
                let rest = &self.text[self.at..];
                let end = rest.iter().position(|c| *c == u32::from('>'));
                let (Some(end), true) = (end, rest.first() == Some(&u32::from('<'))) else {
                    return Err("\\k must be followed by a group's name".to_owned());
                };
                let name = &rest[1..end];
                let Some((_, number)) = self.names.iter().find(|(n, _)| n == name) else {
                    return Err("\\k names a group that does not exist".to_owned());
                };
                let number = *number;
                self.at += end + 1;
                return Ok((Node::BackReference(number), true));
            }
            _ => {}
        }
        Ok(match self.class_escape(false) {
            Escape::Set(ranges) => (Node::Class(Class { ranges, negated: false }), true),
            Escape::Char(c) => (Node::Char(c), true),
        })
    }

    fn hex(&self, digits: usize) -> Option<u32> {
        let text = self.text.get(self.at..self.at + digits)?;
        text.iter().try_fold(0, |n, c| Some(n << 4 | char::from_u32(*c)?.to_digit(16)?))
    }

    /// An escape that stands for one character or a set. The backslash is behind.
    fn class_escape(&mut self, in_class: bool) -> Escape {
        let Some(c) = self.peek() else { return Escape::Char(u32::from('\\')) };
        let unit = self.text[self.at];
        self.at += 1;
        Escape::Char(match c {
            'd' => return Escape::Set(DIGITS.to_vec()),
            'D' => return Escape::Set(complement(DIGITS)),
            'w' => return Escape::Set(WORD.to_vec()),
            'W' => return Escape::Set(complement(WORD)),
            's' => return Escape::Set(SPACE.to_vec()),
            'S' => return Escape::Set(complement(SPACE)),
            'b' if in_class => 8,
            't' => 9,
            'n' => 10,
            'v' => 11,
            'f' => 12,
            'r' => 13,
            'c' => match self.peek() {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    u32::from(letter) % 32
                }
                _ => {
                    self.at -= 1;
                    u32::from('\\')
                }
            },
            'x' => match self.hex(2) {
                Some(value) => {
                    self.at += 2;
                    value
                }
                None => unit,
            },
            'u' => match self.hex(4) {
                Some(value) => {
                    self.at += 4;
                    // Two escapes that make a pair are one character.
                    let low = match (self.text.get(self.at), self.text.get(self.at + 1)) {
                        (Some(0x5c), Some(0x75)) if (0xd800..0xdc00).contains(&value) => {
                            self.at += 2;
                            let low = self.hex(4).filter(|l| (0xdc00..0xe000).contains(l));
                            self.at -= 2;
                            low
                        }
                        _ => None,
                    };
                    match low {
                        Some(low) => {
                            self.at += 6;
                            0x10000 + ((value & 0x3ff) << 10 | (low & 0x3ff))
                        }
                        None => value,
                    }
                }
                None => unit,
            },
            '0'..='7' => {
                let mut value = u32::from(c) - 0x30;
                while let Some(d) = self.peek().and_then(|c| c.to_digit(8)) {
                    if value * 8 + d > 0o377 {
                        break;
                    }
                    value = value * 8 + d;
                    self.at += 1;
                }
                value
            }
            _ => unit,
        })
    }

    fn class(&mut self) -> Result<Class> {
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        loop {
            if self.eat("]") {
                ranges.sort_unstable();
                return Ok(Class { ranges, negated });
            }
            let first = self.class_atom()?;
            let is_range =
                self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|c| *c != u32::from(']'));
            if !is_range {
                match first {
                    Escape::Char(c) => ranges.push((c, c)),
                    Escape::Set(set) => ranges.extend(set),
                }
                continue;
            }
            self.at += 1;
            match (first, self.class_atom()?) {
                (Escape::Char(from), Escape::Char(to)) => {
                    if from > to {
                        return Err("a range of a class is out of order".to_owned());
                    }
                    ranges.push((from, to));
                }
                (first, second) => {
                    // A set has no range: the three parts stand for themselves.
                    for part in [first, second] {
                        match part {
                            Escape::Char(c) => ranges.push((c, c)),
                            Escape::Set(set) => ranges.extend(set),
                        }
                    }
                    ranges.push((0x2d, 0x2d));
                }
            }
        }
    }

    fn class_atom(&mut self) -> Result<Escape> {
        let Some(c) = self.peek() else { return Err("a class is not closed".to_owned()) };
        let unit = self.text[self.at];
        self.at += 1;
        if c != '\\' {
            return Ok(Escape::Char(unit));
        }
        if self.peek().is_none() {
            return Err("the pattern ends with a backslash".to_owned());
        }
        Ok(self.class_escape(true))
    }
}

enum Escape {
    Char(u32),
    Set(Vec<(u32, u32)>),
}
