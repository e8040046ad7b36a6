//! Integer pictures: `#,##0`, `A`, `i`, `Ww`, `1;o` and so on.

use super::words;
use crate::budget::Limit;
use crate::error::Raise;
use crate::eval::{Fail, R, Run};
use crate::number;

/// The zeros of the scripts whose digits a picture may use.
const ZEROS: [u32; 37] = [
    0x30, 0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0de6, 0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50,
    0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Lower,
    Title,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Primary {
    Decimal,
    Letters,
    Roman,
    Words,
    /// Anything else: a numbering sequence that is not supported, as in jsonata-js.
    Sequence(String),
}

/// A picture, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct IntegerFormat {
    pub(super) primary: Primary,
    pub(super) case: Case,
    pub(super) ordinal: bool,
    pub(super) zero: u32,
    /// `None` where the picture has no digits.
    pub(super) mandatory: Option<f64>,
    pub(super) optional: usize,
    /// One separator every so many digits.
    pub(super) regular: Option<(usize, char)>,
    /// Separators by their distance from the right, ascending.
    pub(super) separators: Vec<(usize, char)>,
    /// Digits to read where another number follows at once.
    pub(super) parse_width: Option<f64>,
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl IntegerFormat {
    /// Takes a picture apart.
    pub(crate) fn new(picture: &str) -> Result<Self, Box<Raise>> {
        let (primary, modifier) = match picture.rsplit_once(';') {
            Some((primary, modifier)) => (primary, modifier),
            None => (picture, ""),
        };
        let mut format = Self {
            primary: Primary::Decimal,
            case: Case::Lower,
            ordinal: modifier.starts_with('o'),
            zero: 0x30,
            mandatory: None,
            optional: 0,
            regular: None,
            separators: Vec::new(),
            parse_width: None,
        };
        let (kind, case) = match primary {
            "A" => (Primary::Letters, Case::Upper),
            "a" => (Primary::Letters, Case::Lower),
            "I" => (Primary::Roman, Case::Upper),
            "i" => (Primary::Roman, Case::Lower),
            "W" => (Primary::Words, Case::Upper),
            "Ww" => (Primary::Words, Case::Title),
            "w" => (Primary::Words, Case::Lower),
            _ => {
                format.digits(primary)?;
                return Ok(format);
            }
        };
        (format.primary, format.case) = (kind, case);
        Ok(format)
    }

    fn digits(&mut self, picture: &str) -> Result<(), Box<Raise>> {
        let mut zero = None;
        let (mut mandatory, mut place) = (0usize, 0);
        for c in picture.chars().rev() {
            let code = u32::from(c);
            if let Some(group) = ZEROS.iter().find(|z| (**z..**z + 10).contains(&code)) {
                mandatory += 1;
                place += 1;
                if zero.is_some_and(|z| z != *group) {
                    return Err(Raise::new("D3131"));
                }
                zero = Some(*group);
            } else if c == '#' {
                place += 1;
                self.optional += 1;
            } else {
                self.separators.push((place, c));
            }
        }
        let Some(zero) = zero else {
            self.primary = Primary::Sequence(picture.to_owned());
            self.optional = 0;
            return Ok(());
        };
        self.zero = zero;
        self.mandatory = Some(mandatory as f64);
        if let Some((_, character)) = self.separators.first().copied()
            && self.separators.iter().all(|(_, c)| *c == character)
        {
            let factor = self.separators.iter().map(|(p, _)| *p).reduce(gcd).unwrap_or(0);
            let places: std::collections::HashSet<usize> = self.separators.iter().map(|(p, _)| *p).collect();
            if factor > 0 && (1..=self.separators.len()).all(|i| places.contains(&(i * factor))) {
                self.regular = Some((factor, character));
            }
        }
        Ok(())
    }

    /// Formats a whole number.
    pub(super) fn format<'a>(&self, run: &Run<'a>, value: f64) -> R<String> {
        run.finite(value)?;
        if value.is_nan() {
            return Ok("NaN".to_owned());
        }
        let magnitude = value.abs();
        let text = match &self.primary {
            Primary::Letters => {
                words::to_letters(magnitude, if self.case == Case::Upper { b'A' } else { b'a' })
            }
            Primary::Roman => {
                let thousands = magnitude / 1000.0;
                if thousands > run.budget.bytes as f64 {
                    return Err(Fail::Over(Limit::Bytes));
                }
                run.tick(thousands as u64)?;
                run.arena.charge(thousands as usize)?;
                let text = words::to_roman(magnitude);
                if self.case == Case::Upper { text.to_uppercase() } else { text }
            }
            Primary::Words => {
                let text = words::to_words(magnitude, self.ordinal);
                match self.case {
                    Case::Upper => text.to_uppercase(),
                    Case::Lower => text.to_lowercase(),
                    Case::Title => text,
                }
            }
            Primary::Decimal => self.decimal(run, magnitude)?,
            Primary::Sequence(token) => {
                return Err(Raise::new("D3130").value(run.show_text(token.as_bytes())).into());
            }
        };
        Ok(if value < 0.0 { format!("-{text}") } else { text })
    }

    fn decimal<'a>(&self, run: &Run<'a>, value: f64) -> R<String> {
        let mut digits: Vec<char> = number::to_string(value).chars().collect();
        let missing = self.mandatory.unwrap_or(0.0) - digits.len() as f64;
        if missing > 0.0 {
            if missing > run.budget.bytes as f64 {
                return Err(Fail::Over(Limit::Bytes));
            }
            run.tick(missing as u64 / 8)?;
            run.arena.charge(missing as usize * std::mem::size_of::<char>())?;
            digits.splice(0..0, std::iter::repeat_n('0', missing as usize));
        }
        if self.zero != 0x30 {
            for digit in &mut digits {
                *digit = char::from_u32(u32::from(*digit) + self.zero - 0x30).unwrap_or(*digit);
            }
        }
        match self.regular {
            Some((every, separator)) => {
                let mut grouped = Vec::with_capacity(digits.len() * 2);
                for (i, digit) in digits.iter().enumerate() {
                    if i > 0 && (digits.len() - i).is_multiple_of(every) {
                        grouped.push(separator);
                    }
                    grouped.push(*digit);
                }
                digits = grouped;
            }
            None => {
                for (place, separator) in self.separators.iter().rev() {
                    run.tick(1 + digits.len() as u64 / 64)?;
                    match digits.len().checked_sub(*place) {
                        Some(at) => digits.insert(at, *separator),
                        None => {
                            // JavaScript takes a place before the start from the end.
                            let keep = (place - digits.len()).min(digits.len());
                            digits.drain(..digits.len() - keep);
                            digits.insert(0, *separator);
                        }
                    }
                }
            }
        }
        let mut text: String = digits.iter().collect();
        if self.ordinal {
            let teen = digits.len() > 1 && digits[digits.len() - 2] == '1';
            text.push_str(match digits.last() {
                Some('1') if !teen => "st",
                Some('2') if !teen => "nd",
                Some('3') if !teen => "rd",
                _ => "th",
            });
        }
        Ok(text)
    }

    /// A pattern that a number in this format matches.
    pub(super) fn pattern<'a>(&self, run: &Run<'a>) -> R<String> {
        Ok(match &self.primary {
            Primary::Letters if self.case == Case::Upper => "[A-Z]+".to_owned(),
            Primary::Letters => "[a-z]+".to_owned(),
            Primary::Roman if self.case == Case::Upper => "[MDCLXVI]+".to_owned(),
            Primary::Roman => "[mdclxvi]+".to_owned(),
            Primary::Words => {
                let mut all: Vec<String> = words::word_values().into_iter().map(|(word, _)| word).collect();
                all.push("and".to_owned());
                all.push("[\\-, ]".to_owned());
                format!("(?:{})+", all.join("|"))
            }
            Primary::Decimal => {
                let times = match self.parse_width {
                    Some(width) if width > 0.0 => format!("{{{width}}}"),
                    _ => "+".to_owned(),
                };
                format!("[0-9]{times}{}", if self.ordinal { "(?:th|st|nd|rd)" } else { "" })
            }
            Primary::Sequence(token) => {
                return Err(Raise::new("D3130").value(run.show_text(token.as_bytes())).into());
            }
        })
    }

    /// Reads a number in this format; NaN if it is none.
    pub(super) fn parse<'a>(&self, run: &Run<'a>, text: &str) -> R<f64> {
        Ok(match &self.primary {
            Primary::Letters => words::from_letters(text, if self.case == Case::Upper { b'A' } else { b'a' }),
            Primary::Roman if self.case == Case::Upper => words::from_roman(text),
            Primary::Roman => words::from_roman(&text.to_uppercase()),
            Primary::Words => words::from_words(&text.to_lowercase()),
            Primary::Decimal => {
                let mut digits: Vec<char> = text.chars().collect();
                if self.ordinal {
                    digits.truncate(digits.len().saturating_sub(2));
                }
                digits.retain(|c| match self.regular {
                    Some(_) => *c != ',',
                    None => !self.separators.iter().any(|(_, s)| s == c),
                });
                let ascii: String = digits
                    .iter()
                    .map(|c| {
                        (u32::from(*c) + 0x30).checked_sub(self.zero).and_then(char::from_u32).unwrap_or('x')
                    })
                    .collect();
                parse_int(&ascii)
            }
            Primary::Sequence(token) => {
                return Err(Raise::new("D3130").value(run.show_text(token.as_bytes())).into());
            }
        })
    }
}

/// JavaScript's `parseInt` in base ten: leading space, a sign, digits; NaN without a digit.
pub(super) fn parse_int(text: &str) -> f64 {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    let value: f64 = digits[..end].parse().unwrap_or(f64::NAN);
    if negative { -value } else { value }
}

/// `$formatInteger`.
pub(crate) fn format_integer<'a>(run: &Run<'a>, value: f64, picture: &str) -> R<String> {
    IntegerFormat::new(picture)?.format(run, value.floor())
}

/// `$parseInteger`.
pub(crate) fn parse_integer<'a>(run: &Run<'a>, text: &str, picture: &str) -> R<f64> {
    IntegerFormat::new(picture)?.parse(run, text)
}
