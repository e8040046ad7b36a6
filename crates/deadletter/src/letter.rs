//! Dead letters: how a stage writes one, and how one is read.
//!
//! Invariants: key, value and all headers that aren't Vltava's are as they came, byte by byte. `x-origin-*` names the place
//! of the first failure: what a record says of itself about that is believed only where it was read from the
//! stage's own retry topic, to which only a redrive writes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use kafka::ConsumedRecord;
use serde::{Deserialize, Serialize};
use types::{Headers, Offset, Partition, Record, TimestampMs, TopicName, TopicPartition, names};

use crate::{Failure, Stage};

/// The longest `x-dlq-message`, in bytes; cut at a character's boundary.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// What a stage says of the failure.
const OWN: [&str; 5] =
    [names::DLQ_REASON, names::DLQ_MESSAGE, names::DLQ_STAGE, names::DLQ_ATTEMPTS, names::DLQ_AT];
const ORIGIN: [&str; 4] =
    [names::ORIGIN_TOPIC, names::ORIGIN_PARTITION, names::ORIGIN_OFFSET, names::ORIGIN_TIMESTAMP];
const REDRIVE: [&str; 2] = [names::REDRIVE_ID, names::REDRIVE_COUNT];

/// Where a record failed first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp; -1 if it had none.
    pub timestamp_ms: TimestampMs,
}

impl Origin {
    /// Of a record that a stage reads: what its headers say if it came through the stage's own retry topic, else where it lies.
    pub fn of(record: &ConsumedRecord, retry: &TopicName) -> Self {
        let told = if record.tp.topic == *retry { Self::told(&record.headers) } else { None };
        told.unwrap_or_else(|| Self {
            topic: record.tp.topic.clone(),
            partition: record.tp.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        })
    }

    /// What headers say. Only of a record that Vltava wrote (in a DLQ or a retry topic) may this be believed.
    pub fn told(headers: &Headers) -> Option<Self> {
        let number = |name| headers.get_str(name)?.parse::<i64>().ok();
        Some(Self {
            topic: TopicName::new(headers.get_str(names::ORIGIN_TOPIC)?).ok()?,
            partition: number(names::ORIGIN_PARTITION)?.try_into().ok()?,
            offset: number(names::ORIGIN_OFFSET)?,
            timestamp_ms: number(names::ORIGIN_TIMESTAMP).unwrap_or(-1),
        })
    }

    fn write(&self, headers: &mut Headers) {
        headers.push(names::ORIGIN_TOPIC, self.topic.to_string());
        headers.push(names::ORIGIN_PARTITION, self.partition.to_string());
        headers.push(names::ORIGIN_OFFSET, self.offset.to_string());
        headers.push(names::ORIGIN_TIMESTAMP, self.timestamp_ms.to_string());
    }
}

/// The topic of the first origin that a record from a retry topic tells.
pub fn first_origin_topic(record: &ConsumedRecord) -> Option<TopicName> {
    Origin::told(&record.headers).map(|origin| origin.topic)
}

/// The dead letter of a record that `stage` read and can't do. `retry` is the stage's own retry topic: only what comes
/// through it is believed about its origin and its redrives. `attempts` counts the tries inside the stage.
///
/// Its timestamp is `now`, so that the DLQ's retention counts from the failure; the record's own is in `x-origin-timestamp`.
/// A caller may add headers, e.g. `__connect.errors.*`.
pub fn dead_letter(
    record: &ConsumedRecord,
    retry: &TopicName,
    stage: &Stage,
    failure: &Failure,
    attempts: u32,
    now: Timestamp,
) -> Record {
    let redriven = record.tp.topic == *retry;
    let mut headers = record.headers.clone();
    headers.retain(|h| !is(&OWN, &h.name) && !is(&ORIGIN, &h.name) && (redriven || !is(&REDRIVE, &h.name)));
    headers.push(names::DLQ_REASON, failure.reason.as_str());
    headers.push(names::DLQ_MESSAGE, cut(&failure.message, MESSAGE_BYTES_MAX).to_owned());
    headers.push(names::DLQ_STAGE, stage.to_string());
    headers.push(names::DLQ_ATTEMPTS, attempts.to_string());
    headers.push(names::DLQ_AT, now.to_string());
    Origin::of(record, retry).write(&mut headers);
    Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp: Some(now.as_millisecond()),
    }
}

/// The copy of a dead letter that a redrive writes: as the record came to its stage, with its origin, the run and the count.
/// Its timestamp is `now`.
pub fn redriven(letter: &ConsumedRecord, run: &str, now: Timestamp) -> Record {
    let count = redrive_count(&letter.headers).saturating_add(1);
    let mut headers = letter.headers.clone();
    headers.retain(|h| {
        !is(&OWN, &h.name)
            && !is(&REDRIVE, &h.name)
            && !h.name.get(..CONNECT.len()).is_some_and(|head| head.eq_ignore_ascii_case(CONNECT))
    });
    headers.push(names::REDRIVE_ID, run.to_owned());
    headers.push(names::REDRIVE_COUNT, count.to_string());
    Record {
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers,
        timestamp: Some(now.as_millisecond()),
    }
}

/// What connectors add to a dead letter, as Kafka Connect does.
const CONNECT: &str = "__connect.errors.";

fn redrive_count(headers: &Headers) -> u32 {
    headers.get_str(names::REDRIVE_COUNT).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn is(list: &[&str], name: &str) -> bool {
    list.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// At most `max` bytes, whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Where a dead letter lies. Prints as `topic/partition/offset`: the key of its settlement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LetterId {
    /// The DLQ and its partition.
    pub tp: TopicPartition,
    /// The offset there.
    pub offset: Offset,
}

/// The text is no id of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no dead letter's id; ids are TOPIC/PARTITION/OFFSET")]
pub struct LetterIdError(String);

impl TryFrom<String> for LetterId {
    type Error = LetterIdError;
    fn try_from(text: String) -> Result<Self, LetterIdError> {
        text.parse()
    }
}

impl From<LetterId> for String {
    fn from(id: LetterId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tp.topic, self.tp.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = LetterIdError;
    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        let read = || {
            let (rest, offset) = text.rsplit_once('/')?;
            let (topic, partition) = rest.rsplit_once('/')?;
            let tp = TopicPartition::new(TopicName::new(topic).ok()?, partition.parse().ok()?);
            let id = Self { tp, offset: offset.parse().ok()? };
            (id.tp.partition >= 0 && id.offset >= 0).then_some(id)
        };
        read().ok_or_else(|| LetterIdError(text.chars().take(300).collect()))
    }
}

/// A record of a DLQ, read.
#[derive(Debug, Clone)]
pub struct Letter {
    /// As it lies there.
    pub record: ConsumedRecord,
    /// The stage, if the text names one.
    pub stage: Option<Stage>,
    /// `x-dlq-stage` as it stands, cut for display; empty if there is none.
    pub stage_text: String,
    /// `x-dlq-reason` as it stands, cut for display; empty if there is none.
    pub reason: String,
    /// `x-dlq-message`.
    pub message: String,
    /// `x-dlq-attempts`.
    pub attempts: Option<u32>,
    /// Where it failed first.
    pub origin: Option<Origin>,
    /// How often it was redriven before.
    pub redrive_count: u32,
}

impl Letter {
    /// Reads what the headers say; whatever they say, it is a letter.
    pub fn of(record: ConsumedRecord) -> Self {
        /// Longer texts of a stranger are cut.
        const SHOWN_BYTES: usize = 512;
        let text = |name, max| match record.headers.get(name) {
            Some(value) => cut(&String::from_utf8_lossy(value), max).to_owned(),
            None => String::new(),
        };
        let stage_text = text(names::DLQ_STAGE, SHOWN_BYTES);
        Self {
            stage: stage_text.parse().ok(),
            stage_text,
            reason: text(names::DLQ_REASON, SHOWN_BYTES),
            message: text(names::DLQ_MESSAGE, MESSAGE_BYTES_MAX),
            attempts: record.headers.get_str(names::DLQ_ATTEMPTS).and_then(|n| n.parse().ok()),
            origin: Origin::told(&record.headers),
            redrive_count: redrive_count(&record.headers),
            record,
        }
    }

    /// Where it lies.
    pub fn id(&self) -> LetterId {
        LetterId { tp: self.record.tp.clone(), offset: self.record.offset }
    }

    /// When it was dead-lettered: its record's timestamp.
    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.record.timestamp_ms).ok().filter(|_| self.record.timestamp_ms >= 0)
    }

    /// The event's id.
    pub fn event_id(&self) -> Option<&str> {
        self.record.headers.get_str(names::EVENT_ID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn record(of: &str, headers: &[(&str, &str)]) -> ConsumedRecord {
        let mut made = Headers::new();
        for (name, value) in headers {
            made.push(types::HeaderName::new(name), value.to_string());
        }
        ConsumedRecord {
            tp: TopicPartition::new(topic(of), 3),
            offset: 42,
            timestamp_ms: 1_700_000_000_000,
            key: Some("k".into()),
            value: Some(vec![0xff, 0].into()),
            headers: made,
        }
    }

    fn names_of(record: &Record) -> Vec<&str> {
        record.headers.iter().map(|h| &*h.name).collect()
    }

    const STAGE: fn() -> Stage = || Stage::pipeline("demo", "p", "s", 1);

    #[test]
    fn a_letter_says_what_failed_and_leaves_the_rest_as_it_came() {
        let came = record(
            "src",
            &[
                ("a", "1"),
                ("a", "2"),
                ("x-request-id", "r"),
                ("X-Origin-Topic", "forged"),
                ("x-redrive-count", "7"),
                ("x-dlq-stage", "forged"),
            ],
        );
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let failure = Failure::new(Reason::TransformError, "T2001: ...");
        let letter = dead_letter(&came, &topic("p.retry"), &STAGE(), &failure, 2, now);
        assert_eq!((&letter.key, &letter.value), (&came.key, &came.value));
        assert_eq!(letter.timestamp, Some(now.as_millisecond()));
        assert_eq!(
            names_of(&letter),
            [
                "a",
                "a",
                "x-request-id",
                "x-dlq-reason",
                "x-dlq-message",
                "x-dlq-stage",
                "x-dlq-attempts",
                "x-dlq-at",
                "x-origin-topic",
                "x-origin-partition",
                "x-origin-offset",
                "x-origin-timestamp"
            ]
        );
        let get = |name| letter.headers.get_str(name).unwrap();
        assert_eq!(get("x-dlq-reason"), "transform_error");
        assert_eq!(get("x-dlq-stage"), "pipeline/demo/p/s@1");
        assert_eq!(get("x-dlq-attempts"), "2");
        assert_eq!(get("x-dlq-at"), "2026-11-21T10:00:00Z");
        assert_eq!(
            (get("x-origin-topic"), get("x-origin-partition"), get("x-origin-offset")),
            ("src", "3", "42")
        );
        assert_eq!(get("x-origin-timestamp"), "1700000000000");
    }

    #[test]
    fn the_first_origin_survives_redrives_and_the_count_grows() {
        let now = Timestamp::now();
        let failure = Failure::new(Reason::InvalidJson, "no");
        let retry = topic("p.retry");
        let mut came = record("src", &[("x-event-id", "e")]);
        for round in 1..=3u32 {
            let letter = dead_letter(&came, &retry, &STAGE(), &failure, 1, now);
            let mut lies = record("src.dlq", &[]);
            lies.headers = letter.headers;
            lies.headers.push("__connect.errors.topic", "src");
            let read = Letter::of(lies.clone());
            assert_eq!(
                read.origin,
                Some(Origin {
                    topic: topic("src"),
                    partition: 3,
                    offset: 42,
                    timestamp_ms: 1_700_000_000_000
                })
            );
            assert_eq!(read.redrive_count, round - 1);
            let again = redriven(&lies, &format!("run-{round}"), now);
            assert_eq!(
                names_of(&again),
                [
                    "x-event-id",
                    "x-origin-topic",
                    "x-origin-partition",
                    "x-origin-offset",
                    "x-origin-timestamp",
                    "x-redrive-id",
                    "x-redrive-count"
                ]
            );
            assert_eq!(again.headers.get_str("x-redrive-id"), Some(&*format!("run-{round}")));
            came = record("p.retry", &[]);
            came.offset = 1_000;
            came.headers = again.headers;
        }
        assert_eq!(
            Origin::of(&came, &topic("other.retry")).topic,
            retry,
            "not its own retry topic: not believed"
        );
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let failure = Failure::new(Reason::Other, "ž".repeat(600));
        let letter = dead_letter(&record("s", &[]), &topic("r"), &STAGE(), &failure, 1, Timestamp::now());
        assert_eq!(letter.headers.get_str("x-dlq-message").unwrap().len(), 1024);
        let failure = Failure::new(Reason::Other, format!("a{}", "ž".repeat(600)));
        let letter = dead_letter(&record("s", &[]), &topic("r"), &STAGE(), &failure, 1, Timestamp::now());
        assert_eq!(letter.headers.get_str("x-dlq-message").unwrap().len(), 1023);
    }

    #[test]
    fn ids_read_back() {
        let id: LetterId = "a.dlq/3/42".parse().unwrap();
        assert_eq!((id.tp.partition, id.offset, id.to_string().as_str()), (3, 42, "a.dlq/3/42"));
        for bad in ["", "a/1", "a/x/1", "a/1/-1", "a b/1/1", "a/-1/1"] {
            assert!(bad.parse::<LetterId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn garbage_headers_are_a_letter_without_a_stage() {
        let mut lies = record("d", &[("x-dlq-stage", "nonsense"), ("x-origin-offset", "x")]);
        lies.headers.push("x-dlq-reason", vec![0xff, 0xfe]);
        let letter = Letter::of(lies);
        assert!(letter.stage.is_none() && letter.origin.is_none());
    }
}
