//! A bound on the lines that one place in the code may write in a window of time.
//!
//! Levels DEBUG and TRACE aren't limited: who turns them on wants all. What was held back is counted
//! on the place's next line; a place that never fires again doesn't report its last count.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Lines a place and window.
pub(super) const LINES_MAX: u32 = 50;

/// The window's length.
const WINDOW: Duration = Duration::from_secs(10);

/// Grows to the number of places in the code, no further.
#[derive(Default)]
pub(super) struct Limiter(Mutex<HashMap<Identifier, Window>>);

struct Window {
    began: Instant,
    seen: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// Write, and say that it's the last one of the window.
    Last,
    /// Write, and say how many were held back in the window before.
    After(u32),
    Hold,
}

impl Limiter {
    pub(super) fn ask(&self, metadata: &Metadata<'_>) -> Verdict {
        if *metadata.level() > Level::INFO {
            return Verdict::Write;
        }
        self.count(metadata.callsite(), Instant::now())
    }

    fn count(&self, place: Identifier, now: Instant) -> Verdict {
        let mut windows = self.0.lock();
        let window = windows.entry(place).or_insert(Window { began: now, seen: 0 });
        if now.duration_since(window.began) >= WINDOW {
            let held = window.seen.saturating_sub(LINES_MAX);
            *window = Window { began: now, seen: 1 };
            return if held > 0 { Verdict::After(held) } else { Verdict::Write };
        }
        window.seen = window.seen.saturating_add(1);
        match window.seen {
            seen if seen < LINES_MAX => Verdict::Write,
            LINES_MAX => Verdict::Last,
            _ => Verdict::Hold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_window_says_what_was_held_back() {
        let limiter = Limiter::default();
        let place = tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields:);
        let place = tracing::Callsite::metadata(place).callsite();
        let start = Instant::now();
        let verdicts: Vec<_> = (0..LINES_MAX + 7).map(|_| limiter.count(place.clone(), start)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Hold).count(), 7);
        assert_eq!(limiter.count(place.clone(), start + WINDOW), Verdict::After(7));
        assert_eq!(limiter.count(place, start + 2 * WINDOW), Verdict::Write);
    }
}
