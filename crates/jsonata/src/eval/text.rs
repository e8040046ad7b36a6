//! Values as text: for the output, for `$string`, and for errors.

use super::{Fail, R, Run};
use crate::budget::Limit;
use crate::error::Raise;
use crate::json::write;
use crate::number;
use crate::value::{COMPUTED, Value, mark};
use crate::wtf8;

/// Bytes of a value that an error keeps.
const SHOWN_BYTES_MAX: usize = 400;

/// How numbers are written and what stands between values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The result: numbers that were copied keep their digits.
    Output,
    /// `$string`: 15 significant digits.
    Text,
    /// `$string` with indentation.
    Pretty,
    /// An error's value: never fails on numbers.
    Error,
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    style: Style,
    most: usize,
    over: Limit,
}

/// Longer texts are measured before they are written.
const SHORT_TEXT_BYTES: usize = 1024;
/// What a value takes that is no string, with what stands between two: a number has at most 32.
const SMALL_VALUE_BYTES: usize = 64;
/// Bytes of the longest escape, `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// What the place of an element is charged, where the result is an array.
const BYTES_PER_ELEMENT: usize = 2 * std::mem::size_of::<std::ops::Range<usize>>();

/// By how many bytes a text grows when it is written as JSON.
fn escapes(text: &[u8]) -> usize {
    let grows = |(at, b): (usize, &u8)| match b {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 1,
        0..0x20 => ESCAPED_BYTES_MAX - 1,
        // A surrogate has three bytes.
        0xed if text.get(at + 1).is_some_and(|b| *b >= 0xa0) => ESCAPED_BYTES_MAX - 3,
        _ => 0,
    };
    text.iter().enumerate().map(grows).sum()
}

impl Writer<'_> {
    /// Makes room for `n` more bytes. The buffer doubles, but not beyond what may be written.
    fn room(&mut self, n: usize) -> R<()> {
        let (len, capacity) = (self.out.len(), self.out.capacity());
        if capacity - len >= n {
            return Ok(());
        }
        let needed = len.saturating_add(n);
        let most = self.most.saturating_add(SHORT_TEXT_BYTES * ESCAPED_BYTES_MAX + SMALL_VALUE_BYTES);
        if needed > most {
            return Err(Fail::Over(self.over));
        }
        self.out.reserve_exact(capacity.saturating_mul(2).min(most).max(needed) - len);
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> R<()> {
        if text.len() <= SHORT_TEXT_BYTES {
            self.room(text.len() * ESCAPED_BYTES_MAX + SMALL_VALUE_BYTES)?;
        } else {
            let n = text.len().saturating_add(escapes(text));
            if self.out.len().saturating_add(n) > self.most {
                return Err(Fail::Over(self.over));
            }
            self.room(n + SMALL_VALUE_BYTES)?;
        }
        write::string(text, self.out);
        Ok(())
    }

    /// A string that stands for itself, whatever is in it.
    fn plain(&mut self, text: &[u8]) -> R<()> {
        if self.out.len().saturating_add(text.len()) > self.most {
            return Err(Fail::Over(self.over));
        }
        self.room(text.len() + SMALL_VALUE_BYTES)?;
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
        Ok(())
    }
}

impl<'a> Run<'a> {
    fn write(&self, value: Value<'a>, w: &mut Writer<'_>, level: usize) -> R<()> {
        self.tick(1)?;
        if w.out.len() > w.most {
            return Err(Fail::Over(w.over));
        }
        w.room(SMALL_VALUE_BYTES)?;
        match value {
            Value::Undefined | Value::Null => w.out.extend_from_slice(b"null"),
            Value::Bool(b) => w.out.extend_from_slice(if b { b"true" } else { b"false" }),
            Value::Number(n) if n.source != COMPUTED && matches!(w.style, Style::Output | Style::Error) => {
                w.out.extend_from_slice(self.number_text(n.source));
            }
            Value::Number(n) => {
                if !n.value.is_finite() && w.style != Style::Error {
                    if n.value.is_infinite() || w.style == Style::Output {
                        return Err(Raise::new("D1001").value(number::to_string(n.value)).into());
                    }
                    w.out.extend_from_slice(b"null");
                    return Ok(());
                }
                let rounded = if matches!(w.style, Style::Text | Style::Pretty) && n.value.trunc() != n.value
                {
                    number::to_precision_15(n.value)
                } else {
                    n.value
                };
                w.out.extend_from_slice(number::print(rounded).as_bytes());
            }
            Value::String(text) => {
                self.tick(text.len() as u64 / 64)?;
                if self.is_of_input(text) { w.plain(text) } else { w.text(text) }?;
            }
            Value::Function(_) => w.out.extend_from_slice(b"\"\""),
            Value::Tuple(tuple) => return self.deeper(|| self.write(tuple.item, w, level)),
            Value::Array(array) => {
                let items = self.items(array)?;
                w.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        w.out.push(b',');
                    }
                    indent(w, level + 1)?;
                    self.write_inner(*item, w, level + 1)?;
                }
                if !items.is_empty() {
                    indent(w, level)?;
                }
                w.out.push(b']');
            }
            Value::Object(object) => {
                let entries = self.entries(object)?;
                w.out.push(b'{');
                let mut first = true;
                for entry in entries {
                    if entry.value.is_undefined() {
                        continue;
                    }
                    if !first {
                        w.out.push(b',');
                    }
                    first = false;
                    indent(w, level + 1)?;
                    if object.has_plain_keys || self.is_of_input(entry.key) {
                        w.plain(entry.key)?;
                    } else {
                        w.text(entry.key)?;
                    }
                    w.out.extend_from_slice(if w.style == Style::Pretty { b": " } else { b":" });
                    self.write_inner(entry.value, w, level + 1)?;
                }
                if !first {
                    indent(w, level)?;
                }
                w.out.push(b'}');
            }
        }
        Ok(())
    }

    /// Whether a string is a part of the input: what has escapes there was copied to be decoded, so that nothing in
    /// this one needs any.
    #[inline]
    fn is_of_input(&self, text: &[u8]) -> bool {
        self.input.as_ptr_range().contains(&text.as_ptr())
    }

    /// A value in another; only containers go deeper.
    #[inline]
    fn write_inner(&self, value: Value<'a>, w: &mut Writer<'_>, level: usize) -> R<()> {
        match value {
            Value::Array(_) | Value::Object(_) | Value::Tuple(_) => {
                self.deeper(|| self.write(value, w, level))
            }
            _ => self.write(value, w, level),
        }
    }

    /// Writes the result.
    pub(crate) fn write_output(&self, value: Value<'a>, out: &mut write::Output) -> R<()> {
        let most = self.budget.output_bytes;
        let mut bytes = std::mem::take(&mut out.bytes);
        let mut writer = Writer { out: &mut bytes, style: Style::Output, most, over: Limit::OutputBytes };
        let result = (|| {
            let Value::Array(array) = value else { return self.write(value, &mut writer, 0) };
            out.is_array = true;
            writer.out.push(b'[');
            for (i, item) in self.items(array)?.iter().enumerate() {
                if i > 0 {
                    writer.out.push(b',');
                }
                self.arena.charge(BYTES_PER_ELEMENT)?;
                let start = writer.out.len();
                self.deeper(|| self.write(*item, &mut writer, 1))?;
                out.elements.push(start..writer.out.len());
            }
            writer.out.push(b']');
            Ok(())
        })();
        out.bytes = bytes;
        result?;
        if out.bytes.len() > most {
            return Err(Fail::Over(Limit::OutputBytes));
        }
        Ok(())
    }

    /// `$string` of a value; `None` for undefined.
    pub(crate) fn to_text(&self, value: Value<'a>) -> R<Option<&'a [u8]>> {
        self.to_styled_text(value, Style::Text)
    }

    pub(crate) fn to_styled_text(&self, value: Value<'a>, style: Style) -> R<Option<&'a [u8]>> {
        match value {
            Value::Undefined => Ok(None),
            Value::String(text) => Ok(Some(text)),
            Value::Function(_) => Ok(Some(b"")),
            Value::Number(n) if !n.value.is_finite() => {
                Err(Raise::new("D3001").value(number::to_string(n.value)).into())
            }
            Value::Array(array) if array.has(mark::OUTER) => {
                match self.items(array)?.first().copied().unwrap_or(Value::Undefined) {
                    Value::Undefined => Ok(None),
                    inner => self.json_text(inner, style).map(Some),
                }
            }
            value => self.json_text(value, style).map(Some),
        }
    }

    fn json_text(&self, value: Value<'a>, style: Style) -> R<&'a [u8]> {
        if let Value::Number(n) = value {
            let rounded = if n.value.trunc() == n.value { n.value } else { number::to_precision_15(n.value) };
            return Ok(self.arena.alloc_slice(number::print(rounded).as_bytes())?);
        }
        // It is made beside the arena first, in a buffer that is up to twice as long.
        let most = self.budget.bytes.saturating_sub(self.arena.charged()) / 3;
        let mut out = Vec::new();
        self.write(value, &mut Writer { out: &mut out, style, most, over: Limit::Bytes }, 0)?;
        self.arena.charge(out.len().saturating_mul(2))?;
        Ok(self.arena.alloc_slice(&out)?)
    }

    /// A value as an error shows it, cut short.
    pub(crate) fn show(&self, value: Value<'a>) -> String {
        match value {
            Value::Undefined => "nothing".to_owned(),
            Value::Function(_) => "a function".to_owned(),
            Value::String(text) => self.show_text(text),
            value => {
                let mut out = Vec::new();
                let mut writer =
                    Writer { out: &mut out, style: Style::Error, most: SHOWN_BYTES_MAX, over: Limit::Bytes };
                // What does not fit is cut off, whatever the reason.
                let _ = self.write(value, &mut writer, 0);
                out.truncate(SHOWN_BYTES_MAX);
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }

    /// A string as an error shows it.
    pub(crate) fn show_text(&self, text: &[u8]) -> String {
        let mut out = Vec::new();
        write::string(&text[..text.len().min(SHOWN_BYTES_MAX)], &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn indent(w: &mut Writer<'_>, level: usize) -> R<()> {
    if w.style == Style::Pretty {
        if w.out.len() + level * 2 > w.most {
            return Err(Fail::Over(w.over));
        }
        w.room(level * 2 + SMALL_VALUE_BYTES)?;
        w.out.push(b'\n');
        w.out.resize(w.out.len() + level * 2, b' ');
    }
    Ok(())
}

/// A lossy Rust string of a value that is text.
pub(crate) fn lossy(text: &[u8]) -> String {
    wtf8::to_str(text).into_owned()
}
