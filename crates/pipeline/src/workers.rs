//! Where expressions are evaluated: on blocking threads, never on async ones, at most as many at a time in
//! the process as the settings say, whatever the number of pipelines.
//!
//! A batch is cut into runs of neighbouring records, which are evaluated at the same time and put together in their
//! order. Permits are given in the order in which they were asked for, run by run: a pipeline with a slow
//! expression waits between its runs as every other one does. Threads exist only while there is work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jsonata::Evaluator;
use kafka::ConsumedRecord;
use tokio::sync::Semaphore;

use crate::compiled::Compiled;
use crate::evaluate::{Evaluated, Room, Sizes, evaluate};

/// A run has at least this many records: what a hand-over to another thread costs is little beside it.
const RUN_RECORDS_MIN: usize = 32;
/// And at most this many, so that others get their turn.
const RUN_RECORDS_MAX: usize = 256;

/// Shared by all pipelines of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers {
    permits: Arc<Semaphore>,
    count: usize,
    output_bytes_max: usize,
}

/// An evaluation panicked: a bug in Vltava.
#[derive(Debug, thiserror::Error)]
#[error("the evaluation of a batch ended with a panic; this is a bug in Vltava")]
pub(crate) struct Panicked;

/// Tells runs that nobody waits for any more.
struct CancelOnDrop(Arc<Room>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Workers {
    /// `count`: runs at a time, from 1. `output_bytes_max`: what the results of one batch may weigh.
    pub(crate) fn new(count: usize, output_bytes_max: usize) -> Self {
        let count = count.max(1);
        Self { permits: Arc::new(Semaphore::new(count)), count, output_bytes_max }
    }

    /// Does other work of evaluation in its turn, on one blocking thread. Dropped, what has begun goes on to its end.
    pub(crate) async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Panicked)?;
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Panicked)
    }

    /// Evaluates a batch. Dropped, it ends after the record at hand.
    pub(crate) async fn evaluate(
        &self,
        compiled: Arc<Compiled>,
        sizes: Arc<Sizes>,
        records: Arc<Vec<ConsumedRecord>>,
    ) -> Result<Evaluated, Panicked> {
        let length = records.len().div_ceil(self.count).clamp(RUN_RECORDS_MIN, RUN_RECORDS_MAX);
        let room = CancelOnDrop(Arc::new(Room::new(self.output_bytes_max)));
        let runs = (0..records.len()).step_by(length).map(|from| {
            let (compiled, sizes, records) = (compiled.clone(), sizes.clone(), records.clone());
            let room = room.0.clone();
            async move {
                let permit = self.permits.clone().acquire_owned().await.map_err(|_| Panicked)?;
                let run = move || {
                    // Its memory serves the run's records one after the other, and nobody holds it while there is no work.
                    let mut evaluator = Evaluator::new();
                    let to = (from + length).min(records.len());
                    let made =
                        evaluate(&compiled, &sizes, &mut evaluator, &records[from..to], from == 0, &room);
                    drop(permit);
                    made
                };
                tokio::task::spawn_blocking(run).await.map_err(|_| Panicked)
            }
        });
        let mut whole = Evaluated::default();
        for made in futures::future::join_all(runs).await {
            whole.append(made?);
        }
        Ok(whole)
    }
}
