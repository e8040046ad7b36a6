//! Where two JSON texts differ.
//!
//! Invariant: what JSON gives no meaning to doesn't count: the order of an object's names, white space, escapes, how a
//! number is spelled (1, 1.0 and 10e-1). Digits count, however many there are: numbers aren't compared as doubles, by
//! which 12345678901234567890 and ...891 would be one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use serde_json::value::RawValue;

/// Deeper than this, values are compared as texts: each level is read once more.
const DEPTH_MAX: usize = 64;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Name(String),
    Index(usize),
}

/// A place as a JSON pointer (RFC 6901).
pub(super) fn pointer(path: &[Part]) -> String {
    written(path, |index, text| {
        let _ = write!(text, "{index}");
    })
}

/// A place, with `*` for any index: the same for all elements of an array.
pub(super) fn pattern(path: &[Part]) -> String {
    written(path, |_, text| text.push('*'))
}

fn written(path: &[Part], index: impl Fn(usize, &mut String)) -> String {
    let mut text = String::new();
    for part in path {
        text.push('/');
        match part {
            Part::Name(name) => text.push_str(&name.replace('~', "~0").replace('/', "~1")),
            Part::Index(at) => index(*at, &mut text),
        }
    }
    text
}

/// What is told of each difference: where, and both sides as texts; `None`: nothing is there.
pub(super) type Each<'a> = dyn FnMut(&[Part], Option<&str>, Option<&str>) -> ControlFlow<()> + 'a;

/// Tells each difference until `each` breaks. What is no JSON is compared as bytes.
pub(super) fn differences(active: &[u8], candidate: &[u8], each: &mut Each<'_>) {
    if active == candidate {
        return;
    }
    let read = |bytes| serde_json::from_slice::<&RawValue>(bytes);
    // Whether it broke off is its own business.
    let _ = match (read(active), read(candidate)) {
        (Ok(active), Ok(candidate)) => walk(&mut Vec::new(), active, candidate, each),
        _ => {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            each(&[], Some(&text(active)), Some(&text(candidate)))
        }
    };
}

fn walk(path: &mut Vec<Part>, a: &RawValue, b: &RawValue, each: &mut Each<'_>) -> ControlFlow<()> {
    let (a, b) = (a.get(), b.get());
    if a == b {
        return ControlFlow::Continue(());
    }
    let kind = |text: &str| text.bytes().next().unwrap_or(b'n');
    match (kind(a), kind(b)) {
        (b'{', b'{') if path.len() < DEPTH_MAX => {
            type Object<'a> = BTreeMap<String, &'a RawValue>;
            if let (Ok(a), Ok(b)) =
                (serde_json::from_str::<Object<'_>>(a), serde_json::from_str::<Object<'_>>(b))
            {
                return members(path, &a, &b, each);
            }
        }
        (b'[', b'[') if path.len() < DEPTH_MAX => {
            type Array<'a> = Vec<&'a RawValue>;
            if let (Ok(a), Ok(b)) = (serde_json::from_str::<Array<'_>>(a), serde_json::from_str::<Array<'_>>(b))
                // Of other lengths they differ as wholes: which elements belong together nobody knows.
                && a.len() == b.len()
            {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    path.push(Part::Index(index));
                    let flow = walk(path, a, b, each);
                    path.pop();
                    flow?;
                }
                return ControlFlow::Continue(());
            }
        }
        (b'"', b'"') => {
            let read = |text| serde_json::from_str::<String>(text);
            if let (Ok(a), Ok(b)) = (read(a), read(b))
                && a == b
            {
                return ControlFlow::Continue(());
            }
        }
        (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') if decimal(a).is_some_and(|a| Some(a) == decimal(b)) => {
            return ControlFlow::Continue(());
        }
        _ => {}
    }
    each(path, Some(a), Some(b))
}

fn members(
    path: &mut Vec<Part>,
    a: &BTreeMap<String, &RawValue>,
    b: &BTreeMap<String, &RawValue>,
    each: &mut Each<'_>,
) -> ControlFlow<()> {
    let added = b.keys().filter(|name| !a.contains_key(*name));
    for name in a.keys().chain(added) {
        path.push(Part::Name(name.clone()));
        let flow = match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => walk(path, a, b, each),
            (a, b) => each(path, a.map(|a| a.get()), b.map(|b| b.get())),
        };
        path.pop();
        flow?;
    }
    ControlFlow::Continue(())
}

/// Sign, digits without zeros at either end, and the power of ten of the last one. `None`: its exponent is out of all reason.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let places = |n: usize| i64::try_from(n).ok();
    let exponent = exponent
        .checked_sub(places(fraction.len())?)?
        .checked_add(places(digits.len() - significant.len())?)?;
    Some((negative, significant.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(active: &str, candidate: &str) -> Vec<(String, Option<String>, Option<String>)> {
        let mut told = Vec::new();
        differences(active.as_bytes(), candidate.as_bytes(), &mut |path, a, b| {
            told.push((pointer(path), a.map(String::from), b.map(String::from)));
            ControlFlow::Continue(())
        });
        told
    }

    fn places(active: &str, candidate: &str) -> Vec<String> {
        told(active, candidate).into_iter().map(|(place, ..)| place).collect()
    }

    #[test]
    fn spelling_does_not_count_and_digits_do() {
        for (a, b) in [
            (r#"{"a":1,"b":[2]}"#, r#"{ "b": [2.0], "a": 10e-1 }"#),
            (r#""\u00e9\/""#, r#""é/""#),
            ("0", "-0.0e7"),
            ("1200", "1.2E+3"),
            ("0.00120", "12e-4"),
            ("12345678901234567890", "12345678901234567890.0"),
        ] {
            assert_eq!(told(a, b), [], "{a} {b}");
        }
        for (a, b) in [
            ("12345678901234567890", "12345678901234567891"),
            ("0.1", "0.10000000000000000001"),
            ("1", "-1"),
            ("1", "10"),
            ("1e400", "1e401"),
            ("1", "\"1\""),
            ("null", "false"),
            ("[]", "{}"),
            ("{", "{}"),
        ] {
            assert_eq!(places(a, b), [""], "{a} {b}");
        }
    }

    #[test]
    fn each_place_is_told_with_what_stands_there() {
        let a = r#"{"a":{"b/c":[1,{"d":2}]},"gone":3,"list":[1],"same":[{"x":1}]}"#;
        let b = r#"{"same":[{"x":1.0}],"list":[1,2],"new":null,"a":{"b/c":[1,{"d":"2"}]}}"#;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(a, b),
            [
                ("/a/b~1c/1/d".into(), some("2"), some("\"2\"")),
                ("/gone".into(), some("3"), None),
                ("/list".into(), some("[1]"), some("[1,2]")),
                ("/new".into(), None, some("null")),
            ]
        );
        assert_eq!(pattern(&[Part::Name("a".into()), Part::Index(3)]), "/a/*");
    }

    #[test]
    fn whoever_has_seen_enough_is_told_no_more() {
        let mut count = 0;
        differences(b"[1,2,3,4]", b"[5,6,7,8]", &mut |_, _, _| {
            count += 1;
            if count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(count, 2);
    }

    #[test]
    fn deep_values_end() {
        let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(4_000), "]".repeat(4_000));
        let found = places(&nested("1"), &nested("2"));
        assert_eq!(found, ["/0".repeat(DEPTH_MAX)]);
    }
}
