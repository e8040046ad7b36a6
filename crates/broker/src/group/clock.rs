//! Wall time for what is stored, tokio's clock for what is waited for. Invariant: nothing in the coordinators
//! reads a clock elsewhere, so a test that pauses tokio's time moves both together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where wall-clock milliseconds come from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Follows tokio's (pausable) clock from a fixed start: for tests.
    Fixed {
        /// The tokio instant that `start_ms` belongs to.
        anchor: Instant,
        /// Milliseconds since the Unix epoch at `anchor`.
        start_ms: i64,
    },
}

impl Clock {
    /// A clock that starts at `start_ms` and then follows tokio's clock.
    #[must_use]
    pub fn fixed(start_ms: i64) -> Clock {
        Clock::Fixed { anchor: Instant::now(), start_ms }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Clock::Fixed { anchor, start_ms } => {
                start_ms + i64::try_from(anchor.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
            }
        }
    }

    /// The instant at which wall time `at_ms` is reached, not before now.
    #[must_use]
    pub(crate) fn instant_of(&self, at_ms: i64) -> Instant {
        let wait = at_ms.saturating_sub(self.now_ms());
        Instant::now() + Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(WAIT_MAX)
    }
}

/// Instants further away overflow on some platforms; who waits looks again when it is over.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
