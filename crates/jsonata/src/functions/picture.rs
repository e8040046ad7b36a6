//! `$formatNumber`: decimal pictures of XPath's format-number, with jsonata-js' reading of them.

use super::numeric::round_to;
use super::{num, text};
use crate::error::Raise;
use crate::eval::{Call, R, Run};
use crate::number;
use crate::value::Value;
use crate::wtf8;

/// Digits that JavaScript's toFixed gives.
const DECIMALS_MAX: usize = 100;
/// UTF-16 units of a picture; the checks below look at each a few times.
const PICTURE_UNITS_MAX: usize = 100_000;

type Units = Vec<u16>;

struct Symbols {
    decimal: Units,
    grouping: Units,
    exponent: Units,
    minus: Units,
    percent: Units,
    per_mille: Units,
    zero: Units,
    digit: Units,
    separator: Units,
    family: Vec<u16>,
}

impl Symbols {
    fn new<'a>(run: &Run<'a>, options: Value<'a>) -> R<Self> {
        let get = |name: &str, default: &str| -> R<Units> {
            if let Value::Object(object) = options
                && let Value::String(text) = run.get(object, name.as_bytes())?
            {
                return Ok(wtf8::units(text).collect());
            }
            Ok(default.encode_utf16().collect())
        };
        let zero = get("zero-digit", "0")?;
        let first = zero.first().copied().unwrap_or(0);
        Ok(Self {
            decimal: get("decimal-separator", ".")?,
            grouping: get("grouping-separator", ",")?,
            exponent: get("exponent-separator", "e")?,
            minus: get("minus-sign", "-")?,
            percent: get("percent", "%")?,
            per_mille: get("per-mille", "\u{2030}")?,
            digit: get("digit", "#")?,
            separator: get("pattern-separator", ";")?,
            family: (0..10).map(|i| first.wrapping_add(i)).collect(),
            zero,
        })
    }

    fn is_family(&self, unit: u16) -> bool {
        self.family.contains(&unit)
    }

    fn is_digit(&self, unit: u16) -> bool {
        self.is_family(unit) || self.digit == [unit]
    }

    fn is_active(&self, unit: u16) -> bool {
        self.is_family(unit)
            || [&self.decimal, &self.exponent, &self.grouping, &self.digit, &self.separator]
                .iter()
                .any(|s| **s == [unit])
    }
}

fn find(text: &[u16], what: &[u16], from: usize) -> Option<usize> {
    if what.is_empty() {
        return (from <= text.len()).then_some(from);
    }
    (from..=text.len().checked_sub(what.len())?).find(|i| text[*i..].starts_with(what))
}

fn rfind(text: &[u16], what: &[u16]) -> Option<usize> {
    (0..=text.len().checked_sub(what.len())?).rev().find(|i| text[*i..].starts_with(what))
}

fn split(text: &[u16], by: &[u16]) -> Vec<Units> {
    if by.is_empty() {
        return text.iter().map(|u| vec![*u]).collect();
    }
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(at) = find(text, by, from) {
        parts.push(text[from..at].to_vec());
        from = at + by.len();
    }
    parts.push(text[from..].to_vec());
    parts
}

struct Parts {
    prefix: Units,
    suffix: Units,
    active: Units,
    mantissa: Units,
    exponent: Option<Units>,
    integer: Units,
    fraction: Units,
    whole: Units,
}

fn parts(picture: &[u16], s: &Symbols) -> Parts {
    let shows = |unit: &u16| s.is_active(*unit) && s.exponent != [*unit];
    let start = picture.iter().position(shows).unwrap_or(0);
    let end = picture.iter().rposition(shows).map_or(picture.len(), |i| i + 1);
    let (prefix, suffix) = (picture[..start].to_vec(), picture[end..].to_vec());
    let active = picture[start.min(end)..end].to_vec();
    let (mantissa, exponent) = match find(picture, &s.exponent, prefix.len()) {
        // The place is one of the whole picture but used within its active part, as jsonata-js
        // does; the two differ where there is a prefix.
        Some(at) if at <= picture.len() - suffix.len() => {
            let cut = |i: usize| i.min(active.len());
            (active[..cut(at)].to_vec(), Some(active[cut(at + 1)..].to_vec()))
        }
        _ => (active.clone(), None),
    };
    let (integer, fraction) = match find(&mantissa, &s.decimal, 0) {
        Some(at) => (mantissa[..at].to_vec(), mantissa[(at + 1).min(mantissa.len())..].to_vec()),
        None => (mantissa.clone(), suffix.clone()),
    };
    Parts { prefix, suffix, active, mantissa, exponent, integer, fraction, whole: picture.to_vec() }
}

fn twice(text: &[u16], what: &[u16]) -> bool {
    find(text, what, 0) != rfind(text, what)
}

/// The last rule that a sub-picture breaks.
fn broken_rule(p: &Parts, s: &Symbols) -> Option<&'static str> {
    let mut error = None;
    let mut check = |broken: bool, code| {
        if broken {
            error = Some(code);
        }
    };
    let whole = &p.whole;
    let has = |what: &Units| find(whole, what, 0).is_some();
    let digits = |part: &[u16]| part.iter().any(|u| s.is_family(*u));
    check(twice(whole, &s.decimal), "D3081");
    check(twice(whole, &s.percent), "D3082");
    check(twice(whole, &s.per_mille), "D3083");
    check(has(&s.percent) && has(&s.per_mille), "D3084");
    check(!p.mantissa.iter().any(|u| s.is_digit(*u)), "D3085");
    check(p.active.iter().any(|u| !s.is_active(*u)), "D3086");
    match find(whole, &s.decimal, 0) {
        Some(at) => {
            let beside = |i: Option<usize>| i.and_then(|i| whole.get(i)).is_some_and(|u| s.grouping == [*u]);
            check(beside(at.checked_sub(1)) || beside(Some(at + 1)), "D3087");
        }
        None => check(p.integer.last().is_some_and(|u| s.grouping == [*u]), "D3088"),
    }
    let double = [s.grouping.as_slice(), s.grouping.as_slice()].concat();
    check(find(whole, &double, 0).is_some(), "D3089");
    if let Some(at) = find(&p.integer, &s.digit, 0) {
        check(digits(&p.integer[..at]), "D3090");
    }
    if let Some(at) = rfind(&p.fraction, &s.digit) {
        check(digits(&p.fraction[at..]), "D3091");
    }
    if let Some(exponent) = &p.exponent {
        check(!exponent.is_empty() && (has(&s.percent) || has(&s.per_mille)), "D3092");
        check(exponent.is_empty() || exponent.iter().any(|u| !s.is_family(*u)), "D3093");
    }
    error
}

struct Plan {
    grouping: Vec<usize>,
    regular: usize,
    fraction_grouping: Vec<usize>,
    integer_min: usize,
    scaling: usize,
    fraction_min: usize,
    fraction_max: usize,
    exponent_min: usize,
    prefix: Units,
    suffix: Units,
    whole: Units,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn plan(p: Parts, s: &Symbols) -> Plan {
    let positions = |part: &[u16], to_left: bool| {
        let mut out = Vec::new();
        let mut at = find(part, &s.grouping, 0);
        while let Some(i) = at {
            let side = if to_left { &part[..i.min(part.len())] } else { &part[i.min(part.len())..] };
            out.push(side.iter().filter(|u| s.is_digit(**u)).count());
            // Further separators are looked for in the integer part, as jsonata-js does.
            at = find(&p.integer, &s.grouping, i + 1);
        }
        out
    };
    let grouping = positions(&p.integer, false);
    let fraction_grouping = positions(&p.fraction, true);
    let factor = grouping.iter().copied().reduce(gcd).unwrap_or(0);
    let regular = if (1..=grouping.len()).all(|i| grouping.contains(&(i * factor))) { factor } else { 0 };
    let family = |part: &[u16]| part.iter().filter(|u| s.is_family(**u)).count();
    let mut integer_min = family(&p.integer);
    let scaling = integer_min;
    let mut fraction_min = family(&p.fraction);
    let mut fraction_max = p.fraction.iter().filter(|u| s.is_digit(**u)).count();
    let has_exponent = p.exponent.is_some();
    if integer_min == 0 && fraction_max == 0 {
        if has_exponent {
            (fraction_min, fraction_max) = (1, 1);
        } else {
            integer_min = 1;
        }
    }
    if has_exponent && integer_min == 0 && find(&p.integer, &s.digit, 0).is_some() {
        integer_min = 1;
    }
    if integer_min == 0 && fraction_min == 0 {
        fraction_min = 1;
    }
    Plan {
        grouping,
        regular,
        fraction_grouping,
        integer_min,
        scaling,
        fraction_min,
        fraction_max,
        exponent_min: p.exponent.as_deref().map_or(0, family),
        prefix: p.prefix,
        suffix: p.suffix,
        whole: p.whole,
    }
}

fn digits(value: f64, decimals: usize, s: &Symbols) -> Units {
    number::to_fixed(value, decimals)
        .bytes()
        .map(|b| if b.is_ascii_digit() { s.family[usize::from(b - b'0')] } else { u16::from(b) })
        .collect()
}

fn insert(text: &mut Units, at: i64, what: &[u16]) {
    // A place before the start counts from the end, as in JavaScript's slice.
    let len = text.len() as i64;
    let at = if at < 0 { (len + at).max(0) } else { at.min(len) } as usize;
    text.splice(at..at, what.iter().copied());
}

pub(super) fn format_number<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(value) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    run.finite(value)?;
    let picture = text(call.arg(1)).unwrap_or(b"");
    // A unit takes at most three bytes.
    if picture.len() > PICTURE_UNITS_MAX * 3 {
        return Err(Raise::new("D3086").into());
    }
    run.tick(picture.len() as u64 * 4)?;
    let picture: Units = wtf8::units(picture).collect();
    if picture.len() > PICTURE_UNITS_MAX {
        return Err(Raise::new("D3086").into());
    }
    run.arena.charge(picture.len() * 32)?;
    let s = Symbols::new(run, call.arg(2))?;
    let pictures = split(&picture, &s.separator);
    if pictures.len() > 2 {
        return Err(Raise::new("D3080").into());
    }
    let parts: Vec<Parts> = pictures.iter().map(|p| self::parts(p, &s)).collect();
    if let Some(code) = parts.iter().find_map(|p| broken_rule(p, &s)) {
        return Err(Raise::new(code).into());
    }
    let mut plans: Vec<Plan> = parts.into_iter().map(|p| plan(p, &s)).collect();
    let negative = value < 0.0;
    let own_negative = plans.len() > 1;
    let mut plan = plans.swap_remove(if negative && own_negative { 1 } else { 0 });
    if negative && !own_negative {
        plan.prefix = [s.minus.as_slice(), &plan.prefix].concat();
    }
    // Separators cost a shift of all that follows, so their number times the length is bounded.
    run.tick((plan.grouping.len() as u64 + plan.fraction_grouping.len() as u64) * 16)?;
    if plan.fraction_max > DECIMALS_MAX {
        return Err(Raise::new("D3085").value(plan.fraction_max.to_string()).into());
    }
    let adjusted = if find(&plan.whole, &s.percent, 0).is_some() {
        value * 100.0
    } else if find(&plan.whole, &s.per_mille, 0).is_some() {
        value * 1000.0
    } else {
        value
    };
    let (mut mantissa, mut exponent) = (adjusted, None);
    if plan.exponent_min > 0 {
        let most = 10f64.powi(plan.scaling as i32);
        let least = 10f64.powi(plan.scaling as i32 - 1);
        let mut e = 0i32;
        if mantissa != 0.0 && mantissa.is_finite() {
            while mantissa.abs() < least && e > -2000 {
                mantissa *= 10.0;
                e -= 1;
            }
            while mantissa.abs() > most && e < 2000 {
                mantissa /= 10.0;
                e += 1;
            }
        }
        exponent = Some(e);
    }
    let rounded = round_to(mantissa, plan.fraction_max as f64);
    let mut out = digits(rounded, plan.fraction_max, &s);
    match out.iter().position(|u| *u == u16::from(b'.')) {
        Some(at) => {
            out.splice(at..=at, s.decimal.iter().copied());
        }
        None => out.extend_from_slice(&s.decimal),
    }
    let zero = s.family[0];
    let leading = out.iter().take_while(|u| **u == zero).count();
    out.drain(..leading);
    let trailing = out.iter().rev().take_while(|u| **u == zero).count();
    out.truncate(out.len() - trailing);
    let decimal_at = |out: &Units| find(out, &s.decimal, 0).map_or(-1, |i| i as i64);
    let at = decimal_at(&out);
    let left = plan.integer_min as i64 - at;
    let right = plan.fraction_min as i64 - (out.len() as i64 - at - 1);
    let pad = |n: i64| -> Units { (0..n.max(0)).flat_map(|_| s.zero.iter().copied()).collect() };
    let mut padded = pad(left);
    padded.extend_from_slice(&out);
    padded.extend(pad(right));
    out = padded;
    let mut at = decimal_at(&out);
    if plan.regular > 0 {
        let groups = (at - 1).div_euclid(plan.regular as i64);
        for group in 1..=groups {
            run.tick(1 + out.len() as u64 / 64)?;
            insert(&mut out, at - group * plan.regular as i64, &s.grouping);
        }
    } else {
        for position in &plan.grouping {
            run.tick(1 + out.len() as u64 / 64)?;
            insert(&mut out, at - *position as i64, &s.grouping);
            at += 1;
        }
    }
    at = decimal_at(&out);
    for position in &plan.fraction_grouping {
        run.tick(1 + out.len() as u64 / 64)?;
        insert(&mut out, *position as i64 + at + 1, &s.grouping);
    }
    at = decimal_at(&out);
    if find(&plan.whole, &s.decimal, 0).is_none() || at == out.len() as i64 - 1 {
        out.pop();
    }
    if let Some(exponent) = exponent {
        let text = digits(f64::from(exponent), 0, &s);
        let missing = plan.exponent_min as i64 - text.len() as i64;
        out.extend_from_slice(&s.exponent);
        if exponent < 0 {
            out.extend_from_slice(&s.minus);
        }
        out.extend(pad(missing));
        out.extend(text);
    }
    let all = [plan.prefix.as_slice(), &out, &plan.suffix].concat();
    run.string(&wtf8::from_units(&all))
}

pub(super) fn format_base<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(value) = num(call.arg(0)) else { return Ok(Value::Undefined) };
    let value = round_to(value, 0.0);
    let radix = num(call.arg(1)).map_or(10.0, |r| round_to(r, 0.0));
    if !(2.0..=36.0).contains(&radix) {
        return Err(Raise::new("D3100").value(number::to_string(radix)).into());
    }
    if radix == 10.0 || !value.is_finite() {
        return run.string(number::print(value).as_bytes());
    }
    let mut digits = Vec::new();
    let mut rest = value.abs();
    // An integer has at most 1024 binary digits; remainders are exact.
    while rest >= 1.0 {
        let digit = (rest % radix) as u32;
        digits.push(char::from_digit(digit, radix as u32).map_or(b'0', |c| c as u8));
        rest = ((rest - f64::from(digit)) / radix).floor();
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    if value < 0.0 {
        digits.push(b'-');
    }
    digits.reverse();
    run.string(&digits)
}
