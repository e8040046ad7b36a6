//! From input records to what is written for them. No Kafka, no clock but for `x-dlq-at`.
//!
//! Invariants: the same compiled plan and the same record give the same outputs, byte for byte, on every
//! machine. Outputs stand in the order of the inputs. An input leads to its outputs as a whole, or to one dead
//! letter, or to nothing (a result of `undefined`, a filter that doesn't hold; counted), or it halts: then nothing at or after it is in
//! the result, and everything before it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use deadletter::{Origin, Reason};
use jsonata::Evaluator;
use kafka::ConsumedRecord;
use types::{Offset, Record, TopicName, TopicPartition};

use crate::compiled::Compiled;
use crate::record::{Passed, Run, Stopped};

/// What the topics that are written to take, in bytes a record batch.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    /// By target.
    pub(crate) target_bytes_max: BTreeMap<TopicName, usize>,
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
    /// Inputs that led to nothing, by why.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
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
        for (counts, more) in [(&mut self.dropped, dropped), (&mut self.dead_lettered, dead_lettered)] {
            for (reason, count) in more {
                *counts.entry(reason).or_default() += count;
            }
        }
        self.halt = halt;
        self.is_cut = is_cut;
    }

    pub(crate) fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.values().sum()
    }
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
        let halt = match run.put_through(record, &origin) {
            Ok(passed) => {
                if let Passed::Dropped(why) = passed {
                    *made.dropped.entry(why).or_default() += 1;
                }
                made.written += run.outputs.len() as u64;
                made.writes.append(&mut run.outputs);
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
    /// Evaluation steps of all expressions together, which is what the budget is held against.
    pub(crate) steps: u64,
}

/// See [`Tried`].
#[derive(Debug)]
pub(crate) enum Fate {
    /// Its outputs; none: it is dropped.
    Outputs(Vec<Write>),
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
    let fate = match run.put_through(record, &origin) {
        Ok(_) => Fate::Outputs(std::mem::take(&mut run.outputs)),
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
    Tried { fate, steps: run.steps }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use resources::{
        ContentHash, HeadersSpec, OnError, PipelinePlan, RedactSpec, RedactWith, RouteSpec, SampleBy,
        SampleSpec, Source, StageTopics, StartFrom, StepKind, StepPlan, TransformPlan, ValidateSpec,
    };
    use types::{Headers, InstallationId, Uid, names};

    use super::*;
    use crate::config::Config;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn plan(expressions: &[&str]) -> PipelinePlan {
        let step = |(n, expression): (usize, &&str)| StepPlan {
            name: format!("s{n}"),
            kind: StepKind::Transform(TransformPlan {
                transform: format!("t{n}"),
                version: 3,
                hash: ContentHash::of(&[expression.as_bytes()]),
                expression: (*expression).into(),
            }),
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
        let target_bytes_max = compiled.plan.targets().into_iter().map(|t| (t.clone(), limit)).collect();
        let sizes = Sizes { target_bytes_max, dlq_bytes_max };
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
        assert_eq!((made.read, made.written, made.dropped), (4, 1, BTreeMap::from([("undefined", 1)])));
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
        assert_eq!((made.written, made.dropped.len(), made.dead_lettered_total()), (2, 1, 1));
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

    fn step(name: &str, kind: StepKind<TransformPlan>) -> StepPlan {
        StepPlan { name: name.into(), kind }
    }

    fn filter(expression: &str) -> StepKind<TransformPlan> {
        StepKind::Filter(expression.into())
    }

    fn headers(set: &[(&str, &str)], drop: &[&str]) -> StepKind<TransformPlan> {
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        StepKind::Headers(HeadersSpec { set, drop: drop.iter().map(|&name| name.to_owned()).collect() })
    }

    /// A plan of these steps alone.
    fn steps(kinds: Vec<StepKind<TransformPlan>>) -> PipelinePlan {
        let named = |(n, kind)| step(&format!("s{n}"), kind);
        PipelinePlan { steps: kinds.into_iter().enumerate().map(named).collect(), ..plan(&[]) }
    }

    /// What the dead letters say: stage, reason, message.
    fn letters(made: &Evaluated) -> Vec<[String; 3]> {
        let letters = made.writes.iter().filter(|w| w.topic == topic("in.dlq"));
        let text = |w: &Write, name| w.record.headers.get_str(name).unwrap_or_default().to_owned();
        letters
            .map(|w| [names::DLQ_STAGE, names::DLQ_REASON, names::DLQ_MESSAGE].map(|name| text(w, name)))
            .collect()
    }

    #[test]
    fn a_filter_passes_bytes_as_they_came_and_takes_true_and_false_only() {
        let records = [
            record(0, r#"{ "ok": true,  "n": 1.00 }"#),
            record(1, r#"{"ok":false}"#),
            record(2, r#"{"ok":"yes"}"#),
            record(3, "{}"),
            record(4, r#"{"ok":null}"#),
            record(5, r#"{"ok":[true]}"#),
            record(6, "{"),
            record(7, r#"{"ok":1}"#),
        ];
        let made = run(steps(vec![filter("ok")]), &records);
        assert_eq!(values(&made)[0], ("out".to_owned(), r#"{ "ok": true,  "n": 1.00 }"#.to_owned()));
        assert_eq!((made.written, &made.dropped), (1, &BTreeMap::from([("filtered", 1)])));
        assert_eq!(made.dead_lettered, BTreeMap::from([("invalid_result", 5), ("invalid_json", 1)]));
        let letters = letters(&made);
        assert!(letters.iter().all(|[stage, ..]| stage == "pipeline/w/p/s0@4"), "{letters:?}");
        let messages: Vec<_> = letters.iter().map(|[_, _, message]| message.as_str()).collect();
        for (message, what) in messages.iter().zip(["a text", "no value", "null", "an array"]) {
            assert!(message.contains(&format!("gives {what}, not true or false")), "{message}");
        }
        let out = &made.writes[0].record.headers;
        assert_eq!((out.get(names::TRANSFORM), out.get(names::CONTENT_TYPE)), (None, None), "as it came");
        assert_eq!(out.get_str(names::EVENT_ID), Some("in-7-0"));
    }

    #[test]
    fn steps_go_on_from_what_those_before_them_made() {
        let mut plan = plan(&[r#"{"id": id, "seen": $key & "/" & $headers.tenant}"#]);
        plan.steps.insert(0, step("only", filter("id > 0")));
        plan.steps.insert(1, step("by-id", StepKind::Key("'k' & id".into())));
        plan.steps
            .insert(2, step("tag", headers(&[("tenant", "$key & '!'"), ("n", "id")], &["cookie", "gone"])));
        plan.steps.push(step("last", filter("seen != 'x'")));
        let mut with = record(0, r#"{"id":7}"#);
        for (name, value) in [("cookie", "c"), ("tenant", "old"), ("a", "1"), ("tenant", "older")] {
            with.headers.push(name, value);
        }
        let made = run(plan, &[with, record(1, r#"{"id":0}"#)]);
        assert_eq!(values(&made), pairs(&[("out", r#"{"id":7,"seen":"k7/k7!"}"#)]));
        let out = &made.writes[0].record;
        assert_eq!(out.key, Some("k7".into()));
        let shown: Vec<_> = out
            .headers
            .iter()
            .map(|h| format!("{}={}", &*h.name, String::from_utf8_lossy(h.value.as_deref().unwrap())))
            .collect();
        let all = [
            "a=1",
            "n=7",
            "tenant=k7!",
            "x-event-id=in-7-0",
            "content-type=application/json",
            "x-transform=t0@3",
        ];
        assert_eq!(shown, all);
        assert_eq!(made.dropped, BTreeMap::from([("filtered", 1)]));
    }

    #[test]
    fn keys_and_headers_take_scalars_and_name_their_step() {
        let plan = steps(vec![StepKind::Key("key".into()), headers(&[("h", "header")], &[])]);
        let records = [
            record(0, r#"{"key":{"a":1},"header":1}"#),
            record(1, r#"{"key":[1],"header":1}"#),
            record(2, r#"{"header":1}"#),
            record(3, r#"{"key":null,"header":null}"#),
            record(4, r#"{"key":1.5,"header":"a\nb"}"#),
            record(5, r#"{"key":true,"header":"é"}"#),
            record(6, &format!(r#"{{"key":"k","header":"{}"}}"#, "x".repeat(9_000))),
            record(7, r#"{"key":"k","header":[]}"#),
        ];
        let made = run(plan, &records);
        let outs: Vec<_> =
            made.writes.iter().filter(|w| w.topic == topic("out")).map(|w| &w.record).collect();
        let keys: Vec<_> = outs.iter().map(|r| (r.key.clone(), r.headers.get_str("h"))).collect();
        assert_eq!(keys, [(None, None), (Some("true".into()), Some("é"))]);
        let found = letters(&made);
        let stages: Vec<_> = found.iter().map(|[stage, ..]| stage.as_str()).collect();
        let [key, header] = ["pipeline/w/p/s0@4", "pipeline/w/p/s1@4"];
        assert_eq!(stages, [key, key, key, header, header, header]);
        assert_eq!(made.dead_lettered, BTreeMap::from([("invalid_result", 6)]));
        let says = ["an object", "an array", "no value", "control character", "9000 bytes", "an array"];
        for ([.., message], says) in found.iter().zip(says) {
            assert!(message.contains(says), "{message}");
        }
        assert!(found[3][2].starts_with("header h: "), "{found:?}");
    }

    #[test]
    fn an_error_in_a_filter_names_its_step_and_place() {
        let compiled = Compiled::new(
            Arc::new(steps(vec![filter("a"), filter("\n $number(b) > 1")])),
            &Config::default(),
        );
        let sizes = Sizes {
            target_bytes_max: BTreeMap::new(),
            dlq_bytes_max: BTreeMap::from([(topic("in.dlq"), 9_000)]),
        };
        let tried = evaluate_one(
            &compiled.unwrap(),
            &sizes,
            &mut Evaluator::new(),
            &record(0, r#"{"a":true,"b":"x"}"#),
        );
        let Fate::Failed(trouble) = tried.fate else { panic!("{tried:?}") };
        assert_eq!((trouble.step.as_str(), trouble.code), ("s1", Some("D3030")));
        assert_eq!((trouble.reason, trouble.position), (Reason::TransformError, Some((2, 9))));
        assert!(trouble.message.starts_with("filter: "), "{trouble:?}");
    }

    #[test]
    fn all_steps_of_a_record_share_one_budget() {
        let count = "$count([1..200].($ * 2)) > 0";
        let alone = run_with(
            &Config { record_steps_max: 1_500, ..Config::default() },
            steps(vec![filter(count)]),
            1_000_000,
            &[record(0, "{}"), record(1, "{}")],
        );
        assert_eq!(alone.written, 2, "each record has its own: {alone:?}");
        let made = run_with(
            &Config { record_steps_max: 1_500, ..Config::default() },
            steps(vec![filter(count), filter(count), filter(count), filter(count)]),
            1_000_000,
            &[record(0, "{}")],
        );
        assert_eq!(made.dead_lettered, BTreeMap::from([("over_budget", 1)]));
        assert!(
            letters(&made)[0][2].contains("the record's expressions before it took"),
            "{:?}",
            letters(&made)
        );
    }

    #[test]
    fn a_value_that_no_transform_made_fans_out_too() {
        let mut plan = steps(vec![filter("$count($) > 0")]);
        plan.fan_out = true;
        let made = run(plan, &[record(0, "[1, {\"a\": 2.50}]"), record(1, "[]"), record(2, "7")]);
        let all = [("out", "1"), ("out", r#"{"a":2.50}"#), ("out", "7")];
        assert_eq!(values(&made), pairs(&all));
        assert_eq!(made.dropped, BTreeMap::from([("filtered", 1)]));
    }

    #[test]
    fn what_no_expression_looks_at_need_not_be_json_and_tombstones_pass() {
        let mut gone = record(1, "");
        gone.value = None;
        let made = run(steps(vec![headers(&[], &["a"])]), &[record(0, "\u{1}binary"), gone]);
        assert_eq!((made.written, made.writes[0].record.value.as_deref()), (2, Some(&b"\x01binary"[..])));
        let strict = steps(vec![filter("nothing"), StepKind::Key("{}".into())]);
        let mut gone = record(1, "");
        gone.value = None;
        assert_eq!(run(strict, &[gone]).writes[0].record.key, Some("k".into()));
    }

    #[test]
    fn what_is_redacted_reaches_no_output_and_other_shapes_are_dead_lettered() {
        let redact = |paths: &[&str], with| {
            StepKind::Redact(RedactSpec { paths: paths.iter().map(|&path| path.to_owned()).collect(), with })
        };
        let mut plan = steps(vec![
            redact(&["/who/mail", "/tags/*"], RedactWith::Mask),
            redact(&["/card"], RedactWith::Drop),
            filter("who.mail = '***' or $not($exists(who.mail))"),
        ]);
        let mut before = record(0, r#"{ "n": 1.00, "who": {"mail": "a@b"}, "tags": ["x"], "card": 1}"#);
        before.headers.push("content-type", "application/cloudevents+json");
        let records = [before, record(1, "{}"), record(2, r#"{"who":"a@b"}"#), record(3, "{\"who\":1")];
        let made = run(plan.clone(), &records);
        let first = r#"{"n":1.00,"who":{"mail":"***"},"tags":["***"]}"#;
        assert_eq!(values(&made)[..2], pairs(&[("out", first), ("out", "{}")]));
        let kept = made.writes[0].record.headers.get_str(names::CONTENT_TYPE);
        assert_eq!(kept, Some("application/cloudevents+json"));
        let found = letters(&made);
        assert_eq!((found[0][1].as_str(), found[1][1].as_str()), ("redact_failed", "invalid_json"));
        assert!(found[0][0].ends_with("/s0@4") && !found[0][2].contains("a@b"), "{found:?}");

        // Made by a transform, hidden, and taken apart.
        plan.steps =
            vec![self::plan(&["items"]).steps.remove(0), step("hide", redact(&["/*/pin"], RedactWith::Mask))];
        plan.fan_out = true;
        let made = run(plan, &[record(0, r#"{"items":[{"pin":1},{"pin":2,"a":3}]}"#)]);
        assert_eq!(values(&made), pairs(&[("out", r#"{"pin":"***"}"#), ("out", r#"{"pin":"***","a":3}"#)]));
        assert_eq!(made.writes[0].record.headers.get_str(names::CONTENT_TYPE), Some("application/json"));
    }

    #[test]
    fn a_sample_keeps_the_same_records_when_they_come_again() {
        let half = SampleSpec { percent: "50".parse().unwrap(), by: SampleBy::Record };
        let plan = steps(vec![StepKind::Sample(half)]);
        let records: Vec<_> = (0..400).map(|n| record(n, &n.to_string())).collect();
        let made = run(plan.clone(), &records);
        assert!((150..250).contains(&made.written), "{}", made.written);
        assert_eq!(made.dropped["sampled"], 400 - made.written);
        let redriven: Vec<_> = records
            .iter()
            .map(|r| {
                let mut again = ConsumedRecord { tp: TopicPartition::new(topic("retry"), 0), ..r.clone() };
                for (name, value) in [(names::ORIGIN_TOPIC, "in"), (names::ORIGIN_PARTITION, "7")] {
                    again.headers.push(name, value);
                }
                again.headers.push(names::ORIGIN_OFFSET, r.offset.to_string());
                again
            })
            .collect();
        assert_eq!(values(&run(plan, &redriven)), values(&made));
    }

    #[test]
    fn what_breaks_a_schema_is_dead_lettered_with_its_places() {
        let schema = serde_json::json!({"required": ["id"], "properties": {"id": {"type": "integer"}}});
        let plan = steps(vec![StepKind::Validate(ValidateSpec { schema })]);
        let records =
            [record(0, r#"{"id": 1}"#), record(1, r#"{"id":"x"}"#), record(2, "{}"), record(3, "x")];
        let made = run(plan, &records);
        assert_eq!(values(&made)[0], ("out".to_owned(), r#"{"id": 1}"#.to_owned()));
        assert_eq!(made.dead_lettered, BTreeMap::from([("invalid_schema", 2), ("invalid_json", 1)]));
        assert!(letters(&made)[0][2].starts_with("validate: /id: "), "{:?}", letters(&made));
    }

    #[test]
    fn a_route_chooses_among_the_declared_topics_and_no_others() {
        let route = RouteSpec { topics: vec![topic("big"), topic("small")], to: "to".into() };
        let plan = steps(vec![StepKind::Route(route)]);
        let mut gone = record(8, "");
        gone.value = None;
        let records = [
            record(0, r#"{"to":"big"}"#),
            record(1, r#"{"to":"small"}"#),
            record(2, r#"{"to":null}"#),
            record(3, r#"{"to":"out"}"#),
            record(4, r#"{"to":"in.dlq"}"#),
            record(5, r#"{"to":"__consumer_offsets"}"#),
            record(6, "{}"),
            record(7, r#"{"to":["big"]}"#),
            gone,
        ];
        let made = run(plan, &records);
        let topics: Vec<_> = made.writes.iter().map(|w| w.topic.as_str()).collect();
        let all =
            ["big", "small", "out", "out", "in.dlq", "in.dlq", "in.dlq", "in.dlq", "big", "out", "small"];
        assert_eq!(topics, all);
        assert_eq!(made.dead_lettered, BTreeMap::from([("unknown_route", 2), ("invalid_result", 2)]));
        assert!(
            letters(&made)[1][2].contains("\"__consumer_offsets\", which is none of"),
            "{:?}",
            letters(&made)
        );
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
