//! Doing what a plan says, each letter once.
//!
//! A partition at a time, a batch at a time: copies and settlements are one transaction of a producer whose
//! `transactional.id` belongs to the DLQ's partition. Opening it ends whatever an earlier run left open there and fences that
//! run; only then the settlements are read. So whoever reads them knows all that was done, and what this run
//! commits nobody else can do too. After any doubt (a failed commit, an engine that was away) it is opened again, and the
//! settlements are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use kafka::{ClientConfig, Kind, Scan, Stretch, TransactionalProducer, TxnConfig};
use runtime::kill_points::{self, Point};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{InstallationId, Offset, Partition, TopicName, TopicPartition};

use super::plan::{PartitionPlan, Plan, Route};
use super::{Action, Resolve};
use crate::settled::Settled;
use crate::{Dlq, Error, Letter, Outcome, Result, SETTLED_TOPIC, Settlement, metrics, redriven};

/// Letters of one transaction.
const BATCH_LETTERS_MAX: usize = 200;
/// Their payload, in bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// With a rate, a batch is at most what is due in this time, so that the rate is kept evenly.
const BATCHES_A_SECOND: u64 = 5;
/// Between tries while the engine is away.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];
/// Producers that are opened side by side, to end what was left open.
const OPENED_AT_ONCE_MAX: usize = 8;
/// A run that gets nothing done for so many tries ends; it can be begun again.
const TRIES_MAX: usize = 30;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The run.
    pub run: String,
    /// What the plan promised to settle.
    pub planned: u64,
    /// Settled by this run, also before it was begun again.
    pub settled: u64,
    /// Letters that are meant and stay, seen so far since it was begun (again).
    pub unroutable: u64,
    /// Letters that the repair fails for and that stay, likewise.
    pub unrepaired: u64,
    /// Why the last of them can't be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrepaired_why: Option<String>,
    /// Letters that don't fit in their topic and stay.
    pub too_large: u64,
    /// Partitions that are done.
    pub partitions_done: usize,
    /// Partitions of the plan.
    pub partitions: usize,
    /// What it waits for, if it does.
    pub waiting: Option<String>,
}

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// All that was planned is settled, but for what is told as unroutable or too large.
    Done,
    /// It was asked to stop; begun again, it goes on.
    Stopped,
}

/// A run, to be run.
pub struct Redrive {
    dlq: Dlq,
    plan: Plan,
    resolve: Resolve,
    /// Letters a second.
    rate: Option<u32>,
    transactional_id: String,
    txn: TxnConfig,
    progress: Progress,
    /// Settled by this run, by partition.
    settled: BTreeMap<Partition, u64>,
    /// When the next letter is due.
    due: Instant,
}

/// What came of one go at a partition.
enum Go {
    Done,
    Stopped,
    /// Try again; whether something was settled in between.
    Again(Error),
    /// The next go takes letters one by one, to find the one that doesn't fit.
    OneByOne,
}

/// A partition's state over several goes.
#[derive(Default)]
struct Attempt {
    one_by_one: bool,
    /// Letters that don't fit.
    too_large: BTreeSet<Offset>,
    /// Seen as unroutable or beyond repair, told once.
    stay: BTreeSet<Offset>,
    /// Settled in the last go.
    progressed: bool,
}

impl Redrive {
    /// A run of a plan. `rate`: letters a second, `None` as fast as it goes.
    pub fn new(
        client: &ClientConfig,
        installation: InstallationId,
        plan: Plan,
        rate: Option<u32>,
        resolve: Resolve,
    ) -> Result<Self> {
        if rate == Some(0) {
            return Err(Error::Invalid("the rate of a redrive can't be 0; leave it out for no limit".into()));
        }
        let client = client.named("redrive");
        let dlq = Dlq::new(&client, plan.dlq.clone())?;
        let progress = Progress {
            run: plan.run.clone(),
            planned: plan.routable,
            partitions: plan.partitions.len(),
            ..Progress::default()
        };
        let transactional_id = format!("vltava.{installation}.redrive.{}", plan.dlq);
        Ok(Self {
            dlq,
            plan,
            resolve,
            rate,
            transactional_id,
            txn: TxnConfig::default(),
            progress,
            settled: BTreeMap::new(),
            due: Instant::now(),
        })
    }

    /// Runs until all is done, it is stopped, or it can't go on. `report` is told after each batch. Cancel-safe: dropped at
    /// any moment, it may be begun again from its plan, and no letter is lost or doubled.
    pub async fn run(
        mut self,
        stop: &CancellationToken,
        mut report: impl FnMut(&Progress) + Send,
    ) -> Result<Ended> {
        report(&self.progress);
        self.check_topics().await?;
        self.end_what_was_open().await;
        for part in self.plan.partitions.clone() {
            if self.left() == Some(0) {
                break;
            }
            if matches!(self.partition(&part, stop, &mut report).await?, Ended::Stopped) {
                return Ok(Ended::Stopped);
            }
            self.progress.partitions_done += 1;
            report(&self.progress);
        }
        Ok(Ended::Done)
    }

    /// A run that was killed may have left a transaction open, at whatever partition it was. Settlements lie in one topic: until
    /// that transaction is ended, which its timeout does late, no partition's can be read to their end.
    async fn end_what_was_open(&self) {
        let partitions: Vec<_> = self.plan.partitions.iter().map(|part| part.partition).collect();
        let end_at = |partition| self.end_what_was_open_at(partition);
        stream::iter(partitions).for_each_concurrent(OPENED_AT_ONCE_MAX, end_at).await;
    }

    async fn end_what_was_open_at(&self, partition: Partition) {
        let id = self.id_at(partition);
        if let Err(error) = TransactionalProducer::open(&self.dlq.client, &id, self.txn.clone()).await {
            // Whoever works at the partition opens it again, and says what that comes to.
            tracing::debug!(run = self.plan.run, dlq = %self.plan.dlq, partition, %error, "what may be open isn't ended");
        }
    }

    fn id_at(&self, partition: Partition) -> String {
        format!("{}.{partition}", self.transactional_id)
    }

    async fn check_topics(&self) -> Result<()> {
        let settled = TopicName::new(SETTLED_TOPIC).expect("a constant that is a topic's name");
        let mut wanted = vec![("settlement", settled), ("dead-letter", self.plan.dlq.clone())];
        match &self.plan.action {
            Action::RedriveTo { topic } => wanted.push(("target", topic.clone())),
            Action::Redrive | Action::RedriveToOrigin => {
                let role = if self.plan.action == Action::Redrive { "retry" } else { "target" };
                wanted.extend(self.plan.stages.iter().filter_map(|s| s.to.clone()).map(|to| (role, to)));
            }
            Action::Discard => {}
        }
        let names: Vec<_> = wanted.iter().map(|(_, topic)| topic.clone()).collect();
        let found =
            self.dlq.admin.describe_topics(&names).await.map_err(Error::kafka("looking for the topics"))?;
        match wanted.into_iter().find(|(_, topic)| !found.contains_key(topic)) {
            Some((role, topic)) => Err(Error::MissingTopic { role, topic }),
            None => Ok(()),
        }
    }

    /// How many letters the limit leaves.
    fn left(&self) -> Option<u64> {
        let done: u64 = self.settled.values().sum();
        self.plan.selection.limit.map(|limit| limit.saturating_sub(done))
    }

    async fn partition(
        &mut self,
        part: &PartitionPlan,
        stop: &CancellationToken,
        report: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<Ended> {
        let mut attempt = Attempt::default();
        let mut tries = 0;
        loop {
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            attempt.progressed = false;
            let error = match self.go(part, &mut attempt, stop, report).await {
                Ok(Go::Done) => return Ok(Ended::Done),
                Ok(Go::Stopped) => return Ok(Ended::Stopped),
                Ok(Go::OneByOne) => {
                    attempt.one_by_one = true;
                    continue;
                }
                Ok(Go::Again(error)) => error,
                Err(error) if error.is_unavailable() => error,
                Err(error) => return Err(error),
            };
            tries = if attempt.progressed { 1 } else { tries + 1 };
            if tries > TRIES_MAX {
                return Err(error);
            }
            let wait = BACKOFF[(tries - 1).min(BACKOFF.len() - 1)];
            let why = chain(&error);
            tracing::warn!(run = self.plan.run, dlq = %self.plan.dlq, partition = part.partition, error = why, "redrive waits");
            self.progress.waiting = Some(why);
            report(&self.progress);
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Fences, reads what is settled, and works until something fails.
    async fn go(
        &mut self,
        part: &PartitionPlan,
        attempt: &mut Attempt,
        stop: &CancellationToken,
        report: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<Go> {
        let id = self.id_at(part.partition);
        let mut producer = TransactionalProducer::open(&self.dlq.client, &id, self.txn.clone())
            .await
            .map_err(|error| match error.is_fenced() {
                true => self.superseded(part),
                false => Error::kafka("opening the redrive's producer")(error),
            })?;
        let run = self.plan.run.clone();
        let settled = Settled::read(
            &self.dlq.client,
            &self.dlq.admin,
            &self.plan.dlq,
            Some(part.partition),
            Some(&run),
        )
        .await?;
        self.settled.insert(part.partition, settled.by_run(part.partition));
        self.tell(report);
        let tp = TopicPartition::new(self.plan.dlq.clone(), part.partition);
        let stretch = Stretch { tp, start: part.start, end: part.end };
        let mut scan = Scan::open(&self.dlq.client, vec![stretch])?;
        let mut batch = Batch::default();
        let done = loop {
            let records = scan.next().await?;
            let last = records.is_none();
            for record in records.unwrap_or_default() {
                let mut letter = Letter::of(record);
                let offset = letter.record.offset;
                let skip = settled.contains(part.partition, offset)
                    || attempt.too_large.contains(&offset)
                    || !self.plan.selection.matches(&letter);
                if skip {
                    continue;
                }
                let to = match self.plan.action.route(&letter, &self.resolve) {
                    Route::To(topic) => Some(topic),
                    Route::Nowhere => None,
                    Route::Unroutable => {
                        if attempt.stay.insert(offset) {
                            self.progress.unroutable += 1;
                            metrics::unroutable();
                        }
                        continue;
                    }
                };
                if to.is_some() {
                    match self.plan.repair.apply(&letter) {
                        Ok(mended) => letter.record = mended,
                        Err(why) => {
                            if attempt.stay.insert(offset) {
                                self.progress.unrepaired += 1;
                                self.progress.unrepaired_why = Some(format!("{}: {why}", letter.id()));
                            }
                            continue;
                        }
                    }
                }
                batch.push(letter, to);
                if batch.is_full(self.batch_max(attempt))
                    && let Some(go) =
                        self.settle(&mut producer, part, attempt, &mut batch, stop, report).await?
                {
                    return Ok(go);
                }
                if self.left() == Some(0) {
                    break;
                }
            }
            if last || self.left() == Some(0) {
                break match batch.letters.is_empty() {
                    true => None,
                    false => self.settle(&mut producer, part, attempt, &mut batch, stop, report).await?,
                };
            }
        };
        Ok(done.unwrap_or(Go::Done))
    }

    fn batch_max(&self, attempt: &Attempt) -> usize {
        let by_rate =
            self.rate.map_or(BATCH_LETTERS_MAX as u64, |rate| u64::from(rate).div_ceil(BATCHES_A_SECOND));
        let by_limit = self.left().unwrap_or(u64::MAX);
        let max = by_rate.min(by_limit).min(BATCH_LETTERS_MAX as u64).max(1);
        if attempt.one_by_one { 1 } else { usize::try_from(max).unwrap_or(BATCH_LETTERS_MAX) }
    }

    /// One transaction, when it is due. `Some`: this go is over.
    async fn settle(
        &mut self,
        producer: &mut TransactionalProducer,
        part: &PartitionPlan,
        attempt: &mut Attempt,
        batch: &mut Batch,
        stop: &CancellationToken,
        report: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<Option<Go>> {
        let letters = std::mem::take(batch).letters;
        let count = letters.len() as u64;
        if let Some(rate) = self.rate {
            tokio::select! {
                () = stop.cancelled() => return Ok(Some(Go::Stopped)),
                () = tokio::time::sleep_until(self.due) => {}
            }
            // What was due while it waited for something else isn't made up for.
            let from = self.due.max(Instant::now());
            self.due = from + Duration::from_secs_f64(count as f64 / f64::from(rate));
        } else if stop.is_cancelled() {
            return Ok(Some(Go::Stopped));
        }
        let outcome =
            if self.plan.action == Action::Discard { Outcome::Discarded } else { Outcome::Redriven };
        match self.transact(producer, &letters, outcome).await {
            Ok(()) => {
                metrics::settled(outcome, count);
                attempt.progressed = true;
                *self.settled.entry(part.partition).or_default() += count;
                self.progress.waiting = None;
                self.tell(report);
                Ok(None)
            }
            Err(error) if error.is_fenced() => Err(self.superseded(part)),
            Err(error) if *error.kind() == Kind::TooLarge => {
                if count > 1 {
                    return Ok(Some(Go::OneByOne));
                }
                // It alone: it stays, the others go on.
                let letter = &letters[0].0;
                tracing::warn!(run = self.plan.run, letter = %letter.id(), %error, "a dead letter doesn't fit where it should go");
                attempt.too_large.insert(letter.record.offset);
                self.progress.too_large += 1;
                self.tell(report);
                Ok(None)
            }
            Err(error) if *error.kind() == Kind::UnknownTopic => {
                Err(Error::kafka("giving dead letters back")(error))
            }
            Err(error) => Ok(Some(Go::Again(Error::kafka("giving dead letters back")(error)))),
        }
    }

    fn superseded(&self, part: &PartitionPlan) -> Error {
        metrics::superseded();
        Error::Superseded { dlq: self.plan.dlq.clone(), partition: part.partition }
    }

    async fn transact(
        &self,
        producer: &mut TransactionalProducer,
        letters: &[(Letter, Option<TopicName>)],
        outcome: Outcome,
    ) -> Result<(), kafka::Error> {
        let topic = TopicName::new(SETTLED_TOPIC).expect("a constant that is a topic's name");
        let at = Timestamp::now();
        let settlement = Settlement { outcome, run: self.plan.run.clone(), at };
        let txn = producer.begin().await?;
        kill_points::pass(Point::SettlementBefore);
        for (letter, to) in letters {
            if let Some(to) = to {
                txn.send(to, None, &redriven(&letter.record, &self.plan.run, at))?;
            }
            txn.send(&topic, None, &settlement.record(&letter.id()))?;
        }
        kill_points::pass(Point::SettlementSent);
        txn.commit().await?;
        kill_points::pass(Point::SettlementAfter);
        Ok(())
    }

    fn tell(&mut self, report: &mut (impl FnMut(&Progress) + Send)) {
        self.progress.settled = self.settled.values().sum();
        report(&self.progress);
    }
}

/// Letters of the next transaction.
#[derive(Default)]
struct Batch {
    letters: Vec<(Letter, Option<TopicName>)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, letter: Letter, to: Option<TopicName>) {
        self.bytes += letter.record.payload_bytes();
        self.letters.push((letter, to));
    }

    fn is_full(&self, letters_max: usize) -> bool {
        self.letters.len() >= letters_max || self.bytes >= BATCH_BYTES_MAX
    }
}

/// An error with its sources, for the one place where it is shown.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
