//! Base64 and percent-encoding, as JavaScript does them: base64 works on units below 256.

use super::text;
use crate::arena::ArenaVec;
use crate::error::Raise;
use crate::eval::{Call, R, Run};
use crate::value::Value;
use crate::wtf8;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn base64_encode<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    // Each UTF-16 unit counts with its low byte, as Node's 'binary' encoding has it.
    let mut bytes = ArenaVec::with_capacity(run.arena, s.len())?;
    for unit in wtf8::units(s) {
        bytes.push(unit as u8)?;
    }
    let mut out = ArenaVec::with_capacity(run.arena, bytes.len().div_ceil(3) * 4)?;
    for chunk in bytes.as_slice().chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            out.push(if i <= chunk.len() { ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] } else { b'=' })?;
        }
    }
    Ok(Value::String(out.finish()))
}

pub(super) fn base64_decode<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    let mut out = ArenaVec::with_capacity(run.arena, s.len())?;
    let (mut bits, mut count) = (0u32, 0);
    for b in s {
        // As Node: the URL alphabet too, other characters are passed over, = ends.
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let (encoded, n) = wtf8::encode(bits >> count & 0xff);
            out.extend(&encoded[..n])?;
        }
    }
    Ok(Value::String(out.finish()))
}

/// What encodeURIComponent leaves as it is.
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b)
}

/// What encodeURI leaves as it is besides.
const RESERVED: &[u8] = b";/?:@&=+$,#";

fn malformed<'a>(run: &Run<'a>, s: &[u8], name: &str) -> crate::eval::Fail {
    Raise::new("D3140").token(name).value(run.show_text(s)).into()
}

fn encode<'a>(run: &Run<'a>, call: &Call<'a, '_>, keep: &[u8], name: &str) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    if wtf8::has_lone(s) {
        return Err(malformed(run, s, name));
    }
    let mut out = ArenaVec::with_capacity(run.arena, s.len())?;
    for b in s {
        if is_plain(*b) || keep.contains(b) {
            out.push(*b)?;
        } else {
            let hex = |n: u8| b"0123456789ABCDEF"[usize::from(n)];
            out.extend(&[b'%', hex(b >> 4), hex(b & 15)])?;
        }
    }
    Ok(Value::String(out.finish()))
}

fn decode<'a>(run: &Run<'a>, call: &Call<'a, '_>, keep: &[u8], name: &str) -> R<Value<'a>> {
    let Some(s) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(s.len() as u64 / 16)?;
    let byte = |at: usize| -> Option<u8> {
        let digit = |i: usize| s.get(i).and_then(|b| char::from(*b).to_digit(16));
        if s.get(at) != Some(&b'%') {
            return None;
        }
        Some((digit(at + 1)? << 4 | digit(at + 2)?) as u8)
    };
    let mut out = ArenaVec::with_capacity(run.arena, s.len())?;
    let mut at = 0;
    while at < s.len() {
        if s[at] != b'%' {
            out.push(s[at])?;
            at += 1;
            continue;
        }
        let first = byte(at).ok_or_else(|| malformed(run, s, name))?;
        let len = match first {
            0..=0x7f => 1,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Err(malformed(run, s, name)),
        };
        let mut encoded = [first; 4];
        for (i, slot) in encoded[..len].iter_mut().enumerate().skip(1) {
            *slot = byte(at + i * 3).ok_or_else(|| malformed(run, s, name))?;
        }
        if std::str::from_utf8(&encoded[..len]).is_err() {
            return Err(malformed(run, s, name));
        }
        if keep.contains(&first) {
            out.extend(&s[at..at + 3])?;
        } else {
            out.extend(&encoded[..len])?;
        }
        at += len * 3;
    }
    Ok(Value::String(out.finish()))
}

pub(super) fn encode_url_component<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    encode(run, call, b"", "encodeUrlComponent")
}

pub(super) fn encode_url<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    encode(run, call, RESERVED, "encodeUrl")
}

pub(super) fn decode_url_component<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    decode(run, call, b"", "decodeUrlComponent")
}

pub(super) fn decode_url<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    decode(run, call, RESERVED, "decodeUrl")
}
