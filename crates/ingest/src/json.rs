//! Checks a body as JSON (RFC 8259) in one pass, without building anything of it, and finds the
//! elements of an array as they stand in the text.
//!
//! Invariants: what passes is one whole value in UTF-8, nested no deeper than [`DEPTH_MAX`]; memory is constant
//! but for the list of elements, and nothing recurses. Numbers of any size and precision, member names that
//! stand twice and escapes of lone surrogates pass: the grammar has them, and the bytes are
//! stored as they came.

use std::ops::Range;

/// Arrays and objects inside of each other. As deep as serde_json goes, so that consumers that use such
/// a parser can read what was stored.
pub(crate) const DEPTH_MAX: u32 = 128;

/// What a value is, as far as ingest cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object { empty: bool },
    Array { empty: bool },
    Scalar,
}

/// A value and where it stands in the text, without the white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

/// Where the text stops being JSON, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// In bytes from the beginning.
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

impl SyntaxError {
    /// Line and column of the offset, from 1; columns count characters.
    pub(crate) fn line_and_column(&self, text: &[u8]) -> (usize, usize) {
        let before = &text[..self.offset.min(text.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        // Every byte but a continuation byte begins a character.
        let column = before[begin..].iter().filter(|b| (**b & 0xc0) != 0x80).count() + 1;
        (line, column)
    }
}

/// `None`: only white space.
pub(crate) fn check(text: &[u8]) -> Result<Option<Value>, SyntaxError> {
    let mut scanner = Scanner::new(text)?;
    scanner.space();
    if scanner.peek().is_none() {
        return Ok(None);
    }
    let value = scanner.value(0)?;
    scanner.end()?;
    Ok(Some(value))
}

/// As [`check`]; of an array also its elements, if there are at most `elements_max`. Their number is
/// given in any case.
pub(crate) fn split(text: &[u8], elements_max: usize) -> Result<Option<(Value, Elements)>, SyntaxError> {
    let mut scanner = Scanner::new(text)?;
    scanner.space();
    match scanner.peek() {
        None => return Ok(None),
        Some(b'[') => {}
        Some(_) => {
            let value = scanner.value(0)?;
            scanner.end()?;
            return Ok(Some((value, Elements::default())));
        }
    }
    let begin = scanner.at;
    scanner.at += 1;
    let mut elements = Elements::default();
    scanner.space();
    if scanner.peek() == Some(b']') {
        scanner.at += 1;
    } else {
        loop {
            scanner.space();
            let element = scanner.value(1)?;
            elements.count += 1;
            if elements.count <= elements_max {
                elements.list.push(element);
            }
            scanner.space();
            match scanner.peek() {
                Some(b',') => scanner.at += 1,
                Some(b']') => {
                    scanner.at += 1;
                    break;
                }
                _ => return Err(scanner.error("expected ',' or ']' after an element")),
            }
        }
    }
    let kind = Kind::Array { empty: elements.count == 0 };
    let value = Value { kind, range: begin..scanner.at };
    scanner.end()?;
    Ok(Some((value, elements)))
}

/// Elements of an array.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    pub(crate) count: usize,
    pub(crate) list: Vec<Value>,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8]) -> Result<Self, SyntaxError> {
        match std::str::from_utf8(text) {
            Ok(_) => Ok(Self { text, at: 0 }),
            Err(error) => Err(SyntaxError { offset: error.valid_up_to(), what: "invalid UTF-8" }),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { offset: self.at, what }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error("expected the end after the value")) }
    }

    /// A whole value at the position, which isn't white space. `depth` is how many arrays are around it.
    fn value(&mut self, depth: u32) -> Result<Value, SyntaxError> {
        // Bit n says whether the nth open container is an object.
        let mut objects = 0u128;
        let mut open = 0;
        let begin = self.at;
        let mut kind = Kind::Scalar;
        loop {
            self.space();
            match self.peek() {
                Some(b @ (b'{' | b'[')) => {
                    if depth + open >= DEPTH_MAX {
                        return Err(self.error("nested too deeply: at most 128 levels are allowed"));
                    }
                    self.at += 1;
                    self.space();
                    let object = b == b'{';
                    let empty = self.peek() == Some(if object { b'}' } else { b']' });
                    if open == 0 {
                        kind = if object { Kind::Object { empty } } else { Kind::Array { empty } };
                    }
                    if empty {
                        self.at += 1;
                    } else {
                        objects = (objects << 1) | u128::from(object);
                        open += 1;
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.error("expected a value")),
            }
            // A value has ended; with it, maybe, the containers around it.
            loop {
                if open == 0 {
                    return Ok(Value { kind, range: begin..self.at });
                }
                self.space();
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.space();
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ if object => return Err(self.error("expected ',' or '}' after a member")),
                    _ => return Err(self.error("expected ',' or ']' after an element")),
                }
                self.at += 1;
                objects >>= 1;
                open -= 1;
            }
        }
    }

    /// A member's name and the colon.
    fn name(&mut self) -> Result<(), SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a member's name in double quotes"));
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.error("expected ':' after a member's name"));
        }
        self.at += 1;
        Ok(())
    }

    /// A string, at its opening quote.
    fn string(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => {
                    return Err(self.error("a control character in a string must be escaped"));
                }
                Some(_) => self.at += 1,
                None => return Err(self.error("the string doesn't end")),
            }
        }
    }

    /// Skips, eight bytes at a time, what means nothing in a string: most of a body is that.
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // The lowest flagged byte is exact; those above it may be flagged by its borrow, and aren't looked at.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        while let Some((chunk, _)) = self.text[self.at..].split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
            let quote = zero(word ^ (ONES * u64::from(b'"')));
            let backslash = zero(word ^ (ONES * u64::from(b'\\')));
            let stop = control | quote | backslash;
            if stop != 0 {
                self.at += (stop.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.error("expected four hexadecimal digits after \\u"));
                }
                self.at += 6;
            }
            _ => return Err(self.error("unknown escape in a string")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => {
                self.at += 1;
                if matches!(self.peek(), Some(b'0'..=b'9')) {
                    return Err(self.error("a number can't begin with 0 and go on"));
                }
            }
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("expected a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.error("expected a value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> (usize, usize, &'static str) {
        let error = check(text.as_bytes()).unwrap_err();
        let (line, column) = error.line_and_column(text.as_bytes());
        (line, column, error.what)
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(error("{\"a\":1,}"), (1, 8, "expected a member's name in double quotes"));
        assert_eq!(error("{\n  \"a\": tru\n}"), (2, 8, "expected a value"));
        assert_eq!(error("{\"é\":\"ü\" 1}"), (1, 10, "expected ',' or '}' after a member"));
        assert_eq!(error("[1,2"), (1, 5, "expected ',' or ']' after an element"));
        assert_eq!(error("[1] x"), (1, 5, "expected the end after the value"));
        assert_eq!(error("{\"a\" 1}"), (1, 6, "expected ':' after a member's name"));
        assert_eq!(error("[\"a\nb\"]"), (1, 4, "a control character in a string must be escaped"));
        assert_eq!(error("[\"\\x\"]"), (1, 3, "unknown escape in a string"));
        assert_eq!(error("[\"\\u12g4\"]"), (1, 3, "expected four hexadecimal digits after \\u"));
        assert_eq!(error("[\"abc"), (1, 6, "the string doesn't end"));
        assert_eq!(error("[01]"), (1, 3, "a number can't begin with 0 and go on"));
        assert_eq!(error("[1.]"), (1, 4, "expected a digit"));
        assert_eq!(error("[-]"), (1, 3, "expected a digit"));
        assert_eq!(error("\u{feff}{}"), (1, 1, "expected a value"));
        let invalid = check(b"{\"a\":\"\xff\"}").unwrap_err();
        assert_eq!((invalid.offset, invalid.what), (6, "invalid UTF-8"));
    }

    #[test]
    fn depth_is_bounded_and_counts_the_array_that_is_split() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let max = DEPTH_MAX as usize;
        assert!(check(nested(max).as_bytes()).is_ok());
        assert!(check(nested(max + 1).as_bytes()).unwrap_err().what.starts_with("nested too deeply"));
        assert!(split(nested(max).as_bytes(), 9).is_ok());
        assert!(split(nested(max + 1).as_bytes(), 9).is_err());
        // Without end, and without recursion.
        assert!(check("[{\"a\":".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn elements_are_slices_of_the_text() {
        let text = " [ {\"a\": [1, 2]} ,\n[3],{} , 4,\"x,]\" ] ";
        let (value, elements) = split(text.as_bytes(), 9).unwrap().unwrap();
        assert_eq!(value.kind, Kind::Array { empty: false });
        assert_eq!(&text[value.range], text.trim());
        let found: Vec<_> = elements.list.iter().map(|e| (&text[e.range.clone()], e.kind)).collect();
        assert_eq!(
            found,
            [
                ("{\"a\": [1, 2]}", Kind::Object { empty: false }),
                ("[3]", Kind::Array { empty: false }),
                ("{}", Kind::Object { empty: true }),
                ("4", Kind::Scalar),
                ("\"x,]\"", Kind::Scalar),
            ]
        );
        let (_, elements) = split(b"[1,2,3]", 2).unwrap().unwrap();
        assert_eq!((elements.count, elements.list.len()), (3, 2));
        assert_eq!(split(b" \n", 9), Ok(None));
        assert_eq!(check(b""), Ok(None));
        assert_eq!(check(b"{ }").unwrap().unwrap().kind, Kind::Object { empty: true });
        assert_eq!(split(b"[ ]", 9).unwrap().unwrap().0.kind, Kind::Array { empty: true });
    }

    /// serde_json, which doesn't bound the depth of what it ignores and doesn't look at UTF-8 there.
    fn oracle(text: &[u8]) -> bool {
        std::str::from_utf8(text)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-0.5e+7".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|s| serde_json::Value::from(s).to_string()),
            Just(r#""\ud800\u0000 \\ \" é""#.to_owned()),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|all| format!("[ {} ]", all.join(" ,\n"))),
                prop::collection::vec((any::<String>(), inner), 0..5).prop_map(|all| {
                    let all: Vec<_> = all
                        .iter()
                        .map(|(k, v)| format!("{}:{v}", serde_json::Value::from(k.as_str())))
                        .collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_valid_text(text in json()) {
            prop_assert!(oracle(text.as_bytes()));
            prop_assert!(check(text.as_bytes()).unwrap().is_some());
            prop_assert!(split(text.as_bytes(), 100).unwrap().is_some());
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_text(
            text in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), remove in any::<bool>()
        ) {
            let mut text = text.into_bytes();
            let at = at.index(text.len());
            if remove { text.remove(at); } else { text[at] = byte; }
            let expected = oracle(&text);
            prop_assert_eq!(matches!(check(&text), Ok(Some(_))), expected, "{}", String::from_utf8_lossy(&text));
            prop_assert_eq!(matches!(split(&text, 100), Ok(Some(_))), expected);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"[]{}\",:\\u0e-. \n".to_vec())], 0..64)) {
            prop_assert_eq!(matches!(check(&bytes), Ok(Some(_))), oracle(&bytes));
            let _ = split(&bytes, 3);
        }
    }
}
