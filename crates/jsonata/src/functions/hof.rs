//! Functions that call functions.

use super::list;
use crate::arena::ArenaVec;
use crate::error::Raise;
use crate::eval::{Call, R, Run};
use crate::value::{Entry, Value};
use crate::wtf8;

/// Calls `f` with as many of value, key and whole as it takes.
fn call_with<'a>(
    run: &Run<'a>,
    call: &Call<'a, '_>,
    f: Value<'a>,
    args: [Value<'a>; 3],
    arity: usize,
) -> R<Value<'a>> {
    run.tick(1)?;
    run.invoke(f, &args[..arity.clamp(1, 3)], call.env)
}

pub(super) fn map<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
    let mut out = run.vec();
    for (i, item) in items.iter().enumerate() {
        let value = call_with(run, call, f, [*item, Value::number(i as f64), call.arg(0)], arity)?;
        if !value.is_undefined() {
            out.push(value)?;
        }
    }
    run.sequence(out.finish())
}

pub(super) fn filter<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
    let mut out = run.vec();
    for (i, item) in items.iter().enumerate() {
        let value = call_with(run, call, f, [*item, Value::number(i as f64), call.arg(0)], arity)?;
        if run.truthy(value)? {
            out.push(*item)?;
        }
    }
    run.sequence(out.finish())
}

pub(super) fn single<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
    let mut found = None;
    for (i, item) in items.iter().enumerate() {
        let fits = if f.is_undefined() {
            run.tick(1)?;
            true
        } else {
            let value = call_with(run, call, f, [*item, Value::number(i as f64), call.arg(0)], arity)?;
            run.truthy(value)?
        };
        if fits && found.replace(*item).is_some() {
            return Err(Raise::new("D3138").index(i).into());
        }
    }
    found.ok_or_else(|| Raise::new("D3139").into())
}

pub(super) fn reduce<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
    if arity < 2 {
        return Err(Raise::new("D3050").index(1).into());
    }
    let mut rest = items.iter().enumerate();
    let mut result = call.arg(2);
    if result.is_undefined()
        && let Some((_, first)) = rest.next()
    {
        result = *first;
    }
    for (i, item) in rest {
        run.tick(1)?;
        let args = [result, *item, Value::number(i as f64), call.arg(0)];
        result = run.invoke(f, &args[..arity.min(4)], call.env)?;
    }
    Ok(result)
}

pub(super) fn each<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let mut out = run.vec();
    if let Value::Object(object) = call.arg(0) {
        let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
        for entry in run.entries(object)? {
            let args = [entry.value, Value::String(entry.key), call.arg(0)];
            let value = call_with(run, call, f, args, arity)?;
            if !value.is_undefined() {
                out.push(value)?;
            }
        }
    }
    run.sequence(out.finish())
}

pub(super) fn sift<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Value::Object(object) = call.arg(0) else { return Ok(Value::Undefined) };
    let (f, arity) = (call.arg(1), run.arity(call.arg(1)));
    let mut out: ArenaVec<'a, Entry<'a>> = run.vec();
    for entry in run.entries(object)? {
        let args = [entry.value, Value::String(entry.key), call.arg(0)];
        let value = call_with(run, call, f, args, arity)?;
        if run.truthy(value)? {
            out.push(*entry)?;
        }
    }
    if out.is_empty() { Ok(Value::Undefined) } else { run.object(out) }
}

pub(super) fn sort<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(Value::Undefined) };
    if items.len() <= 1 {
        return Ok(call.arg(0));
    }
    let f = call.arg(1);
    let sorted = if f.is_undefined() {
        let numbers = items.iter().all(|v| matches!(v, Value::Number(_)));
        if !numbers && !items.iter().all(|v| matches!(v, Value::String(_))) {
            return Err(Raise::new("D3070").index(1).into());
        }
        run.merge_sort(items, |a, b| {
            Ok(match (a, b) {
                (Value::Number(a), Value::Number(b)) => a.value > b.value,
                (Value::String(a), Value::String(b)) => wtf8::compare(a, b).is_gt(),
                _ => false,
            })
        })?
    } else {
        run.merge_sort(items, |a, b| {
            run.tick(1)?;
            let behind = run.invoke(f, &[a, b], call.env)?;
            // jsonata-js takes JavaScript's truth here: an empty array or object is true.
            Ok(match behind {
                Value::Array(_) | Value::Object(_) | Value::Function(_) => true,
                other => run.truthy(other)?,
            })
        })?
    };
    run.plain(sorted)
}
