//! The exactly-once loop of one pipeline: one task that owns the consumer and the lanes.
//!
//! Everything that waits (evaluations, transactions, questions to the engine) is a future in `work`; the loop
//! itself only moves state, so that it always has time for the group. Invariants:
//! - A result is written by the transaction that commits the offsets it came from, or not at all.
//! - A revocation is acknowledged when no transaction with its partitions is under way, or when waiting longer would
//!   cost the membership: the engine then refuses the transaction's offsets, and it aborts.
//! - Whatever ends the loop, it ends without a guess: the next one goes on from the committed offsets.

mod events;
mod look;
mod outcomes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kafka::{Consumer, Error, RevokeAck, TransactionalProducer};
use resources::PipelinePlan;
use runtime::Shutdown;
use tokio::sync::watch;
use types::{Offset, TopicPartition};

use crate::compiled::Compiled;
use crate::config::Config;
use crate::evaluate::{Evaluated, Sizes};
use crate::lane::{Lane, Producer};
use crate::queue::Limits;
use crate::reach::Reach;
use crate::status::Status;
use crate::supervise::Env;
use crate::transact::{self, Failed};
use crate::workers::{Panicked, Workers};

/// How often lag is looked at, and an engine that was away is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Partitions that take longer to come may wait for a transaction that a killed owner of this slot left open: its
/// offsets aren't stable before it ends. Opening its producers ends it at once; else it takes until its timeout.
const SETTLE_AFTER: Duration = Duration::from_millis(500);
/// Why a loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was asked to stop.
    Stopped,
    /// The plan changed in what only a new loop can do.
    NewPlan,
    /// It can't go on.
    Failed(Failure),
}

/// Why a loop can't go on, and what may help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) retry: Retry,
}

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Time.
    Backoff,
    /// The engine, when it is back.
    Away,
    /// More time: another instance has the slot.
    Fenced,
    /// A newer plan, which another instance has already; until it is here, this one must not run.
    Superseded,
    /// Only a new plan.
    NewPlan,
}

impl Failure {
    pub(crate) fn backoff(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Backoff }
    }
}

/// What became of a future.
enum Done {
    Evaluated {
        lane: usize,
        ticket: u64,
        made: Result<Evaluated, Panicked>,
        took: Duration,
    },
    Transacted {
        lane: usize,
        producer: Option<TransactionalProducer>,
        result: Result<(), Failed>,
        took: Duration,
    },
    Reopened {
        lane: usize,
        result: Result<(TransactionalProducer, BTreeMap<TopicPartition, Offset>), Error>,
    },
    Pinned {
        lanes: Vec<usize>,
        result: Result<(), Error>,
    },
    Probed(Result<(), Error>),
    Sought {
        tp: TopicPartition,
        result: Result<(Offset, Offset), String>,
    },
}

/// A revocation that isn't acknowledged yet.
struct Revoking {
    partitions: Vec<TopicPartition>,
    /// Told by being dropped.
    _done: RevokeAck,
    until: Instant,
}

/// What a loop runs with; see [`Loop::run`].
pub(crate) struct Loop {
    config: Arc<Config>,
    limits: Limits,
    workers: Workers,
    status: Arc<Status>,
    consumer: Consumer,
    compiled: Arc<Compiled>,
    sizes: Arc<Sizes>,
    lanes: Vec<Lane>,
    /// Which lane a partition is in.
    owners: BTreeMap<TopicPartition, usize>,
    /// The number of the last assignment.
    epoch: u64,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    revoking: Vec<Revoking>,
    /// Why it ends, and until when what is in flight may take.
    ending: Option<(End, Instant)>,
    /// A plan that is wanted and can't be run.
    refused: Option<String>,
    /// What the process as a whole hears of the engine.
    reach: Reach,
    /// The engine was away when last heard of.
    away: bool,
    probing: bool,
    look_at: Instant,
    /// When the producers are opened if no partition has come by then.
    settle_at: Option<Instant>,
    /// Whether something was committed: then earlier failures are past.
    progressed: bool,
}

impl Loop {
    pub(crate) fn new(
        env: &Env,
        status: Arc<Status>,
        consumer: Consumer,
        compiled: Arc<Compiled>,
        sizes: Arc<Sizes>,
        lanes: Vec<Lane>,
    ) -> Self {
        let Env { config, workers, reach, .. } = env.clone();
        let limits = Limits {
            time_max: config.batch_time_max(),
            records_max: config.batch_records_max,
            bytes_max: config.batch_bytes_max,
        };
        Self {
            config,
            limits,
            workers,
            status,
            consumer,
            compiled,
            sizes,
            lanes,
            owners: BTreeMap::new(),
            epoch: 0,
            work: FuturesUnordered::new(),
            revoking: Vec::new(),
            ending: None,
            refused: None,
            reach,
            away: false,
            probing: false,
            look_at: Instant::now() + LOOK_EVERY,
            settle_at: Some(Instant::now() + SETTLE_AFTER),
            progressed: false,
        }
    }

    /// Runs until asked to stop, a plan that needs another loop, or a failure. Says whether anything was committed.
    pub(crate) async fn run(
        mut self,
        plans: &mut watch::Receiver<Arc<PipelinePlan>>,
        stop: &Shutdown,
    ) -> (End, bool) {
        let mut reach = self.reach.clone();
        let end = loop {
            self.pump(Instant::now());
            if let Some(end) = self.ended(Instant::now()) {
                break end;
            }
            let wake = tokio::time::Instant::from_std(self.next_wake());
            tokio::select! {
                () = stop.requested(), if self.ending.is_none() => {
                    self.end(End::Stopped, Some(stop.deadline().into_std()));
                }
                changed = plans.changed(), if self.ending.is_none() => match changed {
                    Ok(()) => {
                        let plan = plans.borrow_and_update().clone();
                        self.on_plan(plan);
                    }
                    Err(_) => self.end(End::Stopped, None),
                },
                Ok(()) = reach.changed() => match &*reach.borrow_and_update() {
                    Some(why) => self.unwell(why),
                    // Without a partition there is nothing to ask for, and nothing else would say that all is well.
                    None if self.owners.is_empty() => self.well(),
                    // What is left to say it is an answer to the loop itself.
                    None => self.look_at = Instant::now(),
                },
                event = self.consumer.next() => self.on_event(event),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.on_done(done),
                () = tokio::time::sleep_until(wake) => {}
            }
        };
        let progressed = self.progressed;
        self.close().await;
        (end, progressed)
    }

    /// Begins what can begin, in every lane.
    fn pump(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            if self.ending.is_none() {
                self.begin_transaction(index, now);
                self.begin_evaluation(index, now);
            }
            self.hold_back(index);
            let lane = &mut self.lanes[index];
            let idle_max = self.config.producer_idle_max();
            if matches!(lane.producer, Producer::Idle(_, since) if now.duration_since(since) >= idle_max) {
                lane.producer = Producer::Closed;
            }
        }
        if self.settle_at.is_some_and(|at| at <= now) && self.ending.is_none() {
            self.settle_at = None;
            for index in 0..self.lanes.len() {
                if matches!(self.lanes[index].producer, Producer::Closed) {
                    self.reopen(index);
                }
            }
        }
        let lanes = &self.lanes;
        self.revoking.retain(|r| r.until > now && lanes.iter().any(|lane| lane.is_committing(&r.partitions)));
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.look();
        }
    }

    fn begin_transaction(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        if !lane.can_commit(now) {
            return;
        }
        let Some(ready) = lane.ready.take() else { return };
        if ready.made.offsets.is_empty() {
            let reason = ready.made.halt.clone();
            lane.ready = Some(ready);
            if let Some(halt) = reason {
                self.halted(halt);
            }
            return;
        }
        let producer = match std::mem::replace(&mut lane.producer, Producer::Away) {
            Producer::Idle(producer, _) => Some(producer),
            Producer::Closed | Producer::Away => None,
        };
        let metadata = ready.batch.compiled.metadata.clone();
        let (made, as_of) = (ready.made.clone(), ready.batch.epoch);
        lane.committing = Some(ready);
        let (opening, consumer) = (lane.opening.clone(), self.consumer.handle().clone());
        let transaction = async move {
            let began = Instant::now();
            let (producer, result) =
                transact::transact(opening, producer, consumer, made, as_of, metadata).await;
            Done::Transacted { lane: index, producer, result, took: began.elapsed() }
        };
        self.work.push(transaction.boxed());
    }

    fn begin_evaluation(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        let Some(batch) = lane.next_batch(&self.limits, &self.compiled, self.epoch, now) else { return };
        let (workers, sizes, ticket) = (self.workers.clone(), self.sizes.clone(), lane.ticket);
        let evaluation = async move {
            let began = Instant::now();
            let made = workers.evaluate(batch.compiled, sizes, batch.records).await;
            Done::Evaluated { lane: index, ticket, made, took: began.elapsed() }
        };
        self.work.push(evaluation.boxed());
    }

    /// Pauses the partitions of a lane that holds too much, and resumes them when half of it is gone.
    fn hold_back(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let bytes = lane.bytes();
        let partitions = || lane.partitions.keys().cloned().collect::<Vec<_>>();
        if !lane.paused && bytes > self.config.lane_bytes_max {
            self.consumer.pause(&partitions());
            lane.paused = true;
        } else if lane.paused && bytes <= self.config.lane_bytes_max / 2 {
            self.consumer.resume(&partitions());
            lane.paused = false;
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self.look_at;
        let mut at = |instant: Option<Instant>| wake = instant.map_or(wake, |i| wake.min(i));
        at(self.ending.as_ref().map(|(_, until)| *until));
        at(self.settle_at.filter(|_| self.ending.is_none()));
        for revoking in &self.revoking {
            at(Some(revoking.until));
        }
        for lane in &self.lanes {
            if lane.evaluating.is_none() && lane.ready.is_none() && !lane.unsure && self.ending.is_none() {
                at(lane.queue.closes_at(&self.limits));
            }
            if lane.ready.is_some() && lane.committing.is_none() && self.ending.is_none() {
                at(lane.retry_at);
            }
        }
        wake
    }

    fn end(&mut self, end: End, deadline: Option<Instant>) {
        if self.ending.is_some() {
            return;
        }
        let until = Instant::now() + self.config.drain_time_max();
        self.ending = Some((end, deadline.map_or(until, |d| d.min(until))));
    }

    fn fail(&mut self, failure: Failure) {
        self.end(End::Failed(failure), None);
    }

    /// The end, when nothing is in flight any more or waiting for it took too long.
    fn ended(&mut self, now: Instant) -> Option<End> {
        let (_, until) = self.ending.as_ref()?;
        let busy = self.lanes.iter().any(|lane| lane.committing.is_some());
        if busy && now < *until {
            return None;
        }
        if busy {
            let pipeline = self.status.label();
            tracing::warn!(
                pipeline,
                "a transaction took too long to end and is abandoned; the engine aborts it"
            );
        }
        self.ending.take().map(|(end, _)| end)
    }

    fn on_plan(&mut self, plan: Arc<PipelinePlan>) {
        self.status.wanted(plan.generation);
        if !self.compiled.same_loop(&plan) {
            self.end(End::NewPlan, None);
            return;
        }
        if plan.generation <= self.compiled.plan.generation {
            return;
        }
        match Compiled::new(plan.clone(), &self.config) {
            Ok(compiled) => {
                let (pipeline, versions) = (self.status.label(), compiled.versions());
                tracing::info!(pipeline, generation = plan.generation, versions, "from the next batch on");
                self.compiled = Arc::new(compiled);
                self.refused = None;
            }
            Err(error) => {
                self.refused = Some(format!(
                    "generation {} can't run: {}; generation {} stays in force",
                    plan.generation,
                    runtime::shutdown::chain(&error),
                    self.compiled.plan.generation
                ));
            }
        }
        if !self.away {
            self.well();
        }
    }

    /// The engine answered. Where the process hears nothing of it, that was an answer from before, or one that the
    /// client gave by itself (it lost its group, say): nothing else would say again that the engine is away.
    fn well(&mut self) {
        let unheard = self.reach.borrow().clone();
        if let Some(why) = unheard {
            return self.unwell(&why);
        }
        self.away = false;
        match &self.refused {
            None => self.status.running(),
            Some(reason) => self.status.degraded(reason),
        }
        self.now_in_force();
    }

    /// Where nothing is under way, the next record goes by the plan that was taken last: it is in force already.
    fn now_in_force(&self) {
        if self.lanes.iter().all(Lane::is_idle) {
            self.status.in_force(&self.compiled);
        }
    }

    fn unwell(&mut self, why: &str) {
        self.away = true;
        self.status.degraded(why);
    }

    fn halted(&mut self, halt: crate::evaluate::Halt) {
        let retry = if halt.may_pass { Retry::Backoff } else { Retry::NewPlan };
        self.fail(Failure { reason: halt.reason, retry });
    }

    fn rival(&self, error: &Error) -> Failure {
        let slot = self.config.slot;
        let reason = format!("another instance runs this pipeline with slot {slot}: {error}");
        Failure { reason, retry: Retry::Fenced }
    }

    /// Lets go of everything. What is in flight still is abandoned: the engine aborts it.
    async fn close(mut self) {
        self.revoking.clear();
        self.work.clear();
        let within = self.config.drain_time_max();
        for lane in self.lanes {
            for tp in lane.partitions.keys() {
                self.status.metrics.forget_partition(tp);
            }
            if let Producer::Idle(producer, _) = lane.producer
                && let Ok(Err(error)) = tokio::time::timeout(within, producer.close()).await
            {
                tracing::debug!(%error, "failed to close a producer");
            }
        }
        if let Err(error) = self.consumer.close(within).await {
            tracing::warn!(pipeline = self.status.label(), %error, "failed to close the consumer in time");
        }
        self.status.lag(None, None);
    }
}
