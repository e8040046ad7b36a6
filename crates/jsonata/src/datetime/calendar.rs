//! Days and their names in the civil calendar.

/// Milliseconds of a day.
pub(crate) const DAY_MILLIS: f64 = 86_400_000.0;
/// JavaScript's dates reach this far from 1970.
pub(crate) const MILLIS_MAX: f64 = 8.64e15;

/// Year, month (1 to 12) and day of a day number counted from 1970-01-01.
pub(crate) fn civil(day: i64) -> (i64, u32, u32) {
    // Years begin in March here, so that the leap day is the last of a year.
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, date)
}

/// The day number of a date.
pub(crate) fn day_number(year: i64, month: u32, date: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let of_year = (153 * shifted + 2) / 5 + i64::from(date) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// `2017-11-07T15:12:37.121Z`; `None` if the time is out of range.
pub(crate) fn iso(millis: f64) -> Option<String> {
    let millis = millis.trunc();
    if millis.is_nan() || millis.abs() > MILLIS_MAX {
        return None;
    }
    let millis = millis as i64;
    let (year, month, date) = civil(millis.div_euclid(DAY_MILLIS as i64));
    let of_day = millis.rem_euclid(DAY_MILLIS as i64);
    let (h, m, s, f) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    Some(format!("{year:04}-{month:02}-{date:02}T{h:02}:{m:02}:{s:02}.{f:03}Z"))
}

/// Day of the week from 1 (Monday) to 7.
pub(crate) fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7) + 1
}

/// The Monday of the first ISO week of the year or month that begins on day `first`.
pub(crate) fn first_week(first: i64) -> i64 {
    let weekday = weekday(first);
    if weekday > 4 { first + 8 - weekday } else { first - (weekday - 1) }
}

/// `Date.UTC`: parts may overflow into each other; `None` if one is not a number or the result
/// is out of range.
pub(crate) fn utc(
    year: f64,
    month: f64,
    date: f64,
    hour: f64,
    minute: f64,
    second: f64,
    milli: f64,
) -> Option<f64> {
    let all = [year, month, date, hour, minute, second, milli].map(f64::trunc);
    if all.iter().any(|n| n.is_nan() || n.abs() > MILLIS_MAX) {
        return None;
    }
    let [year, month, date, hour, minute, second, milli] = all;
    // Two digits are years of the 20th century, as in JavaScript.
    let year = if (0.0..=99.0).contains(&year) { year + 1900.0 } else { year };
    let months = year * 12.0 + month;
    if months.abs() > 4e6 * 12.0 {
        return None;
    }
    let first = day_number((months as i64).div_euclid(12), (months as i64).rem_euclid(12) as u32 + 1, 1);
    let day = first as f64 + date - 1.0;
    let millis = day * DAY_MILLIS + hour * 3_600_000.0 + minute * 60_000.0 + second * 1_000.0 + milli;
    (millis.abs() <= MILLIS_MAX).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_agree() {
        for day in (-1_000_000..1_000_000).step_by(97) {
            let (y, m, d) = civil(day);
            assert_eq!(day_number(y, m, d), day);
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
    }
}
