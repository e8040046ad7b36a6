//! Backtests: a candidate version over recorded input, beside the active one, and nothing is written.
//!
//! A *backtest* reads stretches of the source topics that were fixed when it began, without a group, read_committed. Each
//! record is put through two *sides*, the active plan and the candidate's, by what the loop itself evaluates with; what
//! they make of it puts the record into one [`Category`].
//!
//! Invariants:
//! - It opens no producer, joins no group and commits no offset: there is nothing by which it could write.
//! - It ends: by its records, by its time, or by being dropped, which stops it within [`SLICE_MAX`] and one evaluation.
//! - What it holds is bounded: a fetch's records, and samples by number and bytes.
//! - It takes its turns among the pipelines' evaluations, one at a time and none longer than [`SLICE_MAX`] and one record.
//!
//! Not done: a candidate of more than one step, of a step that is no transform, or of the target's key, at once; state of
//! steps (there are none with state).

mod differ;
mod extent;
mod sample;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use deadletter::Predicate;
use jsonata::Evaluator;
use kafka::{Admin, ClientConfig, ConsumedRecord, Scan, ScanError};
use resources::PipelinePlan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use types::{Offset, TimestampMs, TopicName, TopicPartition};

pub use sample::{Difference, Excerpt, Failed, Made, Part, Sample};
pub use tally::{Category, Counts, Place, STOPS, Side};

use crate::compiled::{CompileError, Compiled};
use crate::config::Config;
use crate::evaluate::{Sizes, evaluate_one};
use crate::topics;
use crate::workers::Workers;
use extent::Extent;
use tally::{Tally, Timed};

/// Backtests at once in a process; more are refused.
pub const RUNNING_MAX: usize = 2;
/// Records that one backtest reads.
pub const RECORDS_MAX: u64 = 1_000_000;
/// Records that are read where nothing else is said.
pub const LAST_DEFAULT: u64 = 10_000;
/// How long one may take.
pub const TIME_MAX: Duration = Duration::from_secs(600);
/// Samples of each category.
pub const SAMPLES_MAX: usize = 20;
/// Of a key or value in a sample, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 16 << 10;
/// Of a record that became several, outputs in a sample.
pub const SAMPLE_OUTPUTS_MAX: usize = 3;
/// Places at which outputs differ, in a sample.
pub const SAMPLE_DIFFERENCES_MAX: usize = 20;
/// Places at which outputs differ, over all records.
pub const PLACES_MAX: usize = 100;

/// Between two [`Step::Progress`].
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// A turn among the evaluations ends after the record at which it has taken so long.
const SLICE_MAX: Duration = Duration::from_millis(20);
/// Reading that brings nothing for so long has stalled.
const IDLE_MAX: Duration = Duration::from_secs(45);

/// Which recorded input is meant; all that is said holds.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// At most so many of the last ones, each partition's part as large as any other's. Where nothing is said,
    /// [`LAST_DEFAULT`]; where only the others are, [`RECORDS_MAX`].
    pub last: Option<u64>,
    /// From the first record of this time or later on.
    pub since: Option<TimestampMs>,
    /// Of those that are read, the records for which it holds.
    pub predicate: Option<Predicate>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What runs, or would run.
    pub active: PipelinePlan,
    /// The same with other expressions.
    pub candidate: PipelinePlan,
    /// The input.
    pub records: Records,
    /// Samples of each category, at most [`SAMPLES_MAX`].
    pub samples: usize,
    /// How long it may take, at most [`TIME_MAX`].
    pub time_max: Duration,
    /// How long it waits for its place among [`RUNNING_MAX`].
    pub wait_max: Duration,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// As many run as may.
    #[error("{RUNNING_MAX} backtests run already")]
    Busy,
    /// An expression doesn't compile.
    #[error("the {side} plan can't run: {reason}")]
    Plan {
        /// `active` or `candidate`.
        side: &'static str,
        /// Why.
        reason: String,
    },
    /// Topics of the pipeline aren't there.
    #[error("topic {} doesn't exist", .0.iter().map(TopicName::as_str).collect::<Vec<_>>().join(", "))]
    MissingTopics(Vec<TopicName>),
    /// The engine or the client.
    #[error("{0}")]
    Engine(kafka::Error),
    /// Records that must be there didn't come.
    #[error("reading the recorded input didn't get on for {} s", .0.as_secs())]
    Stalled(Duration),
    /// A bug in Vltava.
    #[error("an evaluation ended with a panic; this is a bug in Vltava")]
    Panicked,
}

impl From<kafka::Error> for Error {
    fn from(error: kafka::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Failed(error) => Self::Engine(error),
            ScanError::Stalled { topic: _, after } => Self::Stalled(after),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Offsets to go through.
    pub planned: u64,
    /// Offsets that are behind it. Not each has a record: markers of transactions and what compaction took have offsets too.
    pub done: u64,
    /// Records that were read.
    pub read: u64,
    /// Records that were compared: those for which the predicate holds.
    pub compared: u64,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// Whether it ended for want of time: then the rest isn't known.
    pub is_cut: bool,
    /// Offsets that were meant too, but were too many.
    pub left_out: u64,
    /// Records by category.
    pub counts: Counts,
    /// Where outputs differ, most records first.
    pub places: Vec<Place>,
    /// Records that differ at further places.
    pub elsewhere: u64,
    /// By category, at most as many each as was asked for.
    pub samples: Vec<Sample>,
    /// What the active version took.
    pub active: Side,
    /// What the candidate took.
    pub candidate: Side,
    /// Steps that all expressions together may take for one record.
    pub steps_budget: u64,
    /// How long it took as a whole.
    pub took: Duration,
}

/// What [`Backtest::next`] gives.
#[derive(Debug)]
pub enum Step {
    /// It goes on.
    Progress(Progress),
    /// It is over.
    Done(Box<Report>),
}

/// Runs backtests, with the settings and among the evaluations of a runtime. Cheap to clone.
#[derive(Clone)]
pub struct Backtests {
    client: ClientConfig,
    admin: Admin,
    config: Arc<Config>,
    workers: Workers,
    running: Arc<Semaphore>,
}

/// One that has begun. Dropped, it ends.
pub struct Backtest {
    scan: Scan,
    workers: Workers,
    sides: Arc<Sides>,
    /// Away while a turn works with it.
    tally: Option<Tally>,
    pending: VecDeque<ConsumedRecord>,
    /// The next offset, by partition.
    positions: HashMap<TopicPartition, Offset>,
    progress: Progress,
    left_out: u64,
    is_read: bool,
    begun: Instant,
    deadline: Instant,
    idle_until: Instant,
    _running: OwnedSemaphorePermit,
}

/// What all records are put through.
struct Sides {
    active: Compiled,
    candidate: Compiled,
    sizes: Sizes,
    predicate: Option<Predicate>,
}

impl std::fmt::Debug for Backtest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backtest").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Backtests {
    pub(crate) fn new(client: ClientConfig, admin: Admin, config: Arc<Config>, workers: Workers) -> Self {
        Self { client, admin, config, workers, running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }

    /// Checks the plans and fixes what is read.
    pub async fn begin(&self, asked: Asked) -> Result<Backtest, Error> {
        let Asked { active, candidate, records, samples, time_max, wait_max } = asked;
        // A place that is free is had also where there is no time to wait.
        let place = tokio::time::timeout(wait_max, self.running.clone().acquire_owned()).await;
        let Ok(Ok(running)) = place else { return Err(Error::Busy) };
        let compile = |side, plan| {
            let refused =
                |error: CompileError| Error::Plan { side, reason: runtime::shutdown::chain(&error) };
            Compiled::new(Arc::new(plan), &self.config).map_err(refused)
        };
        let (active, candidate) = (compile("active", active)?, compile("candidate", candidate)?);
        let sizes = topics::look_up(&self.admin, &active.plan).await.map_err(|error| match error {
            topics::Error::Missing(topics) => Error::MissingTopics(topics),
            topics::Error::Engine(error) => Error::Engine(error),
        })?;
        let extent = Extent::look_up(&self.admin, &active.plan.sources, &records).await?;
        let positions = extent.stretches.iter().map(|s| (s.tp.clone(), s.start)).collect();
        let begun = Instant::now();
        let sides = Sides { active, candidate, sizes, predicate: records.predicate };
        Ok(Backtest {
            scan: Scan::open(&self.client.named("backtest"), extent.stretches)?,
            workers: self.workers.clone(),
            sides: Arc::new(sides),
            tally: Some(Tally::new(samples.min(SAMPLES_MAX))),
            pending: VecDeque::new(),
            positions,
            progress: Progress { planned: extent.offsets, done: 0, read: 0, compared: 0 },
            left_out: extent.left_out,
            is_read: false,
            begun,
            deadline: begun + time_max.min(TIME_MAX),
            idle_until: begun + IDLE_MAX,
            _running: running,
        })
    }
}

impl Backtest {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Goes on for a moment, or to the end. After the report, or an error, there is nothing more: drop it.
    pub async fn next(&mut self) -> Result<Step, Error> {
        let tell_at = Instant::now() + PROGRESS_EVERY;
        loop {
            let now = Instant::now();
            if self.pending.is_empty() && self.is_read {
                self.progress.done = self.progress.planned;
                return self.report(false);
            }
            if now >= self.deadline {
                return self.report(true);
            }
            if now >= tell_at {
                return Ok(Step::Progress(self.progress));
            }
            match self.pending.is_empty() {
                true => self.read(tell_at.min(self.deadline)).await?,
                false => self.turn().await?,
            }
        }
    }

    async fn read(&mut self, until: Instant) -> Result<(), Error> {
        match tokio::time::timeout_at(until, self.scan.next()).await {
            Ok(records) => match records? {
                Some(records) => self.pending = records.into(),
                None => self.is_read = true,
            },
            Err(_) if Instant::now() >= self.idle_until => return Err(Error::Stalled(IDLE_MAX)),
            Err(_) => return Ok(()),
        }
        self.idle_until = Instant::now() + IDLE_MAX;
        Ok(())
    }

    /// One turn among the process's evaluations.
    async fn turn(&mut self) -> Result<(), Error> {
        let Some(mut tally) = self.tally.take() else { return Err(Error::Panicked) };
        let (mut pending, sides) = (std::mem::take(&mut self.pending), self.sides.clone());
        let count = pending.len();
        let work = move || {
            let begun = std::time::Instant::now();
            // Its memory serves the turn's records one after the other.
            let mut evaluator = Evaluator::new();
            let mut last = None;
            while let Some(record) = pending.pop_front() {
                sides.compare(&mut evaluator, &record, &mut tally);
                last = Some((record.tp, record.offset));
                if begun.elapsed() >= SLICE_MAX {
                    break;
                }
            }
            (tally, pending, last)
        };
        let (tally, pending, last) = self.workers.turn(work).await.map_err(|_| Error::Panicked)?;
        self.progress.read += (count - pending.len()) as u64;
        self.progress.compared = tally.counts.compared();
        if let Some((tp, offset)) = last
            && let Some(position) = self.positions.get_mut(&tp)
        {
            self.progress.done += u64::try_from(offset + 1 - *position).unwrap_or(0);
            *position = offset + 1;
        }
        self.tally = Some(tally);
        self.pending = pending;
        // While it waited for its turn nothing was to be read.
        self.idle_until = Instant::now() + IDLE_MAX;
        Ok(())
    }

    fn report(&mut self, is_cut: bool) -> Result<Step, Error> {
        let Some(tally) = self.tally.take() else { return Err(Error::Panicked) };
        Ok(Step::Done(Box::new(Report {
            progress: self.progress,
            is_cut,
            left_out: self.left_out,
            counts: tally.counts,
            places: tally.places(),
            elsewhere: tally.elsewhere,
            samples: tally.samples(),
            active: tally.active,
            candidate: tally.candidate,
            steps_budget: self.sides.active.budget.steps,
            took: self.begun.elapsed(),
        })))
    }
}

impl Sides {
    fn compare(&self, evaluator: &mut Evaluator, record: &ConsumedRecord, tally: &mut Tally) {
        if self.predicate.as_ref().is_some_and(|predicate| !predicate.holds_for(evaluator, record)) {
            return;
        }
        let mut run = |compiled| {
            let begun = std::time::Instant::now();
            let tried = evaluate_one(compiled, &self.sizes, evaluator, record);
            Timed { tried, took: begun.elapsed() }
        };
        // Who is first finds the record's bytes in no cache: both are as often.
        let (active, candidate) = if record.offset % 2 == 0 {
            let active = run(&self.active);
            (active, run(&self.candidate))
        } else {
            let candidate = run(&self.candidate);
            (run(&self.active), candidate)
        };
        tally.add(record, &active, &candidate);
    }
}
