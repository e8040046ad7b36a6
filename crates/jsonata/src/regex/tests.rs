//! What V8 answers, case by case: pattern, flags, text, the match and its groups.

use std::cell::Cell;

use super::{OutOfSteps, Regex};

fn spans(pattern: &str, flags: &str, text: &str) -> Option<Vec<Option<String>>> {
    let units: Vec<u16> = pattern.encode_utf16().collect();
    let regex = Regex::compile(&units, flags.contains('i'), flags.contains('m')).expect(pattern);
    let show = |spans: super::Spans| -> Vec<Option<String>> {
        spans.into_iter().map(|s| s.map(|(a, b)| text[a..b].to_owned())).collect()
    };
    let result = regex.find(text.as_bytes(), 0, &Cell::new(1_000_000)).expect("steps").map(show);
    // Where the linear engine is used, the other must agree.
    let other = super::vm::find(&regex.program, text.as_bytes(), 0, &Cell::new(1_000_000));
    assert_eq!(result, other.expect("steps").map(show), "/{pattern}/{flags} on {text:?}");
    result
}

#[test]
fn matches_are_those_of_ecmascript() {
    type Case<'c> = (&'c str, &'c str, &'c str, Option<&'c [Option<&'c str>]>);
    let cases: &[Case<'_>] = &[
        ("ab+c", "", "xabbbc", Some(&[Some("abbbc")])),
        ("a|ab", "", "ab", Some(&[Some("a")])),
        ("(a)|(b)", "", "b", Some(&[Some("b"), None, Some("b")])),
        (
            "(z)((a+)?(b+)?(c))*",
            "",
            "zaacbbbcac",
            Some(&[Some("zaacbbbcac"), Some("z"), Some("ac"), Some("a"), None, Some("c")]),
        ),
        ("(a*)*", "", "b", Some(&[Some(""), None])),
        ("(?=(a+))a*b\\1", "", "baaabac", Some(&[Some("aba"), Some("a")])),
        (
            "(.*?)a(?!(a+)b\\2c)\\2(.*)",
            "",
            "baaabaac",
            Some(&[Some("baaabaac"), Some("ba"), None, Some("abaac")]),
        ),
        ("(?<=\\$)\\d+", "", "cost $42", Some(&[Some("42")])),
        ("(?<!\\$)\\b\\d+", "", "$42 17", Some(&[Some("17")])),
        ("(?<=(\\d+)(\\d+))$", "", "1053", Some(&[Some(""), Some("1"), Some("053")])),
        ("(?<year>\\d{4})-\\k<year>", "", "1999-1999", Some(&[Some("1999-1999"), Some("1999")])),
        ("\\bfoo\\B", "", "food", Some(&[Some("foo")])),
        ("^b", "m", "a\nb", Some(&[Some("b")])),
        ("^b", "", "a\nb", None),
        ("a$", "m", "a\r\nb", Some(&[Some("a")])),
        ("HeLLo", "i", "say hEllO", Some(&[Some("hEllO")])),
        ("[a-c]+", "i", "xABCd", Some(&[Some("ABC")])),
        ("[^a-c]+", "i", "ABCd", Some(&[Some("d")])),
        ("\\w+", "", "é_a1", Some(&[Some("_a1")])),
        ("s", "i", "ſ", None),
        ("k", "i", "\u{212a}", None),
        ("é", "i", "É", Some(&[Some("É")])),
        ("a{2,3}", "", "aaaa", Some(&[Some("aaa")])),
        ("a{2,3}?", "", "aaaa", Some(&[Some("aa")])),
        ("a{,3}", "", "a{,3}", Some(&[Some("a{,3}")])),
        ("x{2}y*?z", "", "xxyyz", Some(&[Some("xxyyz")])),
        ("[]", "", "a", None),
        ("[^]", "", "\n", Some(&[Some("\n")])),
        (".", "", "\u{2028}a", Some(&[Some("a")])),
        ("\\s+", "", "a\u{a0}\u{feff}b", Some(&[Some("\u{a0}\u{feff}")])),
        ("\\u0041\\x42\\103", "", "ABC", Some(&[Some("ABC")])),
        ("[\\d-x]+", "", "1-x", Some(&[Some("1-x")])),
        ("(?:ab)+?c", "", "ababc", Some(&[Some("ababc")])),
        ("(a+)+b", "", "aaab", Some(&[Some("aaab"), Some("aaa")])),
        ("(?:(a)|b)*", "", "ab", Some(&[Some("ab"), None])),
        ("\\1(a)", "", "aa", Some(&[Some("a"), Some("a")])),
        ("😀+", "", "x😀😀", Some(&[Some("😀😀")])),
        ("(?:)", "", "a", Some(&[Some("")])),
        ("]", "", "]", Some(&[Some("]")])),
    ];
    for (pattern, flags, text, expected) in cases {
        let expected = expected.map(|e| e.iter().map(|s| s.map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(spans(pattern, flags, text), expected, "/{pattern}/{flags} on {text:?}");
    }
}

#[test]
fn a_wrong_pattern_is_an_error() {
    for pattern in [
        "(",
        ")",
        "a**",
        "[b-a]",
        "(?<n>a)(?<n>b)",
        "\\",
        "(?z)",
        "x{2,1}",
        "[a",
        "+",
        "(?<1>a)",
        "(?<n>a)\\k<m>",
    ] {
        let units: Vec<u16> = pattern.encode_utf16().collect();
        assert!(Regex::compile(&units, false, false).is_err(), "{pattern}");
    }
}

#[test]
fn a_pattern_that_explodes_runs_out_of_steps() {
    for pattern in ["(?=a)(a+)+$", "(a|a)*\\1$", "(?:(a*)*)*\\1b", "(?!x)(.*)*y"] {
        let units: Vec<u16> = pattern.encode_utf16().collect();
        let regex = Regex::compile(&units, false, false).expect(pattern);
        let text = format!("{}!", "a".repeat(5_000));
        let steps = Cell::new(200_000);
        assert_eq!(regex.find(text.as_bytes(), 0, &steps), Err(OutOfSteps), "{pattern}");
    }
}

#[test]
fn deep_patterns_are_refused() {
    let pattern: Vec<u16> =
        format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000)).encode_utf16().collect();
    assert!(Regex::compile(&pattern, false, false).is_err());
}
