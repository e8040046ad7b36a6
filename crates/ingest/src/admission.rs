//! How much of what came in may wait for the engine at a time.
//!
//! A request is admitted whole or not at all, before any of its records is sent: so a full queue refuses requests,
//! and doesn't leave batches half sent. The producer's own queue has limits of its own, for what it still holds of
//! clients that went away.

use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug)]
pub(crate) struct Admission {
    records_max: u64,
    bytes_max: u64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    records: u64,
    bytes: u64,
}

/// A request's share; free again when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    share: Waiting,
}

impl Admission {
    pub(crate) fn new(records_max: u64, bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { records_max, bytes_max, waiting: Mutex::default() })
    }

    /// `None`: full. A request that is alone is admitted whatever its size, which has limits of its own.
    pub(crate) fn admit(self: &Arc<Self>, records: u64, bytes: u64) -> Option<Admitted> {
        let mut waiting = self.waiting.lock();
        let after = Waiting { records: waiting.records + records, bytes: waiting.bytes + bytes };
        if waiting.records > 0 && (after.records > self.records_max || after.bytes > self.bytes_max) {
            return None;
        }
        *waiting = after;
        drop(waiting);
        Some(Admitted { admission: self.clone(), share: Waiting { records, bytes } })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut waiting = self.admission.waiting.lock();
        waiting.records -= self.share.records;
        waiting.bytes -= self.share.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_admitted_whole_while_there_is_room() {
        let admission = Admission::new(10, 1000);
        let first = admission.admit(8, 10).unwrap();
        assert!(admission.admit(3, 10).is_none());
        assert!(admission.admit(1, 991).is_none());
        let second = admission.admit(2, 990).unwrap();
        assert!(admission.admit(1, 0).is_none());
        drop((first, second));
        assert!(admission.admit(11, 1).is_some());
    }
}
