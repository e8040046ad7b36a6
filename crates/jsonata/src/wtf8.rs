//! Strings are WTF-8: UTF-8 that may also hold a surrogate that has no partner, as JavaScript's
//! strings can (`"\ud800"`). Invariant: two halves that stand together are always one code
//! point, so equal strings have equal bytes. JSONata counts code points in some functions and
//! UTF-16 units in others; both are here.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Decodes the code point at the start of `bytes` (which is not empty) and its length.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> (u32, usize) {
    let b0 = u32::from(bytes[0]);
    let next = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0x80)) & 0x3f;
    if b0 < 0x80 {
        (b0, 1)
    } else if b0 < 0xe0 {
        ((b0 & 0x1f) << 6 | next(1), 2.min(bytes.len()))
    } else if b0 < 0xf0 {
        ((b0 & 0x0f) << 12 | next(1) << 6 | next(2), 3.min(bytes.len()))
    } else {
        ((b0 & 0x07) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4.min(bytes.len()))
    }
}

/// The code points of a string.
pub(crate) fn code_points(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (c, n) = decode(rest);
        rest = &rest[n..];
        Some(c)
    })
}

/// The UTF-16 units of a string.
pub(crate) fn units(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let mut low = None;
    let mut points = code_points(bytes);
    std::iter::from_fn(move || {
        if let Some(unit) = low.take() {
            return Some(unit);
        }
        let c = points.next()?;
        if c < 0x10000 {
            Some(c as u16)
        } else {
            low = Some(0xdc00 | ((c - 0x10000) & 0x3ff) as u16);
            Some(0xd800 | ((c - 0x10000) >> 10) as u16)
        }
    })
}

/// Number of code points.
pub(crate) fn len_points(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&b| b & 0xc0 != 0x80).count()
}

/// Number of UTF-16 units.
pub(crate) fn len_units(bytes: &[u8]) -> usize {
    bytes.iter().map(|&b| usize::from(b & 0xc0 != 0x80) + usize::from(b >= 0xf0)).sum()
}

/// The byte index of the code point with this number, or the length if there are fewer.
pub(crate) fn byte_of_point(bytes: &[u8], point: usize) -> usize {
    if bytes.is_ascii() {
        return point.min(bytes.len());
    }
    bytes.iter().enumerate().filter(|(_, b)| **b & 0xc0 != 0x80).nth(point).map_or(bytes.len(), |(i, _)| i)
}

/// Encodes a code point or lone surrogate.
#[inline]
pub(crate) fn encode(c: u32) -> ([u8; 4], usize) {
    if c < 0x80 {
        ([c as u8, 0, 0, 0], 1)
    } else if c < 0x800 {
        ([0xc0 | (c >> 6) as u8, 0x80 | (c & 0x3f) as u8, 0, 0], 2)
    } else if c < 0x10000 {
        ([0xe0 | (c >> 12) as u8, 0x80 | (c >> 6 & 0x3f) as u8, 0x80 | (c & 0x3f) as u8, 0], 3)
    } else {
        (
            [
                0xf0 | (c >> 18) as u8,
                0x80 | (c >> 12 & 0x3f) as u8,
                0x80 | (c >> 6 & 0x3f) as u8,
                0x80 | (c & 0x3f) as u8,
            ],
            4,
        )
    }
}

/// Whether these bytes begin with the second half of a surrogate pair that has no partner.
pub(crate) fn starts_with_low(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[0] == 0xed && bytes[1] >= 0xb0
}

/// The first half that stands without a partner at the end of these bytes.
pub(crate) fn ends_with_high(bytes: &[u8]) -> bool {
    let n = bytes.len();
    n >= 3 && bytes[n - 3] == 0xed && (0xa0..0xb0).contains(&bytes[n - 2])
}

/// Whether a string has a surrogate without a partner.
pub(crate) fn has_lone(bytes: &[u8]) -> bool {
    memchr::memchr_iter(0xed, bytes).any(|i| bytes.get(i + 1).is_some_and(|b| *b >= 0xa0))
}

/// Appends `tail` to `out` and joins a pair that comes together where they meet.
pub(crate) fn append(out: &mut Vec<u8>, tail: &[u8]) {
    if starts_with_low(tail) && ends_with_high(out) {
        let (high, _) = decode(&out[out.len() - 3..]);
        let (low, n) = decode(tail);
        out.truncate(out.len() - 3);
        let (buf, m) = encode(0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff)));
        out.extend_from_slice(&buf[..m]);
        out.extend_from_slice(&tail[n..]);
    } else {
        out.extend_from_slice(tail);
    }
}

/// Appends one code point or surrogate, joining pairs.
pub(crate) fn push(out: &mut Vec<u8>, c: u32) {
    let (buf, n) = encode(c);
    if (0xdc00..0xe000).contains(&c) {
        append(out, &buf[..n]);
    } else {
        out.extend_from_slice(&buf[..n]);
    }
}

/// A string of UTF-16 units as WTF-8.
pub(crate) fn from_units(units: &[u16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(units.len());
    for unit in char::decode_utf16(units.iter().copied()) {
        let c = match unit {
            Ok(c) => u32::from(c),
            Err(e) => u32::from(e.unpaired_surrogate()),
        };
        let (buf, n) = encode(c);
        out.extend_from_slice(&buf[..n]);
    }
    out
}

/// As a Rust string; a lone surrogate becomes U+FFFD.
pub(crate) fn to_str(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(s) => Cow::Borrowed(s),
        Err(_) => Cow::Owned(
            code_points(bytes).map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
        ),
    }
}

/// JavaScript's order of strings: by UTF-16 units.
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // Byte order is code point order; the two differ only where a code point beyond U+FFFF (its
    // units begin with 0xD8..) meets one from U+E000 to U+FFFF.
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match (a.get(same), b.get(same)) {
        (Some(x), Some(y)) if *x >= 0xee || *y >= 0xee => units(a).cmp(units(b)),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_join_where_they_meet() {
        let mut s = Vec::new();
        push(&mut s, 0xd83d);
        assert!(has_lone(&s) && ends_with_high(&s));
        push(&mut s, 0xde00);
        assert_eq!(s, "😀".as_bytes());
        assert_eq!((len_points(&s), len_units(&s)), (1, 2));
        assert_eq!(from_units(&units(&s).collect::<Vec<_>>()), s);
    }

    #[test]
    fn order_is_that_of_utf16_units() {
        assert_eq!(compare("\u{ffff}".as_bytes(), "😀".as_bytes()), Ordering::Greater);
        assert_eq!(compare("a".as_bytes(), "ab".as_bytes()), Ordering::Less);
        assert_eq!(compare("é".as_bytes(), "z".as_bytes()), Ordering::Greater);
    }
}
