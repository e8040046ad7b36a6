//! The state against a model of an engine that loses answers, changes leaders, makes topics again and is away.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::sync::oneshot;
use types::{Record, TopicName};
use uuid::Uuid;
use wire::records::{BatchBuilder, Compression, RawBatch, add_sequence};

use super::batch::{Identity, Pending};
use super::lanes::{Found, Job, Lanes, Limits};
use crate::{Delivered, Error, Kind, Result};

const BROKERS: i32 = 2;
const PARTITIONS: i32 = 3;
/// A batch of more is too large for the model's engine.
const BATCH_RECORDS_MAX: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
enum Step {
    /// Records for a topic, by partition, by key or anywhere.
    Push {
        topic: usize,
        to: To,
        count: u8,
    },
    /// What becomes of each batch of a broker's last request, and its next one.
    Round {
        broker: i32,
        fates: Vec<Fate>,
    },
    /// Partitions of a topic change their leaders; `None`: they have none.
    Lead {
        topic: usize,
        leaders: Vec<Option<i32>>,
    },
    MakeAgain {
        topic: usize,
    },
    Missing {
        topic: usize,
    },
    Pass {
        seconds: u8,
    },
}

#[derive(Debug, Clone, Copy)]
enum To {
    Partition(i32),
    Key(u8),
    Any,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    LostBefore,
    LostAfter,
    /// NOT_ENOUGH_REPLICAS: nothing was appended.
    Declined,
    /// It failed inside the engine, after the append.
    FailedAfter,
    /// The engine has forgotten what it knew of producers there, and says so by the next answer.
    Truncated,
}

fn step() -> impl Strategy<Value = Step> {
    let to =
        prop_oneof![(0..PARTITIONS).prop_map(To::Partition), any::<u8>().prop_map(To::Key), Just(To::Any)];
    let fate = prop_oneof![
        6 => Just(Fate::Answered),
        2 => Just(Fate::LostBefore),
        2 => Just(Fate::LostAfter),
        1 => Just(Fate::Declined),
        1 => Just(Fate::FailedAfter),
        1 => Just(Fate::Truncated),
    ];
    let leader = prop_oneof![1 => Just(None), 6 => (0..BROKERS).prop_map(Some)];
    prop_oneof![
        8 => (0..2usize, to, 1..6u8).prop_map(|(topic, to, count)| Step::Push { topic, to, count }),
        12 => (0..BROKERS, prop::collection::vec(fate, 6)).prop_map(|(broker, fates)| Step::Round { broker, fates }),
        2 => (0..2usize, prop::collection::vec(leader, PARTITIONS as usize))
            .prop_map(|(topic, leaders)| Step::Lead { topic, leaders }),
        1 => (0..2usize).prop_map(|topic| Step::MakeAgain { topic }),
        1 => (0..2usize).prop_map(|topic| Step::Missing { topic }),
        3 => (0..40u8).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What the engine remembers of a producer: the sequence of its last batch, that one's size, and where it is.
#[derive(Debug, Clone, Copy)]
struct Last {
    sequence: i32,
    count: i32,
    offset: i64,
}

#[derive(Default)]
struct Log {
    records: Vec<u64>,
    producers: HashMap<i64, Last>,
    truncated: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Stored(i64),
    TooLarge,
    Forgotten,
}

impl Log {
    /// As Kafka judges a batch (KIP-98, KIP-360).
    fn append(&mut self, job: &mut Job) -> Answer {
        let mut builder = BatchBuilder::new(Compression::None);
        let bytes = job.batch.encoded(&mut builder).unwrap();
        let raw = RawBatch::only(bytes).unwrap();
        raw.validate(1 << 20).unwrap();
        let (header, records) = (*raw.header(), raw.records(1 << 20).unwrap());
        if records.len() > BATCH_RECORDS_MAX {
            return Answer::TooLarge;
        }
        if std::mem::take(&mut self.truncated) && header.base_sequence != 0 {
            self.producers.remove(&header.producer_id);
            return Answer::Forgotten;
        }
        if let Some(last) = self.producers.get(&header.producer_id) {
            if (last.sequence, last.count) == (header.base_sequence, header.record_count) {
                return Answer::Stored(last.offset);
            }
            if header.base_sequence != add_sequence(last.sequence, last.count) {
                return Answer::Forgotten;
            }
        }
        let offset = self.records.len() as i64;
        let numbers = records
            .iter()
            .map(|record| u64::from_be_bytes(record.value.as_deref().unwrap().try_into().unwrap()));
        self.records.extend(numbers);
        let last = Last { sequence: header.base_sequence, count: header.record_count, offset };
        self.producers.insert(header.producer_id, last);
        Answer::Stored(offset)
    }
}

struct World {
    lanes: Lanes,
    now: Instant,
    /// By topic, incarnation and partition.
    logs: BTreeMap<(usize, u128, i32), Log>,
    incarnations: [u128; 2],
    leaders: [Vec<Option<i32>>; 2],
    identities: i64,
    /// What is under way, by broker, with the topic's incarnation that it reaches.
    flying: HashMap<i32, Vec<(Job, u128)>>,
    told: Vec<oneshot::Receiver<Result<Delivered>>>,
    /// Records that go where there is room: nobody was promised an order of theirs.
    anywhere: HashSet<u64>,
}

fn name(topic: usize) -> TopicName {
    TopicName::new(&format!("t{topic}")).unwrap()
}

fn topic_of(job: &Job) -> usize {
    usize::from(job.tp.topic.as_str() == "t1")
}

fn uncertain() -> Error {
    Error::new(Kind::Other, "produce", "may be stored")
}

fn certain() -> Error {
    Error::new(Kind::Timeout, "produce", "not stored")
}

fn fail(records: Vec<Pending>, error: &Error) {
    for pending in records {
        pending.failed(error.clone());
    }
}

impl World {
    fn new() -> Self {
        let limits = Limits { records: 1_000, bytes: 1 << 20, batch_bytes: 400 };
        let mut world = Self {
            lanes: Lanes::new(limits),
            now: Instant::now(),
            logs: BTreeMap::new(),
            incarnations: [1, 1],
            leaders: [vec![Some(0); PARTITIONS as usize], vec![Some(1); PARTITIONS as usize]],
            identities: 0,
            flying: HashMap::new(),
            told: Vec::new(),
            anywhere: HashSet::new(),
        };
        drop(world.lanes.set_brokers((0..BROKERS).map(|id| (id, format!("h:{id}")))));
        world
    }

    fn push(&mut self, topic: usize, to: To) {
        let number = self.told.len() as u64;
        let (partition, key) = match to {
            To::Partition(partition) => (Some(partition), None),
            To::Key(key) => (None, Some(vec![key].into())),
            To::Any => {
                self.anywhere.insert(number);
                (None, None)
            }
        };
        let value = Some(number.to_be_bytes().to_vec().into());
        let (tell, told) = oneshot::channel();
        let mut pending = Pending::new(Record { key, value, ..Record::default() }, partition, tell);
        pending.enqueued = self.now;
        self.lanes.push(&name(topic), pending).unwrap();
        self.told.push(told);
    }

    fn describe(&mut self, topic: usize) {
        let found =
            Found { id: Uuid::from_u128(self.incarnations[topic]), leaders: self.leaders[topic].clone() };
        for (pending, _) in self.lanes.found(&name(topic), &found) {
            pending.failed(uncertain());
        }
    }

    fn round(&mut self, broker: i32, fates: &[Fate]) {
        self.settle(broker, fates);
        if self.lanes.identity().is_none() {
            self.identities += 1;
            self.lanes.set_identity(Identity { id: self.identities, epoch: 0 });
        }
        let jobs = self.lanes.take(broker).into_iter().map(|job| {
            let incarnation = self.incarnations[topic_of(&job)];
            (job, incarnation)
        });
        let jobs = jobs.collect();
        self.flying.insert(broker, jobs);
    }

    fn settle(&mut self, broker: i32, fates: &[Fate]) {
        for (at, (mut job, incarnation)) in
            self.flying.remove(&broker).unwrap_or_default().into_iter().enumerate()
        {
            let fate = fates.get(at).copied().unwrap_or(Fate::Answered);
            let log = self.logs.entry((topic_of(&job), incarnation, job.tp.partition)).or_default();
            let answer = match fate {
                Fate::LostBefore | Fate::Declined => None,
                Fate::Truncated => {
                    log.truncated = true;
                    None
                }
                Fate::Answered | Fate::LostAfter | Fate::FailedAfter => Some(log.append(&mut job)),
            };
            match (fate, answer) {
                (Fate::Declined | Fate::Truncated, _) => {
                    fail(self.lanes.again(job, false, self.now), &uncertain())
                }
                (Fate::LostBefore | Fate::LostAfter, _) => {
                    fail(self.lanes.again(job, true, self.now), &uncertain());
                }
                (Fate::FailedAfter, Some(Answer::Stored(_))) => {
                    fail(self.lanes.failed(job, true), &uncertain());
                }
                (_, Some(Answer::Stored(offset))) => {
                    let partition = job.tp.partition;
                    for (delta, pending) in (0..).zip(self.lanes.stored(job)) {
                        pending.stored(Delivered { partition, offset: offset + delta }, self.now);
                    }
                }
                (_, Some(Answer::TooLarge)) => fail(self.lanes.split(job), &uncertain()),
                (_, Some(Answer::Forgotten)) => {
                    fail(self.lanes.under_another_identity(job, self.now), &uncertain());
                }
                (Fate::Answered | Fate::FailedAfter, None) => unreachable!("it was appended"),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let _ = self.lanes.release(self.now);
        for (_, pending, may_be_stored) in self.lanes.expired(self.now.checked_sub(TIMEOUT).unwrap()) {
            pending.failed(if may_be_stored { uncertain() } else { certain() });
        }
        let asked = self.lanes.askable(self.now);
        for topic in 0..2 {
            if asked.contains(&name(topic)) {
                self.describe(topic);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Push { topic, to, count } => (0..*count).for_each(|_| self.push(*topic, *to)),
            Step::Round { broker, fates } => self.round(*broker, fates),
            Step::Lead { topic, leaders } => {
                self.leaders[*topic].clone_from(leaders);
                self.describe(*topic);
            }
            Step::MakeAgain { topic } => {
                self.incarnations[*topic] += 1;
                self.describe(*topic);
            }
            Step::Missing { topic } => {
                // What it drains was tried or not: told alike.
                fail(self.lanes.missing(&name(*topic), false, self.now), &uncertain());
            }
            Step::Pass { seconds } => self.pass(Duration::from_secs((*seconds).into())),
        }
    }

    /// An engine that answers, until nothing is outstanding.
    fn finish(&mut self) {
        for topic in 0..2 {
            self.leaders[topic] = vec![Some(0); PARTITIONS as usize];
            self.describe(topic);
        }
        for _ in 0..1_000 {
            if self.lanes.records() == 0 {
                return;
            }
            self.pass(Duration::from_millis(100));
            for broker in 0..BROKERS {
                self.round(broker, &[]);
            }
        }
        panic!("{} records are still outstanding", self.lanes.records());
    }

    fn judge(mut self) {
        assert_eq!((self.lanes.records(), self.lanes.bytes()), (0, 0));
        let mut found: HashMap<u64, (i32, i64)> = HashMap::new();
        let mut twice: HashSet<u64> = HashSet::new();
        for ((_, _, partition), log) in &self.logs {
            let placed = log.records.iter().filter(|number| !self.anywhere.contains(number));
            assert!(placed.is_sorted(), "out of order: {:?}", log.records);
            for (offset, number) in (0..).zip(&log.records) {
                if found.insert(*number, (*partition, offset)).is_some() {
                    twice.insert(*number);
                }
            }
        }
        assert!(twice.is_empty(), "stored twice: {twice:?}");
        for (number, told) in (0..).zip(&mut self.told) {
            let place = found.get(&number);
            match told.try_recv().expect("everybody is told") {
                Ok(delivered) => {
                    assert_eq!(place, Some(&(delivered.partition, delivered.offset)), "{number}")
                }
                Err(error) if error.kind() == &Kind::Timeout => {
                    assert_eq!(place, None, "{number} is stored, and was told not to be");
                }
                Err(_) => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_overtaken(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.finish();
        world.judge();
    }
}

#[test]
fn a_full_queue_refuses() {
    let mut lanes = Lanes::new(Limits { records: 2, bytes: 1 << 20, batch_bytes: 1_000 });
    let pending = || Pending::new(Record::default(), None, oneshot::channel().0);
    assert!(lanes.push(&name(0), pending()).unwrap());
    lanes.push(&name(0), pending()).unwrap();
    assert_eq!(lanes.push(&name(0), pending()).unwrap_err().kind(), &Kind::QueueFull);
}
