//! Time and integer pictures. The clock is a binding, so that a replay gives the same bytes.

use super::{num, text};
use crate::datetime;
use crate::error::Raise;
use crate::eval::{Call, R, Run};
use crate::value::Value;
use crate::wtf8;

fn formatted<'a>(run: &Run<'a>, millis: f64, picture: Value<'a>, zone: Value<'a>) -> R<Value<'a>> {
    let picture = text(picture).map(wtf8::to_str);
    let zone = text(zone).map(wtf8::to_str);
    let out = datetime::format(run, millis, picture.as_deref(), zone.as_deref())?;
    run.string(out.as_bytes())
}

pub(super) fn millis<'a>(run: &Run<'a>, _: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(Value::number(run.now_millis as f64))
}

pub(super) fn now<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    formatted(run, run.now_millis as f64, call.arg(0), call.arg(1))
}

pub(super) fn from_millis<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(millis) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    formatted(run, millis, call.arg(1), call.arg(2))
}

pub(super) fn to_millis<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(stamp) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(stamp.len() as u64 / 16)?;
    if let Some(picture) = text(call.arg(1)) {
        let millis = datetime::parse_with_picture(run, stamp, &wtf8::to_str(picture))?;
        return Ok(millis.map_or(Value::Undefined, Value::number));
    }
    match datetime::parse_iso(&wtf8::to_str(stamp)) {
        Some(millis) => Ok(Value::number(millis)),
        None => Err(Raise::new("D3110").value(run.show_text(stamp)).into()),
    }
}

pub(super) fn format_integer<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(value) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    let picture = wtf8::to_str(text(call.arg(1)).unwrap_or(b""));
    run.tick(picture.len() as u64)?;
    run.arena.charge(picture.len().saturating_mul(16))?;
    run.string(datetime::format_integer(run, value, &picture)?.as_bytes())
}

pub(super) fn parse_integer<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(value) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    let picture = wtf8::to_str(text(call.arg(1)).unwrap_or(b""));
    run.tick((picture.len() + value.len()) as u64)?;
    run.arena.charge(picture.len().saturating_add(value.len()).saturating_mul(16))?;
    Ok(Value::number(datetime::parse_integer(run, &wtf8::to_str(value), &picture)?))
}
