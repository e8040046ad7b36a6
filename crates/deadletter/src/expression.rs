//! Expressions over letters: which are meant, and how they are mended before they go back.
//!
//! Invariant: the same letter gives the same answer, whenever and wherever it is asked, within a bounded number of steps: a
//! run that is taken up after a crash means the same letters and writes the same bytes.
//!
//! Input is the letter's value; where that isn't JSON, nothing (undefined). Beside it an expression sees `$key`, `$headers`,
//! and `$topic`, `$partition`, `$offset`, `$timestamp` of the first origin; what the letter says of itself: `$stage`,
//! `$reason`, `$message`; and `$text`, the value as text, for values that aren't JSON.

use std::fmt;

use bytes::Bytes;
use jsonata::{Bindings, Budget, ErrorKind, EvalError, Evaluator, Outcome, Output, Program};
use kafka::ConsumedRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use types::Headers;

use crate::bindings::{Reads, bind};
use crate::{Letter, Origin};

/// Of a predicate, for one letter: a DLQ is read as a whole, on the threads that serve requests.
const PREDICATE_STEPS_MAX: u64 = 200_000;
/// Of a repair, for one letter.
const REPAIR_STEPS_MAX: u64 = 2_000_000;
/// Only against a machine that stands still: steps and bytes bound a letter, since what a run does must not hang on how fast it is.
const WALL: std::time::Duration = std::time::Duration::from_secs(3600);
/// What either may hold, in bytes, for one letter.
const BYTES_MAX: usize = 64 << 20;

fn budget(steps: u64) -> Budget {
    Budget { steps, bytes: BYTES_MAX, wall: WALL, ..Budget::default() }
}

/// A compiled expression; as text, its source.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression(Program);

/// The text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(String);

impl TryFrom<String> for Expression {
    type Error = ExpressionError;
    fn try_from(source: String) -> Result<Self, ExpressionError> {
        Program::compile(&source).map(Self).map_err(|error| ExpressionError(error.to_string()))
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.source().to_owned()
    }
}

impl Expression {
    /// The text.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// Of a letter: what it leaves in `output`.
    fn eval(&self, letter: &Letter, steps: u64, output: &mut Output) -> Result<Outcome, EvalError> {
        let bindings = bindings(&self.0, letter);
        self.eval_value(&mut Evaluator::new(), letter.record.value.as_deref(), &bindings, steps, output)
    }

    /// Of a value; of one that is no JSON as of none.
    fn eval_value(
        &self,
        evaluator: &mut Evaluator,
        value: Option<&[u8]>,
        bindings: &Bindings,
        steps: u64,
        output: &mut Output,
    ) -> Result<Outcome, EvalError> {
        let budget = budget(steps);
        if let Some(value) = value {
            match evaluator.eval(&self.0, value, bindings, &budget, output) {
                Err(error) if matches!(error.kind(), ErrorKind::InvalidJson(_)) => {}
                other => return other,
            }
        }
        evaluator.eval_undefined(&self.0, bindings, &budget, output)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source())
    }
}

fn bindings(program: &Program, letter: &Letter) -> Bindings {
    let mut bindings = Bindings::default();
    let record = &letter.record;
    let origin = letter.origin.clone().unwrap_or_else(|| Origin {
        topic: record.tp.topic.clone(),
        partition: record.tp.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
    });
    // As it was when it failed first; what the letter itself is of then says `x-dlq-at`.
    let then = ConsumedRecord { timestamp_ms: origin.timestamp_ms, ..record.clone() };
    bind(&mut bindings, Reads::of([program]), &then, &origin);
    for (name, text) in
        [("stage", &letter.stage_text), ("reason", &letter.reason), ("message", &letter.message)]
    {
        bindings.set_str(name, text);
    }
    bind_text(&mut bindings, program, record);
    bindings
}

/// `$text`, where it may be read.
fn bind_text(bindings: &mut Bindings, program: &Program, record: &ConsumedRecord) {
    let wants_text = program.source().contains("$text") || program.source().contains("$eval");
    if let (true, Some(value)) = (wants_text, &record.value) {
        bindings.set_str("text", &String::from_utf8_lossy(value));
    }
}

/// A condition on letters, or on records that a stage reads: holds where `$boolean` of its result is true. Where it fails it doesn't hold.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Predicate {
    said: Expression,
    cast: Expression,
}

impl TryFrom<String> for Predicate {
    type Error = ExpressionError;
    fn try_from(source: String) -> Result<Self, ExpressionError> {
        // Alone first: its errors name places in what was said.
        let said = Expression::try_from(source)?;
        let cast = Expression::try_from(format!("$boolean((\n{}\n))", said.source()))?;
        Ok(Self { said, cast })
    }
}

impl From<Predicate> for String {
    fn from(predicate: Predicate) -> Self {
        predicate.said.into()
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

impl Eq for Predicate {}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)
    }
}

impl Predicate {
    /// Whether it holds for a letter.
    pub fn holds(&self, letter: &Letter) -> bool {
        let mut output = Output::new();
        let outcome = self.cast.eval(letter, PREDICATE_STEPS_MAX, &mut output);
        matches!(outcome, Ok(Outcome::Value)) && output.as_bytes() == b"true"
    }

    /// Whether it holds for a record of a source topic: it sees what a letter's does, but for what a letter says of itself.
    pub fn holds_for(&self, evaluator: &mut Evaluator, record: &ConsumedRecord) -> bool {
        let program = &self.cast.0;
        let origin = Origin {
            topic: record.tp.topic.clone(),
            partition: record.tp.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        };
        let mut bindings = Bindings::default();
        bind(&mut bindings, Reads::of([program]), record, &origin);
        bind_text(&mut bindings, program, record);
        let mut output = Output::new();
        let value = record.value.as_deref();
        let outcome = self.cast.eval_value(evaluator, value, &bindings, PREDICATE_STEPS_MAX, &mut output);
        matches!(outcome, Ok(Outcome::Value)) && output.as_bytes() == b"true"
    }
}

/// How letters are mended before they go back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Repair {
    /// Gives the new value. No result is a failure: a redrive sends no record by accident that isn't one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Expression>,
    /// Gives an object: each of its fields is a header that is set, or with `null` taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Expression>,
}

impl Repair {
    /// Whether there is nothing to mend.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The letter's record, mended; or why it can't be, in which case it stays in the DLQ.
    pub fn apply(&self, letter: &Letter) -> Result<ConsumedRecord, String> {
        let Self { value, headers } = self;
        let mut record = letter.record.clone();
        if let Some(expression) = value {
            let mut output = Output::new();
            match expression.eval(letter, REPAIR_STEPS_MAX, &mut output) {
                Ok(Outcome::Value | Outcome::Null) => {
                    record.value = Some(Bytes::copy_from_slice(output.as_bytes()));
                }
                Ok(Outcome::Undefined) => {
                    return Err("the repair of the value gives no result for this letter".into());
                }
                Err(error) => return Err(format!("the repair of the value failed: {error}")),
            }
        }
        if let Some(expression) = headers {
            let mut output = Output::new();
            let outcome = expression
                .eval(letter, REPAIR_STEPS_MAX, &mut output)
                .map_err(|error| format!("the repair of headers failed: {error}"))?;
            if outcome != Outcome::Undefined {
                let changes: Map<String, Value> = serde_json::from_slice(output.as_bytes())
                    .map_err(|_| "the repair of headers gives no object")?;
                change(&mut record.headers, changes)?;
            }
        }
        Ok(record)
    }
}

fn change(headers: &mut Headers, changes: Map<String, Value>) -> Result<(), String> {
    for (name, value) in changes {
        if Headers::is_reserved(&name) {
            return Err(format!("the repair of headers can't set {name}: Vltava writes it"));
        }
        match value {
            Value::Null => headers.remove(&name),
            Value::String(text) => headers.set(types::HeaderName::new(&name), text),
            other => headers.set(types::HeaderName::new(&name), other.to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{TopicName, TopicPartition};

    use super::*;

    fn letter(value: &str) -> Letter {
        let mut headers = Headers::new();
        for (name, value) in [
            ("tenant", "a"),
            ("x-dlq-reason", "transform_error"),
            ("x-dlq-stage", "pipeline/demo/p/s@2"),
            ("x-dlq-message", "T0410"),
            ("x-origin-topic", "src"),
            ("x-origin-partition", "3"),
            ("x-origin-offset", "42"),
            ("x-origin-timestamp", "1000"),
        ] {
            headers.push(types::HeaderName::new(name), value.to_owned());
        }
        let tp = TopicPartition::new(TopicName::new("d").unwrap(), 1);
        let value = Some(Bytes::from(value.to_owned()));
        Letter::of(ConsumedRecord {
            tp,
            offset: 9,
            timestamp_ms: 5_000,
            key: Some("k".into()),
            value,
            headers,
        })
    }

    fn expression(source: &str) -> Expression {
        source.to_owned().try_into().unwrap()
    }

    #[test]
    fn a_predicate_sees_the_letter_and_holds_where_it_is_true() {
        let letter = letter(r#"{"total": 12, "items": []}"#);
        for (source, holds) in [
            ("total > 10", true),
            ("total > 12", false),
            ("total", true),
            ("items", false),
            ("missing", false),
            ("total + \"x\"", false),
            ("/* open */ total = 12 /* end */", true),
            ("$key = 'k' and $headers.tenant = 'a'", true),
            ("$topic = 'src' and $partition = 3 and $offset = 42 and $timestamp = 1000", true),
            ("$reason = 'transform_error' and $contains($stage, 'demo/p') and $message = 'T0410'", true),
            ("$sum($map([1..10000000], function($n) { $n })) > 0", false),
        ] {
            let predicate: Predicate = source.to_owned().try_into().unwrap();
            assert_eq!(predicate.holds(&letter), holds, "{source}");
            let text = serde_json::to_string(&predicate).unwrap();
            assert_eq!(serde_json::from_str::<Predicate>(&text).unwrap(), predicate);
        }
        let error = Predicate::try_from("total >".to_owned()).unwrap_err().to_string();
        assert!(error.contains("S0207"), "{error}");
    }

    #[test]
    fn a_predicate_holds_for_records_of_a_source() {
        let mut record = letter(r#"{"total": 12}"#).record;
        let mut evaluator = Evaluator::new();
        let mut holds = |source: &str, record: &ConsumedRecord| {
            Predicate::try_from(source.to_owned()).unwrap().holds_for(&mut evaluator, record)
        };
        assert!(holds("total > 10 and $key = 'k' and $headers.tenant = 'a'", &record));
        assert!(holds("$topic = 'd' and $partition = 1 and $offset = 9 and $timestamp = 5000", &record));
        assert!(!holds("total > 12", &record) && !holds("$reason = 'transform_error'", &record));
        record.value = Some("{".into());
        assert!(holds("$text = '{'", &record) && !holds("total", &record));
    }

    #[test]
    fn a_value_that_is_no_json_can_be_meant_and_mended_by_its_text() {
        let broken = letter(r#"{"total": 12,}"#);
        let predicate: Predicate = "$contains($text, ',}')".to_owned().try_into().unwrap();
        assert!(predicate.holds(&broken));
        let repair =
            Repair { value: Some(expression("$eval($replace($text, ',}', '}'))")), ..Repair::default() };
        assert_eq!(repair.apply(&broken).unwrap().value.as_deref(), Some(br#"{"total":12}"#.as_slice()));
    }

    #[test]
    fn a_repair_changes_what_it_says_and_nothing_else() {
        let letter = letter(r#"{"total": "12.10", "big": 12345678901234567890}"#);
        let repair = Repair {
            value: Some(expression("$ ~> |$|{'total': $number(total)}|")),
            headers: Some(expression("{'tenant': null, 'fixed': 'yes', 'n': 7}")),
        };
        let mended = repair.apply(&letter).unwrap();
        assert_eq!(mended.value.as_deref(), Some(br#"{"total":12.1,"big":12345678901234567890}"#.as_slice()));
        assert_eq!(mended.headers.get_str("tenant"), None);
        assert_eq!((mended.headers.get_str("fixed"), mended.headers.get_str("n")), (Some("yes"), Some("7")));
        assert_eq!((mended.key, mended.offset), (letter.record.key.clone(), 9));
        assert_eq!(Repair::default().apply(&letter).unwrap().value, letter.record.value);
    }

    #[test]
    fn a_repair_that_fails_says_why() {
        let letter = letter(r#"{"total": 1}"#);
        let why = |value: Option<&str>, headers: Option<&str>| {
            Repair { value: value.map(expression), headers: headers.map(expression) }
                .apply(&letter)
                .unwrap_err()
        };
        assert!(why(Some("missing"), None).contains("no result"));
        assert!(why(Some("$number('x')"), None).contains("D3030"));
        assert!(why(None, Some("[1]")).contains("no object"));
        assert!(why(None, Some("{'X-Dlq-Reason': 'x'}")).contains("X-Dlq-Reason"));
    }
}
