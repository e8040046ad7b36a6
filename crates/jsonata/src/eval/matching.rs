//! Matching strings. A matcher is a regular expression or any function that returns a match
//! object `{match, start, end, groups, next}`; positions in it are UTF-16 units, inside of this
//! module bytes.

use super::{Call, Fail, R, Run};
use crate::arena::ArenaVec;
use crate::ast::NodeRef;
use crate::budget::Limit;
use crate::error::Raise;
use crate::regex::Regex;
use crate::value::{Entry, Frame, FunctionKind, Value};
use crate::wtf8;

/// One match.
pub(crate) struct Found<'a> {
    start: usize,
    end: usize,
    matched: &'a [u8],
    groups: &'a [Value<'a>],
    next: Next<'a>,
}

enum Next<'a> {
    Regex { regex: &'a Regex, node: NodeRef<'a> },
    Function(Value<'a>),
}

/// The byte at which a UTF-16 unit stands.
fn byte_of_unit(text: &[u8], unit: f64) -> usize {
    let mut units = 0.0;
    let mut at = 0;
    while at < text.len() && units < unit {
        let (c, n) = wtf8::decode(&text[at..]);
        units += if c >= 0x10000 { 2.0 } else { 1.0 };
        at += n;
    }
    at
}

impl<'a> Run<'a> {
    fn find(&self, regex: &'a Regex, node: NodeRef<'a>, text: &'a [u8], from: usize) -> R<Option<Found<'a>>> {
        self.tick(1 + (text.len() - from) as u64 / 64)?;
        let spans =
            regex.find(text, from, &self.regex_steps_left).map_err(|_| Fail::Over(Limit::RegexSteps))?;
        let Some(spans) = spans else { return Ok(None) };
        let Some(Some((start, end))) = spans.first().copied() else { return Ok(None) };
        let mut groups = ArenaVec::with_capacity(self.arena, spans.len())?;
        for span in &spans[1..] {
            groups.push(span.map_or(Value::Undefined, |(from, to)| Value::String(&text[from..to])))?;
        }
        Ok(Some(Found {
            start,
            end,
            matched: &text[start..end],
            groups: groups.finish(),
            next: Next::Regex { regex, node },
        }))
    }

    /// The first match of a matcher in a string.
    pub(crate) fn first_match(
        &self,
        matcher: Value<'a>,
        text: &'a [u8],
        env: &'a Frame<'a>,
    ) -> R<Option<Found<'a>>> {
        if let Value::Function(mut f) = matcher {
            while let FunctionKind::Wrapped(inner) = &f.kind {
                f = inner;
            }
            if let FunctionKind::Regex { regex, node } = &f.kind {
                return self.find(regex, *node, text, 0);
            }
        }
        let result = self.invoke(matcher, &[Value::String(text)], env)?;
        self.found(result, text)
    }

    fn following(&self, found: &Found<'a>, text: &'a [u8], env: &'a Frame<'a>) -> R<Option<Found<'a>>> {
        match found.next {
            Next::Regex { regex, node } => self.following_regex(regex, node, text, found.end),
            Next::Function(next) => {
                let result = self.invoke(next, &[], env)?;
                self.found(result, text)
            }
        }
    }

    fn following_regex(
        &self,
        regex: &'a Regex,
        node: NodeRef<'a>,
        text: &'a [u8],
        from: usize,
    ) -> R<Option<Found<'a>>> {
        if from >= text.len() {
            return Ok(None);
        }
        let found = self.find(regex, node, text, from)?;
        if found.as_ref().is_some_and(|f| f.matched.is_empty()) {
            return Err(Raise::new("D1004").at(node.node.span).value(regex.source()).into());
        }
        Ok(found)
    }

    /// Reads a match object that a function returned.
    fn found(&self, result: Value<'a>, text: &'a [u8]) -> R<Option<Found<'a>>> {
        let object = match result {
            Value::Undefined => return Ok(None),
            Value::Object(object) => object,
            _ => return Err(Raise::new("T1010").into()),
        };
        let field = |name: &str| self.get(object, name.as_bytes());
        let (start, end, groups, next) = (field("start")?, field("end")?, field("groups")?, field("next")?);
        let is_match = matches!(start, Value::Number(_))
            || matches!(end, Value::Number(_))
            || matches!(groups, Value::Array(_))
            || next.is_function();
        if !is_match {
            return Err(Raise::new("T1010").into());
        }
        let matched = match field("match")? {
            Value::String(text) => text,
            _ => &[],
        };
        let unit = |value: Value<'a>| match value {
            Value::Number(n) => byte_of_unit(text, n.value),
            _ => 0,
        };
        let (start, end) = (unit(start), unit(end));
        Ok(Some(Found {
            start,
            end: end.max(start),
            matched,
            groups: match groups {
                Value::Array(array) => self.items(array)?,
                _ => &[],
            },
            next: Next::Function(next),
        }))
    }

    /// A match as the object that expressions see.
    fn as_object(&self, found: &Found<'a>, text: &'a [u8]) -> R<Value<'a>> {
        let start = wtf8::len_units(&text[..found.start]);
        let end = start + wtf8::len_units(&text[found.start..found.end]);
        let next = match found.next {
            Next::Regex { regex, node } => Value::Function(self.function(FunctionKind::NextMatch {
                regex,
                node,
                text,
                from: found.end,
            })?),
            Next::Function(next) => next,
        };
        let entries = self.arena.alloc_slice(&[
            Entry { key: b"match", value: Value::String(found.matched) },
            Entry { key: b"start", value: Value::number(start as f64) },
            Entry { key: b"end", value: Value::number(end as f64) },
            Entry { key: b"groups", value: self.plain(found.groups)? },
            Entry { key: b"next", value: next },
        ])?;
        self.object_of(entries)
    }

    pub(super) fn match_object(
        &self,
        regex: &'a Regex,
        node: NodeRef<'a>,
        text: &'a [u8],
        from: usize,
    ) -> R<Value<'a>> {
        match self.find(regex, node, text, from)? {
            Some(found) => self.as_object(&found, text),
            None => Ok(Value::Undefined),
        }
    }

    pub(super) fn next_match(
        &self,
        regex: &'a Regex,
        node: NodeRef<'a>,
        text: &'a [u8],
        from: usize,
    ) -> R<Value<'a>> {
        match self.following_regex(regex, node, text, from)? {
            Some(found) => self.as_object(&found, text),
            None => Ok(Value::Undefined),
        }
    }

    /// `$match`.
    pub(crate) fn all_matches(
        &self,
        text: &'a [u8],
        matcher: Value<'a>,
        limit: f64,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let mut out = self.vec();
        if limit > 0.0 {
            let mut found = self.first_match(matcher, text, env)?;
            // Where the last match began, so that units are counted once.
            let (mut bytes, mut units) = (0, 0);
            while let Some(one) = found {
                if out.len() as f64 >= limit {
                    break;
                }
                self.tick(1)?;
                if one.start < bytes {
                    (bytes, units) = (0, 0);
                }
                units += wtf8::len_units(&text[bytes..one.start]);
                bytes = one.start;
                let entries = self.arena.alloc_slice(&[
                    Entry { key: b"match", value: Value::String(one.matched) },
                    Entry { key: b"index", value: Value::number(units as f64) },
                    Entry { key: b"groups", value: self.plain(one.groups)? },
                ])?;
                out.push(self.object_of(entries)?)?;
                found = self.following(&one, text, env)?;
            }
        }
        self.sequence(out.finish())
    }

    /// `$split` at the matches of a matcher.
    pub(crate) fn split_at_matches(
        &self,
        text: &'a [u8],
        matcher: Value<'a>,
        limit: f64,
        env: &'a Frame<'a>,
        out: &mut ArenaVec<'a, Value<'a>>,
    ) -> R<()> {
        if limit <= 0.0 {
            return Ok(());
        }
        let mut found = self.first_match(matcher, text, env)?;
        let mut from = 0;
        while let Some(one) = found {
            if out.len() as f64 >= limit {
                break;
            }
            self.tick(1)?;
            out.push(Value::String(text.get(from..one.start).unwrap_or(&[])))?;
            from = one.end;
            found = self.following(&one, text, env)?;
        }
        if (out.len() as f64) < limit {
            out.push(Value::String(text.get(from..).unwrap_or(&[])))?;
        }
        Ok(())
    }

    /// `$replace` of the matches of a matcher.
    pub(crate) fn replace_matches(&self, text: &'a [u8], call: &Call<'a, '_>, limit: f64) -> R<Value<'a>> {
        if limit <= 0.0 {
            return Ok(Value::String(text));
        }
        let replacement = call.arg(2);
        let mut out = self.vec();
        let mut found = self.first_match(call.arg(1), text, call.env)?;
        let mut from = 0;
        let mut count = 0.0;
        while let Some(one) = found {
            if count >= limit {
                break;
            }
            self.tick(1)?;
            out.extend(text.get(from..one.start).unwrap_or(&[]))?;
            match replacement {
                Value::String(template) => self.substitute(template, &one, &mut out)?,
                _ => {
                    let argument = self.as_object(&one, text)?;
                    match self.invoke(replacement, &[argument], call.env)? {
                        Value::String(text) => out.extend(text)?,
                        other => return Err(Raise::new("D3012").value(self.show(other)).into()),
                    }
                }
            }
            from = one.start + one.matched.len();
            count += 1.0;
            found = self.following(&one, text, call.env)?;
        }
        out.extend(text.get(from..).unwrap_or(&[]))?;
        Ok(Value::String(out.finish()))
    }

    /// Fills in `$0`, `$1` ... and `$$` of a replacement.
    fn substitute(&self, template: &[u8], found: &Found<'a>, out: &mut ArenaVec<'a, u8>) -> R<()> {
        let mut rest = template;
        let most = found.groups.len().checked_ilog10().map_or(1, |n| n as usize + 1);
        while let Some(at) = memchr::memchr(b'$', rest) {
            self.tick(1)?;
            out.extend(&rest[..at])?;
            rest = &rest[at + 1..];
            match rest.first() {
                Some(b'$') => {
                    out.push(b'$')?;
                    rest = &rest[1..];
                }
                Some(b'0') => {
                    out.extend(found.matched)?;
                    rest = &rest[1..];
                }
                Some(b'1'..=b'9') => {
                    // As many digits as the number of groups has, one less if there is no such
                    // group.
                    let value =
                        |n: usize| rest[..n].iter().fold(0usize, |v, b| v * 10 + usize::from(b - b'0'));
                    let mut n = rest.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
                    if n > 1 && value(n) > found.groups.len() {
                        n -= 1;
                    }
                    if let Some(Value::String(group)) = found.groups.get(value(n).wrapping_sub(1)) {
                        out.extend(group)?;
                    }
                    rest = &rest[n..];
                }
                _ => out.push(b'$')?,
            }
        }
        out.extend(rest)?;
        Ok(())
    }
}
