//! Where a string stops to be plain, sixteen bytes at a time.

/// Finds where a string stops to be plain, at or behind `at`: at a `"`, a `\\`, a byte below a space, or the end.
/// `beyond_ascii` becomes other than 0 if there may be a byte beyond ASCII before it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn string_stop(bytes: &[u8], mut at: usize, beyond_ascii: &mut u32) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let (stops, high) = stops(chunk);
        *beyond_ascii |= high;
        if stops != 0 {
            return at + stops.trailing_zeros() as usize;
        }
        at += 16;
    }
    string_stop_by_words(bytes, at, beyond_ascii)
}

/// A bit for each byte that a string stops at, and for each beyond ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stops(chunk: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    #[expect(unsafe_code, reason = "vector instructions; half of an evaluation's time is reading strings")]
    // SAFETY: SSE2 is part of every x86-64; the load needs no alignment and reads the 16 bytes of `chunk`.
    unsafe {
        let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'"' as i8));
        let escape = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(chunk, _mm_set1_epi8(0x1f)), chunk);
        let stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, escape), control));
        (stops as u32, _mm_movemask_epi8(chunk) as u32)
    }
}

/// Where a string ends whose closing quote is among the 16 bytes from `start` on, if all before it is plain ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn short_string(bytes: &[u8], start: usize) -> Option<usize> {
    let chunk = bytes.get(start..)?.first_chunk()?;
    let (quotes, others) = quotes_and_others(chunk);
    // All up to the first quote; everything if there is none, so that the bit behind the last byte is seen.
    let upto = quotes ^ quotes.wrapping_sub(1);
    ((others | 1 << 16) & upto == 0).then(|| start + quotes.trailing_zeros() as usize)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn short_string(_: &[u8], _: usize) -> Option<usize> {
    None
}

/// A bit for each quote, and for each other byte that is not plain ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn quotes_and_others(chunk: &[u8; 16]) -> (u32, u32) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    #[expect(unsafe_code, reason = "vector instructions; half of an evaluation's time is reading strings")]
    // SAFETY: SSE2 is part of every x86-64; the load needs no alignment and reads the 16 bytes of `chunk`.
    unsafe {
        let chunk = _mm_loadu_si128(chunk.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'"' as i8));
        let escape = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(chunk, _mm_set1_epi8(0x1f)), chunk);
        // The highest bit of a byte is what counts.
        let other = _mm_or_si128(_mm_or_si128(escape, control), chunk);
        (_mm_movemask_epi8(quote) as u32, _mm_movemask_epi8(other) as u32)
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn string_stop(bytes: &[u8], at: usize, beyond_ascii: &mut u32) -> usize {
    string_stop_by_words(bytes, at, beyond_ascii)
}

/// [`string_stop`] for any machine.
#[inline(never)]
fn string_stop_by_words(bytes: &[u8], mut at: usize, beyond_ascii: &mut u32) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    while let Some((chunk, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
        let stops = zero(word ^ (ONES * b'"' as u64))
            | zero(word ^ (ONES * b'\\' as u64))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS);
        *beyond_ascii |= u32::from(word & HIGHS != 0);
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&b) = bytes.get(at)
        && b >= 0x20
        && b != b'"'
        && b != b'\\'
    {
        *beyond_ascii |= u32::from(b >= 0x80);
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_stops_at_the_same_byte_on_every_machine() {
        let mut text = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(2).into_bytes();
        for at in 0..text.len() {
            for b in 0..=255u8 {
                let was = std::mem::replace(&mut text[at], b);
                for from in [0, 1, 9] {
                    let (mut fast, mut plain) = (0, 0);
                    let stop = string_stop(&text, from, &mut fast);
                    assert_eq!(stop, string_stop_by_words(&text, from, &mut plain), "{b}");
                    let is_beyond = text[from..stop].iter().any(|b| *b >= 0x80);
                    assert!(!is_beyond || (fast != 0 && plain != 0), "{b}");
                }
                text[at] = was;
            }
        }
    }

    #[test]
    fn a_short_string_is_one_that_stops_at_its_quote_with_nothing_odd_before() {
        let mut text = b"abcdefghijklmnop\"rstuvwxyz\"012345".to_vec();
        for at in 0..text.len() {
            for b in 0..=255u8 {
                let was = std::mem::replace(&mut text[at], b);
                for from in [0, 1, 9, 17] {
                    let Some(end) = short_string(&text, from) else { continue };
                    assert_eq!(string_stop_by_words(&text, from, &mut 0), end, "{b}");
                    assert!(text[end] == b'"' && text[from..end].is_ascii(), "{b}");
                }
                text[at] = was;
            }
        }
        if cfg!(target_arch = "x86_64") {
            assert_eq!(short_string(&text, 1), Some(16));
        }
    }
}
