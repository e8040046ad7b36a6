//! Reads topics to their end and judges them against what was answered 202.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kafka::{Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, OffsetSpec, StartFrom};
use testkit::{Delivery, Receiver};
use types::{TopicName, TopicPartition, names};

use crate::flow::Flow;

/// How long reading a topic may take.
const READ_MAX: Duration = Duration::from_secs(60);

/// Every record of a topic, read_committed, each partition in order.
pub(crate) async fn read(bootstrap: &str, topic: &str) -> Vec<ConsumedRecord> {
    let client = ClientConfig::new(bootstrap, "checker");
    let admin = Admin::new(&client).unwrap();
    let name = TopicName::new(topic).unwrap();
    let described = admin.describe_topics(std::slice::from_ref(&name)).await.unwrap().remove(&name);
    let Some(described) = described else { return Vec::new() };
    let partitions: Vec<_> =
        described.partitions.iter().map(|p| TopicPartition::new(name.clone(), p.partition)).collect();
    let asked: Vec<_> = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&asked).await.unwrap();
    let mut open: BTreeMap<_, _> = ends.into_iter().filter(|(_, end)| end.offset > 0).collect();
    let start = open.keys().map(|p| (p.clone(), StartFrom::Earliest)).collect();
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(&client, start, fetch).unwrap();
    let mut records = Vec::new();
    let reading = async {
        while !open.is_empty() {
            match consumer.next().await {
                Event::Records(batch) => records.extend(batch),
                Event::EndOfPartition(p, at) if open.get(&p).is_some_and(|end| at >= end.offset) => {
                    open.remove(&p);
                }
                Event::Error(error) if error.is_fatal() => panic!("{topic}: {error}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(READ_MAX, reading)
        .await
        .unwrap_or_else(|_| panic!("{topic} can't be read to its end"));
    records
}

pub(crate) fn id(record: &ConsumedRecord) -> String {
    record.headers.get_str(names::EVENT_ID).expect("every record carries its event's id").to_owned()
}

/// Everything that came of a run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) source: Vec<ConsumedRecord>,
    pub(crate) target: Vec<ConsumedRecord>,
    pub(crate) dlq: Vec<ConsumedRecord>,
    /// What was redriven to the pipeline, and to the connector.
    pub(crate) retries: [Vec<ConsumedRecord>; 2],
    /// Of this DLQ.
    pub(crate) settlements: Vec<ConsumedRecord>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// What became of one event, in numbers.
#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    source: usize,
    target: usize,
    /// Dead letters by the pipeline, and by the connector.
    letters: [usize; 2],
    /// Records in the retry topics, likewise.
    retries: [usize; 2],
    /// Deliveries that the receiver took.
    taken: usize,
}

impl Outcome {
    /// Reads everything that is in a flow's topics now.
    pub(crate) async fn read(bootstrap: &str, flow: &Flow, receiver: &Receiver) -> Self {
        let (source, target, dlq, to_pipeline, to_connector, settlements) = tokio::join!(
            read(bootstrap, &flow.raw),
            read(bootstrap, &flow.enriched),
            read(bootstrap, &flow.dlq),
            read(bootstrap, &flow.retries[0]),
            read(bootstrap, &flow.retries[1]),
            read(bootstrap, deadletter::SETTLED_TOPIC),
        );
        // Other flows may share the engine.
        let ours =
            |r: &ConsumedRecord| r.key.as_deref().is_some_and(|key| contains(key, flow.dlq.as_bytes()));
        Self {
            source,
            target,
            dlq,
            retries: [to_pipeline, to_connector],
            settlements: settlements.into_iter().filter(ours).collect(),
            deliveries: receiver.deliveries(),
        }
    }

    /// Reads until nothing is wrong, or the time is over; what is wrong then.
    pub(crate) async fn settle(
        bootstrap: &str,
        flow: &Flow,
        receiver: &Receiver,
        answered: &BTreeSet<String>,
        within: Duration,
    ) -> (Self, Vec<String>) {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let outcome = Self::read(bootstrap, flow, receiver).await;
            let wrong = outcome.judge(answered);
            if wrong.is_empty() || tokio::time::Instant::now() > deadline {
                return (outcome, wrong);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// In one line.
    pub(crate) fn figures(&self) -> String {
        format!(
            "{} in the source, {} in the target, {} dead letters, {} redriven, {} deliveries",
            self.source.len(),
            self.target.len(),
            self.dlq.len(),
            self.retries.iter().map(Vec::len).sum::<usize>(),
            self.deliveries.len()
        )
    }

    /// Where the last records of every partition of source and target are: for the message of a test that fails.
    pub(crate) fn tails(&self) -> String {
        const TAIL: usize = 12;
        let mut text = String::new();
        for (name, records) in [("source", &self.source), ("target", &self.target)] {
            let mut partitions: BTreeMap<_, Vec<String>> = BTreeMap::new();
            for record in records {
                partitions.entry(record.tp.partition).or_default().push(format!(
                    "{}={}",
                    record.offset,
                    id(record)
                ));
            }
            for (partition, records) in partitions {
                let last = &records[records.len().saturating_sub(TAIL)..];
                text.push_str(&format!("{name} {partition}: {}\n", last.join(" ")));
            }
        }
        text
    }

    fn fates(&self) -> BTreeMap<String, Fate> {
        let mut fates: BTreeMap<String, Fate> = BTreeMap::new();
        let mut count = |records: &[ConsumedRecord], place: fn(&mut Fate) -> &mut usize| {
            records.iter().for_each(|record| *place(fates.entry(id(record)).or_default()) += 1);
        };
        count(&self.source, |f| &mut f.source);
        count(&self.target, |f| &mut f.target);
        count(&self.retries[0], |f| &mut f.retries[0]);
        count(&self.retries[1], |f| &mut f.retries[1]);
        for letter in &self.dlq {
            let by_connector =
                letter.headers.get_str(names::DLQ_STAGE).is_some_and(|s| s.starts_with("connector/"));
            fates.entry(id(letter)).or_default().letters[usize::from(by_connector)] += 1;
        }
        for delivery in self.deliveries.iter().filter(|d| d.reply.is_taken()) {
            fates.entry(delivery.header("webhook-id").to_owned()).or_default().taken += 1;
        }
        fates
    }

    /// What is wrong, one line each; empty if all is as promised. Each record that a stage read, in its source or in its
    /// retry topic, led to one output or one dead letter; each dead letter was given back at most once.
    pub(crate) fn judge(&self, answered: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let fates = self.fates();
        for id in answered.iter().filter(|id| !fates.contains_key(*id)) {
            wrong.push(format!("{id}: answered 202, 0 times in the source"));
        }
        for (id, fate) in &fates {
            let Fate { source, target, letters, retries, taken } = *fate;
            let mut must = |holds: bool, what: &str| {
                if !holds {
                    wrong.push(format!("{id}: {what}: {fate:?}"));
                }
            };
            must(source == 1, &format!("{source} times in the source"));
            must(retries[0] <= letters[0], "redriven to the pipeline more often than dead-lettered by it");
            must(source + retries[0] == target + letters[0], "not once in target and DLQ together");
            must(retries[1] <= letters[1], "redriven to the connector more often than dead-lettered by it");
            must(letters[1] <= target + retries[1], "dead-lettered twice by the connector");
            let owed = target + retries[1] > letters[1];
            must(!owed || taken > 0, "in the target, and never delivered");
        }
        let mut settled: HashMap<&[u8], usize> = HashMap::new();
        for settlement in &self.settlements {
            *settled.entry(settlement.key.as_deref().unwrap_or_default()).or_default() += 1;
        }
        for (letter, count) in settled.iter().filter(|(_, count)| **count > 1) {
            wrong.push(format!("letter {}: settled {count} times", String::from_utf8_lossy(letter)));
        }
        let redriven: usize = self.retries.iter().map(Vec::len).sum();
        if redriven != self.settlements.len() {
            wrong.push(format!("{redriven} records were redriven, {} settlements", self.settlements.len()));
        }
        // What is redriven comes after later records of its key, as documented.
        let straight = |record: &&ConsumedRecord| fates[&id(record)].letters[0] == 0;
        let target: Vec<_> = self.target.iter().filter(straight).cloned().collect();
        wrong.extend(order(&self.source, &target, "target"));
        wrong.extend(self.delivery_order());
        wrong
    }

    /// For each key, first deliveries come in the order of the target.
    fn delivery_order(&self) -> Vec<String> {
        let mut first: HashMap<&str, u64> = HashMap::new();
        for delivery in &self.deliveries {
            first.entry(delivery.header("webhook-id")).or_insert(delivery.number);
        }
        let mut wrong = Vec::new();
        for (key, ids) in by_key(&self.target) {
            let numbers: Vec<_> = ids.iter().filter_map(|id| first.get(id.as_str())).collect();
            if !numbers.is_sorted() {
                wrong.push(format!("key {key}: delivered out of order: {numbers:?}"));
            }
        }
        wrong
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn by_key(records: &[ConsumedRecord]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        keys.entry(key).or_default().push(id(record));
    }
    keys
}

/// For each key, what lies in `later` lies there in the order of `earlier`.
fn order(earlier: &[ConsumedRecord], later: &[ConsumedRecord], name: &str) -> Vec<String> {
    let place: HashMap<String, i64> = earlier.iter().map(|r| (id(r), r.offset)).collect();
    by_key(later)
        .into_iter()
        .filter(|(_, ids)| !ids.iter().filter_map(|id| place.get(id)).is_sorted())
        .map(|(key, _)| format!("key {key}: out of order in the {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use types::Headers;

    use super::*;

    fn record(offset: i64, event: &str) -> ConsumedRecord {
        let mut headers = Headers::new();
        headers.push(names::EVENT_ID, event.to_owned());
        headers.push(names::DLQ_STAGE, "pipeline/w/n/s@1".to_owned());
        ConsumedRecord {
            tp: TopicPartition::new(TopicName::new("t").unwrap(), 0),
            offset,
            timestamp_ms: 0,
            key: Some("k".into()),
            value: None,
            headers,
        }
    }

    fn records(events: &[&str]) -> Vec<ConsumedRecord> {
        events.iter().zip(0..).map(|(event, offset)| record(offset, event)).collect()
    }

    fn delivered(events: &[&str]) -> Vec<Delivery> {
        let of = |(event, number): (&&str, u64)| Delivery {
            number,
            at: std::time::Instant::now(),
            path: "/".into(),
            headers: [("webhook-id".to_owned(), (*event).to_owned())].into(),
            body: bytes::Bytes::new(),
            reply: testkit::Reply::Status(200),
        };
        events.iter().zip(0..).map(of).collect()
    }

    /// The judge itself must find what it is there for.
    #[test]
    fn loss_doubles_and_disorder_are_found() {
        let answered: BTreeSet<String> = ["a", "b", "c"].map(String::from).into();
        let outcome = |source: &[&str], target: &[&str], dlq: &[&str]| Outcome {
            source: records(source),
            target: records(target),
            dlq: records(dlq),
            ..Outcome::default()
        };
        let found = |o: Outcome| o.judge(&answered).join("\n");
        let all = ["a", "b", "c"];
        assert!(found(outcome(&["a", "b"], &[], &["a", "b"])).contains("c: answered 202, 0 times"));
        assert!(found(outcome(&["a", "b", "b", "c"], &[], &all)).contains("b: 2 times in the source"));
        assert!(found(outcome(&all, &[], &["a", "b"])).contains("c: not once in target and DLQ"));
        assert!(found(outcome(&all, &["a"], &all)).contains("a: not once in target and DLQ"));
        assert!(found(outcome(&all, &["b", "a"], &["c"])).contains("out of order in the target"));
        assert!(found(outcome(&all, &["a"], &["b", "c"])).contains("a: in the target, and never delivered"));
        assert!(found(outcome(&all, &[], &["a", "b", "c", "d"])).contains("d: 0 times in the source"));
        assert_eq!(found(outcome(&all, &[], &all)), "");

        let redriven = |retry: &[&str], settled: &[&str], target: &[&str], dlq: &[&str]| Outcome {
            retries: [records(retry), Vec::new()],
            settlements: settled
                .iter()
                .map(|letter| ConsumedRecord { key: Some((*letter).to_owned().into()), ..record(0, "s") })
                .collect(),
            deliveries: delivered(target),
            ..outcome(&all, target, dlq)
        };
        assert_eq!(found(redriven(&["a"], &["0"], &["b", "c", "a"], &["a"])), "");
        assert_eq!(found(redriven(&["a"], &["0"], &["b", "c"], &["a", "a"])), "");
        assert!(found(redriven(&["a"], &[], &["b", "c", "a"], &["a"])).contains("0 settlements"));
        let twice = redriven(&["a", "a"], &["0", "0"], &["b", "c", "a", "a"], &["a"]);
        assert!(found(twice).contains("a: redriven to the pipeline more often"));
        assert!(
            found(redriven(&["a", "b"], &["0", "0"], &["c", "a", "b"], &["a", "b"]))
                .contains("settled 2 times")
        );
        assert!(
            found(redriven(&["a"], &["0"], &["b", "c"], &["a"])).contains("a: not once in target and DLQ")
        );

        let mut by_connector = redriven(&[], &[], &all, &["a", "a"]);
        for letter in &mut by_connector.dlq {
            letter.headers.set(names::DLQ_STAGE, "connector/w/out".to_owned());
        }
        assert!(found(by_connector).contains("a: dead-lettered twice by the connector"));
    }
}
