//! Numbers are IEEE doubles and print as JavaScript prints them: the shortest digits that read
//! back as the same double, plain from 1e-6 up to 1e21, with an exponent outside.

use std::io::Write as _;

/// The longest text of a number: sign, 17 digits, point, leading zeros or exponent.
pub(crate) const TEXT_BYTES_MAX: usize = 32;

/// A number's text on the stack.
pub(crate) struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    len: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; TEXT_BYTES_MAX], len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The shortest digits of a finite number that is not zero, without sign, and the power of ten
/// of the first digit.
pub(crate) fn shortest(value: f64) -> (([u8; 20], usize), i32) {
    let mut buffer = [0u8; 40];
    let mut rest = &mut buffer[..];
    // 17 digits, a point and an exponent of at most four characters fit.
    let written = match write!(rest, "{:e}", value.abs()) {
        Ok(()) => 40 - rest.len(),
        Err(_) => 0,
    };
    let text = &buffer[..written];
    let e = text.iter().position(|b| *b == b'e').unwrap_or(text.len());
    let mut digits = [0u8; 20];
    let mut n = 0;
    for b in text[..e].iter().filter(|b| b.is_ascii_digit()) {
        digits[n] = *b;
        n += 1;
    }
    let mut exponent = 0i32;
    let mut negative = false;
    for b in text.get(e + 1..).unwrap_or(&[]) {
        if *b == b'-' {
            negative = true;
        } else {
            exponent = exponent * 10 + i32::from(*b - b'0');
        }
    }
    ((digits, n), if negative { -exponent } else { exponent })
}

/// Prints a number as JavaScript's `Number.prototype.toString` does.
pub(crate) fn print(value: f64) -> Text {
    let mut out = Text::new();
    if value.is_nan() {
        out.push(b"NaN");
        return out;
    }
    if value == 0.0 {
        out.push(b"0");
        return out;
    }
    if value < 0.0 {
        out.push(b"-");
    }
    if value.is_infinite() {
        out.push(b"Infinity");
        return out;
    }
    let magnitude = value.abs();
    if magnitude < 9_007_199_254_740_992.0 && magnitude.trunc() == magnitude {
        let mut digits = [0u8; 20];
        let mut at = 20;
        let mut rest = magnitude as u64;
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.push(&digits[at..]);
        return out;
    }
    if let Some(text) = few_decimals(value) {
        return text;
    }
    let ((digits, n), exponent) = shortest(value);
    let digits = &digits[..n];
    if (-6..21).contains(&exponent) {
        if exponent < 0 {
            out.push(b"0.");
            out.push(&b"000000"[..(-exponent - 1) as usize]);
            out.push(digits);
        } else {
            let whole = exponent as usize + 1;
            if n <= whole {
                out.push(digits);
                out.push(&b"000000000000000000000"[..whole - n]);
            } else {
                out.push(&digits[..whole]);
                out.push(b".");
                out.push(&digits[whole..]);
            }
        }
        return out;
    }
    out.push(&digits[..1]);
    if n > 1 {
        out.push(b".");
        out.push(&digits[1..]);
    }
    out.push(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    if exponent >= 100 {
        out.push(&[b'0' + (exponent / 100) as u8]);
    }
    if exponent >= 10 {
        out.push(&[b'0' + (exponent / 10 % 10) as u8]);
    }
    out.push(&[b'0' + (exponent % 10) as u8]);
    out
}

/// A number of up to six decimals and 15 digits, as amounts are. Of the decimals that read back as the same
/// double the one with the fewest digits is printed; with up to 15 digits no two read back as the same, so the
/// first that is found is it.
fn few_decimals(value: f64) -> Option<Text> {
    let magnitude = value.abs();
    let mut scale = 1u64;
    for decimals in 1..=6 {
        scale *= 10;
        let scaled = (magnitude * scale as f64).round();
        if scaled >= 1e15 {
            return None;
        }
        // Both are exact, so the quotient is the double that the decimal reads back as.
        if scaled / scale as f64 == magnitude {
            let mut digits = [b'0'; 20];
            let mut rest = scaled as u64;
            let mut at = 20;
            while rest > 0 || at > 20 - decimals - 1 {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let mut out = Text::new();
            if value < 0.0 {
                out.push(b"-");
            }
            out.push(&digits[at..20 - decimals]);
            out.push(b".");
            out.push(&digits[20 - decimals..]);
            return Some(out);
        }
    }
    None
}

/// [`print`] as a string.
pub(crate) fn to_string(value: f64) -> String {
    String::from_utf8_lossy(print(value).as_bytes()).into_owned()
}

/// Rounds to 15 significant digits, as `$string` does with numbers that are not integers.
pub(crate) fn to_precision_15(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    // Exact decimal digits, so that ties can be told: JavaScript rounds them up.
    let text = format!("{:.40e}", value.abs());
    let Some((mantissa, exponent)) = text.split_once('e') else { return value };
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    let (mut kept, exponent) = (digits[..15].to_vec(), exponent.parse::<i32>().unwrap_or(0));
    let mut exponent = exponent;
    if digits[15] >= 5 {
        let mut i = 15;
        loop {
            if i == 0 {
                kept.insert(0, 1);
                exponent += 1;
                break;
            }
            i -= 1;
            if kept[i] == 9 {
                kept[i] = 0;
            } else {
                kept[i] += 1;
                break;
            }
        }
    }
    let digits: String = kept.iter().map(|d| char::from(b'0' + d)).collect();
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{digits}e{}", exponent - (kept.len() as i32 - 1)).parse().unwrap_or(value)
}

/// `Number.prototype.toFixed`: exact decimal digits, ties away from zero.
pub(crate) fn to_fixed(value: f64, decimals: usize) -> String {
    let exact = format!("{:.*}", decimals + 30, value.abs());
    let cut = exact.len() - 30;
    let (mut kept, up) = (exact.as_bytes()[..cut].to_vec(), exact.as_bytes()[cut] >= b'5');
    if up {
        let mut i = kept.len();
        loop {
            if i == 0 {
                kept.insert(0, b'1');
                break;
            }
            i -= 1;
            match kept[i] {
                b'.' => {}
                b'9' => kept[i] = b'0',
                _ => {
                    kept[i] += 1;
                    break;
                }
            }
        }
    }
    let mut text = String::from_utf8_lossy(&kept).into_owned();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_javascript_prints_them() {
        let cases: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (0.1 + 0.2, "0.30000000000000004"),
            (9007199254740993.0, "9007199254740992"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (1.0 / 3.0, "0.3333333333333333"),
        ];
        for (value, text) in cases {
            assert_eq!(to_string(*value), *text);
        }
    }

    #[test]
    fn amounts_print_as_the_shortest_digits_do() {
        let check = |value: f64| {
            if let Some(text) = few_decimals(value) {
                assert_eq!(std::str::from_utf8(text.as_bytes()).unwrap(), format!("{value}"), "{value:e}");
            }
        };
        let mut state = 7u64;
        for i in 0..200_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i | 1);
            let mantissa = (state >> 20) % 10u64.pow(1 + (state % 16) as u32);
            let value = mantissa as f64 / 10f64.powi((state >> 8) as i32 % 9);
            for value in [value, -value, value + 0.1, value * 1.1, f64::from_bits(value.to_bits() ^ 1)] {
                if value.trunc() != value {
                    check(value);
                }
            }
        }
        assert_eq!(few_decimals(0.05).unwrap().as_bytes(), b"0.05");
        assert_eq!(few_decimals(-12.5).unwrap().as_bytes(), b"-12.5");
        assert!(few_decimals(0.1 + 0.2).is_none());
    }

    #[test]
    fn rounding_is_that_of_javascript() {
        assert_eq!(to_precision_15(0.1 + 0.2), 0.3);
        assert_eq!(to_precision_15(1.0 / 3.0), 0.333333333333333);
        assert_eq!(to_precision_15(-99_999_999_999_999_991_611_392.0), -1e23);
        assert_eq!(to_fixed(1.005, 2), "1.00");
        assert_eq!(to_fixed(2.5, 0), "3");
        assert_eq!(to_fixed(0.000001, 7), "0.0000010");
        assert_eq!(to_fixed(99.995, 2), "100.00");
        assert_eq!(to_fixed(9.5, 0), "10");
    }
}
