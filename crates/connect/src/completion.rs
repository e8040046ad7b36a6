//! Which offsets of a partition are done, where records complete out of order.
//!
//! Invariant: an offset below the low watermark is done, one above is done only where a range says
//! so, and the ranges always fit the offset commit's metadata ([`METADATA_BYTES_MAX`]): the runner
//! stops dispatching before they don't ([`Completion::is_full`]). So a crash never dead-letters or
//! forgets a record that was committed as done.
//!
//! The low watermark itself is the committed offset; the metadata's text is that of [`ranges`].

use std::collections::BTreeSet;

use types::Offset;

use crate::ranges::{self, Runs, Size};

/// Kafka's default for `offset.metadata.max.bytes`.
pub const METADATA_BYTES_MAX: usize = 4096;

/// One partition's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Everything below is done.
    low: Offset,
    /// One past the highest offset that was seen.
    next: Offset,
    /// Completed runs above `low`.
    runs: Runs,
    /// Seen and not done.
    pending: BTreeSet<Offset>,
    /// Of the ranges as they were, and how many completions came since.
    size: (Size, usize),
}

/// The text in an offset commit isn't ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("offset metadata {0:?} isn't a completion list")]
pub struct MetadataError(String);

impl Completion {
    /// Starts at the committed offset: nothing above it is done.
    pub fn new(committed: Offset) -> Self {
        Self::with(committed, Runs::new())
    }

    /// Goes on from an offset commit. Empty metadata means no ranges.
    pub fn from_commit(committed: Offset, metadata: &str) -> Result<Self, MetadataError> {
        let runs = ranges::decode(committed, metadata);
        let runs = runs.ok_or_else(|| MetadataError(metadata.chars().take(80).collect()))?;
        Ok(Self::with(committed, runs))
    }

    fn with(committed: Offset, runs: Runs) -> Self {
        let size = (Size::of(committed, &runs), 0);
        Self { low: committed, next: committed, runs, pending: BTreeSet::new(), size }
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
        self.size.1 += 1;
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

    /// Whether another dispatch could make the ranges outgrow the metadata, with so many under way.
    pub fn is_full(&mut self, in_flight: usize) -> bool {
        let (size, since) = self.size;
        if self.fits(size, since + in_flight + 1) {
            return false;
        }
        if since > 0 {
            self.size = (Size::of(self.low, &self.runs), 0);
        }
        !self.fits(self.size.0, in_flight + 1)
    }

    fn fits(&self, size: Size, completions: usize) -> bool {
        // Those of an earlier owner may end behind what was seen.
        let last = self.runs.last_key_value().map_or(self.next, |(_, end)| self.next.max(*end));
        size.after(completions, self.low, last) <= METADATA_BYTES_MAX
    }

    /// What goes into the offset commit's metadata.
    pub fn metadata(&self) -> String {
        let text = ranges::encode(self.low, &self.runs);
        debug_assert!(text.len() <= METADATA_BYTES_MAX);
        text
    }
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
        assert_eq!(c.low(), 0);
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
        assert_eq!(
            Completion::from_commit(0, "v1:x").unwrap_err().to_string(),
            "offset metadata \"v1:x\" isn't a completion list"
        );
    }

    /// Whatever the distance of offsets: what may be dispatched fits when it is done, and not much room is left unused.
    #[test]
    fn a_full_window_fits_the_metadata() {
        for (stride, done_min) in [(2, 5_000), (17, 2_900), (1_000, 1_000), (10_i64.pow(13), 230)] {
            let mut c = Completion::new(0);
            assert!(c.see(0));
            let mut done = 0;
            while !c.is_full(0) {
                let at = c.next + stride - 2;
                assert!(c.see(at) && c.see(at + 1));
                c.complete(at + 1);
                done += 1;
            }
            let length = c.metadata().len();
            assert!(length <= METADATA_BYTES_MAX, "{length} at {stride}");
            assert!(done >= done_min, "{done} of stride {stride} in {length}");
            // The oldest may always go, and makes it no longer.
            c.complete(0);
            assert!(c.metadata().len() <= METADATA_BYTES_MAX);
        }
    }

    #[test]
    fn with_many_under_way_the_window_is_full_before() {
        let mut c = Completion::new(0);
        let under_way = 64;
        let offset = |n: usize| i64::try_from(n * 1_009).unwrap();
        let mut n = 0;
        while !c.is_full(under_way) {
            assert!(c.see(offset(n)) && c.see(offset(n) + 1));
            c.complete(offset(n) + 1);
            n += 1;
        }
        for more in n..n + under_way {
            assert!(c.see(offset(more)) && c.see(offset(more) + 500));
        }
        for more in n..n + under_way {
            c.complete(offset(more) + 500);
        }
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
