//! From input records to what is written for them. No Kafka, no clock but for `x-dlq-at`.
//!
//! Invariants: the same compiled plan and the same record give the same outputs, byte for byte, on every
//! machine. Outputs stand in the order of the inputs. An input leads to its outputs as a whole, or to one dead
//! letter, or to nothing (a result of `undefined`, counted), or it halts: then nothing at or after it is in
//! the result, and everything before it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use deadletter::{Failure, Origin, Reason, Stage};
use jiff::Timestamp;
use jsonata::{Bindings, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program};
use kafka::ConsumedRecord;
use types::{Offset, Record, TopicName, TopicPartition};

use crate::compiled::{Compiled, Step};
use crate::output::{self, Part};

/// How often a record was tried in the stage when it is dead-lettered: a transform's error is final at once.
const ATTEMPTS: u32 = 1;

/// What the topics that are written to take, in bytes a record batch.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) target_bytes_max: usize,
    /// By DLQ.
    pub(crate) dlq_bytes_max: BTreeMap<TopicName, usize>,
}

/// One record to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) topic: TopicName,
    pub(crate) record: Record,
}

/// Why a pipeline stops at a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Halt {
    pub(crate) reason: String,
    /// Whether another try may end otherwise: a slow machine, a DLQ whose limit is raised. Else only a new plan helps.
    pub(crate) may_pass: bool,
}

/// What a run of records led to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Evaluated {
    pub(crate) writes: Vec<Write>,
    /// By partition, the offset to go on from.
    pub(crate) offsets: BTreeMap<TopicPartition, Offset>,
    pub(crate) read: u64,
    /// Outputs to the target, tombstones too.
    pub(crate) written: u64,
    /// Inputs without a result.
    pub(crate) dropped: u64,
    /// By `x-dlq-reason`.
    pub(crate) dead_lettered: BTreeMap<&'static str, u64>,
    pub(crate) halt: Option<Halt>,
    /// It ended before its records did: for want of room, or because nobody waits for it. The rest is a batch of its own.
    pub(crate) is_cut: bool,
}

/// What the runs of a batch share while they are evaluated.
#[derive(Debug)]
pub(crate) struct Room {
    /// Nobody waits for the batch any more.
    pub(crate) cancelled: AtomicBool,
    /// What the batch's results may weigh together, in bytes; whoever passes it ends with the record at hand.
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { cancelled: AtomicBool::new(false), bytes_max, bytes: AtomicUsize::new(0) }
    }

    fn add(&self, writes: &[Write]) {
        let bytes = writes.iter().map(|w| w.record.payload_bytes()).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }
}

impl Evaluated {
    /// Adds what came after; nothing comes after a halt or a cut.
    pub(crate) fn append(&mut self, after: Self) {
        if self.halt.is_some() || self.is_cut {
            return;
        }
        let Self { writes, offsets, read, written, dropped, dead_lettered, halt, is_cut } = after;
        self.writes.extend(writes);
        self.offsets.extend(offsets);
        self.read += read;
        self.written += written;
        self.dropped += dropped;
        for (reason, count) in dead_lettered {
            *self.dead_lettered.entry(reason).or_default() += count;
        }
        self.halt = halt;
        self.is_cut = is_cut;
    }

    pub(crate) fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.values().sum()
    }
}

/// What stopped one record.
enum Stopped<'a> {
    /// The record is at fault.
    Failed(&'a Stage, Failure),
    Halt(Halt),
}

/// Evaluates a run of a batch's records in order until the end, a halt, or a cut. The batch's first run isn't cut
/// before its first record: a batch always gets on.
pub(crate) fn evaluate(
    compiled: &Compiled,
    sizes: &Sizes,
    evaluator: &mut Evaluator,
    records: &[ConsumedRecord],
    is_first: bool,
    room: &Room,
) -> Evaluated {
    let mut run = Run::new(compiled, sizes, evaluator);
    let mut made = Evaluated::default();
    for record in records {
        let is_full = room.is_full() && (!is_first || made.read > 0);
        if is_full || room.cancelled.load(Ordering::Relaxed) {
            made.is_cut = true;
            break;
        }
        let before = made.writes.len();
        let origin = Origin::of(record, &compiled.plan.topics.retry);
        run.outputs.clear();
        let halt = match run.transform(record, &origin) {
            Ok(()) => {
                match run.outputs.len() {
                    0 => made.dropped += 1,
                    n => made.written += n as u64,
                }
                let target = &compiled.plan.target;
                made.writes
                    .extend(run.outputs.drain(..).map(|record| Write { topic: target.clone(), record }));
                None
            }
            Err(Stopped::Failed(stage, failure)) if !compiled.stops_on_error() => {
                match run.dead_letter(record, &origin, stage, &failure) {
                    Ok(write) => {
                        *made.dead_lettered.entry(failure.reason.as_str()).or_default() += 1;
                        made.writes.push(write);
                        None
                    }
                    Err(halt) => Some(halt),
                }
            }
            Err(Stopped::Failed(stage, failure)) => Some(Halt {
                reason: format!(
                    "{}@{} failed at {stage}: {}: {} (onError: stop)",
                    record.tp,
                    record.offset,
                    failure.reason.as_str(),
                    failure.message
                ),
                may_pass: false,
            }),
            Err(Stopped::Halt(halt)) => Some(halt),
        };
        if halt.is_some() {
            made.halt = halt;
            break;
        }
        room.add(&made.writes[before..]);
        made.read += 1;
        made.offsets.insert(record.tp.clone(), record.offset + 1);
    }
    made
}

/// What becomes of one record, for who asks and writes nothing.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) fate: Fate,
    /// Evaluation steps, of all expressions together.
    pub(crate) steps: u64,
    /// Of the expression that took most, which is what a budget is held against.
    pub(crate) steps_max: u64,
}

/// See [`Tried`].
#[derive(Debug)]
pub(crate) enum Fate {
    /// Its outputs; none: it is dropped.
    Outputs(Vec<Record>),
    /// It is dead-lettered, or stops a pipeline that stops on errors.
    Failed(Trouble),
    /// It stops the pipeline, whatever `onError` says.
    Stops(String),
}

/// A failure and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// The step's name.
    pub(crate) step: String,
    /// JSONata's code, where an expression failed.
    pub(crate) code: Option<&'static str>,
    /// Line and column in the expression, from 1.
    pub(crate) position: Option<(u32, u32)>,
    /// The message with the expression's line and a caret.
    pub(crate) rendered: String,
}

/// Evaluates one record as [`evaluate`] does.
pub(crate) fn evaluate_one(
    compiled: &Compiled,
    sizes: &Sizes,
    evaluator: &mut Evaluator,
    record: &ConsumedRecord,
) -> Tried {
    let mut run = Run::new(compiled, sizes, evaluator);
    let origin = Origin::of(record, &compiled.plan.topics.retry);
    let fate = match run.transform(record, &origin) {
        Ok(()) => Fate::Outputs(std::mem::take(&mut run.outputs)),
        Err(Stopped::Halt(halt)) => Fate::Stops(halt.reason),
        Err(Stopped::Failed(stage, failure)) => {
            let letter = match compiled.stops_on_error() {
                true => Ok(()),
                false => run.dead_letter(record, &origin, stage, &failure).map(drop),
            };
            match letter {
                Err(halt) => Fate::Stops(halt.reason),
                Ok(()) => Fate::Failed(run.trouble(stage, failure)),
            }
        }
    };
    let Run { steps, steps_max, .. } = run;
    Tried { fate, steps, steps_max }
}

struct Run<'a> {
    compiled: &'a Compiled,
    sizes: &'a Sizes,
    evaluator: &'a mut Evaluator,
    /// Of the record at hand.
    bindings: Bindings,
    /// The result of the last evaluation.
    text: Output,
    now: Timestamp,
    /// Of the record at hand.
    outputs: Vec<Record>,
    /// Of all evaluations until now.
    steps: u64,
    steps_max: u64,
    /// The last evaluation that failed.
    raised: Option<(EvalError, &'a Program)>,
}

impl<'a> Run<'a> {
    fn new(compiled: &'a Compiled, sizes: &'a Sizes, evaluator: &'a mut Evaluator) -> Self {
        Self {
            compiled,
            sizes,
            evaluator,
            bindings: Bindings::default(),
            text: Output::new(),
            now: Timestamp::now(),
            outputs: Vec::new(),
            steps: 0,
            steps_max: 0,
            raised: None,
        }
    }

    /// The failure of the one record that was evaluated.
    fn trouble(&mut self, stage: &Stage, failure: Failure) -> Trouble {
        let compiled = self.compiled;
        let step = compiled.steps.iter().find(|step| step.stage == *stage);
        let step = step.map_or_else(String::new, |step| step.name.clone());
        let Failure { reason, message } = failure;
        let mut trouble =
            Trouble { reason, rendered: message.clone(), message, step, code: None, position: None };
        if let Some((error, program)) = self.raised.take() {
            trouble.code = Some(error.code());
            if let ErrorKind::Expression(raised) = error.kind() {
                trouble.position = Some((raised.origin.line, raised.origin.column));
                trouble.rendered = error.render(program.source());
            }
        }
        trouble
    }

    /// Leaves the record's outputs in `outputs`: none where there is no result.
    fn transform(&mut self, record: &ConsumedRecord, origin: &Origin) -> Result<(), Stopped<'a>> {
        let compiled = self.compiled;
        let Some(value) = &record.value else {
            // A tombstone says that the key is gone; there is nothing to evaluate.
            let headers = output::headers(&record.headers, origin, Part::Whole, false, &compiled.made_by);
            return self.output(record, record.key.clone(), None, headers, last_stage(compiled));
        };
        deadletter::bind(&mut self.bindings, compiled.reads, record, origin);
        let mut text = value.clone();
        for step in &compiled.steps {
            if !self.eval(record, &step.program, &step.stage, &text, None)? {
                return Ok(());
            }
            text = Bytes::copy_from_slice(self.text.as_bytes());
        }
        let stage = last_stage(compiled);
        let elements: Option<Vec<Bytes>> = match self.text.elements() {
            Some(elements) if compiled.plan.fan_out => {
                let (count, max) = (elements.len(), compiled.fan_out_max);
                if count > max {
                    let message = format!(
                        "the record became {count} records by fan-out; pipeline.fan_out_max is {max}"
                    );
                    return Err(Stopped::Failed(stage, Failure::new(Reason::OverBudget, message)));
                }
                Some(elements.map(Bytes::copy_from_slice).collect())
            }
            _ => None,
        };
        let Some(elements) = elements else {
            return self.value(record, origin, Part::Whole, text, stage);
        };
        for (index, element) in elements.into_iter().enumerate() {
            self.value(record, origin, Part::Element(index), element, stage)?;
        }
        Ok(())
    }

    /// One output with a value.
    fn value(
        &mut self,
        record: &ConsumedRecord,
        origin: &Origin,
        part: Part,
        text: Bytes,
        stage: &'a Stage,
    ) -> Result<(), Stopped<'a>> {
        let compiled = self.compiled;
        let key = match &compiled.key {
            None => record.key.clone(),
            Some(program) => {
                const PLACE: &str = "target.key";
                let failed = |message: &str| {
                    let message = format!("{PLACE}: {message}");
                    Stopped::Failed(stage, Failure::new(Reason::TransformError, message))
                };
                if !self.eval(record, program, stage, &text, Some(PLACE))? {
                    return Err(failed("the expression gives no value for this output"));
                }
                output::key_of_json(self.text.as_bytes()).map_err(|e| failed(&e.to_string()))?
            }
        };
        let headers = output::headers(&record.headers, origin, part, true, &compiled.made_by);
        self.output(record, key, Some(text), headers, stage)
    }

    fn output(
        &mut self,
        input: &ConsumedRecord,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: types::Headers,
        stage: &'a Stage,
    ) -> Result<(), Stopped<'a>> {
        let record = Record {
            key,
            value,
            headers,
            timestamp: (input.timestamp_ms >= 0).then_some(input.timestamp_ms),
        };
        let (weight, limit) = (output::encoded_bytes(&record), self.sizes.target_bytes_max);
        if weight > limit {
            let target = &self.compiled.plan.target;
            let message =
                format!("the output takes {weight} bytes; max.message.bytes of {target} is {limit}");
            return Err(Stopped::Failed(stage, Failure::new(Reason::OutputTooLarge, message)));
        }
        self.outputs.push(record);
        Ok(())
    }

    /// Leaves the result in `text`; false: there is none. `place` goes before the messages of errors.
    fn eval(
        &mut self,
        record: &ConsumedRecord,
        program: &'a Program,
        stage: &'a Stage,
        input: &[u8],
        place: Option<&str>,
    ) -> Result<bool, Stopped<'a>> {
        let budget = &self.compiled.budget;
        let (outcome, used) =
            self.evaluator.eval_counted(program, Some(input), &self.bindings, budget, &mut self.text);
        self.steps = self.steps.saturating_add(used.steps);
        self.steps_max = self.steps_max.max(used.steps);
        match outcome {
            Ok(Outcome::Undefined) => Ok(false),
            Ok(Outcome::Null | Outcome::Value) => Ok(true),
            Err(error) => {
                let stopped = stopped(record, stage, &error, place);
                self.raised = Some((error, program));
                Err(stopped)
            }
        }
    }

    fn dead_letter(
        &self,
        record: &ConsumedRecord,
        origin: &Origin,
        stage: &Stage,
        failure: &Failure,
    ) -> Result<Write, Halt> {
        let cannot = |why: String| Halt {
            reason: format!("the dead letter of {}@{} can't be written: {why}", record.tp, record.offset),
            may_pass: true,
        };
        let topic = self
            .compiled
            .dlq_of(&origin.topic)
            .ok_or_else(|| cannot(format!("the plan names no dead-letter topic for {}", origin.topic)))?;
        let letter = deadletter::dead_letter(
            record,
            &self.compiled.plan.topics.retry,
            stage,
            failure,
            ATTEMPTS,
            self.now,
        );
        let weight = output::encoded_bytes(&letter);
        match self.sizes.dlq_bytes_max.get(topic) {
            Some(limit) if weight > *limit => {
                Err(cannot(format!("it takes {weight} bytes; max.message.bytes of {topic} is {limit}")))
            }
            _ => Ok(Write { topic: topic.clone(), record: letter }),
        }
    }
}

/// The stage that is to blame for an output as a whole.
fn last_stage(compiled: &Compiled) -> &Stage {
    let step: &Step = compiled.steps.last().expect("a plan has at least one step");
    &step.stage
}

/// What an evaluation's error means for its record.
fn stopped<'a>(
    record: &ConsumedRecord,
    stage: &'a Stage,
    error: &EvalError,
    place: Option<&str>,
) -> Stopped<'a> {
    let message = match place {
        Some(place) => format!("{place}: {error}"),
        None => error.to_string(),
    };
    let reason = match error.kind() {
        ErrorKind::InvalidJson(_) => Reason::InvalidJson,
        ErrorKind::Expression(_) => Reason::TransformError,
        ErrorKind::OverBudget(over) if over.limit == Limit::OutputBytes => Reason::OutputTooLarge,
        ErrorKind::OverBudget(over) if over.limit.is_deterministic() => Reason::OverBudget,
        // It says something of the machine, and nothing of the record.
        ErrorKind::OverBudget(_) => {
            return Stopped::Halt(Halt {
                reason: format!("{}@{} took too long at {stage}: {message}", record.tp, record.offset),
                may_pass: true,
            });
        }
    };
    Stopped::Failed(stage, Failure::new(reason, message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use resources::{ContentHash, OnError, PipelinePlan, Source, StageTopics, StartFrom, StepPlan};
    use types::{Headers, InstallationId, Uid, names};

    use super::*;
    use crate::config::Config;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn plan(expressions: &[&str]) -> PipelinePlan {
        let step = |(n, expression): (usize, &&str)| StepPlan {
            name: format!("s{n}"),
            transform: format!("t{n}"),
            version: 3,
            hash: ContentHash::of(&[expression.as_bytes()]),
            expression: (*expression).into(),
        };
        PipelinePlan {
            installation: InstallationId::new(),
            uid: Uid::new(),
            generation: 4,
            workspace: "w".into(),
            name: "p".into(),
            sources: vec![Source { topic: topic("in"), from: StartFrom::Earliest }],
            steps: expressions.iter().enumerate().map(step).collect(),
            target: topic("out"),
            target_key: None,
            on_error: OnError::DeadLetter,
            fan_out: false,
            parallelism: 1,
            topics: StageTopics {
                dlq: BTreeMap::from([(topic("in"), topic("in.dlq")), (topic("retry"), topic("other.dlq"))]),
                retry: topic("retry"),
            },
            paused: false,
            restarts: 0,
        }
    }

    fn record(offset: Offset, value: &str) -> ConsumedRecord {
        ConsumedRecord {
            tp: TopicPartition::new(topic("in"), 7),
            offset,
            timestamp_ms: 1_700_000_000_000,
            key: Some("k".into()),
            value: Some(value.to_owned().into()),
            headers: Headers::new(),
        }
    }

    fn run_with(config: &Config, plan: PipelinePlan, limit: usize, records: &[ConsumedRecord]) -> Evaluated {
        let compiled = Compiled::new(Arc::new(plan), config).unwrap();
        let dlqs = [("in.dlq", limit + 65_536), ("other.dlq", limit + 65_536)];
        let dlq_bytes_max = dlqs.into_iter().map(|(name, bytes)| (topic(name), bytes)).collect();
        let sizes = Sizes { target_bytes_max: limit, dlq_bytes_max };
        evaluate(
            &compiled,
            &sizes,
            &mut Evaluator::new(),
            records,
            true,
            &Room::new(config.batch_output_bytes_max),
        )
    }

    fn run(plan: PipelinePlan, records: &[ConsumedRecord]) -> Evaluated {
        run_with(&Config::default(), plan, 1_000_000, records)
    }

    fn values(made: &Evaluated) -> Vec<(String, String)> {
        let text =
            |bytes: &Option<Bytes>| String::from_utf8(bytes.as_deref().unwrap_or(b"-").to_vec()).unwrap();
        made.writes.iter().map(|w| (w.topic.to_string(), text(&w.record.value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn every_input_leads_to_outputs_to_a_letter_or_to_nothing_and_counts() {
        let records =
            [record(0, r#"{"a":1}"#), record(1, "{"), record(2, r#"{"b":1}"#), record(5, r#"{"a":"x"}"#)];
        let made = run(plan(&["a", "$number($)"]), &records);
        assert_eq!(values(&made), pairs(&[("out", "1"), ("in.dlq", "{"), ("in.dlq", r#"{"a":"x"}"#)]));
        assert_eq!((made.read, made.written, made.dropped), (4, 1, 1));
        assert_eq!(made.dead_lettered, BTreeMap::from([("invalid_json", 1), ("transform_error", 1)]));
        assert_eq!(made.offsets, BTreeMap::from([(records[0].tp.clone(), 6)]));
        let stages: Vec<_> =
            made.writes[1..].iter().map(|w| w.record.headers.get_str(names::DLQ_STAGE)).collect();
        assert_eq!(stages, [Some("pipeline/w/p/s0@3"), Some("pipeline/w/p/s1@3")]);
        let made_by: Vec<_> =
            made.writes[0].record.headers.iter().filter(|h| &*h.name == names::TRANSFORM).collect();
        assert_eq!(made_by.len(), 2, "one a step: {made_by:?}");
        assert_eq!(made.writes[0].record.timestamp, Some(1_700_000_000_000), "event time goes on");
    }

    #[test]
    fn the_same_record_gives_the_same_bytes_and_another_does_not() {
        let expression = r#"{"now": $millis(), "r": $random(), "at": $topic & "/" & $partition & "/" & $offset,
            "key": $key, "ts": $timestamp, "event": $headers."x-github-event"}"#;
        let mut first = record(3, "{}");
        first.headers.push("x-github-event", "push");
        let other = ConsumedRecord { offset: 4, ..first.clone() };
        let made =
            |r: &ConsumedRecord| values(&run(plan(&[expression]), std::slice::from_ref(r))).remove(0).1;
        assert_eq!(made(&first), made(&first));
        let [a, b] = [&first, &other].map(|r| serde_json::from_str::<serde_json::Value>(&made(r)).unwrap());
        assert_ne!(a["r"], b["r"]);
        assert_eq!(a["now"], 1_700_000_000_000_i64);
        assert_eq!((&a["at"], &a["key"]), (&"in/7/3".into(), &"k".into()));
        assert_eq!((&a["ts"], &a["event"]), (&1_700_000_000_000_i64.into(), &"push".into()));

        let mut redriven = ConsumedRecord { tp: TopicPartition::new(topic("retry"), 1), offset: 99, ..first };
        for (name, value) in
            [(names::ORIGIN_TOPIC, "in"), (names::ORIGIN_PARTITION, "7"), (names::ORIGIN_OFFSET, "3")]
        {
            redriven.headers.push(name, value);
        }
        let again: serde_json::Value = serde_json::from_str(&made(&redriven)).unwrap();
        assert_eq!((&again["r"], &again["at"]), (&a["r"], &a["at"]), "as at its origin");
    }

    #[test]
    fn deterministic_budgets_dead_letter_and_wall_time_stops() {
        let count = "$count([1..100000].($ * 2))";
        let few = Config { record_steps_max: 1_000, ..Config::default() };
        let made = run_with(&few, plan(&[count]), 1_000_000, &[record(0, "{}"), record(1, "{}")]);
        assert_eq!(made.dead_lettered, BTreeMap::from([("over_budget", 2)]));
        assert_eq!(made.halt, None);

        let slow = r#"id = 1 ? $count([1..500000].($ * 2)) : id"#;
        let config = Config { record_time_max_ms: 1, record_steps_max: u64::MAX, ..Config::default() };
        let records = [record(0, r#"{"id":0}"#), record(1, r#"{"id":1}"#), record(2, r#"{"id":2}"#)];
        let made = run_with(&config, plan(&[slow]), 1_000_000, &records);
        let halt = made.halt.clone().expect("it took longer than 1 ms");
        assert!(halt.may_pass && halt.reason.contains("in-7@1"), "{halt:?}");
        assert_eq!((values(&made), made.offsets[&records[0].tp]), (pairs(&[("out", "0")]), 1));
    }

    #[test]
    fn one_element_too_large_dead_letters_its_whole_input() {
        let mut plan = plan(&["$"]);
        plan.fan_out = true;
        let large = format!(r#"[1,"{}",3]"#, "x".repeat(500));
        let made = run_with(
            &Config::default(),
            plan,
            300,
            &[record(0, "[1,2]"), record(1, &large), record(2, "[]")],
        );
        assert_eq!(values(&made), pairs(&[("out", "1"), ("out", "2"), ("in.dlq", &large)]));
        assert_eq!((made.written, made.dropped, made.dead_lettered_total()), (2, 1, 1));
        let ids: Vec<_> =
            made.writes[..2].iter().map(|w| w.record.headers.get_str(names::EVENT_ID)).collect();
        assert_eq!(ids, [Some("in-7-0.0"), Some("in-7-0.1")]);
    }

    #[test]
    fn results_that_need_more_room_are_cut_and_the_first_record_never_is() {
        let config = Config { batch_output_bytes_max: 10, ..Config::default() };
        let records = [record(0, r#""a long text""#), record(1, "2"), record(2, "3")];
        let made = run_with(&config, plan(&["$"]), 1_000_000, &records);
        assert_eq!((made.read, made.is_cut, made.offsets[&records[0].tp]), (1, true, 1));
        let mut whole = made.clone();
        whole.append(run_with(&config, plan(&["$"]), 1_000_000, &records[2..]));
        assert_eq!(whole, made, "nothing comes after a cut");
    }

    #[test]
    fn a_letter_that_does_not_fit_stops_and_so_does_on_error_stop() {
        let mut small = plan(&["$number(a)"]);
        small.topics.dlq.clear();
        let records = [record(0, r#"{"a":"1"}"#), record(1, r#"{"a":"x"}"#), record(2, r#"{"a":"3"}"#)];
        let made = run(small, &records);
        let halt = made.halt.clone().unwrap();
        assert!(halt.may_pass && halt.reason.contains("no dead-letter topic"), "{halt:?}");
        assert_eq!((made.read, values(&made)), (1, pairs(&[("out", "1")])));

        let mut stop = plan(&["$number(a)"]);
        stop.on_error = OnError::Stop;
        let made = run(stop, &records);
        assert!(!made.halt.as_ref().unwrap().may_pass);
        assert_eq!((made.read, made.offsets[&records[0].tp]), (1, 1));
    }

    #[test]
    fn a_key_expression_sees_the_output() {
        let mut keyed = plan(&["$"]);
        keyed.target_key = Some("id".into());
        let records = [
            record(0, r#"{"id":"é"}"#),
            record(1, r#"{"id":12}"#),
            record(2, r#"{"id":null}"#),
            record(3, "{}"),
        ];
        let made = run(keyed, &records);
        let keys: Vec<_> = made.writes.iter().map(|w| w.record.key.clone()).collect();
        assert_eq!(keys[..3], [Some("é".into()), Some("12".into()), None]);
        assert_eq!(made.writes[3].topic, topic("in.dlq"));
        assert!(made.writes[3].record.headers.get_str(names::DLQ_MESSAGE).unwrap().contains("target.key"));
    }

    #[test]
    fn redriven_records_fail_into_the_dlq_of_their_origin() {
        let mut redriven = record(0, "{");
        redriven.tp = TopicPartition::new(topic("retry"), 0);
        let mut foreign = redriven.clone();
        for (origin, record) in [("in", &mut redriven), ("elsewhere", &mut foreign)] {
            for (name, value) in
                [(names::ORIGIN_TOPIC, origin), (names::ORIGIN_PARTITION, "0"), (names::ORIGIN_OFFSET, "9")]
            {
                record.headers.push(name, value.to_owned());
            }
        }
        let made = run(plan(&["$"]), &[redriven, foreign]);
        let topics: Vec<_> = made.writes.iter().map(|w| w.topic.as_str()).collect();
        assert_eq!(topics, ["in.dlq", "other.dlq"]);
    }
}
