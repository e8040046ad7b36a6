//! Which offsets of a partition are done, where records complete out of order.
//!
//! Invariant: an offset below the low watermark is done, one above is done only where a range says
//! so, and the ranges always fit the offset commit's metadata ([`METADATA_BYTES_MAX`]): the runner
//! stops dispatching before they don't ([`Completion::is_full`]). So a crash never dead-letters or
//! forgets a record that was committed as done.
//!
//! The metadata is text: `c1:` and the run lengths from the low watermark on in base 36, pending
//! and completed runs in turn, joined by `,`. `c1:1,5` = the watermark's offset is pending, the five
//! after it are done. The low watermark itself is the committed offset.

use std::collections::{BTreeMap, BTreeSet};

use types::Offset;

/// Kafka's default for `offset.metadata.max.bytes`.
pub const METADATA_BYTES_MAX: usize = 4096;

/// Runs of completed offsets above the watermark: 20 bytes each at most (two numbers of up to nine
/// base-36 digits, which is 10^14 offsets, and two commas) fit the metadata with the prefix.
pub const RUNS_MAX: usize = 200;

const PREFIX: &str = "c1:";

/// One partition's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Everything below is done.
    low: Offset,
    /// One past the highest offset that was seen.
    next: Offset,
    /// Completed runs above `low`: start -> end (exclusive); never adjacent, never overlapping.
    runs: BTreeMap<Offset, Offset>,
    /// Seen and not done.
    pending: BTreeSet<Offset>,
}

/// The text in an offset commit isn't ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("offset metadata {0:?} isn't a completion list")]
pub struct MetadataError(String);

impl Completion {
    /// Starts at the committed offset: nothing above it is done.
    pub fn new(committed: Offset) -> Self {
        Self { low: committed, next: committed, runs: BTreeMap::new(), pending: BTreeSet::new() }
    }

    /// Goes on from an offset commit. Empty metadata means no ranges.
    pub fn from_commit(committed: Offset, metadata: &str) -> Result<Self, MetadataError> {
        let mut completion = Self::new(committed);
        if metadata.is_empty() {
            return Ok(completion);
        }
        let error = || MetadataError(metadata.chars().take(80).collect());
        let lengths = metadata.strip_prefix(PREFIX).ok_or_else(error)?;
        let mut at = committed;
        for (index, length) in lengths.split(',').filter(|s| !s.is_empty()).enumerate() {
            let length = i64::from_str_radix(length, 36).ok().filter(|l| *l > 0).ok_or_else(error)?;
            let end = at.checked_add(length).ok_or_else(error)?;
            if index % 2 == 1 {
                completion.runs.insert(at, end);
            }
            at = end;
        }
        if completion.runs.len() > RUNS_MAX {
            return Err(error());
        }
        Ok(completion)
    }

    /// Takes note of a record that was read. `false`: it is done already (by an earlier owner), or
    /// was read before; it must not be written again.
    pub fn see(&mut self, offset: Offset) -> bool {
        if offset < self.low || self.is_done(offset) {
            return false;
        }
        if offset < self.next {
            return false;
        }
        if self.pending.is_empty() {
            // Offsets between (markers, compacted or aborted records) will never be read.
            self.advance(offset);
        }
        self.next = offset + 1;
        self.pending.insert(offset);
        true
    }

    fn advance(&mut self, to: Offset) {
        self.low = self.low.max(to);
        while let Some(entry) = self.runs.first_entry() {
            if *entry.key() > self.low {
                break;
            }
            self.low = self.low.max(entry.remove());
        }
    }

    /// Where the partition is known to hold nothing more below `offset` that isn't seen: lets the
    /// watermark pass markers at the end of what was read.
    pub fn end_of_data(&mut self, offset: Offset) {
        if self.pending.is_empty() && offset > self.low {
            self.advance(offset);
            self.next = self.next.max(offset);
        }
    }

    /// A seen record is done: written, or in the DLQ by the transaction that commits this.
    pub fn complete(&mut self, offset: Offset) {
        if !self.pending.remove(&offset) {
            return;
        }
        let end = self.runs.remove(&(offset + 1)).unwrap_or(offset + 1);
        match self.runs.range_mut(..offset).next_back() {
            Some((_, previous)) if *previous == offset => *previous = end,
            _ => {
                self.runs.insert(offset, end);
            }
        }
        // Everything below the oldest pending record is done or was never a record.
        self.advance(self.pending.first().copied().unwrap_or(self.next));
    }

    fn is_done(&self, offset: Offset) -> bool {
        self.runs.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// The offset to commit.
    pub fn low(&self) -> Offset {
        self.low
    }

    /// Seen and not done.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether another dispatch could make the ranges outgrow the metadata.
    pub fn is_full(&self, in_flight: usize) -> bool {
        self.runs.len() + in_flight >= RUNS_MAX
    }

    /// What goes into the offset commit's metadata.
    pub fn metadata(&self) -> String {
        if self.runs.is_empty() {
            return String::new();
        }
        let mut text = String::from(PREFIX);
        let mut at = self.low;
        for (start, end) in &self.runs {
            for length in [start - at, end - start] {
                if text.len() > PREFIX.len() {
                    text.push(',');
                }
                push_base36(&mut text, length);
            }
            at = *end;
        }
        debug_assert!(text.len() <= METADATA_BYTES_MAX);
        text
    }
}

fn push_base36(text: &mut String, mut number: i64) {
    let mut digits = Vec::with_capacity(13);
    loop {
        let digit = u32::try_from(number.rem_euclid(36)).expect("a remainder of 36 fits");
        digits.push(char::from_digit(digit, 36).expect("a remainder of 36 is a digit"));
        number /= 36;
        if number <= 0 {
            break;
        }
    }
    text.extend(digits.iter().rev());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_the_watermark_follows() {
        let mut c = Completion::new(10);
        for offset in 10..13 {
            assert!(c.see(offset));
            c.complete(offset);
        }
        assert_eq!((c.low(), c.metadata().as_str(), c.pending()), (13, "", 0));
    }

    #[test]
    fn out_of_order_leaves_ranges_that_read_back() {
        let mut c = Completion::new(0);
        for offset in 0..8 {
            assert!(c.see(offset));
        }
        for offset in [2, 3, 5] {
            c.complete(offset);
        }
        assert_eq!((c.low(), c.metadata().as_str()), (0, "c1:2,2,1,1"));
        let mut back = Completion::from_commit(c.low(), &c.metadata()).unwrap();
        let fresh: Vec<_> = (0..8).filter(|o| back.see(*o)).collect();
        assert_eq!(fresh, [0, 1, 4, 6, 7]);
    }

    #[test]
    fn gaps_of_markers_are_passed() {
        let mut c = Completion::new(0);
        assert!(c.see(0));
        assert!(c.see(2));
        c.complete(0);
        assert_eq!(c.low(), 2);
        c.complete(2);
        assert_eq!(c.low(), 3);
        c.end_of_data(7);
        assert_eq!(c.low(), 7);
    }

    #[test]
    fn foreign_metadata_is_an_error() {
        for bad in ["x", "c1:-1", "c1:zzzzzzzzzzzzzzzzz", "c1:0"] {
            assert!(Completion::from_commit(0, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_window_fits_the_metadata() {
        let mut c = Completion::new(0);
        let stride = 10_i64.pow(13);
        let start = |run: i64| run * stride;
        for run in 0..=i64::try_from(RUNS_MAX).unwrap() {
            assert!(c.see(start(run)));
            assert!(c.see(start(run) + 1));
        }
        for run in 1..=i64::try_from(RUNS_MAX).unwrap() {
            c.complete(start(run) + 1);
        }
        assert!(c.is_full(0));
        assert!(c.metadata().len() <= METADATA_BYTES_MAX, "{}", c.metadata().len());
    }

    proptest! {
        /// Against a set of offsets: after any order of completions and a crash at any point, what
        /// is offered again is exactly what wasn't completed.
        #[test]
        fn a_crash_offers_again_exactly_what_was_not_completed(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let offsets: Vec<Offset> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut c = Completion::new(0);
            let mut pending: BTreeSet<Offset> = BTreeSet::new();
            for offset in &offsets {
                prop_assert!(c.see(*offset));
                pending.insert(*offset);
            }
            for index in &order {
                if pending.is_empty() { break; }
                let offset = *pending.iter().nth(index.index(pending.len())).unwrap();
                pending.remove(&offset);
                c.complete(offset);
            }
            let mut back = Completion::from_commit(c.low(), &c.metadata()).unwrap();
            let again: BTreeSet<Offset> =
                offsets.iter().copied().filter(|o| *o >= c.low()).filter(|o| back.see(*o)).collect();
            prop_assert_eq!(again, pending);
        }
    }
}
