//! Arrays.

use super::list;
use crate::arena::ArenaVec;
use crate::eval::{Call, R, Run};
use crate::value::{Value, mark};

pub(super) fn count<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(Value::number(match call.arg(0) {
        Value::Undefined => 0.0,
        Value::Array(array) => run.len(array) as f64,
        _ => 1.0,
    }))
}

pub(super) fn append<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    run.append(call.arg(0), call.arg(1))
}

pub(super) fn reverse<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    match list(run, call.arg(0))? {
        None => Ok(Value::Undefined),
        Some(items) if items.len() <= 1 => Ok(call.arg(0)),
        Some(items) => {
            run.tick(items.len() as u64 / 8)?;
            let mut out = ArenaVec::with_capacity(run.arena, items.len())?;
            for item in items.iter().rev() {
                out.push(*item)?;
            }
            run.plain(out.finish())
        }
    }
}

pub(super) fn shuffle<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    match list(run, call.arg(0))? {
        None => Ok(Value::Undefined),
        Some(items) if items.len() <= 1 => Ok(call.arg(0)),
        Some(items) => {
            run.tick(items.len() as u64)?;
            let mut out = ArenaVec::with_capacity(run.arena, items.len())?;
            for (i, item) in items.iter().enumerate() {
                let j = (run.next_random() * (i + 1) as f64) as usize;
                out.push(*item)?;
                out.as_mut_slice().swap(i, j.min(i));
            }
            run.plain(out.finish())
        }
    }
}

pub(super) fn zip<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let mut columns = run.vec();
    let mut len = usize::MAX;
    for arg in call.args {
        let items = match arg {
            Value::Array(array) => run.items(array)?,
            _ => &[],
        };
        len = len.min(items.len());
        columns.push(items)?;
    }
    let len = if call.args.is_empty() { 0 } else { len };
    let mut out = ArenaVec::with_capacity(run.arena, len)?;
    for i in 0..len {
        let mut row = ArenaVec::with_capacity(run.arena, columns.len())?;
        run.tick(columns.len() as u64)?;
        for column in columns.as_slice() {
            row.push(column[i])?;
        }
        out.push(run.plain(row.finish())?)?;
    }
    run.plain(out.finish())
}

pub(super) fn distinct<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Value::Array(array) = call.arg(0) else { return Ok(call.arg(0)) };
    let items = run.items(array)?;
    if items.len() <= 1 {
        return Ok(call.arg(0));
    }
    let mut out: ArenaVec<'a, Value<'a>> = run.vec();
    let mut texts = std::collections::HashSet::new();
    let mut numbers = std::collections::HashSet::new();
    let mut others = Vec::new();
    for item in items {
        run.tick(1)?;
        // Strings and numbers are found by hash; what remains is compared one by one.
        let is_new = match item {
            Value::String(text) => texts.insert(*text),
            Value::Number(n) if !n.value.is_nan() => numbers.insert((n.value + 0.0).to_bits()),
            other => {
                let mut found = false;
                for seen in &others {
                    if run.equal(*other, *seen)? {
                        found = true;
                        break;
                    }
                }
                if !found {
                    others.push(*other);
                }
                !found
            }
        };
        if is_new {
            run.arena.charge(32)?;
            out.push(*item)?;
        }
    }
    let marks = array.marks.get() & mark::SEQUENCE;
    Ok(Value::Array(run.array(out.finish(), marks)?))
}
