//! Patterns for the linear engine, spelt out so that it matches what ECMAScript does: classes as
//! ranges, no flags. A pattern whose matches or groups could differ is not translated.

use super::class::{Class, LINE_ENDS, POINT_MAX, complement};
use super::parse::{Node, Parsed};

/// Memory that a translated pattern may take.
const SIZE_BYTES_MAX: usize = 256 * 1024;

/// The pattern for the linear engine, if it can have it.
pub(super) fn translate(parsed: &Parsed, ignore_case: bool, multi_line: bool) -> Option<regex::bytes::Regex> {
    let mut out = String::new();
    let mut translator = Translator { out: &mut out, ignore_case, multi_line };
    translator.node(&parsed.node)?;
    regex::bytes::RegexBuilder::new(&out)
        .size_limit(SIZE_BYTES_MAX)
        .dfa_size_limit(SIZE_BYTES_MAX)
        .build()
        .ok()
}

struct Translator<'o> {
    out: &'o mut String,
    ignore_case: bool,
    multi_line: bool,
}

fn has_group(node: &Node) -> bool {
    match node {
        Node::Capture(..) => true,
        Node::Look { body, .. } | Node::Repeat { body, .. } => has_group(body),
        Node::Sequence(all) | Node::Alternatives(all) => all.iter().any(has_group),
        _ => false,
    }
}

fn can_be_empty(node: &Node) -> bool {
    match node {
        Node::Char(_) | Node::Any | Node::Class(_) => false,
        Node::Capture(_, body) => can_be_empty(body),
        Node::Repeat { body, min, .. } => *min == 0 || can_be_empty(body),
        Node::Sequence(all) => all.iter().all(can_be_empty),
        Node::Alternatives(all) => all.iter().any(can_be_empty),
        _ => true,
    }
}

impl Translator<'_> {
    fn node(&mut self, node: &Node) -> Option<()> {
        match node {
            Node::Empty => self.out.push_str("(?:)"),
            Node::Char(c) => self.class(&[(*c, *c)], false)?,
            Node::Any => self.class(&complement(LINE_ENDS), false)?,
            Node::Class(Class { ranges, negated }) => self.class(ranges, *negated)?,
            // The linear engine's line ends are not those of ECMAScript.
            Node::Start | Node::End if self.multi_line => return None,
            Node::Start => self.out.push_str("\\A"),
            Node::End => self.out.push_str("\\z"),
            Node::WordEdge(true) => self.out.push_str("(?-u:\\b)"),
            Node::WordEdge(false) => self.out.push_str("(?-u:\\B)"),
            Node::Look { .. } | Node::BackReference(_) => return None,
            Node::Capture(_, body) => {
                self.out.push('(');
                self.node(body)?;
                self.out.push(')');
            }
            Node::Sequence(all) => {
                self.out.push_str("(?:");
                for node in all {
                    self.node(node)?;
                }
                self.out.push(')');
            }
            Node::Alternatives(all) => {
                self.out.push_str("(?:");
                for (i, node) in all.iter().enumerate() {
                    if i > 0 {
                        self.out.push('|');
                    }
                    self.node(node)?;
                }
                self.out.push(')');
            }
            Node::Repeat { body, min, max, greedy } => {
                // ECMAScript forgets groups at each round and refuses empty rounds.
                if can_be_empty(body) {
                    return None;
                }
                let inner = match &**body {
                    Node::Capture(_, inner) => inner,
                    other => other,
                };
                if *max > 1 && has_group(inner) {
                    return None;
                }
                if *min > 1000 || (*max != u32::MAX && *max > 1000) {
                    return None;
                }
                self.out.push_str("(?:");
                self.node(body)?;
                self.out.push(')');
                match (*min, *max) {
                    (0, u32::MAX) => self.out.push('*'),
                    (1, u32::MAX) => self.out.push('+'),
                    (0, 1) => self.out.push('?'),
                    (min, u32::MAX) => self.out.push_str(&format!("{{{min},}}")),
                    (min, max) => self.out.push_str(&format!("{{{min},{max}}}")),
                }
                if !*greedy {
                    self.out.push('?');
                }
            }
        }
        Some(())
    }

    fn class(&mut self, ranges: &[(u32, u32)], negated: bool) -> Option<()> {
        let mut all = ranges.to_vec();
        if self.ignore_case {
            for &(from, to) in ranges {
                // Only where no letter beyond ASCII could be meant, or all are.
                let beyond = to >= 0x80 && (from, to) != (0x80, POINT_MAX);
                if beyond && to != POINT_MAX {
                    return None;
                }
                for (low, high, shift) in [(0x41u32, 0x5au32, 0x20i64), (0x61, 0x7a, -0x20)] {
                    let (a, b) = (from.max(low), to.min(high));
                    if a <= b {
                        all.push(((i64::from(a) + shift) as u32, (i64::from(b) + shift) as u32));
                    }
                }
            }
        }
        all.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (from, to) in all {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        if negated {
            merged = complement(&merged);
        }
        if merged.is_empty() {
            self.out.push_str("[^\\x{0}-\\x{10FFFF}]");
            return Some(());
        }
        self.out.push('[');
        for (from, to) in merged {
            // Surrogates are no characters of the linear engine; texts that have them do not
            // come here, but a pattern that asks for them cannot be spelt.
            for (from, to) in [(from, to.min(0xd7ff)), (from.max(0xe000), to)] {
                if from <= to {
                    self.out.push_str(&format!("\\x{{{from:X}}}-\\x{{{to:X}}}"));
                }
            }
            if from >= 0xd800 && to < 0xe000 {
                return None;
            }
        }
        self.out.push(']');
        Some(())
    }
}
