//! Checks that bytes are one JSON text (RFC 8259) and notes on a tape where each value is that the
//! program can look at; the others are checked and passed over. The scan keeps its own stack, so
//! nesting costs a few bytes a level and no recursion.

use crate::error::InvalidJson;
use crate::projection::{Projection, WHOLE};

/// The longest input: addresses are 31 bits.
pub(crate) const INPUT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Slots whose memory is kept between evaluations.
const SLOTS_RETAINED_MAX: usize = 1 << 16;

/// Kind of a tape item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ItemKind {
    Null,
    True,
    False,
    Number,
    /// A string without escapes.
    Plain,
    /// A string with escapes.
    Escaped,
    Array,
    Object,
}

/// One value, or one key, of the input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Address of its first byte (of a string: behind the quote). Of an object where its fields are among the
    /// slots, or [`NO_SLOTS`].
    pub(crate) start: u32,
    /// Address behind its last byte (of a string: of the closing quote). Of an array its number among the
    /// tape's arrays, of an object that among its objects.
    pub(crate) end: u32,
    /// Index of what follows it on the tape.
    pub(crate) next: u32,
    /// Elements of an array, entries of an object that are on the tape.
    pub(crate) count: u32,
    pub(crate) kind: ItemKind,
}

/// [`Item::start`] of an object that is whole.
pub(crate) const NO_SLOTS: u32 = u32::MAX;

/// What the scanner is inside of, and what it counted; kept between runs for its memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    open: Vec<Open>,
    skipped: Vec<u8>,
    /// Of each object that is not whole its place and then, for each field that is read, the index of its value on
    /// the tape, or 0.
    pub(crate) slots: Vec<u32>,
    /// Arrays and objects on the tape.
    pub(crate) arrays: u32,
    pub(crate) objects: u32,
}

/// A container that is not closed yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Its index on the tape.
    item: u32,
    /// What is read of it.
    place: u32,
    /// Its closing bracket; 0 around the whole text.
    close: u8,
    /// What of it is on the tape so far; of an array without what is at hand.
    count: u32,
    slots: u32,
}

impl Scratch {
    /// Before the first text of a tape.
    pub(crate) fn clear(&mut self) {
        (self.arrays, self.objects) = (0, 0);
        self.slots.clear();
        self.slots.shrink_to(SLOTS_RETAINED_MAX);
    }
}

/// What is wrong, and where; small, so that what may fail costs little.
#[derive(Debug, Clone, Copy)]
struct Bad {
    what: Wrong,
    at: u32,
}

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Wrong {
    Value,
    Key,
    Colon,
    InObject,
    InArray,
    Behind,
    LeadingZero,
    Digit,
    Unicode,
    Escape,
    Control,
    Open,
    /// Nothing is, but what is noted of it takes more memory than it may.
    Over,
}

/// Why a text is not scanned.
#[derive(Debug)]
pub(crate) enum Refused {
    Invalid(InvalidJson),
    /// What is noted of it would take more memory than it may.
    Over,
}

impl Wrong {
    fn message(self) -> &'static str {
        match self {
            Wrong::Value => "a value is expected here",
            Wrong::Key => "a key in double quotes is expected here",
            Wrong::Colon => "a colon is expected here",
            Wrong::InObject => "a comma or } is expected here",
            Wrong::InArray => "a comma or ] is expected here",
            Wrong::Behind => "nothing may follow the value",
            Wrong::LeadingZero => "a number cannot begin with 0",
            Wrong::Digit => "a digit is expected here",
            Wrong::Unicode => "\\u must be followed by four hexadecimal digits",
            Wrong::Escape => "this escape sequence is not allowed",
            Wrong::Control => "a control character in a string must be escaped",
            Wrong::Open => "this string is not closed",
            Wrong::Over => "this is more than there is memory for",
        }
    }
}

#[cold]
fn bad<T>(what: Wrong, at: usize) -> Step<T> {
    Err(Bad { what, at: at as u32 })
}

/// The rest of a list is wrong.
#[cold]
fn bad_end<T>(close: u8, at: usize) -> Step<T> {
    bad(if close == b'}' { Wrong::InObject } else { Wrong::InArray }, at)
}

type Step<T> = Result<T, Bad>;
/// Scans `bytes` and appends what `projection` has to `tape`. Addresses begin at `base`. Returns the index of the
/// value.
/// `bytes_max` is what tape and scratch may take.
pub(crate) fn scan(
    bytes: &[u8],
    base: u32,
    projection: &Projection,
    tape: &mut Vec<Item>,
    scratch: &mut Scratch,
    bytes_max: usize,
) -> Result<u32, Refused> {
    let fail = |at, message| Err(Refused::Invalid(fail(bytes, at, message)));
    if bytes.len() > INPUT_BYTES_MAX {
        return fail(INPUT_BYTES_MAX, "the input is longer than 256 MiB");
    }
    let root = tape.len() as u32;
    scratch.open.clear();
    let mut beyond_ascii = 0;
    scratch.open.shrink_to(ITEMS_ADDED_MIN);
    scratch.skipped.shrink_to(ITEMS_ADDED_MIN);
    let items_max = bytes_max / BYTES_PER_ITEM;
    let result =
        Scanner { bytes, base, projection, tape, scratch, bytes_max, items_max }.run(&mut beyond_ascii);
    if let Err(Bad { what: Wrong::Over, .. }) = result {
        return Err(Refused::Over);
    }
    // Where both is wrong, the encoding is what is reported.
    if (result.is_err() || beyond_ascii != 0)
        && let Err(e) = std::str::from_utf8(bytes)
    {
        return fail(e.valid_up_to(), "this is not UTF-8");
    }
    match result {
        Ok(()) => Ok(root),
        Err(Bad { at, .. }) if at as usize >= bytes.len() => fail(at as usize, "the input ends too early"),
        Err(Bad { what, at }) => fail(at as usize, what.message()),
    }
}

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

#[cold]
fn fail(bytes: &[u8], at: usize, message: &'static str) -> InvalidJson {
    let before = &bytes[..at.min(bytes.len())];
    let line = memchr::memchr_iter(b'\n', before).count() as u32 + 1;
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    InvalidJson { message, offset: at, line, column: (before.len() - line_start) as u32 + 1 }
}

/// The next byte that is not white space, and where it is; 0 at the end.
#[inline(always)]
fn next(bytes: &[u8], mut at: usize) -> (u8, usize) {
    loop {
        match bytes.get(at) {
            Some(&b) if b > b' ' => return (b, at),
            Some(b' ' | b'\n' | b'\r' | b'\t') => at += 1,
            Some(&b) => return (b, at),
            None => return (0, at),
        }
    }
}

/// A string from behind its opening quote on: where its inside ends, and whether it has escapes.
#[inline(always)]
fn string(bytes: &[u8], start: usize, beyond_ascii: &mut u32) -> Step<(usize, bool)> {
    let end = string_stop(bytes, start, beyond_ascii);
    if bytes.get(end) == Some(&b'"') {
        return Ok((end, false));
    }
    odd_string(bytes, end, beyond_ascii).map(|end| (end, true))
}

/// The rest of a string that has escapes, or is wrong.
#[inline(never)]
fn odd_string(bytes: &[u8], mut at: usize, beyond_ascii: &mut u32) -> Step<usize> {
    loop {
        at = string_stop(bytes, at, beyond_ascii);
        match bytes.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let digits = bytes.get(at + 2..at + 6).unwrap_or(&[]);
                    if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                        return bad(Wrong::Unicode, at);
                    }
                    at += 6;
                }
                _ => return bad(Wrong::Escape, at),
            },
            Some(_) => return bad(Wrong::Control, at),
            None => return bad(Wrong::Open, at),
        }
    }
}

/// A key, which `at` is the start of, and its colon: the key's inside, whether it has escapes, and what is behind.
#[inline(always)]
fn key(bytes: &[u8], at: usize, beyond_ascii: &mut u32) -> Step<(usize, usize, bool, usize)> {
    if bytes.get(at) != Some(&b'"') {
        return bad(Wrong::Key, at);
    }
    let (end, escaped) = string(bytes, at + 1, beyond_ascii)?;
    match next(bytes, end + 1) {
        (b':', colon) => Ok((at + 1, end, escaped, colon + 1)),
        (_, at) => bad(Wrong::Colon, at),
    }
}

#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// At least one digit.
#[inline(always)]
fn some_digits(bytes: &[u8], at: usize) -> Step<usize> {
    let end = digits(bytes, at);
    if end == at { bad(Wrong::Digit, at) } else { Ok(end) }
}

/// A number; returns what is behind it.
#[inline]
fn number(bytes: &[u8], start: usize) -> Step<usize> {
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    if bytes.get(at) == Some(&b'0') {
        at += 1;
        if bytes.get(at).is_some_and(u8::is_ascii_digit) {
            return bad(Wrong::LeadingZero, at);
        }
    } else {
        at = some_digits(bytes, at)?;
    }
    if bytes.get(at) == Some(&b'.') {
        at = some_digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = some_digits(bytes, at)?;
    }
    Ok(at)
}

/// `true`, `false` or `null`, by its first byte; returns what is behind it.
#[inline]
fn word(bytes: &[u8], first: u8, at: usize) -> Step<(ItemKind, usize)> {
    let (word, kind): (&[u8], _) = match first {
        b't' => (b"true", ItemKind::True),
        b'f' => (b"false", ItemKind::False),
        _ => (b"null", ItemKind::Null),
    };
    if bytes[at..].starts_with(word) { Ok((kind, at + word.len())) } else { bad(Wrong::Value, at) }
}

/// Checks a value and notes nothing; returns what is behind it.
fn pass_over(
    bytes: &[u8],
    mut at: usize,
    open: &mut Vec<u8>,
    levels_max: usize,
    beyond_ascii: &mut u32,
) -> Step<usize> {
    open.clear();
    let mut beyond = 0;
    // The bracket that closes what it is in; 0 outside.
    let mut close = 0;
    'values: loop {
        let (b, start) = next(bytes, at);
        match b {
            b'"' => at = string(bytes, start + 1, &mut beyond)?.0 + 1,
            b'-' | b'0'..=b'9' => at = number(bytes, start)?,
            b'{' | b'[' => {
                let (first, inside) = next(bytes, start + 1);
                if first == b + 2 {
                    at = inside + 1;
                } else {
                    if open.len() >= levels_max {
                        return bad(Wrong::Over, start);
                    }
                    open.push(close);
                    close = b + 2;
                    at = if b == b'{' { key(bytes, inside, &mut beyond)?.3 } else { inside };
                    continue;
                }
            }
            b't' | b'f' | b'n' => at = word(bytes, b, start)?.1,
            _ => return bad(Wrong::Value, start),
        }
        while close != 0 {
            let (b, behind) = next(bytes, at);
            if b == b',' {
                at = behind + 1;
                if close == b'}' {
                    at = next(bytes, at).1;
                    at = key(bytes, at, &mut beyond)?.3;
                }
                continue 'values;
            }
            if b != close {
                return bad_end(close, behind);
            }
            at = behind + 1;
            close = open.pop().unwrap_or(0);
        }
        *beyond_ascii |= beyond;
        return Ok(at);
    }
}

struct Scanner<'s, 'i> {
    bytes: &'i [u8],
    base: u32,
    projection: &'s Projection,
    tape: &'s mut Vec<Item>,
    scratch: &'s mut Scratch,
    bytes_max: usize,
    items_max: usize,
}

/// Bytes that an item takes on the tape, with an eighth for what the tape grows by.
const BYTES_PER_ITEM: usize = std::mem::size_of::<Item>() / 8 * 9;
/// Items that the tape grows by at least; further on by an eighth, so that little of it is unused.
const ITEMS_ADDED_MIN: usize = 4096;

impl Scanner<'_, '_> {
    #[inline(always)]
    fn add(&mut self, item: Item) {
        if self.tape.len() == self.tape.capacity() {
            self.grow();
        }
        self.tape.push(item);
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.tape.reserve_exact((self.tape.len() / 8).max(ITEMS_ADDED_MIN));
    }

    /// Whether one more container, of which so many fields are read, is more than there is memory
    /// for. The buffers other than the tape double when they grow.
    #[inline]
    fn is_over(&self, fields: usize) -> bool {
        let open = (self.scratch.open.len() + 1) * 2 * std::mem::size_of::<Open>();
        let slots = (self.scratch.slots.len() + fields + 1) * 2 * std::mem::size_of::<u32>();
        self.tape.len() * BYTES_PER_ITEM + open + slots > self.bytes_max
    }

    #[inline(always)]
    fn push(&mut self, kind: ItemKind, start: usize, end: usize) {
        let next = self.tape.len() as u32 + 1;
        let (start, end) = (self.base + start as u32, self.base + end as u32);
        self.add(Item { start, end, next, count: 0, kind });
    }

    /// The whole text.
    fn run(mut self, beyond_ascii: &mut u32) -> Step<()> {
        let bytes = self.bytes;
        let mut at = 0;
        let mut beyond = 0;
        // What is read of the value at hand.
        let mut place = self.projection.root();
        // What the value is in: its index on the tape, its place, its closing bracket, 0 outside, and how many are in it.
        let mut around = Open { item: 0, place, close: 0, count: 0, slots: NO_SLOTS };
        // Each turn reads one value; then it closes what ends behind it.
        'values: loop {
            let (b, start) = next(bytes, at);
            if self.tape.len() > self.items_max {
                return bad(Wrong::Over, start);
            }
            match b {
                b'"' => {
                    let (end, escaped) = string(bytes, start + 1, &mut beyond)?;
                    self.push(if escaped { ItemKind::Escaped } else { ItemKind::Plain }, start + 1, end);
                    at = end + 1;
                }
                b'-' | b'0'..=b'9' => {
                    at = number(bytes, start)?;
                    self.push(ItemKind::Number, start, at);
                }
                b'{' | b'[' => {
                    let item = self.tape.len() as u32;
                    let mut slots = NO_SLOTS;
                    // Slots grow with the input, not with how many fields the program reads of each of its
                    // objects; the fields of the others are found by name.
                    let has_slots = b == b'{' && place != WHOLE && self.scratch.slots.len() < bytes.len();
                    let fields = if has_slots { self.projection.fields(place) } else { 0 };
                    if self.is_over(fields) {
                        return bad(Wrong::Over, start);
                    }
                    let (kind, ordinal) = if b == b'{' {
                        if has_slots {
                            slots = self.scratch.slots.len() as u32;
                            self.scratch.slots.push(place);
                            self.scratch.slots.resize(slots as usize + 1 + fields, 0);
                        }
                        (ItemKind::Object, &mut self.scratch.objects)
                    } else {
                        (ItemKind::Array, &mut self.scratch.arrays)
                    };
                    let end = *ordinal;
                    *ordinal += 1;
                    self.add(Item { start: slots, end, next: item + 1, count: 0, kind });
                    let (first, inside) = next(bytes, start + 1);
                    // The closing bracket is two behind the opening one.
                    if first == b + 2 {
                        at = inside + 1;
                    } else {
                        self.scratch.open.push(around);
                        around = Open { item, place, close: b + 2, count: 0, slots };
                        at = inside;
                        if b == b'[' || self.entry(&mut at, &mut place, &mut around, &mut beyond)? {
                            continue;
                        }
                    }
                }
                b't' | b'f' | b'n' => {
                    let (kind, end) = word(bytes, b, start)?;
                    self.push(kind, start, end);
                    at = end;
                }
                _ => return bad(Wrong::Value, start),
            }
            while around.close != 0 {
                let (b, behind) = next(bytes, at);
                at = behind + 1;
                if b == b',' {
                    place = around.place;
                    if around.close == b']' {
                        around.count += 1;
                        continue 'values;
                    }
                    at = next(bytes, at).1;
                    if self.entry(&mut at, &mut place, &mut around, &mut beyond)? {
                        continue 'values;
                    }
                    continue;
                }
                if b != around.close {
                    return bad_end(around.close, behind);
                }
                let next = self.tape.len() as u32;
                let item = &mut self.tape[around.item as usize];
                item.count = around.count + u32::from(b == b']');
                item.next = next;
                match self.scratch.open.pop() {
                    Some(outer) => around = outer,
                    None => around.close = 0,
                }
            }
            *beyond_ascii |= beyond;
            let (_, end) = next(bytes, at);
            return if end < bytes.len() { bad(Wrong::Behind, end) } else { Ok(()) };
        }
    }

    /// An entry's key. If the entry is read, its value is to come, with its place in `place`; if not, its value
    /// has been passed over.
    #[inline(always)]
    fn entry(
        &mut self,
        at: &mut usize,
        place: &mut u32,
        around: &mut Open,
        beyond_ascii: &mut u32,
    ) -> Step<bool> {
        let (start, end, escaped, behind) = key(self.bytes, *at, beyond_ascii)?;
        *at = behind;
        if *place != WHOLE {
            let raw = &self.bytes[start..end];
            let below = if escaped {
                field_escaped(self.projection, *place, raw)
            } else {
                self.projection.field(*place, raw)
            };
            let Some((below, number)) = below else {
                let levels_max = self.bytes_max / 2;
                *at = pass_over(self.bytes, behind, &mut self.scratch.skipped, levels_max, beyond_ascii)?;
                return Ok(false);
            };
            *place = below;
            // The value stands behind the key. Of several entries with the key the last counts.
            if around.slots != NO_SLOTS {
                self.scratch.slots[(around.slots + number) as usize] = self.tape.len() as u32 + 1;
            }
        }
        around.count += 1;
        self.push(if escaped { ItemKind::Escaped } else { ItemKind::Plain }, start, end);
        Ok(true)
    }
}

#[cold]
fn field_escaped(projection: &Projection, place: u32, raw: &[u8]) -> Option<(u32, u32)> {
    let mut text = Vec::with_capacity(raw.len());
    unescape(raw, &mut text);
    projection.field(place, &text)
}

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

    fn check(text: &[u8]) -> Result<usize, InvalidJson> {
        let mut tape = Vec::new();
        let refused = |refused| match refused {
            Refused::Invalid(e) => e,
            Refused::Over => panic!("there is no limit"),
        };
        let most = usize::MAX;
        let all = scan(text, 0, Projection::ALL, &mut tape, &mut Scratch::default(), most)
            .map(|_| tape.len())
            .map_err(refused);
        // What is passed over is checked just the same.
        let program = crate::Program::compile("nothing").unwrap();
        let none =
            scan(text, 0, program.parts().1, &mut tape, &mut Scratch::default(), most).map_err(refused);
        assert_eq!(all.as_ref().err(), none.as_ref().err(), "{}", String::from_utf8_lossy(text));
        all
    }

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
    fn only_what_is_read_is_noted() {
        let program = crate::Program::compile("{'x': a.b, 'y': list.c}").unwrap();
        let text = br#"{"z": [1, {"a": 2}], "a": {"c": 1, "b": {"d": 3}, "\u0062": 4}, "list": [5, {"c": 6, "e": {}}], "": 7}"#;
        let mut tape = Vec::new();
        let mut scratch = Scratch::default();
        scan(text, 0, program.parts().1, &mut tape, &mut scratch, usize::MAX).unwrap();
        let texts: Vec<_> = tape
            .iter()
            .filter(|item| !matches!(item.kind, ItemKind::Array | ItemKind::Object))
            .map(|item| std::str::from_utf8(&text[item.start as usize..item.end as usize]).unwrap())
            .collect();
        assert_eq!(texts, ["a", "b", "d", "3", "\\u0062", "4", "list", "5", "c", "6"]);
        let counts: Vec<_> = tape.iter().map(|item| item.count).filter(|count| *count > 0).collect();
        assert_eq!(counts, [2, 2, 1, 2, 1]);
        // `b`, the second time, and `c`.
        let slots: Vec<_> =
            scratch.slots.iter().map(|slot| tape[*slot as usize].start as usize % text.len()).collect();
        assert!(slots.iter().any(|start| text[*start..].starts_with(b"4")), "{slots:?}");
        assert!(slots.iter().any(|start| text[*start..].starts_with(b"6")), "{slots:?}");
    }

    #[test]
    fn accepts_and_refuses_what_serde_json_does() {
        let cases: &[&[u8]] = &[
            b"{}",
            b"[]",
            b" [ ] ",
            b"null",
            b"tru",
            b"truex",
            b"01",
            b"-",
            b"-0",
            b"-0.",
            b"1.5e3",
            b"1e",
            b"1e+",
            b".5",
            b"[1,]",
            b"[,1]",
            b"{\"a\":}",
            b"{\"a\" 1}",
            b"{\"a\":1,}",
            b"{a:1}",
            b"\"\\u12g4\"",
            b"\"\\x\"",
            b"\"a\nb\"",
            b"\"abc",
            b"",
            b"  ",
            b"[1 2]",
            b"{\"a\":1 \"b\":2}",
            b"[[[]]]",
            b"[}",
            b"{]",
            b"\"12345678\\n9012345678901\"",
            b"\xff",
            b"\"\xc3\"",
            b"1 1",
            b"{\"a\":[1,{\"b\":null}],\"c\":\"d\"}",
            b"[\"\x00\"]",
            b"\"\x7f\"",
            b"nul\0",
            b"[1]\0",
            b"{\"a\":1}}",
        ];
        for text in cases {
            let ours = check(text).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(text).is_ok();
            assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn slots_are_no_more_than_the_input_is_long() {
        let fields: Vec<String> = (0..500).map(|i| format!("list.f{i}")).collect();
        let program = crate::Program::compile(&format!("{{'n': [{}]}}", fields.join(","))).unwrap();
        let text = format!(r#"{{"list": [{}{{"f7": 7}}]}}"#, "{},".repeat(10_000));
        let (mut tape, mut scratch) = (Vec::new(), Scratch::default());
        scan(text.as_bytes(), 0, program.parts().1, &mut tape, &mut scratch, usize::MAX).unwrap();
        assert!((text.len()..text.len() + 600).contains(&scratch.slots.len()), "{}", scratch.slots.len());
        // What has no slots is found all the same.
        let mut output = crate::Output::new();
        let (bindings, budget) = (crate::Bindings::new(0, 0), crate::Budget::default());
        let mut evaluator = crate::Evaluator::new();
        evaluator.eval(&program, text.as_bytes(), &bindings, &budget, &mut output).unwrap();
        assert_eq!(output.as_bytes(), br#"{"n":[7]}"#);
    }

    #[test]
    fn an_error_says_where() {
        let e = check(b"{\"a\": 1,\n  \"b\": x}").unwrap_err();
        assert_eq!((e.line, e.column, e.offset), (2, 8, 16));
        let e = check(b"[1, 2").unwrap_err();
        assert_eq!((e.offset, e.message), (5, "the input ends too early"));
    }

    #[test]
    fn deep_nesting_is_no_recursion() {
        let n = 1_000_000;
        let text = [vec![b'['; n], vec![b']'; n]].concat();
        assert_eq!(check(&text).unwrap(), n);
    }

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
