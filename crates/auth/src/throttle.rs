//! How many failures somebody may have before they have to wait.
//!
//! Invariant: memory and time don't depend on how many ask: there is a fixed number of slots, and who is counted in which
//! is a keyed hash's to say. Two who share a slot share its allowance; nobody can choose whom to share it with.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Slots, 8 bytes each: one among so many shares a given other's.
const SLOTS: usize = 1 << 14;

/// An allowance of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// So many at once.
    pub burst: u32,
    /// And then one in so many milliseconds.
    pub one_in_ms: u64,
}

/// Counts failures by who had them.
#[derive(Debug)]
pub struct Throttle {
    config: ThrottleConfig,
    hash: RandomState,
    /// When a slot's allowance is whole again, in milliseconds (the generic cell rate algorithm's theoretical arrival time).
    slots: Box<[AtomicU64]>,
}

impl Throttle {
    /// Nobody has failed yet.
    pub fn new(config: ThrottleConfig) -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { config, hash: RandomState::new(), slots }
    }

    /// Whether `who` may try at this time, in milliseconds of a clock that doesn't go back; else how long to wait, in milliseconds.
    pub fn check(&self, who: impl Hash, now_ms: u64) -> Result<(), u64> {
        let whole_at = self.slot(who).load(Ordering::Relaxed);
        let tolerated = now_ms + self.tolerance_ms();
        if whole_at <= tolerated { Ok(()) } else { Err(whole_at - tolerated) }
    }

    /// Counts a failure.
    pub fn failed(&self, who: impl Hash, now_ms: u64) {
        let slot = self.slot(who);
        // Bounded: an allowance that is used up isn't overdrawn further, so that a storm is over when it is over.
        let most = now_ms + self.tolerance_ms() + self.config.one_in_ms;
        let next = |whole_at: u64| Some((whole_at.max(now_ms) + self.config.one_in_ms).min(most));
        // The closure never gives `None`.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    fn tolerance_ms(&self) -> u64 {
        u64::from(self.config.burst.saturating_sub(1)) * self.config.one_in_ms
    }

    fn slot(&self, who: impl Hash) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "the slot is what is left of it")]
        let slot = self.hash.hash_one(who) as usize % SLOTS;
        &self.slots[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(ThrottleConfig { burst: 3, one_in_ms: 1000 })
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let throttle = throttle();
        for _ in 0..3 {
            assert_eq!(throttle.check("a", 0), Ok(()));
            throttle.failed("a", 0);
        }
        assert_eq!(throttle.check("a", 0), Err(1000));
        assert_eq!(throttle.check("a", 999), Err(1));
        assert_eq!(throttle.check("a", 1000), Ok(()));
        throttle.failed("a", 1000);
        assert!(throttle.check("a", 1000).is_err());
        assert_eq!(throttle.check("a", 100_000), Ok(()), "it is whole again");
    }

    #[test]
    fn a_storm_costs_no_more_than_the_allowance() {
        let throttle = throttle();
        (0..100_000).for_each(|_| throttle.failed("a", 5));
        assert_eq!(throttle.check("a", 5), Err(1000));
    }

    #[test]
    fn another_is_another() {
        let throttle = throttle();
        (0..3).for_each(|_| throttle.failed("a", 0));
        let free = (0..100).filter(|who| throttle.check(who, 0).is_ok()).count();
        assert!(free >= 99, "of 100 others {free} may");
    }
}
