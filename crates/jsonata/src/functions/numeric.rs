//! Numbers: sums, rounding, conversion.

use super::{list, num};
use crate::error::Raise;
use crate::eval::{Call, R, Run};
use crate::number as print;
use crate::value::Value;

fn fold<'a>(
    run: &Run<'a>,
    call: &Call<'a, '_>,
    start: f64,
    f: impl Fn(f64, f64) -> f64,
) -> R<Option<(f64, usize)>> {
    let Some(items) = list(run, call.arg(0))? else { return Ok(None) };
    run.tick(items.len() as u64 / 8)?;
    Ok(Some((items.iter().filter_map(|v| num(*v)).fold(start, f), items.len())))
}

pub(super) fn sum<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(fold(run, call, 0.0, |a, b| a + b)?.map_or(Value::Undefined, |(n, _)| Value::number(n)))
}

/// `Math.max`: NaN wins.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

pub(super) fn max<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(match fold(run, call, f64::NEG_INFINITY, larger)? {
        Some((n, 1..)) => Value::number(n),
        _ => Value::Undefined,
    })
}

pub(super) fn min<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(match fold(run, call, f64::INFINITY, |a, b| -larger(-a, -b))? {
        Some((n, 1..)) => Value::number(n),
        _ => Value::Undefined,
    })
}

pub(super) fn average<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(match fold(run, call, 0.0, |a, b| a + b)? {
        Some((n, count @ 1..)) => Value::number(n / count as f64),
        _ => Value::Undefined,
    })
}

fn map_number<'a>(call: &Call<'a, '_>, f: impl Fn(f64) -> f64) -> R<Value<'a>> {
    Ok(num(call.arg(0)).map_or(Value::Undefined, |n| Value::number(f(n))))
}

pub(super) fn floor<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    map_number(call, f64::floor)
}

pub(super) fn ceil<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    map_number(call, f64::ceil)
}

pub(super) fn abs<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    map_number(call, f64::abs)
}

pub(super) fn sqrt<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    if let Some(n) = num(call.arg(0)).filter(|n| *n < 0.0) {
        return Err(Raise::new("D3060").index(1).value(print::to_string(n)).into());
    }
    map_number(call, f64::sqrt)
}

pub(super) fn power<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(base) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    let exponent = num(call.arg(1)).unwrap_or(f64::NAN);
    // JavaScript differs from IEEE pow in one place: 1 to an infinite power is NaN.
    let result = if base.abs() == 1.0 && exponent.is_infinite() || exponent.is_nan() {
        f64::NAN
    } else {
        base.powf(exponent)
    };
    if !result.is_finite() {
        let raise = Raise::new("D3061").index(1).value(print::to_string(base));
        return Err(raise.value2(run.show(call.arg(1))).into());
    }
    Ok(Value::number(result))
}

pub(super) fn random<'a>(run: &Run<'a>, _: &Call<'a, '_>) -> R<Value<'a>> {
    Ok(Value::number(run.next_random()))
}

/// Shifts a number's decimal point, through its text as jsonata-js does: exact for what people
/// write.
fn shift(value: f64, by: f64) -> f64 {
    let text = print::to_string(value);
    let (mantissa, exponent) = match text.split_once('e') {
        Some((m, e)) => (m, e.parse::<f64>().unwrap_or(0.0)),
        None => (&*text, 0.0),
    };
    let exponent = exponent + by;
    if exponent.trunc() != exponent {
        return f64::NAN;
    }
    format!("{mantissa}e{exponent}").parse().unwrap_or(f64::NAN)
}

/// Rounds half to even, at a number of decimals.
pub(crate) fn round_to(value: f64, decimals: f64) -> f64 {
    let shifted = if decimals != 0.0 { shift(value, decimals) } else { value };
    // Math.round: half up.
    let mut result = (shifted + 0.5).floor();
    if shifted.abs() >= 4_503_599_627_370_496.0 || shifted == 0.499_999_999_999_999_94 {
        result = shifted.round();
    }
    if (result - shifted).abs() == 0.5 && (result % 2.0).abs() == 1.0 {
        result -= 1.0;
    }
    if decimals != 0.0 {
        result = shift(result, -decimals);
    }
    if result == 0.0 { 0.0 } else { result }
}

pub(super) fn round<'a>(_: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(value) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    Ok(Value::number(round_to(value, num(call.arg(1)).unwrap_or(0.0))))
}

/// The number that a string spells, in JSON's way or as hexadecimal, octal or binary.
fn from_text(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let decimal = {
        let bytes = digits.as_bytes();
        let run = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut at = run(0);
        let mut ok = at > 0;
        if ok && bytes.get(at) == Some(&b'.') {
            let n = run(at + 1);
            ok = n > 0;
            at += 1 + n;
        }
        if ok && matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            let n = run(at);
            ok = n > 0;
            at += n;
        }
        ok && at == bytes.len()
    };
    if decimal {
        return text.parse::<f64>().ok().filter(|n| n.is_finite());
    }
    let radix = match text.get(..2)? {
        "0x" | "0X" => 16,
        "0o" | "0O" => 8,
        "0b" | "0B" => 2,
        _ => return None,
    };
    let mut value = 0.0;
    for c in text[2..].chars() {
        value = value * f64::from(radix) + f64::from(c.to_digit(radix)?);
    }
    (text.len() > 2).then_some(value)
}

pub(super) fn number<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let arg = call.arg(0);
    let value = match arg {
        Value::Undefined => return Ok(arg),
        Value::Number(_) => return Ok(arg),
        Value::Bool(b) => Some(f64::from(u8::from(b))),
        Value::String(text) => {
            run.tick(text.len() as u64 / 16)?;
            from_text(text)
        }
        _ => None,
    };
    match value {
        Some(value) => Ok(Value::number(value)),
        None => Err(Raise::new("D3030").index(1).value(run.show(arg)).into()),
    }
}
