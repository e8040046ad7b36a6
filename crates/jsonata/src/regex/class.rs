//! Sets of code points, and what ECMAScript takes for the same letter where case is ignored.

/// Inclusive ranges, or all but them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Class {
    pub(super) ranges: Vec<(u32, u32)>,
    pub(super) negated: bool,
}

pub(super) const DIGITS: &[(u32, u32)] = &[(0x30, 0x39)];
pub(super) const WORD: &[(u32, u32)] = &[(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
pub(super) const SPACE: &[(u32, u32)] = &[
    (0x09, 0x0d),
    (0x20, 0x20),
    (0xa0, 0xa0),
    (0x1680, 0x1680),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x202f, 0x202f),
    (0x205f, 0x205f),
    (0x3000, 0x3000),
    (0xfeff, 0xfeff),
];
pub(super) const LINE_ENDS: &[(u32, u32)] = &[(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)];
pub(super) const POINT_MAX: u32 = 0x10_ffff;

pub(super) fn is_word(c: u32) -> bool {
    c < 0x80 && (c as u8 == b'_' || (c as u8).is_ascii_alphanumeric())
}

pub(super) fn is_line_end(c: u32) -> bool {
    matches!(c, 0x0a | 0x0d | 0x2028 | 0x2029)
}

/// All code points outside of sorted ranges.
pub(super) fn complement(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    let mut next = 0;
    for &(from, to) in ranges {
        if from > next {
            out.push((next, from - 1));
        }
        next = to + 1;
    }
    if next <= POINT_MAX {
        out.push((next, POINT_MAX));
    }
    out
}

/// The letter that stands for all that differ in case only.
pub(super) fn canonical(c: u32) -> u32 {
    if c < 0x80 {
        return u32::from((c as u8).to_ascii_uppercase());
    }
    let Some(letter) = char::from_u32(c) else { return c };
    let mut upper = letter.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(u), None) if u32::from(u) >= 0x80 => u32::from(u),
        _ => c,
    }
}

impl Class {
    fn has(&self, c: u32) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c))
    }

    pub(super) fn matches(&self, c: u32, ignore_case: bool) -> bool {
        let found = if ignore_case {
            let upper = canonical(c);
            let lower =
                char::from_u32(c).map(char::to_lowercase).and_then(|mut l| match (l.next(), l.next()) {
                    (Some(l), None) => Some(u32::from(l)),
                    _ => None,
                });
            self.has(c)
                || self.has(upper)
                || lower.is_some_and(|l| canonical(l) == upper && self.has(l))
                || char::from_u32(upper)
                    .map(char::to_lowercase)
                    .and_then(|mut l| l.next())
                    .is_some_and(|l| canonical(u32::from(l)) == upper && self.has(u32::from(l)))
        } else {
            self.has(c)
        };
        found != self.negated
    }
}
