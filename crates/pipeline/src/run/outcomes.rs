//! What became of what the loop began: evaluations, transactions, questions to the engine.

use std::time::{Duration, Instant};

use futures::FutureExt;
use kafka::{Error, Kind};

use super::{Done, Failure, Loop};
use crate::lane::Producer;
use crate::transact::{self, Failed};

/// Between two tries of a lane's transaction.
const LANE_BACKOFF_MIN: Duration = Duration::from_millis(100);
const LANE_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A producer that was fenced so often without a commit between has a living rival.
const FENCES_MAX: u32 = 3;
/// Kafka's FENCED_INSTANCE_ID.
const FENCED_INSTANCE_ID: i16 = 82;

impl Loop {
    pub(super) fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Evaluated { lane, ticket, made, took } => match made {
                Ok(made) => {
                    self.status.metrics.evaluated(took);
                    self.lanes[lane].evaluated(ticket, made, now);
                }
                Err(panicked) => self.fail(Failure::backoff(panicked.to_string())),
            },
            Done::Transacted { lane: index, producer, result, took } => {
                let lane = &mut self.lanes[index];
                lane.producer = producer.map_or(Producer::Closed, |p| Producer::Idle(p, now));
                match result {
                    Ok(()) => self.on_committed(index, took),
                    Err(failed) => self.on_aborted(index, &failed, now),
                }
            }
            Done::Reopened { lane: index, result } => match result {
                Ok((producer, committed)) => {
                    let lane = &mut self.lanes[index];
                    lane.producer = Producer::Idle(producer, now);
                    lane.catch_up(&committed);
                    if self.away {
                        self.well();
                    }
                }
                Err(error) if error.is_fenced() => self.fail(self.rival(&error)),
                Err(error) => self.fail(Failure::backoff(error.to_string())),
            },
            Done::Pinned { lanes, result } => {
                for index in lanes {
                    self.lanes[index].pinning -= 1;
                }
                if let Err(error) = result {
                    // A transaction will commit instead; only a restart before the first would begin elsewhere.
                    let pipeline = self.status.label();
                    tracing::warn!(pipeline, %error, "failed to commit where reading began");
                }
            }
            Done::Probed(result) => {
                self.probing = false;
                if result.is_ok() && self.away {
                    self.well();
                }
            }
            Done::Sought { tp, result } => match result {
                Ok((wanted, low)) => {
                    let lost = u64::try_from(low - wanted).unwrap_or(0);
                    let pipeline = self.status.label();
                    tracing::error!(pipeline, %tp, from = wanted, to = low, "retention took records that were not processed");
                    self.status.metrics.dropped("expired", lost);
                }
                Err(reason) => self.fail(Failure::backoff(reason)),
            },
        }
    }

    fn on_committed(&mut self, index: usize, took: Duration) {
        let Some(done) = self.lanes[index].committed() else { return };
        let made = &done.made;
        self.progressed = true;
        self.status.metrics.committed(took);
        self.status.count(made.read, made.written, made.dead_lettered_total());
        for (reason, count) in &made.dropped {
            self.status.metrics.dropped(reason, *count);
        }
        for (reason, count) in &made.dead_lettered {
            self.status.metrics.dead_lettered(reason, *count);
        }
        self.status.in_force(&done.batch.compiled);
        self.well();
        if let Some(halt) = made.halt.clone() {
            self.halted(halt);
        }
    }

    fn on_aborted(&mut self, index: usize, failed: &Failed, now: Instant) {
        let Failed { error, unsure } = failed;
        let pipeline = self.status.label();
        tracing::warn!(pipeline, lane = index, unsure, %error, "a batch didn't commit");
        self.status.metrics.aborted(abort_reason(error));
        let rival = self.rival(error);
        let lane = &mut self.lanes[index];
        lane.put_back(now);
        lane.failures += 1;
        let backoff = LANE_BACKOFF_MIN.saturating_mul(1 << (lane.failures - 1).min(10)).min(LANE_BACKOFF_MAX);
        lane.retry_at = Some(now + backoff);
        if error.is_fenced() {
            lane.fences += 1;
            if error.code() == Some(FENCED_INSTANCE_ID) || lane.fences >= FENCES_MAX {
                self.fail(rival);
                return;
            }
        }
        if *unsure || error.is_fenced() {
            lane.unsure = true;
            self.reopen(index);
        } else if !transact::may_pass(error) {
            self.fail(Failure::backoff(error.to_string()));
            return;
        }
        self.unwell(&error.to_string());
    }

    /// Opens a lane's producer, which ends what the one before it left, and reads what is committed since.
    pub(super) fn reopen(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.producer = Producer::Away;
        let (opening, consumer) = (lane.opening.clone(), self.consumer.handle().clone());
        let partitions = lane.partitions.keys().cloned().collect();
        let status = self.status.clone();
        let reopen = async move {
            let told = move |error: &Error| status.degraded(&error.to_string());
            let result = transact::reopen(opening, consumer, partitions, told).await;
            Done::Reopened { lane: index, result }
        };
        self.work.push(reopen.boxed());
    }
}

/// A closed set, for the metric's label.
fn abort_reason(error: &Error) -> &'static str {
    match error.kind() {
        Kind::Fenced => "fenced",
        Kind::TooLarge => "too_large",
        Kind::UnknownTopic => "unknown_topic",
        Kind::NotAuthorized => "not_authorized",
        _ if error.is_unavailable() => "unavailable",
        _ => "other",
    }
}
