//! When a failed record is tried again: exponential backoff with full jitter in its upper half,
//! bounded by attempts and age.

use std::time::Duration;

use rand::Rng;

/// The first wait, before jitter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// No wait between two attempts is longer, unless the destination asks for it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// What a destination may ask for at the most (`Retry-After`).
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How often and how long a record is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts in all, at least 1.
    pub attempts_max: u32,
    /// From the first attempt on, not counting the time that the breaker was open.
    pub age_max: Duration,
}

impl Limits {
    /// Attempts for a record whose key had `dead_lettered` records before it dead-lettered in a row.
    ///
    /// A key that fails for ever would otherwise spend the whole backoff on every one of its
    /// records, grow its backlog to the limit and pause the partition, and with it the other keys.
    pub fn attempts_after(&self, dead_lettered: u32) -> u32 {
        self.attempts_max.checked_shr(dead_lettered).unwrap_or(0).max(1)
    }
}

/// The wait before attempt `attempts + 1`, after `attempts` failed ones (at least 1): doubled each
/// time up to [`BACKOFF_MAX`], of which a random half to whole is taken.
pub fn backoff(attempts: u32, rng: &mut impl Rng) -> Duration {
    let doubled =
        BACKOFF_MIN.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let ceiling = doubled.min(BACKOFF_MAX);
    ceiling.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_are_jittered() {
        let mut rng = rand::rng();
        for (attempts, ceiling) in
            [(1, 200), (2, 400), (5, 3200), (8, 25_600), (9, 30_000), (u32::MAX, 30_000)]
        {
            for _ in 0..100 {
                let wait = backoff(attempts, &mut rng).as_millis();
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{attempts}: {wait}");
            }
        }
    }

    #[test]
    fn a_key_that_keeps_failing_gets_fewer_attempts_but_always_one() {
        let limits = Limits { attempts_max: 10, age_max: Duration::MAX };
        let attempts: Vec<_> = [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(|n| limits.attempts_after(n)).to_vec();
        assert_eq!(attempts, [10, 5, 2, 1, 1, 1, 1, 1]);
    }
}
