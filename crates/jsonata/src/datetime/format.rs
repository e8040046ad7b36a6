//! `$fromMillis` and `$now`.

use super::calendar::{DAY_MILLIS, MILLIS_MAX, civil, day_number, first_week, weekday};
use super::integer::{Case, format_integer, parse_int};
use super::picture::{self, Marker, Part};
use crate::error::Raise;
use crate::eval::{R, Run};

pub(super) const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// jsonata-js' own picture for a timezone without a picture.
const ISO_PICTURE: &str = "[Y0001]-[M01]-[D01]T[H01]:[m01]:[s01].[f001][Z01:01t]";

/// The first day of a month; months may overflow.
fn month_start(year: i64, month: i64) -> i64 {
    let months = year * 12 + month - 1;
    day_number(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1)
}

/// A numeric component of a time. `None` for components that are no number.
pub(super) fn component(millis: f64, component: char) -> Option<f64> {
    let millis = millis as i64;
    let day = millis.div_euclid(DAY_MILLIS as i64);
    let of_day = millis.rem_euclid(DAY_MILLIS as i64);
    let (year, month, date) = civil(day);
    let month = i64::from(month);
    let weeks = |start: i64| (day - start) as f64 / 7.0 + 1.0;
    let value = match component {
        'Y' => year,
        'M' => month,
        'D' => i64::from(date),
        'd' => day - month_start(year, 1) + 1,
        'F' => weekday(day),
        'W' | 'w' => {
            // Week of the year or of the month; the edges may belong to a neighbour.
            let (this, next, before, most) = if component == 'W' {
                (month_start(year, 1), month_start(year + 1, 1), month_start(year - 1, 1), 52.0)
            } else {
                (month_start(year, month), month_start(year, month + 1), month_start(year, month - 1), 4.0)
            };
            let mut week = weeks(first_week(this));
            if week > most {
                if day >= first_week(next) {
                    week = 1.0;
                }
            } else if week < 1.0 {
                week = weeks(first_week(before));
            }
            week.floor() as i64
        }
        'X' => {
            if day < first_week(month_start(year, 1)) {
                year - 1
            } else if day >= first_week(month_start(year + 1, 1)) {
                year + 1
            } else {
                year
            }
        }
        'x' => {
            let shift = if day < first_week(month_start(year, month)) {
                -1
            } else if day >= first_week(month_start(year, month + 1)) {
                1
            } else {
                0
            };
            (month - 1 + shift).rem_euclid(12) + 1
        }
        'H' => of_day / 3_600_000,
        'h' => match of_day / 3_600_000 % 12 {
            0 => 12,
            h => h,
        },
        'm' => of_day / 60_000 % 60,
        's' => of_day / 1_000 % 60,
        'f' => of_day % 1_000,
        _ => return None,
    };
    Some(value as f64)
}

fn cased(name: &str, case: Case) -> String {
    match case {
        Case::Upper => name.to_uppercase(),
        Case::Lower => name.to_lowercase(),
        Case::Title => name.to_owned(),
    }
}

/// Formats a time. `zone` is an offset as `+0100`, in hours and minutes.
pub(crate) fn format<'a>(run: &Run<'a>, millis: f64, picture: Option<&str>, zone: Option<&str>) -> R<String> {
    let out_of_range = || Raise::new("D1001").value(crate::number::to_string(millis));
    let offset = match zone {
        None => 0.0,
        Some(zone) => {
            let offset = parse_int(zone);
            if offset.is_nan() || offset.abs() > 99_99.0 {
                return Err(Raise::new("D3134").value(run.show_text(zone.as_bytes())).into());
            }
            offset
        }
    };
    // The sign belongs to both parts.
    let (hours, minutes) = ((offset / 100.0).trunc(), offset % 100.0);
    let local = (millis + (hours * 60.0 + minutes) * 60_000.0).trunc();
    if local.is_nan() || local.abs() > MILLIS_MAX {
        return Err(out_of_range().into());
    }
    if picture.is_none() && zone.is_none() {
        return Ok(super::iso(millis).ok_or_else(out_of_range)?);
    }
    let picture = picture.unwrap_or(ISO_PICTURE);
    run.tick(picture.len() as u64)?;
    run.arena.charge(picture.len().saturating_mul(16))?;
    let mut out = String::new();
    for part in picture::parse(picture)? {
        run.tick(1)?;
        match part {
            Part::Literal(text) => out.push_str(&text),
            Part::Marker(marker) => {
                let text = one(run, local, &marker, hours, minutes)?;
                run.arena.charge(text.len())?;
                out.push_str(&text);
            }
        }
    }
    Ok(out)
}

fn one<'a>(run: &Run<'a>, local: f64, marker: &Marker, hours: f64, minutes: f64) -> R<String> {
    let unnamed = || Raise::new("D3133").value(format!("\"{}\"", marker.component));
    Ok(match marker.component {
        'P' => {
            let name = if component(local, 'H') >= Some(12.0) { "pm" } else { "am" };
            if marker.names == Some(Case::Upper) { name.to_uppercase() } else { name.to_owned() }
        }
        'C' | 'E' => "ISO".to_owned(),
        'Z' | 'z' => zone(run, marker, hours, minutes)?,
        _ => {
            // An unknown component prints as JavaScript prints what it has no value for.
            let Some(mut value) = component(local, marker.component) else {
                return Ok("undefined".to_owned());
            };
            if marker.component == 'Y' && marker.year_digits != -1.0 {
                value %= 10f64.powf(marker.year_digits);
            }
            match (marker.names, &marker.integer) {
                (Some(case), _) => {
                    let name = match marker.component {
                        'M' | 'x' => MONTHS[(value as usize).clamp(1, 12) - 1],
                        'F' => DAYS[(value as usize).clamp(1, 7) - 1],
                        _ => return Err(unnamed().into()),
                    };
                    let name = cased(name, case);
                    match marker.width_max {
                        Some(max) if name.len() as f64 > max => {
                            name.chars().take(max.max(0.0) as usize).collect()
                        }
                        _ => name,
                    }
                }
                (None, Some(integer)) => integer.format(run, value)?,
                (None, None) => return Err(unnamed().into()),
            }
        }
    })
}

fn zone<'a>(run: &Run<'a>, marker: &Marker, hours: f64, minutes: f64) -> R<String> {
    let offset = hours * 100.0 + minutes;
    if offset == 0.0 && marker.zulu {
        return Ok("Z".to_owned());
    }
    let Some(integer) = &marker.integer else { return Ok(String::new()) };
    let mut text = if integer.regular.is_some() {
        integer.format(run, offset)?
    } else {
        match integer.mandatory {
            Some(1.0 | 2.0) => {
                let mut text = integer.format(run, hours)?;
                if hours == 0.0 && minutes < 0.0 {
                    text.insert(0, '-');
                }
                if minutes != 0.0 {
                    text.push(':');
                    text.push_str(&format_integer(run, minutes.abs(), "00")?);
                }
                text
            }
            Some(3.0 | 4.0) => integer.format(run, offset)?,
            other => {
                let shown = other.map_or("nothing".to_owned(), crate::number::to_string);
                return Err(Raise::new("D3134").value(shown).into());
            }
        }
    };
    if offset >= 0.0 {
        text.insert(0, '+');
    }
    if marker.component == 'z' {
        text.insert_str(0, "GMT");
    }
    Ok(text)
}
