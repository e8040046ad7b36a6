//! Checks that bytes are one JSON text (RFC 8259) and notes on a tape where each value is that the
//! program can look at; the others are checked and passed over. The scan keeps its own stack, so
//! nesting costs a few bytes a level and no recursion.

use std::ops::Range;

use super::decode::unescape;
use super::stop::{short_string, string_stop};
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
    /// Of an object whose fields are among the slots: what it is to the program. There are fewer places than that.
    pub(crate) place: u16,
}

/// [`Item::start`] of an object that is whole.
pub(crate) const NO_SLOTS: u32 = u32::MAX;

/// What the scanner is inside of, and what it counted; kept between runs for its memory.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    open: Vec<Open>,
    skipped: Vec<u8>,
    /// Of each object that is not whole, for each field that is read, the index of its value on the tape, or 0.
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
    const ALL: [Wrong; 13] = [
        Wrong::Value,
        Wrong::Key,
        Wrong::Colon,
        Wrong::InObject,
        Wrong::InArray,
        Wrong::Behind,
        Wrong::LeadingZero,
        Wrong::Digit,
        Wrong::Unicode,
        Wrong::Escape,
        Wrong::Control,
        Wrong::Open,
        Wrong::Over,
    ];

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
    scratch.open.shrink_to(ITEMS_ADDED_MIN);
    scratch.skipped.shrink_to(ITEMS_ADDED_MIN);
    let items_max = bytes_max / BYTES_PER_ITEM;
    let mut text = Text { bytes, high: None };
    let result = Scanner { text: &mut text, base, projection, tape, scratch, bytes_max, items_max }.run();
    if let Err(Bad { what: Wrong::Over, .. }) = result {
        return Err(Refused::Over);
    }
    // A text that is right but for its encoding has bytes beyond ASCII in strings only. Where both is wrong, the
    // encoding is what is reported.
    let high = if result.is_ok() { text.high.map_or(&[][..], |high| &bytes[high]) } else { bytes };
    if std::str::from_utf8(high).is_err()
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

#[cold]
fn fail(bytes: &[u8], at: usize, message: &'static str) -> InvalidJson {
    let before = &bytes[..at.min(bytes.len())];
    let line = memchr::memchr_iter(b'\n', before).count() as u32 + 1;
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
    InvalidJson { message, offset: at, line, column: (before.len() - line_start) as u32 + 1 }
}

/// What a value or a part of one was found to be: what is behind it, or what is wrong with it. One register, so that
/// the functions that find it can stay apart from the loops that call them.
#[derive(Clone, Copy)]
struct Found(u64);

/// Bits of [`Found`] above the address.
const IS_WRONG: u64 = 1 << 32;
const HAS_ESCAPES: u64 = 1 << 33;
const BEYOND_ASCII: u64 = 1 << 34;
/// Where the reason is, with [`IS_WRONG`].
const WRONG_SHIFT: u32 = 40;

impl Found {
    fn end(at: usize) -> Self {
        Self(at as u64)
    }

    #[cold]
    fn wrong(what: Wrong, at: usize) -> Self {
        Self(at as u64 | IS_WRONG | (what as u64) << WRONG_SHIFT)
    }

    /// The address behind it.
    #[inline(always)]
    fn get(self) -> Step<usize> {
        if self.0 & IS_WRONG != 0 {
            return self.bad();
        }
        Ok(self.0 as u32 as usize)
    }

    #[cold]
    #[inline(never)]
    fn bad(self) -> Step<usize> {
        bad(Wrong::ALL[(self.0 >> WRONG_SHIFT) as usize % Wrong::ALL.len()], self.0 as u32 as usize)
    }
}

/// A text, and what its strings show of its encoding.
struct Text<'i> {
    bytes: &'i [u8],
    /// All strings with bytes beyond ASCII are in this range.
    high: Option<Range<usize>>,
}

impl Text<'_> {
    /// The next byte that is not white space, and where it is; 0 at the end.
    #[inline(always)]
    fn next(&self, at: usize) -> (u8, usize) {
        match self.bytes.get(at) {
            Some(&b) if b > b' ' => (b, at),
            _ => next_behind_space(self.bytes, at),
        }
    }

    /// A string from behind its opening quote on: where its inside ends, and whether it has escapes.
    #[inline(always)]
    fn string(&mut self, start: usize) -> Step<(usize, bool)> {
        // Most are short and plain.
        if let Some(end) = short_string(self.bytes, start) {
            return Ok((end, false));
        }
        let found = string(self.bytes, start);
        let end = found.get()?;
        if found.0 & BEYOND_ASCII != 0 {
            self.high = Some(self.high.as_ref().map_or(start, |high| high.start)..end);
        }
        Ok((end, found.0 & HAS_ESCAPES != 0))
    }

    /// A key, which `first` at `at` is the start of, and its colon: the key's inside, whether it has escapes, and what
    /// is behind.
    #[inline(always)]
    fn key(&mut self, first: u8, at: usize) -> Step<(usize, usize, bool, usize)> {
        if first != b'"' {
            return bad(Wrong::Key, at);
        }
        let (end, escaped) = self.string(at + 1)?;
        match self.next(end + 1) {
            (b':', colon) => Ok((at + 1, end, escaped, colon + 1)),
            (_, at) => bad(Wrong::Colon, at),
        }
    }

    /// Checks a value and notes nothing; returns what is behind it.
    #[inline(never)]
    fn pass_over(&mut self, at: usize, open: &mut Vec<u8>, levels_max: usize) -> Step<usize> {
        let (b, start) = self.next(at);
        match b {
            b'"' => Ok(self.string(start + 1)?.0 + 1),
            b'{' | b'[' => self.pass_over_all(b, start, open, levels_max),
            _ => scalar(self.bytes, b, start)?.get(),
        }
    }

    /// The same for an array or an object, with all that is in it.
    fn pass_over_all(
        &mut self,
        mut b: u8,
        mut start: usize,
        open: &mut Vec<u8>,
        levels_max: usize,
    ) -> Step<usize> {
        open.clear();
        let mut at;
        // The bracket that closes what it is in; 0 outside.
        let mut close = 0;
        'values: loop {
            match b {
                b'"' => at = self.string(start + 1)?.0 + 1,
                b'{' | b'[' => {
                    let (first, inside) = self.next(start + 1);
                    // The closing bracket is two behind the opening one.
                    if first == b + 2 {
                        at = inside + 1;
                    } else {
                        if open.len() >= levels_max {
                            return bad(Wrong::Over, start);
                        }
                        open.push(close);
                        close = b + 2;
                        (b, start) = (first, inside);
                        if close == b'}' {
                            at = self.key(b, start)?.3;
                            (b, start) = self.next(at);
                        }
                        continue;
                    }
                }
                _ => at = scalar(self.bytes, b, start)?.get()?,
            }
            while close != 0 {
                let (end, behind) = self.next(at);
                at = behind + 1;
                if end == b',' {
                    (b, start) = self.next(at);
                    if close == b'}' {
                        at = self.key(b, start)?.3;
                        (b, start) = self.next(at);
                    }
                    continue 'values;
                }
                if end != close {
                    return bad_end(close, behind);
                }
                close = open.pop().unwrap_or(0);
            }
            return Ok(at);
        }
    }
}

#[inline(never)]
fn next_behind_space(bytes: &[u8], mut at: usize) -> (u8, usize) {
    while let Some(&b) = bytes.get(at) {
        if !matches!(b, b' ' | b'\n' | b'\r' | b'\t') {
            return (b, at);
        }
        at += 1;
    }
    (0, at)
}

/// The rest of a string, from behind its opening quote on.
#[inline(never)]
fn string(bytes: &[u8], mut at: usize) -> Found {
    let (mut beyond_ascii, mut escapes) = (0, 0);
    loop {
        at = string_stop(bytes, at, &mut beyond_ascii);
        match bytes.get(at) {
            Some(b'"') => {
                let beyond_ascii = if beyond_ascii != 0 { BEYOND_ASCII } else { 0 };
                return Found(at as u64 | escapes | beyond_ascii);
            }
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    let digits = bytes.get(at + 2..at + 6).unwrap_or(&[]);
                    if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Found::wrong(Wrong::Unicode, at);
                    }
                    at += 6;
                }
                _ => return Found::wrong(Wrong::Escape, at),
            },
            Some(_) => return Found::wrong(Wrong::Control, at),
            None => return Found::wrong(Wrong::Open, at),
        }
        escapes = HAS_ESCAPES;
    }
}

/// A number or a word, by its first byte.
#[inline(always)]
fn scalar(bytes: &[u8], first: u8, start: usize) -> Step<Found> {
    match first {
        b'-' | b'0'..=b'9' => Ok(number(bytes, start)),
        b't' | b'f' | b'n' => Ok(word(bytes, first, start)),
        _ => bad(Wrong::Value, start),
    }
}

/// Behind the digits from `at` on.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// A number.
#[inline(never)]
fn number(bytes: &[u8], start: usize) -> Found {
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    let first = at;
    at = digits(bytes, at);
    if at == first {
        return Found::wrong(Wrong::Digit, at);
    }
    if at - first > 1 && bytes[first] == b'0' {
        return Found::wrong(Wrong::LeadingZero, first + 1);
    }
    match bytes.get(at) {
        Some(b'.' | b'e' | b'E') => fraction(bytes, at),
        _ => Found::end(at),
    }
}

/// What may stand behind the integer part of a number.
#[inline(always)]
fn fraction(bytes: &[u8], mut at: usize) -> Found {
    if bytes.get(at) == Some(&b'.') {
        let from = at + 1;
        at = digits(bytes, from);
        if at == from {
            return Found::wrong(Wrong::Digit, at);
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(bytes.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        let from = at;
        at = digits(bytes, from);
        if at == from {
            return Found::wrong(Wrong::Digit, at);
        }
    }
    Found::end(at)
}

/// `true`, `false` or `null`, by its first byte.
#[inline(never)]
fn word(bytes: &[u8], first: u8, at: usize) -> Found {
    let rest = &bytes[at..];
    let len = match first {
        b't' if rest.first_chunk() == Some(b"true") => 4,
        b'n' if rest.first_chunk() == Some(b"null") => 4,
        b'f' if rest.first_chunk() == Some(b"false") => 5,
        _ => return Found::wrong(Wrong::Value, at),
    };
    Found::end(at + len)
}

struct Scanner<'s, 'i> {
    text: &'s mut Text<'i>,
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
        let slots = (self.scratch.slots.len() + fields) * 2 * std::mem::size_of::<u32>();
        self.tape.len() * BYTES_PER_ITEM + open + slots > self.bytes_max
    }

    #[inline(always)]
    fn push(&mut self, kind: ItemKind, start: usize, end: usize) {
        let next = self.tape.len() as u32 + 1;
        let (start, end) = (self.base + start as u32, self.base + end as u32);
        self.add(Item { start, end, next, count: 0, kind, place: 0 });
    }

    /// The whole text.
    fn run(mut self) -> Step<()> {
        let bytes = self.text.bytes;
        let mut at;
        // What is read of the value at hand.
        let mut place = self.projection.root();
        // What the value is in: its index on the tape, its place, its closing bracket, 0 outside, and how many are in it.
        let mut around = Open { item: 0, place, close: 0, count: 0, slots: NO_SLOTS };
        let (mut b, mut start) = self.text.next(0);
        // Each turn reads one value; then it closes what ends behind it.
        'values: loop {
            if self.tape.len() > self.items_max {
                return bad(Wrong::Over, start);
            }
            match b {
                b'"' => {
                    let (end, escaped) = self.text.string(start + 1)?;
                    self.push(if escaped { ItemKind::Escaped } else { ItemKind::Plain }, start + 1, end);
                    at = end + 1;
                }
                b'{' | b'[' => {
                    let item = self.tape.len() as u32;
                    let slots = self.container(b, start, place)?;
                    let (first, inside) = self.text.next(start + 1);
                    // The closing bracket is two behind the opening one.
                    if first == b + 2 {
                        at = inside + 1;
                    } else {
                        self.scratch.open.push(around);
                        around = Open { item, place, close: b + 2, count: 0, slots };
                        at = inside;
                        if b == b'[' || self.entry(&mut at, &mut place, &mut around)? {
                            (b, start) = self.text.next(at);
                            continue;
                        }
                    }
                }
                _ => {
                    at = scalar(bytes, b, start)?.get()?;
                    let kind = match b {
                        b't' => ItemKind::True,
                        b'f' => ItemKind::False,
                        b'n' => ItemKind::Null,
                        _ => ItemKind::Number,
                    };
                    self.push(kind, start, at);
                }
            }
            while around.close != 0 {
                let (end, behind) = self.text.next(at);
                at = behind + 1;
                if end == b',' {
                    place = around.place;
                    if around.close == b']' {
                        around.count += 1;
                        (b, start) = self.text.next(at);
                        continue 'values;
                    }
                    if self.entry(&mut at, &mut place, &mut around)? {
                        (b, start) = self.text.next(at);
                        continue 'values;
                    }
                    continue;
                }
                if end != around.close {
                    return bad_end(around.close, behind);
                }
                let next = self.tape.len() as u32;
                let item = &mut self.tape[around.item as usize];
                item.count = around.count + u32::from(end == b']');
                item.next = next;
                match self.scratch.open.pop() {
                    Some(outer) => around = outer,
                    None => around.close = 0,
                }
            }
            let (_, end) = self.text.next(at);
            return if end < bytes.len() { bad(Wrong::Behind, end) } else { Ok(()) };
        }
    }

    /// Notes the head of an array or an object at `start`; returns where the fields of an object are among the slots.
    #[inline(always)]
    fn container(&mut self, opening: u8, start: usize, place: u32) -> Step<u32> {
        // Slots grow with the input, not with how many fields the program reads of each of its
        // objects; the fields of the others are found by name.
        let has_slots = opening == b'{' && place != WHOLE && self.scratch.slots.len() < self.text.bytes.len();
        let fields = if has_slots { self.projection.fields(place) } else { 0 };
        if self.is_over(fields) {
            return bad(Wrong::Over, start);
        }
        let mut slots = NO_SLOTS;
        let (kind, ordinal) = if opening == b'{' {
            if has_slots {
                slots = self.scratch.slots.len() as u32;
                self.scratch.slots.resize(slots as usize + fields, 0);
            }
            (ItemKind::Object, &mut self.scratch.objects)
        } else {
            (ItemKind::Array, &mut self.scratch.arrays)
        };
        let end = *ordinal;
        *ordinal += 1;
        let next = self.tape.len() as u32 + 1;
        self.add(Item { start: slots, end, next, count: 0, kind, place: place as u16 });
        Ok(slots)
    }

    /// An entry's key. If the entry is read, its value is to come, with its place in `place`; if not, its value
    /// has been passed over.
    #[inline(always)]
    fn entry(&mut self, at: &mut usize, place: &mut u32, around: &mut Open) -> Step<bool> {
        let (first, key) = self.text.next(*at);
        let (start, end, escaped, behind) = self.text.key(first, key)?;
        *at = behind;
        if *place != WHOLE {
            let raw = &self.text.bytes[start..end];
            let below = if escaped {
                field_escaped(self.projection, *place, raw)
            } else {
                self.projection.field(*place, raw)
            };
            let Some((below, number)) = below else {
                *at = self.text.pass_over(behind, &mut self.scratch.skipped, self.bytes_max / 2)?;
                return Ok(false);
            };
            *place = below;
            // The value stands behind the key. Of several entries with the key the last counts.
            if around.slots != NO_SLOTS {
                self.scratch.slots[(around.slots + number) as usize - 1] = self.tape.len() as u32 + 1;
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

    /// Every text of a few pieces: what is taken is what serde_json takes, wherever the text stands.
    #[test]
    fn takes_what_serde_json_takes_of_anything() {
        let pieces: [&[u8]; 20] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b" ",
            b"\"a\"",
            b"\"\\\"",
            b"\\",
            b"\"",
            b"1",
            b"-0.5",
            b"01",
            b"2e-3",
            b"true",
            b"nul",
            b"\n",
            b"\xc3\xa9",
            b"\xff",
        ];
        let mut state = 11u64;
        let mut taken = 0;
        for round in 0..60_000 {
            let mut text = vec![b' '; if round % 3 == 0 { round % 67 } else { 0 }];
            for _ in 0..round % 8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.extend_from_slice(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let ours = check(&text).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
            assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
            taken += u32::from(ours);
        }
        assert!(taken > 1000, "{taken}");
    }
}
