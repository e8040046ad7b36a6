//! One task: reads its partitions, writes through the sink, commits what is done.
//!
//! Invariants: an offset is committed as done only after the destination took the record, or in the
//! transaction that writes its dead letter. Deliveries are at least once: after a crash what was
//! written and not yet committed is written again, and nothing is dead-lettered twice. While the
//! breaker is open nothing is dead-lettered and nothing ages.
//!
//! The task owns the schedule, the breaker and the writes that are under way. It ends when it's told
//! to, when the destination is gone for good, or with an error that its owner restarts it after.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use deadletter::{Failure, Reason, Stage, dead_letter, first_origin_topic};
use kafka::{
    AssignedPartition, ClientConfig, Consumer, ConsumerConfig, Event, FetchConfig, StartFrom,
    TransactionalProducer, TxnConfig,
};
use resources::{ConnectorPlan, StageTopics};
use runtime::kill_points::{self, Point};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use types::{Offset, Record, TopicName, TopicPartition, consumer_group};

use crate::breaker::{Breaker, Gate};
use crate::config::TaskConfig;
use crate::metrics::ConnectorMetrics;
use crate::retry::backoff;
use crate::schedule::{Failing, LaneId, Schedule};
use crate::sink::{Retry, Scope, Sink, WriteError};
use crate::state::TaskReport;

/// Progress is committed this often while there is any: what a crash may deliver again.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// Dead letters that wait for the next commit; at this number it comes at once.
const DEAD_LETTERS_MAX: usize = 200;
/// Where a partition is taken away or the task stops: what is under way gets this long.
const DRAIN_MAX: Duration = Duration::from_secs(4);
/// A producer that had nothing to write for this long is closed.
const PRODUCER_IDLE_MAX: Duration = Duration::from_secs(30);
/// Leaving the group and closing the consumer may take this long.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// With nothing to read, the engine answers so often, in milliseconds: nearly all that an idle connector costs.
const FETCH_WAIT_MS: u32 = 1_000;
/// With nothing else to do the task looks around this often (lag, idle producer).
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// What a task needs to run.
#[derive(Clone)]
pub(crate) struct TaskDeps {
    pub(crate) client: ClientConfig,
    pub(crate) plan: Arc<ConnectorPlan>,
    pub(crate) config: TaskConfig,
    pub(crate) sink: Arc<dyn Sink>,
    /// Tells this task from every other of the connector, in this process and in others; stable over restarts.
    pub(crate) slot: String,
    pub(crate) metrics: ConnectorMetrics,
    pub(crate) report: TaskReport,
}

/// How a task ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to stop, and has committed what was done.
    Stopped,
    /// The destination is gone for good, as this says.
    Gone(String),
}

/// Why a task can't go on; its owner starts it again after a while.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the consumer failed")]
    Consume(#[source] kafka::Error),
    #[error("the commit failed")]
    Commit(#[source] kafka::Error),
    #[error("the transactional producer can't be opened")]
    OpenProducer(#[source] kafka::Error),
    #[error("the sink panicked")]
    Panic(#[source] JoinError),
    #[error("no DLQ is planned for topic {0}")]
    NoDlq(TopicName),
}

type Write = (LaneId, Result<(), WriteError>);

struct Flight {
    partition: TopicPartition,
    attempt: u32,
    probe: bool,
    abort: AbortHandle,
}

struct DeadLetter {
    /// Where the record was read: whoever loses the partition loses its dead letters too.
    origin: TopicPartition,
    topic: TopicName,
    record: Record,
}

struct Task {
    deps: TaskDeps,
    stage: Stage,
    transactional_id: String,
    /// Ends what an earlier owner of the transactional id left open; no producer of ours is opened before that.
    ending: Option<AbortOnDropHandle<()>>,
    consumer: Consumer,
    producer: Option<(TransactionalProducer, Instant)>,
    schedule: Schedule,
    breaker: Breaker,
    writes: JoinSet<Write>,
    flights: HashMap<tokio::task::Id, Flight>,
    assigned: HashSet<TopicPartition>,
    /// The number of the last assignment.
    assignment: u64,
    paused: HashSet<TopicPartition>,
    dead_letters: Vec<DeadLetter>,
    commit_at: Option<Instant>,
    housekeeping_at: Instant,
    gone: Option<String>,
    /// What the engine's client said last, until something works again.
    trouble: Option<String>,
}

/// Runs until `stop`, and leaves the group behind in order.
pub(crate) async fn run(deps: TaskDeps, stop: CancellationToken) -> Result<End, Error> {
    let mut task = Task::open(deps).await?;
    let end = task.work(&stop).await;
    task.leave(end.is_ok()).await;
    end
}

impl Task {
    async fn open(deps: TaskDeps) -> Result<Self, Error> {
        let plan = &deps.plan;
        let group = consumer_group(plan.installation, plan.uid);
        let topics = plan
            .topics
            .iter()
            .chain([&plan.stage_topics.retry])
            // A connector that begins late delivers what is there: nothing is skipped unseen.
            .map(|topic| (topic.clone(), StartFrom::Earliest))
            .collect();
        let transactional_id = format!("{group}.{}.0", deps.slot);
        let ending = tokio::spawn(end_what_was_open(deps.client.clone(), transactional_id.clone()));
        let config = ConsumerConfig {
            group_instance_id: Some(format!("{group}.{}", deps.slot)),
            fetch: FetchConfig {
                end_of_partition: true,
                wait_max_ms: FETCH_WAIT_MS,
                ..FetchConfig::default()
            },
            ..ConsumerConfig::new(group.clone(), topics)
        };
        let consumer = Consumer::subscribe(&deps.client, config).map_err(Error::Consume)?;
        Ok(Self {
            stage: Stage::connector(&plan.workspace, &plan.name),
            transactional_id,
            ending: Some(AbortOnDropHandle::new(ending)),
            consumer,
            producer: None,
            schedule: Schedule::new(deps.config.parked),
            breaker: Breaker::new(deps.config.breaker_failure_ratio),
            writes: JoinSet::new(),
            flights: HashMap::new(),
            assigned: HashSet::new(),
            assignment: 0,
            paused: HashSet::new(),
            dead_letters: Vec::new(),
            commit_at: None,
            housekeeping_at: Instant::now() + HOUSEKEEPING_INTERVAL,
            gone: None,
            trouble: None,
            deps,
        })
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<End, Error> {
        loop {
            self.dispatch();
            self.pace();
            let wake = self.wake();
            tokio::select! {
                () = stop.cancelled() => return Ok(End::Stopped),
                Some(write) = self.writes.join_next_with_id(), if !self.writes.is_empty() => {
                    self.landed(write)?;
                    while let Some(write) = self.writes.try_join_next_with_id() {
                        self.landed(write)?;
                    }
                }
                event = self.consumer.next() => self.event(event).await?,
                () = tokio::time::sleep_until(wake) => {}
            }
            if let Some(message) = self.gone.take() {
                return Ok(End::Gone(message));
            }
            let now = Instant::now();
            if self.commit_at.is_some_and(|at| at <= now) || self.dead_letters.len() >= DEAD_LETTERS_MAX {
                self.commit().await?;
            }
            if self.housekeeping_at <= now {
                self.housekeeping(now);
            }
        }
    }

    /// Starts as many writes as may be under way.
    fn dispatch(&mut self) {
        let now = Instant::now();
        while self.flights.len() < self.deps.sink.in_flight_max() {
            let probe = match self.breaker.gate(now) {
                Gate::Open => false,
                Gate::Probe => true,
                Gate::Wait(_) => break,
            };
            let Some(next) = self.schedule.next(now, self.breaker.open_total(now)) else { break };
            if probe {
                self.breaker.probe_sent();
            }
            let (sink, record, attempt, lane) =
                (Arc::clone(&self.deps.sink), next.record, next.attempt, next.lane);
            let partition = record.tp.clone();
            let metrics = self.deps.metrics.clone();
            let abort = self.writes.spawn(async move {
                let begun = Instant::now();
                let outcome = sink.write(&record, attempt).await;
                metrics.write_seconds(begun.elapsed());
                (lane, outcome)
            });
            self.flights.insert(abort.id(), Flight { partition, attempt, probe, abort });
        }
    }

    /// Pauses partitions that hold as much as they may, and lets them go on once they have room.
    fn pace(&mut self) {
        let full: Vec<_> = self
            .assigned
            .iter()
            .filter(|p| !self.paused.contains(*p) && self.schedule.is_at_bound(p))
            .cloned()
            .collect();
        if !full.is_empty() {
            self.consumer.pause(&full);
            self.paused.extend(full);
        }
        let free: Vec<_> = self.paused.iter().filter(|p| self.schedule.has_room(p)).cloned().collect();
        if !free.is_empty() {
            self.consumer.resume(&free);
            self.paused.retain(|p| !free.contains(p));
        }
    }

    fn wake(&self) -> Instant {
        let gate = match self.breaker.gate(Instant::now()) {
            Gate::Wait(Some(until)) => Some(until),
            _ => None,
        };
        [self.schedule.next_wake(), self.commit_at, gate, Some(self.housekeeping_at)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.housekeeping_at)
    }

    fn landed(&mut self, write: Result<(tokio::task::Id, Write), JoinError>) -> Result<(), Error> {
        let now = Instant::now();
        let (id, (lane, outcome)) = match write {
            Ok(landed) => landed,
            Err(error) if error.is_cancelled() => {
                if self.flights.remove(&error.id()).is_some_and(|flight| flight.probe) {
                    self.breaker.probe_dropped(now);
                }
                return Ok(());
            }
            Err(panic) => return Err(Error::Panic(panic)),
        };
        let Some(flight) = self.flights.remove(&id) else { return Ok(()) };
        // Only the probe's answer says whether the destination is back.
        let heard = flight.probe || !self.breaker.is_probing();
        match outcome {
            Ok(()) => {
                if heard {
                    self.breaker.answered(now, true, flight.attempt);
                }
                if self.schedule.done(lane) {
                    self.deps.metrics.delivered();
                    self.deps.report.delivered();
                }
            }
            Err(error) => self.failed(lane, &flight, heard, error, now)?,
        }
        self.report_health();
        self.commit_at.get_or_insert(now + COMMIT_INTERVAL);
        Ok(())
    }

    fn failed(
        &mut self,
        lane: LaneId,
        flight: &Flight,
        heard: bool,
        error: WriteError,
        now: Instant,
    ) -> Result<(), Error> {
        self.deps.metrics.write_failed(error.scope);
        debug!(partition = %flight.partition, attempt = flight.attempt, %error, "write failed");
        match error.scope {
            Scope::Gone => {
                self.schedule.put_back(lane);
                self.gone = Some(error.message);
                return Ok(());
            }
            Scope::Destination | Scope::Throttled => {
                let after = match error.retry {
                    Retry::After(after) => Some(after),
                    Retry::Backoff | Retry::Never => None,
                };
                if heard {
                    self.breaker.failed(now, after, &error.message);
                }
                self.schedule.put_back(lane);
                return Ok(());
            }
            Scope::Record => {}
        }
        if heard {
            self.breaker.answered(now, false, flight.attempt);
        }
        if self.breaker.reason().is_some() {
            // The destination as a whole is in doubt: this counts for nothing.
            self.schedule.put_back(lane);
            return Ok(());
        }
        let Some(failing) = self.schedule.count_failure(lane, now) else { return Ok(()) };
        match self.verdict(&failing, &error, now) {
            Ok(wait) => {
                self.deps.metrics.retried();
                self.schedule.retry_at(lane, now + wait);
            }
            Err(failure) => self.dead_letter(lane, &failing, &failure)?,
        }
        Ok(())
    }

    /// How long the record waits for its next attempt, or why there is none.
    fn verdict(&self, failing: &Failing, error: &WriteError, now: Instant) -> Result<Duration, Failure> {
        let limits = self.deps.config.retry;
        let (begun, open_then) = failing.first_attempt;
        let age =
            now.duration_since(begun).saturating_sub(self.breaker.open_total(now).saturating_sub(open_then));
        let wait = match error.retry {
            Retry::Never => return Err(Failure::new(error.reason, error.message.clone())),
            Retry::Backoff => backoff(failing.attempts, &mut rand::rng()),
            Retry::After(wait) => wait,
        };
        if failing.attempts >= limits.attempts_after(failing.dead_lettered_before) {
            return Err(Failure::new(Reason::RetriesExhausted, error.message.clone()));
        }
        if age + wait > limits.age_max {
            return Err(Failure::new(Reason::Expired, error.message.clone()));
        }
        Ok(wait)
    }

    fn dead_letter(&mut self, lane: LaneId, failing: &Failing, failure: &Failure) -> Result<(), Error> {
        let record = &failing.record;
        let plan = &self.deps.plan;
        let StageTopics { dlq, retry } = &plan.stage_topics;
        let origin = if record.tp.topic == *retry { first_origin_topic(record) } else { None };
        let topic = origin
            .as_ref()
            .and_then(|topic| dlq.get(topic))
            .or_else(|| dlq.get(&record.tp.topic))
            .ok_or_else(|| Error::NoDlq(record.tp.topic.clone()))?
            .clone();
        let now = jiff::Timestamp::now();
        let mut letter = dead_letter(record, retry, &self.stage, failure, failing.attempts, now);
        // Kafka Connect's own names, for tools that know them.
        for (name, value) in [
            ("topic", record.tp.topic.to_string()),
            ("partition", record.tp.partition.to_string()),
            ("offset", record.offset.to_string()),
            ("connector.name", plan.name.clone()),
            ("task.id", self.deps.report.task.to_string()),
            ("stage", "TASK_PUT".into()),
            ("class.name", plan.plugin.clone()),
            ("exception.message", failure.message.clone()),
        ] {
            letter.headers.set(format!("__connect.errors.{name}"), value);
        }
        self.dead_letters.push(DeadLetter { origin: record.tp.clone(), topic, record: letter });
        self.schedule.dead_lettered(lane);
        self.deps.metrics.dead_lettered(failure.reason);
        self.deps.report.dead_lettered();
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), Error> {
        if !matches!(event, Event::Error(_) | Event::Revoked { .. }) {
            self.trouble = None;
        }
        match event {
            Event::Records(records) => {
                self.deps.report.read(records.len());
                for record in records {
                    self.schedule.accept(record);
                }
            }
            Event::EndOfPartition(partition, position) => {
                self.schedule.end_of_data(&partition, position);
                self.commit_at.get_or_insert(Instant::now() + COMMIT_INTERVAL);
            }
            Event::Assigned(partitions) => self.assign(partitions),
            Event::Revoked { partitions, done, lost } => {
                if !lost {
                    self.schedule.hold(&partitions);
                    self.drain(&partitions).await?;
                    self.commit().await?;
                }
                self.forget(&partitions);
                drop(done);
            }
            Event::Error(error) if error.is_fatal() => return Err(Error::Consume(error)),
            Event::Error(error) => {
                self.trouble = Some(error.to_string());
                self.report_health();
            }
        }
        Ok(())
    }

    fn assign(&mut self, partitions: Vec<AssignedPartition>) {
        for AssignedPartition { tp, committed, assignment, .. } in partitions {
            self.assignment = self.assignment.max(assignment);
            let (offset, metadata) = committed.map_or_else(Default::default, |c| (c.offset, c.metadata));
            if let Err(error) = self.schedule.assign(tp.clone(), offset, &metadata) {
                // Somebody else's commit (a tool that reset the offset): the offset counts, the text doesn't.
                warn!(partition = %tp, %error, "the committed metadata is ignored");
                self.schedule.assign(tp.clone(), offset, "").expect("empty metadata is always taken");
            }
            self.assigned.insert(tp);
        }
    }

    /// Waits for the writes of these partitions that are under way, within [`DRAIN_MAX`].
    async fn drain(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let deadline = Instant::now() + DRAIN_MAX;
        while self.schedule.in_flight(partitions) > 0 {
            match tokio::time::timeout_at(deadline, self.writes.join_next_with_id()).await {
                Ok(Some(write)) => self.landed(write)?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for flight in self.flights.values().filter(|flight| partitions.contains(&flight.partition)) {
            flight.abort.abort();
        }
        for partition in partitions {
            self.schedule.revoke(partition);
            self.assigned.remove(partition);
            self.paused.remove(partition);
        }
        self.dead_letters.retain(|letter| !partitions.contains(&letter.origin));
    }

    /// Commits what is done, together with the dead letters there are.
    async fn commit(&mut self) -> Result<(), Error> {
        self.commit_at = None;
        let offsets = self.schedule.uncommitted();
        if self.dead_letters.is_empty() {
            if offsets.is_empty() {
                return Ok(());
            }
            kill_points::pass(Point::ConnectorCommitBefore);
            self.consumer.commit(&offsets).await.map_err(Error::Commit)?;
            kill_points::pass(Point::ConnectorCommitAfter);
        } else {
            self.commit_with_dead_letters(&offsets).await?;
        }
        self.schedule.committed(&offsets);
        Ok(())
    }

    async fn commit_with_dead_letters(
        &mut self,
        offsets: &[(TopicPartition, Offset, String)],
    ) -> Result<(), Error> {
        let partitions: Vec<_> = offsets.iter().map(|(tp, ..)| tp.clone()).collect();
        let group = self.consumer.group_metadata(&partitions, self.assignment);
        let group = group.await.map_err(Error::Commit)?;
        let (mut producer, _) = match self.producer.take() {
            Some(open) => open,
            None => {
                if let Some(ending) = self.ending.take() {
                    // It ends in any case, and what it couldn't do is done by the opening.
                    let _ = ending.await;
                }
                let id = &self.transactional_id;
                let opened = TransactionalProducer::open(&self.deps.client, id, TxnConfig::default()).await;
                (opened.map_err(Error::OpenProducer)?, Instant::now())
            }
        };
        let transaction = producer.begin().await.map_err(Error::Commit)?;
        for letter in &self.dead_letters {
            transaction.send(&letter.topic, None, &letter.record).map_err(Error::Commit)?;
        }
        kill_points::pass(Point::ConnectorLettersSent);
        transaction.send_offsets(offsets, &group).await.map_err(Error::Commit)?;
        kill_points::pass(Point::ConnectorLettersOffsets);
        transaction.commit().await.map_err(Error::Commit)?;
        kill_points::pass(Point::ConnectorLettersAfter);
        self.dead_letters.clear();
        self.producer = Some((producer, Instant::now()));
        Ok(())
    }

    fn housekeeping(&mut self, now: Instant) {
        self.housekeeping_at = now + HOUSEKEEPING_INTERVAL;
        if self.producer.as_ref().is_some_and(|(_, used)| now.duration_since(*used) > PRODUCER_IDLE_MAX) {
            self.producer = None;
        }
        self.deps.metrics.parked(self.schedule.parked());
        let lags = self.assigned.iter().map(|p| {
            let low = self.schedule.low(p)?;
            self.consumer.lag(p, low)
        });
        let records: Option<u64> = lags.sum();
        let oldest = self.schedule.oldest_pending_timestamp();
        let now_ms = jiff::Timestamp::now().as_millisecond();
        #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
        let seconds = oldest.map_or(0.0, |at| (now_ms - at).max(0) as f64 / 1000.0);
        self.deps.report.lag(records, records.map(|_| seconds));
        self.report_health();
    }

    fn report_health(&self) {
        self.deps.report.degraded(self.breaker.reason().or(self.trouble.as_deref()));
    }

    /// Ends in order: what is under way gets its time, what is done is committed, the group is left.
    async fn leave(mut self, in_order: bool) {
        if in_order {
            let all: Vec<_> = self.assigned.iter().cloned().collect();
            self.schedule.hold(&all);
            let ended = match self.drain(&all).await {
                Ok(()) => self.commit().await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                warn!(stage = %self.stage, error = %runtime::shutdown::chain(&error), "the last commit failed: what is not committed is delivered again");
            }
        }
        self.writes.abort_all();
        if let Err(error) = self.consumer.close(CLOSE_MAX).await {
            warn!(stage = %self.stage, %error, "the consumer did not close in order");
        }
    }
}

/// A transaction that an owner of this slot had open when it was killed holds the group's offsets back until its timeout,
/// unless somebody opens a producer under its id. That one isn't kept: most connectors have no dead letters.
async fn end_what_was_open(client: ClientConfig, transactional_id: String) {
    while let Err(error) = TransactionalProducer::open(&client, &transactional_id, TxnConfig::default()).await
    {
        debug!(transactional_id, %error, "what may be open under this id isn't ended yet");
        if !error.is_retriable() && !error.is_unavailable() {
            return;
        }
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
    }
}

/// The DLQs by source topic must cover what the task reads.
pub(crate) fn missing_dlqs(plan: &ConnectorPlan) -> Vec<TopicName> {
    let planned: &BTreeMap<TopicName, TopicName> = &plan.stage_topics.dlq;
    plan.topics.iter().filter(|topic| !planned.contains_key(*topic)).cloned().collect()
}
