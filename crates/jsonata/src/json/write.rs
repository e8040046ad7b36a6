//! The bytes of a result. They go into one buffer that the caller reuses; where the result is an
//! array, the places of its elements are noted, so that each can become a record of its own
//! without being parsed again.

use std::ops::Range;

use super::stop::string_stop;
use crate::wtf8;

/// A result's bytes. Reusable: an evaluation clears it first.
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) bytes: Vec<u8>,
    pub(crate) elements: Vec<Range<usize>>,
    pub(crate) is_array: bool,
}

impl Output {
    /// An empty output.
    pub fn new() -> Self {
        Self::default()
    }

    /// The result as JSON without white space; empty if the result is undefined.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the bytes out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// If the result is an array: the bytes of each element, in order.
    pub fn elements(&self) -> Option<impl ExactSizeIterator<Item = &[u8]>> {
        self.is_array.then(|| self.elements.iter().map(|range| &self.bytes[range.clone()]))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.elements.clear();
        self.is_array = false;
    }
}

/// Bytes that stand for themselves whatever is beside them; not so the first of a surrogate.
static IS_PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut b = 0;
    while b < 0x20 {
        plain[b] = false;
        b += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain[0xed] = false;
    plain
};

/// Whether a string stands for itself in JSON, seen byte by byte; of few strings beyond ASCII it says no.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|b| IS_PLAIN[usize::from(*b)])
}

/// Writes a string of WTF-8 as JSON; a lone surrogate is written as an escape.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(text.len() + 2);
    out.push(b'"');
    if text.len() < 16 && is_plain(text) {
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
    let (mut from, mut beyond_ascii) = (0, 0);
    loop {
        let stop = string_stop(text, from, &mut beyond_ascii);
        out.extend_from_slice(&text[from..stop]);
        let Some(&b) = text.get(stop) else { break };
        escape(b, out);
        from = stop + 1;
    }
    if beyond_ascii != 0 && wtf8::has_lone(text) {
        out.truncate(start + 1);
        string_with_lone(text, out);
    }
    out.push(b'"');
}

/// An ASCII character that may not stand for itself in a string.
fn escape(b: u8, out: &mut Vec<u8>) {
    match b {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        8 => out.extend_from_slice(b"\\b"),
        12 => out.extend_from_slice(b"\\f"),
        _ => unit(u32::from(b), out),
    }
}

/// A UTF-16 unit as an escape.
fn unit(unit: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(unit >> shift & 15) as usize]);
    }
}

#[cold]
fn string_with_lone(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(&b) = rest.first() {
        let (c, n) = wtf8::decode(rest);
        match c {
            0xd800..=0xdfff => unit(c, out),
            0x22 | 0x5c | 0..=0x1f => escape(b, out),
            _ => out.extend_from_slice(&rest[..n]),
        }
        rest = &rest[n..];
    }
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn strings_are_escaped_where_json_needs_it() {
        let cases: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            ("plain, řeč 😀".as_bytes(), "\"plain, řeč 😀\""),
            (
                b"a\"b\\c\nd\re\tf\x08g\x0ch\x01i\x1fj\x7f",
                "\"a\\\"b\\\\c\\nd\\re\\tf\\bg\\fh\\u0001i\\u001fj\x7f\"",
            ),
            (b"12345678901234567890\"1234567890", r#""12345678901234567890\"1234567890""#),
            (b"a\n\xed\xa0\x80b\xed\x9f\xbf", "\"a\\n\\ud800b\u{d7ff}\""),
        ];
        for (text, json) in cases {
            let mut out = b"before".to_vec();
            string(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before{json}"));
        }
    }
}
