//! The log's second thread: checkpoints when time or the write-ahead log's size asks for one, and retention. It owns nothing;
//! what it does can also be called for ([`super::Log::checkpoint`], [`super::Log::retain`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Inner;
use super::wal::report;

#[derive(Default)]
struct Asked {
    stop: bool,
    checkpoint: bool,
}

/// How others reach the thread.
#[derive(Default)]
pub(super) struct Signal {
    asked: Mutex<Asked>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn stop(&self) {
        self.asked.lock().stop = true;
        self.changed.notify_all();
    }

    pub(super) fn checkpoint(&self) {
        let mut asked = self.asked.lock();
        if !asked.checkpoint {
            asked.checkpoint = true;
            self.changed.notify_all();
        }
    }
}

/// After a checkpoint failed for want of space or files, the next try waits this long.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn run(inner: &Arc<Inner>, signal: &Signal) {
    let mut checkpoint_at = Instant::now() + inner.config.checkpoint_interval;
    let mut retention_at = Instant::now() + inner.config.retention_interval;
    loop {
        {
            let mut asked = signal.asked.lock();
            while !asked.stop && !asked.checkpoint {
                let now = Instant::now();
                let due = checkpoint_at.min(retention_at);
                if due <= now {
                    break;
                }
                signal.changed.wait_for(&mut asked, due - now);
            }
            if asked.stop {
                break;
            }
            if std::mem::take(&mut asked.checkpoint) {
                checkpoint_at = Instant::now();
            }
        }
        if inner.shared.wal.halted().is_some() {
            break;
        }
        if Instant::now() >= retention_at {
            retention_at = Instant::now() + inner.config.retention_interval;
            if inner.retain() {
                checkpoint_at = Instant::now();
            }
        }
        if Instant::now() >= checkpoint_at {
            checkpoint_at = Instant::now() + inner.config.checkpoint_interval;
            if let Err(error) = inner.checkpoint() {
                tracing::error!(error = %report(&error), "failed to make a checkpoint of the log");
                checkpoint_at = Instant::now() + RETRY;
            }
        }
    }
    tracing::debug!("the log's background thread ended");
}
