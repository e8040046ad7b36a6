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
    let mut mantissa = 0u64;
    let mut decimals = None;
    // Up to 16 digits cannot overflow; the mantissa must be exact as a double.
    let exact = digits.len() <= 16
        && digits.iter().all(|b| match b {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(b - b'0');
                decimals = decimals.map(|n: usize| n + 1);
                true
            }
            b'.' => {
                decimals = Some(0);
                true
            }
            _ => false,
        });
    if exact && mantissa < 1 << 53 {
        let value = mantissa as f64 / POWERS[decimals.unwrap_or(0)];
        return if negative { -value } else { value };
    }
    // The text was scanned, so it parses; too large a number is infinite, as in JavaScript.
    std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(f64::NAN)
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
