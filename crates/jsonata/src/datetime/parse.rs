//! `$toMillis`.

use super::calendar::{DAY_MILLIS, civil, utc};
use super::format::{DAYS, MONTHS, component};
use super::integer::parse_int;
use super::picture::{self, Marker, Part};
use crate::budget::Limit;
use crate::error::Raise;
use crate::eval::{Fail, R, Run};
use crate::regex::Regex;

/// UTF-16 units of a picture that is parsed with.
const PICTURE_BYTES_MAX: usize = 10_000;

/// Milliseconds of an ISO 8601 timestamp; `None` if it is none. A time without an offset is UTC.
pub(crate) fn parse_iso(text: &str) -> Option<f64> {
    let b = text.as_bytes();
    let mut at = 0;
    let number = |at: &mut usize, digits: usize| -> Option<f64> {
        let part = b.get(*at..*at + digits)?;
        *at += digits;
        part.iter().try_fold(0.0, |n, d| d.is_ascii_digit().then(|| n * 10.0 + f64::from(d - b'0')))
    };
    let year = number(&mut at, 4)?;
    let (mut month, mut date) = (1.0, 1.0);
    // `-0100` and `-01:00` are offsets, `-01` before the end or a further part is not.
    let is_part = |at: usize, first: u8| {
        b.get(at) == Some(&b'-')
            && b.get(at + 1).is_some_and(|d| *d <= first)
            && b.get(at + 3).is_none_or(|c| b"-T.+Z".contains(c))
    };
    if is_part(at, b'1') {
        at += 1;
        month = number(&mut at, 2)?;
        if is_part(at, b'3') {
            at += 1;
            date = number(&mut at, 2)?;
        }
    }
    let (mut hour, mut minute, mut second, mut milli) = (0.0, 0.0, 0.0, 0.0);
    if b.get(at) == Some(&b'T') {
        at += 1;
        hour = number(&mut at, 2)?;
        for part in [&mut minute, &mut second] {
            if b.get(at) != Some(&b':') {
                return None;
            }
            at += 1;
            *part = number(&mut at, 2)?;
        }
    }
    if b.get(at) == Some(&b'.') {
        at += 1;
        let digits = b[at..].iter().take_while(|d| d.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let mut place = 100.0;
        for d in &b[at..at + digits.min(3)] {
            milli += f64::from(d - b'0') * place;
            place /= 10.0;
        }
        at += digits;
    }
    let mut offset = 0.0;
    match b.get(at) {
        None => {}
        Some(b'Z') => at += 1,
        Some(sign @ (b'+' | b'-')) => {
            at += 1;
            let hours = number(&mut at, 2)?;
            if b.get(at) == Some(&b':') {
                at += 1;
            }
            let minutes = number(&mut at, 2)?;
            if hours > 23.0 || minutes > 59.0 {
                return None;
            }
            offset = (hours * 60.0 + minutes) * if *sign == b'-' { -60_000.0 } else { 60_000.0 };
        }
        Some(_) => return None,
    }
    let midnight_after = hour == 24.0 && minute == 0.0 && second == 0.0 && milli == 0.0;
    let valid = at == b.len()
        && (1.0..=12.0).contains(&month)
        && (1.0..=31.0).contains(&date)
        && (hour < 24.0 || midnight_after)
        && minute < 60.0
        && second < 60.0;
    if !valid {
        return None;
    }
    // Four digits are the year itself, also below 100.
    let day = super::calendar::day_number(year as i64, month as u32, 1) as f64 + date - 1.0;
    Some(day * DAY_MILLIS + hour * 3_600_000.0 + minute * 60_000.0 + second * 1_000.0 + milli - offset)
}

/// What a marker's text means; NaN if nothing.
fn value<'a>(run: &Run<'a>, marker: &Marker, text: &str) -> R<f64> {
    let named = |names: &[&str]| {
        let cut = |name: &str| match marker.width_max {
            Some(max) if max > 0.0 => name.chars().take(max as usize).collect(),
            _ => name.to_owned(),
        };
        names.iter().position(|name| cut(name) == text).map_or(f64::NAN, |i| i as f64 + 1.0)
    };
    Ok(match (marker.component, &marker.integer) {
        ('Z' | 'z', integer) => {
            let text = if marker.component == 'z' { text.get(3..).unwrap_or("") } else { text };
            let separator = integer.as_ref().and_then(|i| i.regular).map(|(_, c)| c);
            let (hours, minutes) = match separator.and_then(|c| text.split_once(c)) {
                Some((hours, minutes)) => (parse_int(hours), parse_int(minutes)),
                None if text.len() <= 3 => (parse_int(text), 0.0),
                None => (parse_int(&text[..3]), parse_int(&text[3..])),
            };
            // The sign belongs to both parts.
            let minutes = if text.starts_with('-') { -minutes } else { minutes };
            hours * 60.0 + minutes
        }
        ('f', _) => {
            let digits: String = text.chars().take(3).collect();
            format!("0.{digits}").parse::<f64>().unwrap_or(f64::NAN) * 1000.0
        }
        (_, Some(integer)) => integer.parse(run, text)?,
        ('M' | 'x', None) => named(&MONTHS),
        ('F', None) => named(&DAYS),
        ('P', None) => match text {
            "am" | "AM" => 0.0,
            "pm" | "PM" => 1.0,
            _ => f64::NAN,
        },
        (other, None) => return Err(Raise::new("D3133").value(format!("\"{other}\"")).into()),
    })
}

fn pattern<'a>(run: &Run<'a>, part: &Part) -> R<String> {
    Ok(match part {
        Part::Literal(text) => {
            let mut out = String::new();
            for c in text.chars() {
                if ".*+?^${}()|[]\\".contains(c) {
                    out.push('\\');
                }
                out.push(c);
            }
            out
        }
        Part::Marker(Marker { component: component @ ('Z' | 'z'), integer, .. }) => {
            let prefix = if *component == 'z' { "GMT" } else { "" };
            let rest = integer
                .as_ref()
                .and_then(|i| i.regular)
                .map_or(String::new(), |(_, c)| format!("\\u{:04x}[0-9]+", u32::from(c)));
            format!("{prefix}[-+][0-9]+{rest}")
        }
        Part::Marker(Marker { component: 'f', .. }) => "[0-9]+".to_owned(),
        Part::Marker(Marker { integer: Some(integer), .. }) => integer.pattern(run)?,
        Part::Marker(marker) => {
            if !matches!(marker.component, 'M' | 'x' | 'F' | 'P') {
                return Err(Raise::new("D3133").value(format!("\"{}\"", marker.component)).into());
            }
            "[a-zA-Z]+".to_owned()
        }
    })
}

/// Milliseconds of a text in the form of a picture; `None` if it does not match.
pub(crate) fn parse_with_picture<'a>(run: &Run<'a>, text: &'a [u8], picture: &str) -> R<Option<f64>> {
    run.tick(picture.len() as u64 * 8)?;
    run.arena.charge(picture.len().saturating_mul(64))?;
    if picture.len() > PICTURE_BYTES_MAX {
        return Err(Raise::new("D3132").value("a picture of this length").into());
    }
    let parts = picture::parse(picture)?;
    let mut whole = "^".to_owned();
    for part in &parts {
        whole.push('(');
        whole.push_str(&pattern(run, part)?);
        whole.push(')');
    }
    whole.push('$');
    let units: Vec<u16> = whole.encode_utf16().collect();
    let regex = Regex::compile(&units, true, false).map_err(|text| Raise::new("S0303").text(text))?;
    let spans = regex.find(text, 0, &run.regex_steps_left).map_err(|_| Fail::Over(Limit::RegexSteps))?;
    let Some(spans) = spans else { return Ok(None) };
    let mut found: Vec<(char, f64)> = Vec::new();
    for (part, span) in parts.iter().zip(spans.iter().skip(1)) {
        let (Part::Marker(marker), Some((from, to))) = (part, span) else { continue };
        let value = value(run, marker, &crate::wtf8::to_str(&text[*from..*to]))?;
        found.retain(|(c, _)| *c != marker.component);
        // A name that is unknown counts as not given.
        if marker.integer.is_some() || !value.is_nan() {
            found.push((marker.component, value));
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let get = |c: char| found.iter().find(|(k, _)| *k == c).map(|(_, v)| *v);
    // Which components are given, as bits.
    let mask = |order: &str| {
        order.chars().fold(0u32, |m, c| m << 1 | u32::from(get(c).is_some_and(|v| v != 0.0 && !v.is_nan())))
    };
    let only = |mask: u32, kind: u32| mask & !kind == 0 && mask & kind != 0;
    let date = mask("YXMxWwdD");
    let year_and_day = !only(date, 0b1010_0001) && only(date, 0b1000_0010);
    let month_weeks = only(date, 0b0101_0100);
    let year_weeks = !month_weeks && only(date, 0b0100_1000);
    let time = mask("PHhmsf");
    let half_days = !only(time, 0b01_0111) && only(time, 0b10_1111);
    let order = match (year_and_day, month_weeks, year_weeks) {
        (true, _, _) => "YD",
        (_, true, _) => "XxwF",
        (_, _, true) => "XWF",
        _ => "YMD",
    };
    let mut parts: Vec<(char, f64)> = Vec::new();
    let (mut begun, mut ended) = (false, false);
    for c in order.chars().chain(if half_days { "Phmsf" } else { "Hmsf" }.chars()) {
        let value = match get(c) {
            Some(value) => {
                begun = true;
                if ended {
                    return Err(Raise::new("D3136").into());
                }
                value
            }
            None if begun => {
                ended = true;
                if "MDd".contains(c) { 1.0 } else { 0.0 }
            }
            // What stands before the first given component is taken from the clock.
            None => component(run.now_millis as f64, c).unwrap_or(0.0),
        };
        parts.push((c, value));
    }
    if month_weeks || year_weeks {
        return Err(Raise::new("D3136").into());
    }
    let part = |c: char| parts.iter().find(|(k, _)| *k == c).map(|(_, v)| *v);
    let year = part('Y').unwrap_or(f64::NAN);
    let (mut month, mut day) =
        (part('M').filter(|m| *m > 0.0).map_or(0.0, |m| m - 1.0), part('D').unwrap_or(1.0));
    if year_and_day {
        let Some(first) = utc(year, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0) else { return Ok(None) };
        let of_year = get('d').unwrap_or(1.0);
        let (_, m, d) = civil(((first / DAY_MILLIS) + of_year - 1.0) as i64);
        (month, day) = (f64::from(m) - 1.0, f64::from(d));
    }
    let hour = if half_days {
        let hour = part('h').unwrap_or(0.0);
        (if hour == 12.0 { 0.0 } else { hour }) + if part('P') == Some(1.0) { 12.0 } else { 0.0 }
    } else {
        part('H').unwrap_or(0.0)
    };
    let rest = |c| part(c).unwrap_or(0.0);
    let Some(mut millis) = utc(year, month, day, hour, rest('m'), rest('s'), rest('f')) else {
        return Ok(None);
    };
    if let Some(zone) = get('Z').filter(|z| *z != 0.0).or(get('z')) {
        millis -= zone * 60_000.0;
    }
    Ok(Some(millis))
}
