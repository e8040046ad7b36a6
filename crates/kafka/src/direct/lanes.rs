//! What waits for which partition, and what each partition's producer state is. Pure state behind one lock, held for moments.
//!
//! Invariants: a partition (a lane) has at most one batch that was given a sequence and isn't told yet, so that nothing overtakes
//! and the next sequence is known; whatever fails before it can be stored leaves no gap. A producer id is given to a lane that has
//! never had it, and its sequence there never starts again: a lane that is forgotten, or whose last batch may be stored, takes the
//! shared id with it. A lane is listed with the broker that leads it exactly when it has something to send and isn't busy.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use types::{Partition, TopicName, TopicPartition};
use uuid::Uuid;
use wire::records::add_sequence;

use super::batch::{Batch, Identity, Pending, fill};
use super::partitioner;
use crate::{Error, Kind, Result};

/// Bytes of batches, before compression, that go into one request (Kafka's `max.request.size` is 1 MiB, a broker's
/// `socket.request.max.bytes` 100 MiB). The last batch may exceed it.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// How long a partition waits after a failed attempt: doubled each time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the engine may say that there is no such topic: it may have been made a moment ago.
const MISSING_MAX: Duration = Duration::from_secs(5);
/// A topic that got no record for so long is forgotten (`metadata.max.idle.ms` of the Java clients).
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Limits of what waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// A batch's bytes before compression.
    pub(super) batch_bytes: usize,
}

/// See the module.
pub(super) struct Lanes {
    limits: Limits,
    topics: HashMap<TopicName, Topic>,
    /// By id. They stay: there are as many as the cluster has ever had.
    brokers: HashMap<i32, Broker>,
    delayed: BinaryHeap<Reverse<(Instant, TopicPartition)>>,
    /// For lanes that have none.
    identity: Option<Identity>,
    records: usize,
    bytes: usize,
    made: u64,
    /// Somebody was told that what is known isn't true any more.
    stale: bool,
}

struct Topic {
    id: Uuid,
    /// Empty until it is known how many there are.
    lanes: Vec<Lane>,
    /// What came before that.
    waiting: VecDeque<Pending>,
    /// Since when the engine says that there is no such topic.
    missing_since: Option<Instant>,
    used: Instant,
    /// Where records without a key go until a batch of them is taken.
    sticky: usize,
}

struct Lane {
    /// Tells it from one of the same place that was forgotten.
    number: u64,
    leader: Option<i32>,
    queued: VecDeque<Pending>,
    /// What must go before them.
    again: Option<Batch>,
    state: State,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Lowered while batches are too large.
    records_max: usize,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to do, or no leader.
    Idle,
    /// With this broker's.
    Listed(i32),
    /// A batch is under way.
    Busy,
    /// Until the coordinator releases it.
    Delayed,
}

struct Broker {
    address: String,
    listed: VecDeque<TopicPartition>,
    wake: Arc<Notify>,
}

/// A batch that a broker's task has taken.
pub(super) struct Job {
    pub(super) tp: TopicPartition,
    lane: u64,
    pub(super) batch: Batch,
}

/// What the engine knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: Uuid,
    /// By partition.
    pub(super) leaders: Vec<Option<i32>>,
}

impl Lane {
    fn new(number: u64, leader: Option<i32>) -> Self {
        Self {
            number,
            leader,
            queued: VecDeque::new(),
            again: None,
            state: State::Idle,
            identity: None,
            next_sequence: 0,
            records_max: usize::MAX,
            failures: 0,
        }
    }

    fn has_work(&self) -> bool {
        self.again.is_some() || !self.queued.is_empty()
    }
}

impl Topic {
    fn new(now: Instant, sticky: usize) -> Self {
        Self {
            id: Uuid::nil(),
            lanes: Vec::new(),
            waiting: VecDeque::new(),
            missing_since: None,
            used: now,
            sticky,
        }
    }

    /// The lane for a record; `None` when there is no such partition.
    fn place(&mut self, pending: &Pending) -> Option<usize> {
        let lanes = self.lanes.len();
        match (pending.partition, pending.key()) {
            (Some(partition), _) => usize::try_from(partition).ok().filter(|at| *at < lanes),
            (None, Some(key)) => Some(partitioner::of_key(key, lanes)),
            (None, None) => {
                self.sticky %= lanes;
                if self.lanes[self.sticky].leader.is_none() {
                    self.turn();
                }
                Some(self.sticky)
            }
        }
    }

    /// The next partition that has a leader, for records without a key.
    fn turn(&mut self) {
        let lanes = self.lanes.len();
        let next = (1..=lanes).map(|step| (self.sticky + step) % lanes);
        if let Some(next) = next.into_iter().find(|at| self.lanes[*at].leader.is_some()) {
            self.sticky = next;
        }
    }

    /// Everything that isn't under way.
    fn drain(&mut self) -> Vec<Pending> {
        let mut all: Vec<_> = self.waiting.drain(..).collect();
        for lane in &mut self.lanes {
            all.extend(lane.again.take().into_iter().flat_map(|batch| batch.records));
            all.extend(lane.queued.drain(..));
        }
        all
    }

    fn is_used(&self) -> bool {
        !self.waiting.is_empty() || self.lanes.iter().any(|lane| lane.has_work() || lane.state == State::Busy)
    }
}

impl Lanes {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            topics: HashMap::new(),
            brokers: HashMap::new(),
            delayed: BinaryHeap::new(),
            identity: None,
            records: 0,
            bytes: 0,
            made: 0,
            stale: false,
        }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Bytes that wait or are under way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a record in. True: the topic isn't known, so that the coordinator has to be woken.
    pub(super) fn push(&mut self, topic: &TopicName, pending: Pending) -> Result<bool> {
        let Limits { records, bytes, .. } = self.limits;
        if self.records >= records || self.bytes + pending.weight > bytes && self.records > 0 {
            let why = format!("{} records of {} bytes wait already", self.records, self.bytes);
            return Err(Error::new(Kind::QueueFull, format!("produce to {topic}"), why));
        }
        let weight = pending.weight;
        let now = pending.enqueued;
        if !self.topics.contains_key(topic) {
            self.made += 1;
            let spread = self.made as usize ^ (now_nanos() as usize);
            self.topics.insert(topic.clone(), Topic::new(now, spread));
        }
        let entry = self.topics.get_mut(topic).expect("inserted above");
        entry.used = now;
        let known = !entry.lanes.is_empty();
        if known {
            let Some(at) = entry.place(&pending) else {
                self.stale = true;
                return Err(no_partition(topic, pending.partition, entry.lanes.len()));
            };
            let lane = &mut entry.lanes[at];
            lane.queued.push_back(pending);
            list(&mut self.brokers, &mut self.stale, topic, at, lane);
        } else {
            entry.waiting.push_back(pending);
        }
        self.records += 1;
        self.bytes += weight;
        Ok(!known || self.stale)
    }

    /// Whether a broker's task has something to do, and since when the first record waits for it.
    pub(super) fn oldest(&self, broker: i32) -> Option<Instant> {
        let listed = &self.brokers.get(&broker)?.listed;
        let first = listed.iter().find_map(|tp| {
            let lane = self.topics.get(&tp.topic)?.lanes.get(usize::try_from(tp.partition).ok()?)?;
            let first = lane.again.as_ref().and_then(|b| b.records.first()).or_else(|| lane.queued.front());
            first.map(|pending| pending.enqueued)
        });
        // Something is listed that isn't there any more: `take` clears it away.
        first.or_else(|| (!listed.is_empty()).then(Instant::now))
    }

    pub(super) fn address(&self, broker: i32) -> Option<String> {
        self.brokers.get(&broker).map(|broker| broker.address.clone())
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// One that no lane has had.
    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// What a broker is to get next, a batch a partition. Nothing while there is no [`Lanes::identity`].
    pub(super) fn take(&mut self, broker: i32) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        let Some(identity) = self.identity else { return jobs };
        while bytes < REQUEST_BYTES_MAX {
            let Some(tp) = self.brokers.get_mut(&broker).and_then(|b| b.listed.pop_front()) else { break };
            let Some(topic) = self.topics.get_mut(&tp.topic) else { continue };
            let at = tp.partition as usize;
            let Some(lane) = topic.lanes.get_mut(at) else { continue };
            if lane.state != State::Listed(broker) {
                // Listed elsewhere since then.
                continue;
            }
            lane.state = State::Idle;
            if lane.leader != Some(broker) {
                list(&mut self.brokers, &mut self.stale, &tp.topic, at, lane);
                continue;
            }
            let batch = match lane.again.take() {
                Some(batch) => batch,
                None if lane.queued.is_empty() => continue,
                None => {
                    if lane.identity.is_none() {
                        lane.identity = Some(identity);
                        lane.next_sequence = 0;
                    }
                    let records = fill(&mut lane.queued, self.limits.batch_bytes, lane.records_max);
                    Batch::new(lane.identity.unwrap_or(identity), lane.next_sequence, records)
                }
            };
            bytes += batch.records.iter().map(|pending| pending.weight).sum::<usize>();
            lane.state = State::Busy;
            let number = lane.number;
            if topic.sticky % topic.lanes.len() == at {
                topic.turn();
            }
            jobs.push(Job { tp, lane: number, batch });
        }
        jobs
    }

    /// A batch is in the log: its records, to be told so.
    pub(super) fn stored(&mut self, job: Job) -> Vec<Pending> {
        let count = job.batch.count();
        self.uncount(&job.batch.records);
        if let Some((lane, mut rest)) = self.lane(&job) {
            lane.next_sequence = add_sequence(job.batch.sequence, count);
            lane.failures = 0;
            // Twice as many the next time, until it is too large again.
            lane.records_max = lane.records_max.saturating_mul(2);
            lane.state = State::Idle;
            rest.list(lane);
        }
        job.batch.records
    }

    /// A batch is to be sent again, after a while. What can't be: its records, to be told.
    pub(super) fn again(&mut self, mut job: Job, uncertain: bool, now: Instant) -> Vec<Pending> {
        job.batch.uncertain |= uncertain;
        self.stale = true;
        let Some((lane, mut rest)) = self.lane(&job) else { return self.lost(job) };
        rest.delay(lane, now);
        lane.again = Some(job.batch);
        Vec::new()
    }

    /// A batch was too large: its records in smaller ones. One alone, or one that may be stored, has failed.
    pub(super) fn split(&mut self, mut job: Job) -> Vec<Pending> {
        if job.batch.records.len() < 2 || job.batch.uncertain {
            return self.failed(job, false);
        }
        let Some((lane, mut rest)) = self.lane(&job) else { return self.lost(job) };
        lane.records_max = job.batch.records.len() / 2;
        put_back(lane, &mut job.batch.records);
        lane.state = State::Idle;
        rest.list(lane);
        Vec::new()
    }

    /// The engine doesn't know the producer: the same records under another id, if they can't be stored.
    pub(super) fn under_another_identity(&mut self, mut job: Job, now: Instant) -> Vec<Pending> {
        if job.batch.uncertain {
            return self.failed(job, true);
        }
        self.identity = None;
        let Some((lane, mut rest)) = self.lane(&job) else { return self.lost(job) };
        lane.identity = None;
        put_back(lane, &mut job.batch.records);
        rest.delay(lane, now);
        Vec::new()
    }

    /// A batch has failed: its records, to be told. `uncertain`: this attempt may have stored it.
    pub(super) fn failed(&mut self, job: Job, uncertain: bool) -> Vec<Pending> {
        self.uncount(&job.batch.records);
        let uncertain = uncertain || job.batch.uncertain;
        if uncertain {
            self.identity = None;
        }
        if let Some((lane, mut rest)) = self.lane(&job) {
            if uncertain {
                lane.identity = None;
            }
            lane.failures = 0;
            lane.state = State::Idle;
            rest.list(lane);
        }
        job.batch.records
    }

    /// The lane of a batch is gone.
    fn lost(&mut self, job: Job) -> Vec<Pending> {
        self.uncount(&job.batch.records);
        job.batch.records
    }

    /// What was taken and not sent goes back as it was.
    pub(super) fn put_off(&mut self, jobs: Vec<Job>) -> Vec<Pending> {
        let mut lost = Vec::new();
        for job in jobs {
            match self.lane(&job) {
                Some((lane, mut rest)) => {
                    lane.state = State::Idle;
                    lane.again = Some(job.batch);
                    rest.list(lane);
                }
                None => lost.extend(self.lost(job)),
            }
        }
        lost
    }

    /// Lists delayed lanes whose time has come. When the next one's comes.
    pub(super) fn release(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((due, _))) = self.delayed.peek() {
            if *due > now {
                return Some(*due);
            }
            let Some(Reverse((_, tp))) = self.delayed.pop() else { break };
            let at = tp.partition as usize;
            let lane = self.topics.get_mut(&tp.topic).and_then(|topic| topic.lanes.get_mut(at));
            if let Some(lane) = lane.filter(|lane| lane.state == State::Delayed) {
                lane.state = State::Idle;
                list(&mut self.brokers, &mut self.stale, &tp.topic, at, lane);
            }
        }
        None
    }

    /// What isn't under way and was enqueued before `limit`, with whether it may be stored.
    pub(super) fn expired(&mut self, limit: Instant) -> Vec<(TopicName, Pending, bool)> {
        let mut expired = Vec::new();
        let mut forget = false;
        let is_over = |pending: &Pending| pending.enqueued <= limit;
        for (name, topic) in &mut self.topics {
            while topic.waiting.front().is_some_and(is_over) {
                expired.extend(topic.waiting.pop_front().map(|pending| (name.clone(), pending, false)));
            }
            for lane in topic.lanes.iter_mut().filter(|lane| lane.state != State::Busy) {
                if let Some(batch) = lane.again.take_if(|b| b.records.first().is_some_and(is_over)) {
                    if batch.uncertain {
                        lane.identity = None;
                        forget = true;
                    }
                    let uncertain = batch.uncertain;
                    expired.extend(batch.records.into_iter().map(|p| (name.clone(), p, uncertain)));
                }
                if lane.again.is_some() {
                    continue;
                }
                while lane.queued.front().is_some_and(is_over) {
                    expired.extend(lane.queued.pop_front().map(|pending| (name.clone(), pending, false)));
                }
            }
        }
        if forget {
            self.identity = None;
        }
        for (_, pending, _) in &expired {
            self.records -= 1;
            self.bytes -= pending.weight;
        }
        expired
    }

    /// What is known may not be true any more.
    pub(super) fn doubt(&mut self) {
        self.stale = true;
    }

    /// Whether the engine has to be asked now: something waits for what isn't known.
    pub(super) fn wants_metadata(&self) -> bool {
        self.stale
            || self.topics.values().any(|topic| {
                !topic.waiting.is_empty()
                    || topic.lanes.iter().any(|lane| lane.leader.is_none() && lane.has_work())
            })
    }

    /// The topics to ask for. Those that are long unused are forgotten.
    pub(super) fn askable(&mut self, now: Instant) -> Vec<TopicName> {
        let before = self.topics.len();
        self.topics
            .retain(|_, topic| topic.is_used() || now.saturating_duration_since(topic.used) < IDLE_MAX);
        if self.topics.len() != before {
            // Its lanes had it.
            self.identity = None;
        }
        self.stale = false;
        self.topics.keys().cloned().collect()
    }

    /// Brokers and their addresses; those whose tasks have to be started, with what wakes them.
    pub(super) fn set_brokers(
        &mut self,
        brokers: impl Iterator<Item = (i32, String)>,
    ) -> Vec<(i32, Arc<Notify>)> {
        let mut new = Vec::new();
        for (id, address) in brokers {
            let known = self.brokers.entry(id).or_insert_with(|| {
                let wake = Arc::new(Notify::new());
                new.push((id, wake.clone()));
                Broker { address: String::new(), listed: VecDeque::new(), wake }
            });
            known.address = address;
        }
        new
    }

    /// What the engine says of a topic that exists. What can't be sent because of it.
    pub(super) fn found(&mut self, name: &TopicName, found: &Found) -> Vec<(Pending, Error)> {
        let mut refused = Vec::new();
        let Some(topic) = self.topics.get_mut(name) else { return refused };
        topic.missing_since = None;
        let mut orphans = VecDeque::new();
        if topic.id != found.id || topic.lanes.len() > found.leaders.len() {
            if !topic.lanes.is_empty() {
                // It was deleted and made again. What may have been stored in the old one has failed.
                self.identity = None;
                for mut lane in topic.lanes.drain(..) {
                    let tried = lane.again.take().into_iter().flat_map(|batch| batch.records);
                    refused.extend(tried.map(|pending| (pending, made_again(name))));
                    orphans.append(&mut lane.queued);
                }
            }
            topic.id = found.id;
        }
        for (at, leader) in found.leaders.iter().enumerate() {
            match topic.lanes.get_mut(at) {
                Some(lane) => {
                    if lane.leader != *leader {
                        lane.leader = *leader;
                        if matches!(lane.state, State::Listed(_)) {
                            lane.state = State::Idle;
                        }
                    }
                }
                None => {
                    self.made += 1;
                    topic.lanes.push(Lane::new(self.made, *leader));
                }
            }
        }
        if topic.lanes.is_empty() {
            topic.waiting.append(&mut orphans);
        } else {
            orphans.append(&mut topic.waiting);
            for pending in orphans {
                match topic.place(&pending) {
                    Some(at) => topic.lanes[at].queued.push_back(pending),
                    None => {
                        let error = no_partition(name, pending.partition, topic.lanes.len());
                        refused.push((pending, error));
                    }
                }
            }
            for (at, lane) in topic.lanes.iter_mut().enumerate() {
                list(&mut self.brokers, &mut self.stale, name, at, lane);
            }
        }
        for (pending, _) in &refused {
            self.records -= 1;
            self.bytes -= pending.weight;
        }
        refused
    }

    /// The engine says that there is no such topic, or refuses to say (`at_once`). What has waited long enough for it.
    pub(super) fn missing(&mut self, name: &TopicName, at_once: bool, now: Instant) -> Vec<Pending> {
        let Some(topic) = self.topics.get_mut(name) else { return Vec::new() };
        let since = *topic.missing_since.get_or_insert(now);
        for lane in &mut topic.lanes {
            lane.leader = None;
            if matches!(lane.state, State::Listed(_)) {
                lane.state = State::Idle;
            }
        }
        if !at_once && now.saturating_duration_since(since) < MISSING_MAX {
            return Vec::new();
        }
        let all = topic.drain();
        self.uncount(&all);
        self.topics.remove(name);
        // Its lanes had it.
        self.identity = None;
        all
    }

    fn uncount(&mut self, records: &[Pending]) {
        self.records -= records.len();
        self.bytes -= records.iter().map(|pending| pending.weight).sum::<usize>();
    }

    /// The lane that a job was taken from, and what is needed to list it.
    fn lane(&mut self, job: &Job) -> Option<(&mut Lane, Rest<'_>)> {
        let at = job.tp.partition as usize;
        let Self { topics, brokers, delayed, stale, .. } = self;
        let lane = topics.get_mut(&job.tp.topic)?.lanes.get_mut(at)?;
        if lane.number != job.lane {
            return None;
        }
        // The name is shared with the job, which is about to be given up.
        Some((lane, Rest { brokers, delayed, stale, tp: job.tp.clone() }))
    }
}

/// What a lane is listed or delayed in.
struct Rest<'a> {
    brokers: &'a mut HashMap<i32, Broker>,
    delayed: &'a mut BinaryHeap<Reverse<(Instant, TopicPartition)>>,
    stale: &'a mut bool,
    tp: TopicPartition,
}

impl Rest<'_> {
    fn list(&mut self, lane: &mut Lane) {
        list(self.brokers, self.stale, &self.tp.topic, self.tp.partition as usize, lane);
    }

    fn delay(&mut self, lane: &mut Lane, now: Instant) {
        let after = BACKOFF.0.saturating_mul(1 << lane.failures.min(8)).min(BACKOFF.1);
        lane.failures = lane.failures.saturating_add(1);
        lane.state = State::Delayed;
        self.delayed.push(Reverse((now + after, self.tp.clone())));
    }
}

/// Lists a lane that is idle and has work with its leader, and wakes that one's task.
fn list(brokers: &mut HashMap<i32, Broker>, stale: &mut bool, topic: &TopicName, at: usize, lane: &mut Lane) {
    if lane.state != State::Idle || !lane.has_work() {
        return;
    }
    let Some((id, broker)) = lane.leader.and_then(|id| Some((id, brokers.get_mut(&id)?))) else {
        *stale = true;
        return;
    };
    lane.state = State::Listed(id);
    // Partitions come from the engine as i32.
    broker.listed.push_back(TopicPartition::new(topic.clone(), at as Partition));
    broker.wake.notify_one();
}

fn put_back(lane: &mut Lane, records: &mut Vec<Pending>) {
    for pending in records.drain(..).rev() {
        lane.queued.push_front(pending);
    }
}

/// Spreads producers over partitions.
fn now_nanos() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos())
}

fn no_partition(topic: &TopicName, partition: Option<Partition>, partitions: usize) -> Error {
    let why = format!("it has partitions 0 to {}", partitions.saturating_sub(1));
    let partition = partition.unwrap_or_default();
    Error::new(Kind::UnknownTopic, format!("produce to partition {partition} of {topic}"), why)
}

pub(super) fn made_again(topic: &TopicName) -> Error {
    let why = "the topic was deleted and made again while the record was under way";
    Error::new(Kind::Other, format!("produce to {topic}"), why)
}
