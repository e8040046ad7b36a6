//! `vltava tail`: a topic's records as they come, read_committed.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kafka::{Admin, ConsumedRecord, Consumer, Event, FetchConfig, StartFrom};
use owo_colors::OwoColorize as _;
use serde_json::{Map, Value, json};
use types::{Headers, TopicName, TopicPartition};

use super::topics::{client, offsets};
use crate::cli::Tail;
use crate::output::{self, printable};

/// Of a value, so many characters are shown to people; `--json` shows all.
const VALUE_CHARS_MAX: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    Last(i64),
    Time(Timestamp),
}

/// Where the last N records are asked for, so many further offsets are read for those that are no records.
const LAST_MARGIN: i64 = 100;
/// The most that `-N` may ask for: they are held until the end is reached.
const LAST_MAX: i64 = 100_000;

/// The last records of each partition, until its end is reached for the first time; then all that come.
struct Last {
    count: usize,
    held: BTreeMap<TopicPartition, VecDeque<ConsumedRecord>>,
}

impl Last {
    fn new(from: From, partitions: impl Iterator<Item = TopicPartition>) -> Self {
        let From::Last(count) = from else { return Self { count: 0, held: BTreeMap::new() } };
        let held = partitions.map(|partition| (partition, VecDeque::new())).collect();
        Self { count: usize::try_from(count).unwrap_or(0), held }
    }

    /// What is to be shown now of records that came.
    fn take(&mut self, records: Vec<ConsumedRecord>) -> Vec<ConsumedRecord> {
        let Some(held) = records.first().and_then(|record| self.held.get_mut(&record.tp)) else {
            return records;
        };
        held.extend(records);
        let over = held.len().saturating_sub(self.count);
        held.drain(..over);
        Vec::new()
    }

    /// The partition's end was reached.
    fn end(&mut self, partition: &TopicPartition) -> Vec<ConsumedRecord> {
        self.held.remove(partition).map(Vec::from).unwrap_or_default()
    }
}

fn from(text: &str) -> Result<From> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        _ => {
            if let Some(count) = text.strip_prefix('-').and_then(|n| n.parse().ok()) {
                ensure!((1..=LAST_MAX).contains(&count), "--from {text}: give -1 to -{LAST_MAX}");
                return Ok(From::Last(count));
            }
            let time = text.parse().map(From::Time);
            time.with_context(|| {
                format!("--from {text:?}: give latest, earliest, -N or a time such as 2026-03-01T00:00:00Z")
            })
        }
    }
}

pub(crate) async fn run(tail: Tail) -> Result<()> {
    let topic = TopicName::new(&tail.topic)?;
    let from = from(&tail.from)?;
    let client = client(&tail.engine);
    let admin = Admin::new(&client)?;
    let Some(description) = admin.describe_topics(std::slice::from_ref(&topic)).await?.remove(&topic) else {
        bail!(
            "topic {topic} doesn't exist at {}; `vltava topics ls` lists those that do",
            tail.engine.kafka_bootstrap
        )
    };
    let offsets = offsets(&admin, &[description]).await?;
    let start = |first: i64, next: i64| match from {
        From::Earliest => StartFrom::Offset(first),
        From::Latest => StartFrom::Offset(next),
        // Offsets are not records: the ends of transactions have offsets too.
        From::Last(count) => StartFrom::Offset((next - 4 * count - LAST_MARGIN).max(first)),
        From::Time(at) => StartFrom::Timestamp(at.as_millisecond()),
    };
    let partitions = offsets.iter().map(|(p, (first, next))| (p.clone(), start(*first, *next))).collect();
    let mut last = Last::new(from, offsets.keys().cloned());
    let mut open: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    if tail.no_follow {
        open = offsets
            .into_iter()
            .filter(|(_, (first, next))| first < next)
            .map(|(p, (_, next))| (p, next))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
    }
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(&client, partitions, fetch)?;
    let mut left = tail.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            event = consumer.next() => event,
            signal = tokio::signal::ctrl_c() => return Ok(signal?),
        };
        let (records, ended) = match event {
            Event::Records(records) => (last.take(records), None),
            Event::EndOfPartition(partition, at) => (last.end(&partition), Some((partition, at))),
            Event::Error(error) if error.is_fatal() => return Err(error.into()),
            Event::Error(error) => {
                output::note(format_args!("{error}; going on"));
                continue;
            }
            Event::Assigned(_) | Event::Revoked { .. } => continue,
        };
        for record in records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            if tail.json.json {
                output::json(&as_json(record))?
            } else {
                output::line(for_people(record))
            }
            left -= 1;
        }
        if let Some((partition, at)) = ended
            && tail.no_follow
            && open.get(&partition).is_none_or(|end| at >= *end)
        {
            open.remove(&partition);
            if open.is_empty() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Bytes as text where they are UTF-8, else as base64 under another name.
fn put_bytes(object: &mut Map<String, Value>, name: &str, value: Option<&bytes::Bytes>) {
    match value.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => drop(object.insert(name.into(), Value::Null)),
        Some((Ok(text), _)) => drop(object.insert(name.into(), text.into())),
        Some((Err(_), bytes)) => drop(object.insert(format!("{name}Base64"), STANDARD.encode(bytes).into())),
    }
}

/// Names may stand more than once: a list keeps them, and their order.
pub(crate) fn headers_as_json(headers: &Headers) -> Value {
    let one = |header: &types::Header| {
        let mut object = Map::new();
        object.insert("name".into(), (&*header.name).into());
        put_bytes(&mut object, "value", header.value.as_ref());
        Value::Object(object)
    };
    Value::Array(headers.iter().map(one).collect())
}

pub(crate) fn as_json(record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(record.tp.topic));
    object.insert("partition".into(), json!(record.tp.partition));
    object.insert("offset".into(), json!(record.offset));
    object.insert("timestamp".into(), json!(record.timestamp_ms));
    put_bytes(&mut object, "key", record.key.as_ref());
    object.insert("headers".into(), headers_as_json(&record.headers));
    // A JSON value as it is, so that `jq .value.field` works.
    match record.value.as_deref().map(serde_json::from_slice::<Value>) {
        Some(Ok(value)) => drop(object.insert("value".into(), value)),
        _ => put_bytes(&mut object, "value", record.value.as_ref()),
    }
    Value::Object(object)
}

pub(crate) fn text(bytes: Option<&bytes::Bytes>, chars_max: usize) -> String {
    match bytes {
        None => "(null)".into(),
        Some(bytes) => printable(&String::from_utf8_lossy(bytes), chars_max),
    }
}

fn for_people(record: &ConsumedRecord) -> String {
    let time = Timestamp::from_millisecond(record.timestamp_ms)
        .map_or_else(|_| "-".into(), |t| t.strftime("%H:%M:%S%.3f").to_string());
    let place = format!("{}@{}", record.tp.partition, record.offset);
    let key = record.key.as_ref().map_or_else(|| "-".into(), |key| text(Some(key), 60));
    let value = text(record.value.as_ref(), VALUE_CHARS_MAX);
    if output::is_terminal() {
        format!("{} {} {} {value}", time.dimmed(), place.cyan(), key.yellow())
    } else {
        format!("{time} {place} {key} {value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_understood_or_named() {
        assert_eq!(from("earliest").unwrap(), From::Earliest);
        assert_eq!(from("-5").unwrap(), From::Last(5));
        assert!(matches!(from("2026-03-01T00:00:00Z").unwrap(), From::Time(_)));
        assert!(from("yesterday").unwrap_err().to_string().contains("\"yesterday\""));
    }

    #[test]
    fn json_keeps_what_people_need() {
        let mut headers = Headers::new();
        headers.push("a", "1");
        headers.push("a", vec![0xff]);
        let record = ConsumedRecord {
            tp: TopicPartition::new(TopicName::new("t").unwrap(), 3),
            offset: 7,
            timestamp_ms: 0,
            key: None,
            value: Some(bytes::Bytes::from_static(b"{\"x\":12345678901234567890}")),
            headers,
        };
        let shown = as_json(&record);
        assert_eq!(shown["value"]["x"], json!(12_345_678_901_234_567_890_u64));
        assert_eq!(
            shown["headers"],
            json!([{"name": "a", "value": "1"}, {"name": "a", "valueBase64": "/w=="}])
        );
        assert_eq!(shown["key"], Value::Null);
    }
}
