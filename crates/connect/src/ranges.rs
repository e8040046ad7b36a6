//! Completed ranges as the text of an offset commit's metadata, small enough that thousands of them fit.
//!
//! Invariant: what [`encode`] writes [`decode`] reads back, and it is never longer than [`Size`] said.
//!
//! The text is `c2:` and bits, six a character of base64's URL alphabet (RFC 4648 section 5), the first bit highest: the number of
//! ranges, two orders of four bits, and for each range how many offsets before it are pending and how many in it are done, from the low
//! watermark on. All but the orders are Exp-Golomb codes of the value less one: of order 8 the number, of the first and the second order
//! the lengths. So a key that fails among others that don't costs about seven bits a record, whatever the numbers of its offsets are.

use std::collections::BTreeMap;

use types::Offset;

const PREFIX: &str = "c2:";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BITS_A_CHARACTER: usize = 6;

/// Of the code that says how many ranges there are.
const COUNT_ORDER: u32 = 8;
/// What that code can grow by while the text is within a commit's metadata.
const COUNT_GROWTH_BITS: usize = 16;
/// Of the field that holds an order.
const ORDER_BITS: u32 = 4;

/// Completed runs: start -> end (exclusive); never adjacent, never overlapping, all above the low watermark.
pub(crate) type Runs = BTreeMap<Offset, Offset>;

/// How long the text of runs would be, and by how much it can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    bits: usize,
    orders: (u32, u32),
}

impl Size {
    /// With the orders that make it shortest.
    pub(crate) fn of(low: Offset, runs: &Runs) -> Self {
        let cost = |part: fn((u64, u64)) -> u64| {
            let of_order = |order| (lengths(low, runs).map(|pair| code_bits(part(pair), order)).sum(), order);
            (0..1 << ORDER_BITS).map(of_order).min().unwrap_or((0, 0))
        };
        let ((pending, first), (done, second)) = (cost(|pair| pair.0), cost(|pair| pair.1));
        let head = code_bits(runs.len().max(1) as u64, COUNT_ORDER) + 2 * ORDER_BITS as usize;
        Self { bits: head + pending + done, orders: (first, second) }
    }

    /// An upper bound of the text's length in characters after so many more completions between `low` and `next`.
    ///
    /// A completion lengthens a run, which takes two bits at most, or makes one of a single offset: a code for it and one for what
    /// is pending before it. What was pending there gets shorter.
    pub(crate) fn after(self, completions: usize, low: Offset, next: Offset) -> usize {
        let digits = (u64::BITS - (next - low).unsigned_abs().leading_zeros()) as usize;
        let (first, second) = self.orders;
        let growth = (2 * digits + first as usize) + (1 + second as usize);
        PREFIX.len() + (self.bits + completions * growth + COUNT_GROWTH_BITS).div_ceil(BITS_A_CHARACTER)
    }
}

/// The text; empty without runs.
pub(crate) fn encode(low: Offset, runs: &Runs) -> String {
    if runs.is_empty() {
        return String::new();
    }
    let (first, second) = Size::of(low, runs).orders;
    let mut out = Writer { text: PREFIX.to_owned(), symbol: 0, filled: 0 };
    out.code(runs.len() as u64, COUNT_ORDER);
    out.bits(first.into(), ORDER_BITS);
    out.bits(second.into(), ORDER_BITS);
    for (pending, done) in lengths(low, runs) {
        out.code(pending, first);
        out.code(done, second);
    }
    out.end()
}

/// The runs of a text that [`encode`] made. `None`: it isn't one.
pub(crate) fn decode(low: Offset, text: &str) -> Option<Runs> {
    if text.is_empty() {
        return Some(Runs::new());
    }
    let mut bits = Reader { text: text.strip_prefix(PREFIX)?.bytes(), symbol: 0, left: 0 };
    let count = bits.code(COUNT_ORDER)?;
    let orders = (u32::try_from(bits.bits(ORDER_BITS)?).ok()?, u32::try_from(bits.bits(ORDER_BITS)?).ok()?);
    let mut runs = Runs::new();
    let mut at = low;
    // A count that lies ends with the text.
    for _ in 0..count {
        let start = at.checked_add(i64::try_from(bits.code(orders.0)?).ok()?)?;
        at = start.checked_add(i64::try_from(bits.code(orders.1)?).ok()?)?;
        runs.insert(start, at);
    }
    bits.is_over().then_some(runs)
}

/// How many are pending before each run, and how long it is: both at least 1.
fn lengths(low: Offset, runs: &Runs) -> impl Iterator<Item = (u64, u64)> {
    let mut at = low;
    runs.iter().map(move |(start, end)| {
        let pair = ((start - at).unsigned_abs(), (end - start).unsigned_abs());
        at = *end;
        pair
    })
}

/// Digits of the Exp-Golomb code's number, which has one zero less before it.
fn digits(value: u64, order: u32) -> u32 {
    u64::BITS - (((value - 1) >> order) + 1).leading_zeros()
}

fn code_bits(value: u64, order: u32) -> usize {
    (2 * digits(value, order) - 1 + order) as usize
}

struct Writer {
    text: String,
    symbol: u8,
    filled: usize,
}

impl Writer {
    fn bits(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            self.symbol = (self.symbol << 1) | u8::from((value >> bit) & 1 == 1);
            self.filled += 1;
            if self.filled == BITS_A_CHARACTER {
                self.text.push(ALPHABET[usize::from(self.symbol)].into());
                (self.symbol, self.filled) = (0, 0);
            }
        }
    }

    fn code(&mut self, value: u64, order: u32) {
        let number = value - 1;
        let digits = digits(value, order);
        self.bits(0, digits - 1);
        self.bits((number >> order) + 1, digits);
        self.bits(number & ((1 << order) - 1), order);
    }

    fn end(mut self) -> String {
        if self.filled > 0 {
            self.bits(0, (BITS_A_CHARACTER - self.filled) as u32);
        }
        self.text
    }
}

struct Reader<'a> {
    text: std::str::Bytes<'a>,
    symbol: u8,
    left: usize,
}

impl Reader<'_> {
    fn bit(&mut self) -> Option<u64> {
        if self.left == 0 {
            let next = self.text.next()?;
            self.symbol = u8::try_from(ALPHABET.iter().position(|known| *known == next)?).ok()?;
            self.left = BITS_A_CHARACTER;
        }
        self.left -= 1;
        Some(u64::from((self.symbol >> self.left) & 1))
    }

    fn bits(&mut self, count: u32) -> Option<u64> {
        (0..count).try_fold(0, |value, _| Some((value << 1) | self.bit()?))
    }

    fn code(&mut self, order: u32) -> Option<u64> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
        }
        // Offsets have 63 bits.
        if zeros + order >= i64::BITS - 1 {
            return None;
        }
        let high = ((1 << zeros) | self.bits(zeros)?) - 1;
        Some(((high << order) | self.bits(order)?) + 1)
    }

    /// Only zeros are left, of one character.
    fn is_over(&mut self) -> bool {
        self.symbol & ((1 << self.left) - 1) == 0 && self.text.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(lengths: &[(i64, i64)]) -> Runs {
        let mut at = 0;
        let place = |(pending, done): &(i64, i64)| {
            let start = at + pending;
            at = start + done;
            (start, at)
        };
        lengths.iter().map(place).collect()
    }

    #[test]
    fn it_is_as_the_module_says() {
        // 2 ranges: 1 in order 8 is 1 00000001; orders 0 and 0; pending 2 is 010, done 2 is 010, pending 1 is 1, done 1 is 1.
        // 100000 001000 000000 100101 1(00000)
        let made = encode(0, &runs(&[(2, 2), (1, 1)]));
        assert_eq!(made, "c2:gIAlg");
    }

    #[test]
    fn what_is_no_text_of_ours_is_told() {
        for bad in ["x", "c1:2,2", "c2:", "c2:A", "c2:AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "c2:gI!", "c2:g"] {
            assert_eq!(decode(0, bad), None, "{bad}");
        }
        let good = encode(0, &runs(&[(2, 2)]));
        assert!(decode(0, &good).is_some());
        assert_eq!(decode(0, &format!("{good}A")), None, "more follows");
        assert_eq!(decode(i64::MAX, &good), None, "beyond all offsets");
    }

    #[test]
    fn a_key_that_fails_among_others_costs_about_a_character() {
        let made = encode(5, &runs(&vec![(1, 16); 3000]));
        assert!(made.len() < 4096, "{}", made.len());
    }

    proptest! {
        #[test]
        fn it_reads_back_and_is_as_long_as_was_said(
            lengths in prop::collection::vec(prop_oneof![
                (1i64..4, 1i64..40),
                (1i64..1 << 40, 1i64..1 << 40),
            ], 0..200),
        ) {
            let runs = runs(&lengths);
            let made = encode(0, &runs);
            prop_assert_eq!(decode(0, &made), Some(runs.clone()));
            let next = runs.last_key_value().map_or(0, |(_, end)| *end);
            prop_assert!(made.len() <= Size::of(0, &runs).after(0, 0, next));
        }

        #[test]
        fn any_text_is_judged(text in "(c2:)?[A-Za-z0-9_-]{0,40}") {
            if let Some(runs) = decode(7, &text) {
                prop_assert_eq!(decode(7, &encode(7, &runs)), Some(runs));
            }
        }
    }
}
