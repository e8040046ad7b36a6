//! One timer for many owners of deadlines. Invariant: an owner that was scheduled is looked at no earlier
//! than its deadline and as soon as possible after it; looking too often is harmless, because the owner
//! checks its own deadlines under its own lock. So a deadline that only moves later (every heartbeat) never
//! touches the timer: the owner is looked at, finds nothing due, and is scheduled again.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Deadlines of owners named by `K`.
pub(crate) struct Deadlines<K> {
    queue: Mutex<BTreeSet<(Instant, K)>>,
    earlier: Notify,
}

impl<K: Ord + Clone> Deadlines<K> {
    pub(crate) fn new() -> Deadlines<K> {
        Deadlines { queue: Mutex::new(BTreeSet::new()), earlier: Notify::new() }
    }

    /// Has `key` looked at when `at` is reached. `instead` is when it would have been so far: an owner that keeps
    /// it stands here once at most, so the queue is bounded by the number of owners.
    pub(crate) fn schedule(&self, at: Instant, instead: Option<Instant>, key: K) {
        let mut queue = self.queue.lock();
        let first = queue.first().is_none_or(|(first, _)| at < *first);
        let place = match instead {
            Some(instead) => {
                let mut place = (instead, key);
                queue.remove(&place);
                place.0 = at;
                place
            }
            None => (at, key),
        };
        queue.insert(place);
        drop(queue);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Waits until something is due and takes all that is. Safe to cancel: nothing is taken before the
    /// wait is over.
    pub(crate) async fn due(&self) -> Vec<K> {
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let now = Instant::now();
                let mut due = Vec::new();
                while queue.first().is_some_and(|(at, _)| *at <= now) {
                    due.extend(queue.pop_first().map(|(_, key)| key));
                }
                if !due.is_empty() {
                    return due;
                }
                queue.first().map(|(at, _)| *at)
            };
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.earlier.notified() => {}
                    }
                }
                None => self.earlier.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_wakes_the_wait() {
        let deadlines = std::sync::Arc::new(Deadlines::new());
        let start = Instant::now();
        deadlines.schedule(start + Duration::from_secs(10), None, "late");
        let waiting = tokio::spawn({
            let deadlines = deadlines.clone();
            async move { (deadlines.due().await, Instant::now()) }
        });
        tokio::task::yield_now().await;
        deadlines.schedule(start + Duration::from_secs(2), None, "early");
        let (due, at) = waiting.await.unwrap();
        assert_eq!((due, at), (vec!["early"], start + Duration::from_secs(2)));
        assert_eq!(deadlines.due().await, vec!["late"]);
        deadlines.schedule(start + Duration::from_secs(30), None, "moved");
        deadlines.schedule(start + Duration::from_secs(20), Some(start + Duration::from_secs(30)), "moved");
        assert_eq!(deadlines.due().await, vec!["moved"]);
        assert!(deadlines.queue.lock().is_empty(), "it stood there once");
    }
}
