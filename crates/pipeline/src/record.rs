//! One record through a plan's steps.
//!
//! Invariants: an expression sees the record as the steps before it left it. A value that no step changes keeps its bytes,
//! and one that steps change is copied once, when all is done. All expressions share one budget.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use deadletter::{Failure, Origin, Reason, Stage};
use jiff::Timestamp;
use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program};
use kafka::ConsumedRecord;
use types::{HeaderName, Headers, Record, TopicName};

use crate::compiled::{Compiled, Does, Step};
use crate::evaluate::{Halt, Sizes, Trouble, Write};
use crate::output::{self, Part};
use crate::redact;
use crate::validate::Refused;

/// How often a record was tried in the stage when it is dead-lettered: a step's error is final at once.
const ATTEMPTS: u32 = 1;

/// The longest value that a step may give a header, in bytes: others pass headers on by HTTP, where more is refused.
const HEADER_VALUE_BYTES_MAX: usize = 8 << 10;

/// What stopped one record.
pub(crate) enum Stopped<'a> {
    /// The record is at fault.
    Failed(&'a Stage, Failure),
    Halt(Halt),
}

/// What became of a record that nothing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It has outputs.
    Out,
    /// It has none, by why.
    Dropped(&'static str),
}

/// Where a record's value is.
enum Value {
    /// As it came.
    Input,
    /// The last transform's result.
    Made,
    /// With parts hidden.
    Hidden(Vec<u8>),
}

/// A record on its way.
struct Work<'r> {
    key: Option<Bytes>,
    headers: Cow<'r, Headers>,
    value: Value,
    /// A transform made its value, whatever came after.
    is_made: bool,
    topic: &'r TopicName,
}

impl Work<'_> {
    fn value<'v>(&'v self, input: &'v [u8], made: &'v Output) -> &'v [u8] {
        match &self.value {
            Value::Input => input,
            Value::Made => made.as_bytes(),
            Value::Hidden(value) => value,
        }
    }
}

/// Puts records through the steps, one after the other.
pub(crate) struct Run<'a> {
    compiled: &'a Compiled,
    sizes: &'a Sizes,
    evaluator: &'a mut Evaluator,
    /// Of the record at hand.
    bindings: Bindings,
    /// The result of the last evaluation.
    text: Output,
    /// The result of the last transform, of the record at hand.
    made: Output,
    now: Timestamp,
    /// Of the record at hand.
    pub(crate) outputs: Vec<Write>,
    /// Evaluation steps, of the record at hand.
    pub(crate) steps: u64,
    /// What is left of the budget for the record at hand.
    left: Budget,
    /// When the record's first evaluation began, where there may be others.
    began: Option<Instant>,
    /// The last evaluation that failed.
    raised: Option<(EvalError, &'a Program)>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(compiled: &'a Compiled, sizes: &'a Sizes, evaluator: &'a mut Evaluator) -> Self {
        Self {
            compiled,
            sizes,
            evaluator,
            bindings: Bindings::default(),
            text: Output::new(),
            made: Output::new(),
            now: Timestamp::now(),
            outputs: Vec::new(),
            steps: 0,
            left: compiled.budget.clone(),
            began: None,
            raised: None,
        }
    }

    /// The failure of the one record that was put through.
    pub(crate) fn trouble(&mut self, stage: &Stage, failure: Failure) -> Trouble {
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

    /// Leaves the record's outputs in `outputs`: none where it is dropped.
    pub(crate) fn put_through(
        &mut self,
        record: &ConsumedRecord,
        origin: &Origin,
    ) -> Result<Passed, Stopped<'a>> {
        self.steps = 0;
        self.began = None;
        let Some(value) = &record.value else {
            // A tombstone says that the key is gone; there is nothing to evaluate.
            let compiled = self.compiled;
            // Whichever topics have the key, it is gone from all of them.
            for topic in &compiled.targets {
                let headers = output::headers(&record.headers, origin, Part::Whole, false, &compiled.made_by);
                self.output(record, record.key.clone(), None, headers, topic, last_stage(compiled))?;
            }
            return Ok(Passed::Out);
        };
        deadletter::bind(&mut self.bindings, self.compiled.reads, record, origin);
        let mut made = std::mem::take(&mut self.made);
        let passed = self.walk(record, origin, value, &mut made);
        self.made = made;
        passed
    }

    fn walk(
        &mut self,
        record: &ConsumedRecord,
        origin: &Origin,
        value: &Bytes,
        made: &mut Output,
    ) -> Result<Passed, Stopped<'a>> {
        let compiled = self.compiled;
        let mut work = Work {
            key: record.key.clone(),
            headers: Cow::Borrowed(&record.headers),
            value: Value::Input,
            is_made: false,
            topic: &compiled.plan.target,
        };
        for step in &compiled.steps {
            let input = work.value(value, made);
            match &step.does {
                Does::Transform(program) => {
                    if !self.eval(record, program, &step.stage, input, None)? {
                        return Ok(Passed::Dropped("undefined"));
                    }
                    std::mem::swap(made, &mut self.text);
                    work.value = Value::Made;
                    work.is_made = true;
                }
                Does::Filter(program) => {
                    if !self.holds(record, program, &step.stage, input)? {
                        return Ok(Passed::Dropped("filtered"));
                    }
                }
                Does::Key(program) => {
                    work.key = self.scalar(record, program, &step.stage, input, "key")?;
                    if compiled.reads.key {
                        deadletter::bind_key(&mut self.bindings, work.key.as_deref());
                    }
                }
                Does::Headers { set, drop } => {
                    let headers = self.headers(record, set, drop, &step.stage, input, &work)?;
                    if compiled.reads.headers {
                        deadletter::bind_headers(&mut self.bindings, &headers);
                    }
                    work.headers = Cow::Owned(headers);
                }
                Does::Redact(redaction) => {
                    let hidden = redaction.apply(input).map_err(|error| {
                        let reason = match &error {
                            redact::Error::Json(_) => Reason::InvalidJson,
                            redact::Error::Shape { .. } => Reason::RedactFailed,
                        };
                        Stopped::Failed(&step.stage, Failure::new(reason, format!("redact: {error}")))
                    })?;
                    work.value = Value::Hidden(hidden);
                }
                Does::Route { to, topics } => {
                    let target = &compiled.plan.target;
                    work.topic = match self.scalar(record, to, &step.stage, input, "route")? {
                        None => target,
                        Some(name) => topics
                            .iter()
                            .chain([target])
                            .find(|t| t.as_str().as_bytes() == name)
                            .ok_or_else(|| Stopped::Failed(&step.stage, unknown_route(&name)))?,
                    };
                }
                Does::Sample(sample) => {
                    if !sample.keeps(work.key.as_deref(), origin) {
                        return Ok(Passed::Dropped("sampled"));
                    }
                }
                Does::Validate(schema) => schema.check(input).map_err(|refused| {
                    let (reason, why) = match refused {
                        Refused::Json(why) => (Reason::InvalidJson, why),
                        Refused::Violations(why) => (Reason::InvalidSchema, why),
                    };
                    Stopped::Failed(&step.stage, Failure::new(reason, format!("validate: {why}")))
                })?,
            }
        }
        self.write(record, origin, value, made, &work)
    }

    /// The outputs of a record that all steps let through.
    fn write(
        &mut self,
        record: &ConsumedRecord,
        origin: &Origin,
        value: &Bytes,
        made: &Output,
        work: &Work<'_>,
    ) -> Result<Passed, Stopped<'a>> {
        let compiled = self.compiled;
        let stage = last_stage(compiled);
        if compiled.plan.fan_out
            && let Some(elements) = self.elements(record, value, made, work, stage)?
        {
            if elements.is_empty() {
                return Ok(Passed::Dropped("undefined"));
            }
            for (index, element) in elements.into_iter().enumerate() {
                self.value(record, origin, Part::Element(index), element, true, work, stage)?;
            }
            return Ok(Passed::Out);
        }
        let text = match &work.value {
            Value::Input => value.clone(),
            _ => Bytes::copy_from_slice(work.value(value, made)),
        };
        self.value(record, origin, Part::Whole, text, work.is_made, work, stage)?;
        Ok(Passed::Out)
    }

    /// The elements of a value that is an array.
    fn elements(
        &mut self,
        record: &ConsumedRecord,
        value: &Bytes,
        made: &Output,
        work: &Work<'_>,
        stage: &'a Stage,
    ) -> Result<Option<Vec<Bytes>>, Stopped<'a>> {
        let compiled = self.compiled;
        let made = match (&compiled.whole, &work.value) {
            (Some(whole), Value::Input | Value::Hidden(_)) => {
                self.eval(record, whole, stage, work.value(value, made), None)?;
                &self.text
            }
            _ => made,
        };
        let Some(elements) = made.elements() else { return Ok(None) };
        let (count, max) = (elements.len(), compiled.fan_out_max);
        if count > max {
            let message =
                format!("the record became {count} records by fan-out; pipeline.fan_out_max is {max}");
            return Err(Stopped::Failed(stage, Failure::new(Reason::OverBudget, message)));
        }
        Ok(Some(elements.map(Bytes::copy_from_slice).collect()))
    }

    /// One output with a value.
    #[expect(clippy::too_many_arguments, reason = "what an output is made of")]
    fn value(
        &mut self,
        record: &ConsumedRecord,
        origin: &Origin,
        part: Part,
        text: Bytes,
        is_json: bool,
        work: &Work<'_>,
        stage: &'a Stage,
    ) -> Result<(), Stopped<'a>> {
        let compiled = self.compiled;
        let key = match &compiled.key {
            None => work.key.clone(),
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
        let headers = output::headers(&work.headers, origin, part, is_json, &compiled.made_by);
        self.output(record, key, Some(text), headers, work.topic, stage)
    }

    fn output(
        &mut self,
        input: &ConsumedRecord,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Headers,
        topic: &TopicName,
        stage: &'a Stage,
    ) -> Result<(), Stopped<'a>> {
        let record = Record {
            key,
            value,
            headers,
            timestamp: (input.timestamp_ms >= 0).then_some(input.timestamp_ms),
        };
        let weight = output::encoded_bytes(&record);
        if let Some(limit) = self.sizes.target_bytes_max.get(topic)
            && weight > *limit
        {
            let message = format!("the output takes {weight} bytes; max.message.bytes of {topic} is {limit}");
            return Err(Stopped::Failed(stage, Failure::new(Reason::OutputTooLarge, message)));
        }
        self.outputs.push(Write { topic: topic.clone(), record });
        Ok(())
    }

    /// Whether a filter's expression is true. Nothing but `true` and `false` is taken: what a mistyped name gives must not
    /// drop a whole topic.
    fn holds(
        &mut self,
        record: &ConsumedRecord,
        program: &'a Program,
        stage: &'a Stage,
        input: &[u8],
    ) -> Result<bool, Stopped<'a>> {
        let found = match self.eval(record, program, stage, input, Some("filter"))? {
            true => self.text.as_bytes(),
            false => b"",
        };
        let what = match found.first() {
            Some(b't') => return Ok(true),
            Some(b'f') => return Ok(false),
            None => "no value",
            Some(b'n') => "null",
            Some(b'"') => "a text",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(_) => "a number",
        };
        let message = format!(
            "filter: the expression gives {what}, not true or false; `$boolean(...)` and `$exists(...)` make one of it"
        );
        Err(Stopped::Failed(stage, Failure::new(Reason::InvalidResult, message)))
    }

    /// The text, number or boolean that an expression gives, as bytes; `None`: null.
    fn scalar(
        &mut self,
        record: &ConsumedRecord,
        program: &'a Program,
        stage: &'a Stage,
        input: &[u8],
        place: &str,
    ) -> Result<Option<Bytes>, Stopped<'a>> {
        let failed = |why: String| {
            Stopped::Failed(stage, Failure::new(Reason::InvalidResult, format!("{place}: {why}")))
        };
        if !self.eval(record, program, stage, input, Some(place))? {
            return Err(failed("the expression gives no value; `null` says that there shall be none".into()));
        }
        output::scalar_of_json(self.text.as_bytes()).map_err(|error| failed(error.to_string()))
    }

    /// The record's headers as a step leaves them: its expressions see them as they were before it.
    fn headers(
        &mut self,
        record: &ConsumedRecord,
        set: &'a [(HeaderName, Program)],
        drop: &[String],
        stage: &'a Stage,
        input: &[u8],
        work: &Work<'_>,
    ) -> Result<Headers, Stopped<'a>> {
        let named =
            |name: &str| drop.iter().any(|dropped| dropped == name) || set.iter().any(|(n, _)| **n == *name);
        let mut headers: Headers = work.headers.iter().filter(|h| !named(&h.name)).cloned().collect();
        for (name, program) in set {
            let place = format!("header {}", &**name);
            let Some(value) = self.scalar(record, program, stage, input, &place)? else { continue };
            let why = if value.len() > HEADER_VALUE_BYTES_MAX {
                format!("has {} bytes, but at most {HEADER_VALUE_BYTES_MAX} are allowed", value.len())
            } else if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
                "has a line break or another control character: a header can't".to_owned()
            } else {
                headers.push(name.clone(), value);
                continue;
            };
            let failure = Failure::new(Reason::InvalidResult, format!("{place}: the value {why}"));
            return Err(Stopped::Failed(stage, failure));
        }
        Ok(headers)
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
        let whole = &self.compiled.budget;
        let mut budget = whole;
        if !self.compiled.evaluates_once {
            match self.began {
                None => self.began = Some(Instant::now()),
                Some(began) => {
                    self.left.steps = whole.steps.saturating_sub(self.steps);
                    self.left.wall = whole.wall.saturating_sub(began.elapsed());
                    budget = &self.left;
                }
            }
        }
        let (outcome, used) =
            self.evaluator.eval_counted(program, Some(input), &self.bindings, budget, &mut self.text);
        let earlier = self.steps;
        self.steps = self.steps.saturating_add(used.steps);
        match outcome {
            Ok(Outcome::Undefined) => Ok(false),
            Ok(Outcome::Null | Outcome::Value) => Ok(true),
            Err(error) => {
                let stopped = stopped(record, stage, &error, place, earlier);
                self.raised = Some((error, program));
                Err(stopped)
            }
        }
    }

    pub(crate) fn dead_letter(
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

/// A route's expression gave this name, which is none of the declared ones.
fn unknown_route(name: &[u8]) -> Failure {
    let shown: String = String::from_utf8_lossy(name).chars().take(TopicName::LENGTH_MAX).collect();
    let message = format!("route: the expression gives {shown:?}, which is none of the declared topics");
    Failure::new(Reason::UnknownRoute, message)
}

/// What an evaluation's error means for its record. `earlier`: steps that the record's expressions took before it.
fn stopped<'a>(
    record: &ConsumedRecord,
    stage: &'a Stage,
    error: &EvalError,
    place: Option<&str>,
    earlier: u64,
) -> Stopped<'a> {
    let mut message = match place {
        Some(place) => format!("{place}: {error}"),
        None => error.to_string(),
    };
    let reason = match error.kind() {
        ErrorKind::InvalidJson(_) => Reason::InvalidJson,
        ErrorKind::Expression(_) => Reason::TransformError,
        ErrorKind::OverBudget(over) if over.limit == Limit::OutputBytes => Reason::OutputTooLarge,
        ErrorKind::OverBudget(over) if over.limit.is_deterministic() => {
            if over.limit == Limit::Steps && earlier > 0 {
                message.push_str(&format!("; the record's expressions before it took {earlier}"));
            }
            Reason::OverBudget
        }
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
