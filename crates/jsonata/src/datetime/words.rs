//! Numbers in English words, Roman numerals and letters, both ways.

const SMALL: [&str; 20] = [
    "Zero",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
    "Thirteen",
    "Fourteen",
    "Fifteen",
    "Sixteen",
    "Seventeen",
    "Eighteen",
    "Nineteen",
];
const SMALL_ORDINALS: [&str; 20] = [
    "Zeroth",
    "First",
    "Second",
    "Third",
    "Fourth",
    "Fifth",
    "Sixth",
    "Seventh",
    "Eighth",
    "Ninth",
    "Tenth",
    "Eleventh",
    "Twelfth",
    "Thirteenth",
    "Fourteenth",
    "Fifteenth",
    "Sixteenth",
    "Seventeenth",
    "Eighteenth",
    "Nineteenth",
];
const TENS: [&str; 8] = ["Twenty", "Thirty", "Forty", "Fifty", "Sixty", "Seventy", "Eighty", "Ninety"];
const LARGE: [&str; 4] = ["Thousand", "Million", "Billion", "Trillion"];

/// A number in words, capitalised. `value` is a whole number from 0.
pub(super) fn to_words(value: f64, ordinal: bool) -> String {
    let mut out = String::new();
    write_words(value, false, ordinal, &mut out);
    out
}

fn write_words(value: f64, continues: bool, ordinal: bool, out: &mut String) {
    if value < 100.0 {
        if continues {
            out.push_str(" and ");
        }
        let n = value as usize;
        let small = if ordinal { &SMALL_ORDINALS } else { &SMALL };
        if n < 20 {
            out.push_str(small[n]);
            return;
        }
        out.push_str(TENS[n / 10 - 2]);
        if !n.is_multiple_of(10) {
            out.push('-');
            out.push_str(small[n % 10]);
        } else if ordinal {
            out.pop();
            out.push_str("ieth");
        }
        return;
    }
    if continues {
        out.push_str(", ");
    }
    let rest = if value < 1000.0 {
        out.push_str(SMALL[(value / 100.0) as usize]);
        out.push_str(" Hundred");
        value % 100.0
    } else {
        let power = ((value.log10() / 3.0).floor() as usize).clamp(1, LARGE.len());
        let factor = 1000f64.powi(power as i32);
        let count = (value / factor).floor();
        write_words(count, false, false, out);
        out.push(' ');
        out.push_str(LARGE[power - 1]);
        value - count * factor
    };
    if rest > 0.0 {
        write_words(rest, true, ordinal, out);
    } else if ordinal {
        out.push_str("th");
    }
}

/// Every word that a number in words can have, in lower case, with its value.
pub(super) fn word_values() -> Vec<(String, f64)> {
    let mut all = Vec::new();
    for names in [SMALL, SMALL_ORDINALS] {
        all.extend(names.iter().enumerate().map(|(i, name)| (name.to_lowercase(), i as f64)));
    }
    let hundred = "Hundred";
    for (i, name) in TENS.iter().chain([&hundred]).enumerate() {
        let value = (i + 2) as f64 * 10.0;
        all.push((name.to_lowercase(), value));
        all.push((format!("{}ieth", name[..name.len() - 1].to_lowercase()), value));
    }
    all.push(("hundredth".to_owned(), 100.0));
    for (i, name) in LARGE.iter().enumerate() {
        let value = 1000f64.powi(i as i32 + 1);
        all.push((name.to_lowercase(), value));
        all.push((format!("{}th", name.to_lowercase()), value));
    }
    all
}

/// The number that lower-case words spell; NaN if a word is unknown.
pub(super) fn from_words(text: &str) -> f64 {
    let values: std::collections::HashMap<String, f64> = word_values().into_iter().collect();
    // ", " and " and " separate as single spaces and hyphens do.
    let mut parts = vec![String::new()];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let comma = rest.strip_prefix(',').filter(|r| r.starts_with(char::is_whitespace));
        let and = rest.get(1..).filter(|_| c.is_whitespace()).and_then(|r| r.strip_prefix("and"));
        let and = and.filter(|r| r.starts_with(char::is_whitespace));
        let separated = comma.or(and).and_then(|r| r.chars().next().map(|space| &r[space.len_utf8()..]));
        if let Some(next) = separated {
            rest = next;
            parts.push(String::new());
        } else {
            rest = &rest[c.len_utf8()..];
            if c.is_whitespace() || c == '-' || c == '\\' {
                parts.push(String::new());
            } else if let Some(last) = parts.last_mut() {
                last.push(c);
            }
        }
    }
    let mut segments = vec![0.0];
    for part in parts {
        let value = values.get(&part).copied().unwrap_or(f64::NAN);
        let mut top = segments.pop().unwrap_or(0.0);
        if value < 100.0 {
            if top >= 1000.0 {
                segments.push(top);
                top = 0.0;
            }
            segments.push(top + value);
        } else {
            segments.push(top * value);
        }
    }
    segments.iter().sum()
}

const NUMERALS: [(f64, &str); 13] = [
    (1000.0, "m"),
    (900.0, "cm"),
    (500.0, "d"),
    (400.0, "cd"),
    (100.0, "c"),
    (90.0, "xc"),
    (50.0, "l"),
    (40.0, "xl"),
    (10.0, "x"),
    (9.0, "ix"),
    (5.0, "v"),
    (4.0, "iv"),
    (1.0, "i"),
];

/// Lower-case Roman numerals. The caller has made sure that thousands are few.
pub(super) fn to_roman(value: f64) -> String {
    let mut out = "m".repeat((value / 1000.0).floor() as usize);
    let mut rest = value % 1000.0;
    for (worth, numeral) in NUMERALS {
        while rest >= worth {
            out.push_str(numeral);
            rest -= worth;
        }
    }
    out
}

/// The value of upper-case Roman numerals; NaN if a letter is none.
pub(super) fn from_roman(text: &str) -> f64 {
    let mut total = 0.0;
    let mut highest = 1.0;
    for c in text.chars().rev() {
        let value = match c {
            'M' => 1000.0,
            'D' => 500.0,
            'C' => 100.0,
            'L' => 50.0,
            'X' => 10.0,
            'V' => 5.0,
            'I' => 1.0,
            _ => return f64::NAN,
        };
        if value < highest {
            total -= value;
        } else {
            highest = value;
            total += value;
        }
    }
    total
}

/// a, b, ... z, aa, ab, ...
pub(super) fn to_letters(value: f64, first: u8) -> String {
    let mut letters = Vec::new();
    let mut rest = value;
    while rest > 0.0 {
        letters.push(char::from(first + ((rest - 1.0) % 26.0) as u8));
        rest = ((rest - 1.0) / 26.0).floor();
    }
    letters.iter().rev().collect()
}

/// The inverse of [`to_letters`].
pub(super) fn from_letters(text: &str, first: u8) -> f64 {
    let units: Vec<u16> = text.encode_utf16().collect();
    units
        .iter()
        .rev()
        .enumerate()
        .map(|(i, unit)| (f64::from(*unit) - f64::from(first) + 1.0) * 26f64.powi(i as i32))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for n in [
            0.0,
            7.0,
            19.0,
            20.0,
            42.0,
            100.0,
            101.0,
            342.0,
            999.0,
            1000.0,
            12_476.0,
            1e6 + 1.0,
            987_654_321.0,
        ] {
            assert_eq!(from_words(&to_words(n, false).to_lowercase()), n);
            assert_eq!(from_words(&to_words(n, true).to_lowercase()), n);
        }
        assert_eq!(to_words(12_476.0, false), "Twelve Thousand, Four Hundred and Seventy-Six");
        assert_eq!(to_words(30.0, true), "Thirtieth");
    }

    #[test]
    fn numerals_and_letters_read_back() {
        for n in 1..4000 {
            let n = f64::from(n);
            assert_eq!(from_roman(&to_roman(n).to_uppercase()), n);
            assert_eq!(from_letters(&to_letters(n, b'a'), b'a'), n);
        }
    }
}
