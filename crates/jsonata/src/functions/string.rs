//! Strings. Positions and lengths count code points, but for `$split`, `$replace` and the like,
//! which work on substrings.

use super::{list, num, text};
use crate::arena::ArenaVec;
use crate::error::Raise;
use crate::eval::{Call, R, Run, Style};
use crate::value::Value;
use crate::wtf8;

pub(super) fn string<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let style = if matches!(call.arg(1), Value::Bool(true)) { Style::Pretty } else { Style::Text };
    Ok(run.to_styled_text(call.arg(0), style)?.map_or(Value::Undefined, Value::String))
}

/// A part of a string by byte range. A cut between the halves of a pair cannot happen: both
/// ends are between code points.
fn part<'a>(text: &'a [u8], from: usize, to: usize) -> Value<'a> {
    Value::String(text.get(from..to).unwrap_or(&[]))
}

/// JavaScript's relative index into something of this length.
fn relative(index: f64, len: usize) -> usize {
    let index = if index.is_nan() { 0.0 } else { index.trunc() };
    if index < 0.0 { (len as f64 + index).max(0.0) as usize } else { index.min(len as f64) as usize }
}

pub(super) fn substring<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(text) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(text.len() as u64 / 16)?;
    let len = wtf8::len_points(text);
    let given = num(call.arg(1));
    if given.is_none() && !call.arg(2).is_undefined() {
        // JavaScript's arithmetic with an undefined start gives an end that is no number.
        return Ok(Value::String(b""));
    }
    let mut start = given.unwrap_or(0.0);
    if len as f64 + start < 0.0 {
        start = 0.0;
    }
    let end = match num(call.arg(2)) {
        None => len as f64,
        Some(count) if count <= 0.0 => return Ok(Value::String(b"")),
        Some(count) if start >= 0.0 => start + count,
        Some(count) => len as f64 + start + count,
    };
    let (from, to) = (relative(start, len), relative(end, len));
    if from >= to {
        return Ok(Value::String(b""));
    }
    Ok(part(text, wtf8::byte_of_point(text, from), wtf8::byte_of_point(text, to)))
}

pub(super) fn substring_before<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let chars = text(call.arg(1)).unwrap_or(b"undefined");
    run.tick((s.len() + chars.len()) as u64 / 16)?;
    Ok(memchr::memmem::find(s, chars).map_or(Value::String(s), |at| part(s, 0, at)))
}

pub(super) fn substring_after<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let chars = text(call.arg(1)).unwrap_or(b"undefined");
    run.tick((s.len() + chars.len()) as u64 / 16)?;
    Ok(memchr::memmem::find(s, chars).map_or(Value::String(s), |at| part(s, at + chars.len(), s.len())))
}

fn recased<'a>(
    run: &Run<'a>,
    call: &Call<'a, '_>,
    ascii: impl Fn(u8) -> u8,
    f: impl Fn(&str) -> String,
) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    if s.is_ascii() {
        let mut out = ArenaVec::with_capacity(run.arena, s.len())?;
        for b in s {
            out.push(ascii(*b))?;
        }
        return Ok(Value::String(out.finish()));
    }
    // What it becomes can be three times as long, and is made beside the arena first.
    run.arena.charge(s.len().saturating_mul(3))?;
    if let Ok(s) = std::str::from_utf8(s) {
        return run.string(f(s).as_bytes());
    }
    // Between lone surrogates, which have no case.
    let mut out = Vec::with_capacity(s.len());
    for c in wtf8::code_points(s) {
        match char::from_u32(c) {
            Some(c) => out.extend_from_slice(f(c.encode_utf8(&mut [0; 4])).as_bytes()),
            None => wtf8::push(&mut out, c),
        }
    }
    run.string(&out)
}

pub(super) fn lowercase<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    recased(run, call, |b| b.to_ascii_lowercase(), str::to_lowercase)
}

pub(super) fn uppercase<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    recased(run, call, |b| b.to_ascii_uppercase(), str::to_uppercase)
}

pub(super) fn length<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 64)?;
    Ok(Value::number(wtf8::len_points(s) as f64))
}

pub(super) fn trim<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    let mut out = ArenaVec::with_capacity(run.arena, s.len())?;
    for word in s.split(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).filter(|w| !w.is_empty()) {
        if !out.is_empty() {
            out.push(b' ')?;
        }
        out.extend(word)?;
    }
    Ok(Value::String(out.finish()))
}

pub(super) fn pad<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let with = text(call.arg(2)).filter(|c| !c.is_empty()).unwrap_or(b" ");
    let width = num(call.arg(1)).unwrap_or(0.0).trunc();
    let missing = width.abs() - wtf8::len_points(s) as f64;
    if missing.is_nan() || missing <= 0.0 {
        return Ok(Value::String(s));
    }
    let points = wtf8::len_points(with);
    let whole = (missing / points as f64).floor();
    let bytes = (whole + 1.0) * with.len() as f64 + s.len() as f64;
    if bytes > run.budget.bytes as f64 {
        return Err(crate::eval::Fail::Over(crate::budget::Limit::Bytes));
    }
    run.tick(bytes as u64 / 16)?;
    let mut out = ArenaVec::with_capacity(run.arena, bytes as usize)?;
    if width > 0.0 {
        out.extend(s)?;
    }
    for _ in 0..whole as u64 {
        out.extend(with)?;
    }
    let rest = (missing - whole * points as f64) as usize;
    out.extend(&with[..wtf8::byte_of_point(with, rest)])?;
    if width < 0.0 {
        out.extend(s)?;
    }
    Ok(Value::String(out.finish()))
}

pub(super) fn contains<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    match call.arg(1) {
        Value::Undefined => Ok(Value::Undefined),
        Value::String(token) => {
            run.tick((s.len() + token.len()) as u64 / 16)?;
            Ok(Value::Bool(memchr::memmem::find(s, token).is_some()))
        }
        matcher => Ok(Value::Bool(run.first_match(matcher, s, call.env)?.is_some())),
    }
}

pub(super) fn matches<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let limit = num(call.arg(2));
    if limit.is_some_and(|l| l < 0.0) {
        return Err(Raise::new("D3040").index(3).value(run.show(call.arg(2))).into());
    }
    run.all_matches(s, call.arg(1), limit.unwrap_or(f64::INFINITY), call.env)
}

pub(super) fn replace<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    if matches!(call.arg(1), Value::String(b"")) {
        return Err(Raise::new("D3010").index(2).value("\"\"").into());
    }
    let limit = num(call.arg(3));
    if limit.is_some_and(|l| l < 0.0) {
        return Err(Raise::new("D3011").index(4).value(run.show(call.arg(3))).into());
    }
    let limit = limit.unwrap_or(f64::INFINITY);
    let Value::String(pattern) = call.arg(1) else { return run.replace_matches(s, call, limit) };
    let replacement = match call.arg(2) {
        Value::String(text) => text,
        // jsonata-js concatenates whatever is given; a function has no text worth having.
        Value::Undefined => b"undefined",
        _ => return Err(Raise::new("D3012").value("a function").into()),
    };
    let mut out = run.vec();
    let mut from = 0;
    let mut count = 0.0;
    for at in memchr::memmem::find_iter(s, pattern) {
        if count >= limit {
            break;
        }
        run.tick(1)?;
        out.extend(&s[from..at])?;
        out.extend(replacement)?;
        from = at + pattern.len();
        count += 1.0;
    }
    run.tick(s.len() as u64 / 16)?;
    out.extend(&s[from..])?;
    Ok(Value::String(out.finish()))
}

pub(super) fn split<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let limit = num(call.arg(2));
    if limit.is_some_and(|l| l < 0.0) {
        return Err(Raise::new("D3020").index(3).value(run.show(call.arg(2))).into());
    }
    let mut out = run.vec();
    match call.arg(1) {
        Value::String(separator) => {
            // A limit is cut down to an integer, as String.prototype.split does.
            let limit = limit.map_or(f64::INFINITY, f64::trunc);
            run.tick(s.len() as u64 / 16)?;
            if separator.is_empty() {
                // Between UTF-16 units.
                for unit in wtf8::units(s) {
                    if out.len() as f64 >= limit {
                        break;
                    }
                    run.tick(1)?;
                    out.push(run.string(&wtf8::from_units(&[unit]))?)?;
                }
            } else {
                let mut from = 0;
                for at in memchr::memmem::find_iter(s, separator) {
                    if out.len() as f64 >= limit {
                        break;
                    }
                    run.tick(1)?;
                    out.push(part(s, from, at))?;
                    from = at + separator.len();
                }
                if (out.len() as f64) < limit {
                    out.push(part(s, from, s.len()))?;
                }
            }
        }
        matcher => run.split_at_matches(s, matcher, limit.unwrap_or(f64::INFINITY), call.env, &mut out)?,
    }
    run.plain(out.finish())
}

pub(super) fn join<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let separator = text(call.arg(1)).unwrap_or(b"");
    let mut out = run.vec();
    for (i, item) in items.iter().enumerate() {
        run.tick(1)?;
        if i > 0 {
            out.extend(separator)?;
        }
        if let Value::String(text) = item {
            out.extend(text)?;
        }
    }
    Ok(Value::String(out.finish()))
}
