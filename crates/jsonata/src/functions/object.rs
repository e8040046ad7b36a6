//! Objects, truth and types.

use std::collections::HashMap;

use super::list;
use crate::arena::ArenaVec;
use crate::error::Raise;
use crate::eval::{Call, NO_STEP, R, Run};
use crate::value::{Entry, Value};
use crate::wtf8;

pub(super) fn boolean<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    match call.arg(0) {
        Value::Undefined => Ok(Value::Undefined),
        value => Ok(Value::Bool(run.truthy(value)?)),
    }
}

pub(super) fn not<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    match call.arg(0) {
        Value::Undefined => Ok(Value::Undefined),
        value => Ok(Value::Bool(!run.truthy(value)?)),
    }
}

pub(super) fn exists<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(Value::Bool(!call.arg(0).is_undefined()))
}

pub(super) fn type_of<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(Value::String(match call.arg(0) {
        Value::Undefined => return Ok(Value::Undefined),
        Value::Null => b"null",
        Value::Bool(_) => b"boolean",
        Value::Number(n) => {
            run.finite(n.value)?;
            if n.value.is_nan() { b"object" } else { b"number" }
        }
        Value::String(_) => b"string",
        Value::Array(_) => b"array",
        Value::Object(_) | Value::Tuple(_) => b"object",
        Value::Function(_) => b"function",
    }))
}

fn collect_keys<'a>(
    run: &Run<'a>,
    value: Value<'a>,
    seen: &mut HashMap<&'a [u8], ()>,
    out: &mut ArenaVec<'a, Entry<'a>>,
) -> R<()> {
    run.tick(1)?;
    match value {
        Value::Object(object) => {
            for entry in run.entries(object)? {
                run.tick(1)?;
                if seen.insert(entry.key, ()).is_none() {
                    run.arena.charge(32)?;
                    out.push(Entry { key: entry.key, value: Value::Null })?;
                }
            }
            Ok(())
        }
        Value::Array(array) => {
            for item in run.items(array)? {
                run.deeper(|| collect_keys(run, *item, seen, out))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(super) fn keys<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let mut out = run.vec();
    let entries = match call.arg(0) {
        Value::Object(object) => run.entries(object)?,
        value => {
            let mut all = run.vec();
            collect_keys(run, value, &mut HashMap::new(), &mut all)?;
            match run.object(all)? {
                Value::Object(object) => run.entries(object)?,
                _ => &[],
            }
        }
    };
    run.tick(entries.len() as u64 / 8)?;
    for entry in entries {
        out.push(Value::String(entry.key))?;
    }
    run.sequence(out.finish())
}

pub(super) fn lookup<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Value::String(key) = call.arg(1) else { return Ok(Value::Undefined) };
    run.field(call.arg(0), NO_STEP, key)
}

fn spread_into<'a>(run: &Run<'a>, value: Value<'a>, out: &mut ArenaVec<'a, Value<'a>>) -> R<()> {
    run.tick(1)?;
    match value {
        Value::Array(array) => {
            for item in run.items(array)? {
                run.deeper(|| spread_into(run, *item, out))?;
            }
        }
        Value::Object(object) => {
            for entry in run.entries(object)? {
                run.tick(1)?;
                out.push(run.object_of(run.arena.alloc_slice(&[*entry])?)?)?;
            }
        }
        Value::Undefined => {}
        other => out.push(other)?,
    }
    Ok(())
}

pub(super) fn spread<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    match call.arg(0) {
        Value::Array(_) => {
            let mut out = run.vec();
            spread_into(run, call.arg(0), &mut out)?;
            // Appending makes a plain array, and an empty one stays a sequence.
            if out.is_empty() { run.sequence(&[]) } else { run.plain(out.finish()) }
        }
        Value::Object(_) => {
            let mut out = run.vec();
            spread_into(run, call.arg(0), &mut out)?;
            run.sequence(out.finish())
        }
        other => Ok(other),
    }
}

pub(super) fn merge<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let mut out: ArenaVec<'a, Entry<'a>> = run.vec();
    let mut index: HashMap<&'a [u8], usize> = HashMap::new();
    for item in items {
        let Value::Object(object) = item else { continue };
        for entry in run.entries(object)? {
            run.tick(1)?;
            // Few entries are found by looking at all, many by hash.
            let known = if out.len() < 16 {
                out.as_slice().iter().position(|e| e.key == entry.key)
            } else {
                if index.is_empty() {
                    index = out.as_slice().iter().enumerate().map(|(i, e)| (e.key, i)).collect();
                }
                index.get(entry.key).copied()
            };
            match known {
                Some(at) => out.as_mut_slice()[at].value = entry.value,
                None => {
                    if !index.is_empty() {
                        run.arena.charge(32)?;
                        index.insert(entry.key, out.len());
                    }
                    out.push(*entry)?;
                }
            }
        }
    }
    run.object(out)
}

/// Characters of a text that a program fails with. It is for people to read, and it is kept beside
/// the budget.
const TEXT_CHARS_MAX: usize = 4_000;

fn failure(text: &[u8]) -> String {
    // A character has at most four bytes.
    let cut = wtf8::byte_of_point(&text[..text.len().min(TEXT_CHARS_MAX * 4)], TEXT_CHARS_MAX);
    crate::eval::lossy(&text[..cut])
}

pub(super) fn error<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let text = match call.arg(0) {
        Value::String(text) if !text.is_empty() => failure(text),
        _ => "$error() function evaluated".to_owned(),
    };
    Err(Raise::new("D3137").text(text).into())
}

pub(super) fn assert<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    if matches!(call.arg(0), Value::Bool(true)) {
        return Ok(Value::Undefined);
    }
    let text = match call.arg(1) {
        Value::String(text) if !text.is_empty() => failure(text),
        _ => "$assert() statement failed".to_owned(),
    };
    Err(Raise::new("D3141").text(text).into())
}

pub(super) fn clone<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    run.deep_copy(call.arg(0))
}
