//! Numbers and strings of a text that was found to be right.

/// The double of a JSON number's text. Common numbers take a short way that is exact.
pub(crate) fn parse_number(text: &[u8]) -> f64 {
    const POWERS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ];
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // So many cannot overflow; the mantissa must be exact as a double.
    if digits.len() <= 16 {
        let mut mantissa = 0u64;
        let mut at = take_digits(digits, 0, &mut mantissa);
        let mut decimals = 0;
        if digits.get(at) == Some(&b'.') {
            let from = at + 1;
            at = take_digits(digits, from, &mut mantissa);
            decimals = at - from;
        }
        if at == digits.len() && mantissa < 1 << 53 {
            let whole = mantissa as f64;
            let value = if decimals == 0 { whole } else { whole / POWERS[decimals] };
            return if negative { -value } else { value };
        }
    }
    // The text was scanned, so it parses; too large a number is infinite, as in JavaScript.
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(f64::NAN)
}

/// Appends the digits from `at` on to a number; returns what is behind them.
#[inline(always)]
fn take_digits(text: &[u8], mut at: usize, number: &mut u64) -> usize {
    while let Some(digit) = text.get(at).map(|b| b.wrapping_sub(b'0'))
        && digit < 10
    {
        *number = *number * 10 + u64::from(digit);
        at += 1;
    }
    at
}

/// Decodes the escapes of a scanned string.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let escape = rest.get(at + 1).copied().unwrap_or(b'\\');
        let mut used = at + 2;
        match escape {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let digits = rest.get(at + 2..at + 6).unwrap_or(b"0");
                let unit = digits.iter().fold(0u32, |n, b| n << 4 | char::from(*b).to_digit(16).unwrap_or(0));
                crate::wtf8::push(out, unit);
                used = at + 6;
            }
            other => out.push(other),
        }
        rest = rest.get(used..).unwrap_or(&[]);
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_exactly() {
        for text in [
            "0",
            "-0",
            "1",
            "9007199254740993",
            "0.1",
            "123.456",
            "1e5",
            "-2.5E-3",
            "1e400",
            "0.30000000000000004",
            "99999999999999.9",
            "1234567890.12345",
        ] {
            assert_eq!(
                parse_number(text.as_bytes()).to_bits(),
                text.parse::<f64>().unwrap().to_bits(),
                "{text}"
            );
        }
    }
}
