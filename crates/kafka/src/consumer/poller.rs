//! The polling thread: librdkafka's queues on one side, [`Shared`] on the other.
//!
//! Each partition has a queue of its own, split off before it is assigned, so that the group's queue carries only rebalances
//! and errors. It is served always, which keeps `max.poll.interval.ms` however slow the owner is; a partition's queue is
//! served while the owner wants more of it, and librdkafka stops fetching what isn't taken.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset as RawOffset, TopicPartitionList};
use tokio::sync::oneshot;
use types::{Offset, TopicName, TopicPartition};

use super::state::{Command, Item, Shared};
use super::{AssignedPartition, Committed, ConsumerConfig, Event, RevokeAck, StartFrom};
use crate::{Error, Kind, Result, metrics, raw};

/// Something may have happened that nobody woke us for.
const TICK: Duration = Duration::from_millis(500);
/// One blocking question of this thread; between them the group's queue is served.
const ASK: Duration = Duration::from_secs(2);
/// Between tries of such a question.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Records taken from one partition before the next one's turn.
const TURN_RECORDS: usize = 256;
/// How long the thread waits for those who still use the client before it lets go of it.
const LET_GO: Duration = Duration::from_secs(15);

/// Timestamps with a meaning of their own (ListOffsets).
const LATEST: i64 = -1;

/// What librdkafka calls back; always on the polling thread.
pub(crate) struct Hooks {
    shared: Arc<Shared>,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Something was served that poll doesn't return.
    activity: AtomicU64,
    closing: AtomicBool,
    /// What the last error event said; poll returns only its code.
    last_error: Mutex<String>,
}

enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

impl Hooks {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            rebalances: Mutex::default(),
            activity: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            last_error: Mutex::default(),
        }
    }

    fn active(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Hooks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.active();
        self.shared.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.active();
        reason.clone_into(&mut self.last_error.lock());
        let code = error.rdkafka_error_code();
        // The end of a partition is no error, and a lost offset is the owner's to report.
        if code != Some(RDKafkaErrorCode::PartitionEOF) && code != Some(RDKafkaErrorCode::AutoOffsetReset) {
            self.shared.voice.error(&error, reason);
        }
    }
}

impl ConsumerContext for Hooks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.active();
        if self.closing.load(Ordering::Acquire) {
            // Nobody is there to ask; closing waits for this answer.
            let done = match what {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Ok(()),
                _ => unassign(consumer, list),
            };
            if let Err(error) = done {
                tracing::debug!(client = self.shared.voice.client(), %error, "unassigning while closing");
            }
            return;
        }
        let partitions = raw::entries(list).into_iter().map(|entry| entry.tp).collect();
        let rebalance = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ => Rebalance::Revoke { partitions, lost: consumer.assignment_lost() },
        };
        // Answered by the thread when the owner is ready; librdkafka waits.
        self.rebalances.lock().push_back(rebalance);
    }
}

fn unassign(consumer: &BaseConsumer<Hooks>, list: &TopicPartitionList) -> Result<(), KafkaError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// A revocation that waits for the owner.
struct Revoking {
    partitions: Vec<TopicPartition>,
    done: oneshot::Receiver<()>,
    deadline: Instant,
}

pub(super) struct Poller {
    consumer: Arc<BaseConsumer<Hooks>>,
    shared: Arc<Shared>,
    queues: BTreeMap<TopicPartition, PartitionQueue<Hooks>>,
    starts: HashMap<TopicName, StartFrom>,
    revoke_timeout: Duration,
    assigning: Option<(Vec<TopicPartition>, Instant)>,
    /// Partitions that were given, not by a group.
    given: Option<(Vec<(TopicPartition, StartFrom)>, Instant)>,
    revoking: Option<Revoking>,
    /// Partitions that stand still because their offset is gone.
    halted: BTreeSet<TopicPartition>,
}

impl Poller {
    pub(super) fn new(
        consumer: Arc<BaseConsumer<Hooks>>,
        shared: Arc<Shared>,
        group: Option<&ConsumerConfig>,
    ) -> Self {
        Self {
            consumer,
            shared,
            queues: BTreeMap::new(),
            starts: group.map(|g| g.topics.iter().cloned().collect()).unwrap_or_default(),
            revoke_timeout: Duration::from_millis(group.map_or(0, |g| g.revoke_timeout_ms).into()),
            assigning: None,
            given: None,
            revoking: None,
            halted: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopped() {
            self.serve_group();
            self.rebalance();
            self.commands();
            let more = self.serve_partitions();
            if !more {
                self.shared.wake.wait(self.patience());
            }
        }
        let Self { consumer, shared, queues, .. } = self;
        consumer.context().closing.store(true, Ordering::Release);
        shared.end();
        drop(queues);
        // Whoever still asks something through it finishes first: closing waits for the engine, which must be here.
        let deadline = Instant::now() + LET_GO;
        while Arc::strong_count(&consumer) > 1 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(consumer);
        tracing::debug!(client = shared.voice.client(), "consumer thread ended: its consumer was closed");
    }

    /// How long nothing is due.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let mut patience = TICK;
        if let Some((_, due)) = &self.assigning {
            patience = patience.min(due.saturating_duration_since(now));
        }
        if let Some((_, due)) = &self.given {
            patience = patience.min(due.saturating_duration_since(now));
        }
        if let Some(revoking) = &self.revoking {
            patience = patience.min(revoking.deadline.saturating_duration_since(now));
        }
        patience
    }

    /// Rebalances, errors, log lines: until the queue is empty.
    fn serve_group(&self) {
        let consumer = self.consumer.clone();
        loop {
            let before = consumer.context().activity.load(Ordering::Relaxed);
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    // Only what came for a partition before its queue was split off; in front of what its queue has.
                    let Ok(topic) = TopicName::new(message.topic()) else { continue };
                    let tp = TopicPartition::new(topic, message.partition());
                    self.shared.push(&tp, &mut vec![Item::Record(raw::record(&message, &tp))]);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => self.group_error(&error),
                None => {
                    if consumer.context().activity.load(Ordering::Relaxed) == before {
                        return;
                    }
                }
            }
        }
    }

    /// The owner hears of what it must act on; the engine being away is logged, and librdkafka tries again.
    fn group_error(&self, error: &KafkaError) {
        let made = Error::from_rdkafka("consume", error);
        if made.is_unavailable() {
            return;
        }
        let reason = self.consumer.context().last_error.lock().clone();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_)) || made.is_fatal();
        let made = made.because(&reason);
        self.shared.error(if fatal { made.fatal() } else { made });
    }

    /// Answers what the group wants, one thing after the other.
    fn rebalance(&mut self) {
        loop {
            if let Some(revoking) = &mut self.revoking {
                let waiting = matches!(revoking.done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
                let late = Instant::now() >= revoking.deadline;
                if waiting && !late {
                    return;
                }
                if waiting {
                    let partitions = revoking.partitions.len();
                    tracing::warn!(
                        client = self.shared.voice.client(),
                        partitions,
                        "partitions are given up before their owner was done: it took too long"
                    );
                }
                let partitions = std::mem::take(&mut revoking.partitions);
                self.revoking = None;
                self.let_go(&partitions);
            }
            if let Some((partitions, due)) = &self.assigning {
                if Instant::now() < *due {
                    return;
                }
                let partitions = partitions.clone();
                match self.assign(&partitions) {
                    Ok(()) => self.assigning = None,
                    Err(error) => {
                        let error = self.shared.voice.explain(error);
                        tracing::warn!(client = self.shared.voice.client(), %error, "assignment waits");
                        if !error.is_unavailable() {
                            self.shared.event(Event::Error(error));
                        }
                        self.assigning = Some((partitions, Instant::now() + ASK_AGAIN));
                        return;
                    }
                }
            }
            let next = self.consumer.context().rebalances.lock().pop_front();
            match next {
                None => return,
                Some(Rebalance::Assign(partitions)) => {
                    self.assigning = Some((partitions, Instant::now()));
                }
                Some(Rebalance::Revoke { partitions, lost }) => self.revoke(partitions, lost),
            }
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool) {
        metrics::rebalance(if lost { "lost" } else { "revoked" });
        for tp in &partitions {
            self.shared.remove(tp);
        }
        let (tell, done) = oneshot::channel();
        let ack = RevokeAck(Some(tell), self.shared.wake.clone());
        let wait = if lost { Duration::ZERO } else { self.revoke_timeout };
        if lost {
            // Another has them: there is nothing to wait for.
            self.let_go(&partitions);
        } else {
            let deadline = Instant::now() + wait;
            self.revoking = Some(Revoking { partitions: partitions.clone(), done, deadline });
        }
        self.shared.event(Event::Revoked { partitions, done: ack, lost });
    }

    fn let_go(&mut self, partitions: &[TopicPartition]) {
        self.shared.release(partitions);
        if let Err(error) = unassign(&self.consumer, &raw::partitions(partitions)) {
            self.shared.error(Error::from_rdkafka("give up partitions", &error));
        }
        for tp in partitions {
            self.queues.remove(tp);
            self.halted.remove(tp);
        }
    }

    /// Where to begin is asked first; then the queues are split off, so that no record comes by another way.
    fn assign(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let committed = committed(&self.consumer, raw::partitions(partitions), ASK)?;
        let uncommitted = partitions
            .iter()
            .filter(|tp| !committed.contains_key(tp))
            .map(|tp| (tp.clone(), self.starts.get(&tp.topic).copied().unwrap_or(StartFrom::Earliest)));
        let starts = starts(&self.consumer, uncommitted)?;
        let assigned: Vec<_> = partitions
            .iter()
            .map(|tp| {
                let committed = committed.get(tp).cloned();
                let start = match &committed {
                    Some(committed) => Some(committed.offset),
                    None => starts.get(tp).copied().flatten(),
                };
                AssignedPartition { tp: tp.clone(), committed, start, assignment: 0 }
            })
            .collect();
        metrics::rebalance("assigned");
        self.take_on(assigned, |consumer, list| match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
        })
    }

    fn take_on(
        &mut self,
        mut assigned: Vec<AssignedPartition>,
        assign: impl Fn(&BaseConsumer<Hooks>, &TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(assigned.len());
        for AssignedPartition { tp, start, .. } in &assigned {
            let offset = start.map_or(RawOffset::Beginning, RawOffset::Offset);
            list.add_partition_offset(tp.topic.as_str(), tp.partition, offset)
                .map_err(|e| Error::from_rdkafka(format!("assign {tp}"), &e))?;
            let wake = self.shared.wake.clone();
            if let Some(mut queue) = self.consumer.split_partition_queue(tp.topic.as_str(), tp.partition) {
                queue.set_nonempty_callback(move || wake.wake());
                self.queues.insert(tp.clone(), queue);
            }
            self.shared.add(tp, *start);
        }
        if let Err(error) = assign(&self.consumer, &list) {
            for AssignedPartition { tp, .. } in &assigned {
                self.queues.remove(tp);
                self.shared.remove(tp);
            }
            return Err(Error::from_rdkafka("assign partitions", &error));
        }
        let number = self.shared.hold(assigned.iter().map(|partition| partition.tp.clone()));
        for partition in &mut assigned {
            partition.assignment = number;
        }
        self.shared.event(Event::Assigned(assigned));
        Ok(())
    }

    fn commands(&mut self) {
        if let Some((partitions, due)) = self.given.take() {
            self.give(partitions, due);
        }
        while let Some(command) = self.shared.next_command() {
            match command {
                Command::Assign(partitions) => self.give(partitions, Instant::now()),
                Command::Seek { tp, to, reply } => {
                    let done = self.seek(&tp, to).map_err(|e| self.shared.voice.explain(e));
                    let _ = reply.send(done);
                }
            }
        }
    }

    /// Takes on partitions without a group, as soon as the engine says where they begin.
    fn give(&mut self, partitions: Vec<(TopicPartition, StartFrom)>, due: Instant) {
        if Instant::now() < due {
            self.given = Some((partitions, due));
            return;
        }
        let done = starts(&self.consumer, partitions.iter().cloned()).and_then(|starts| {
            let assigned = partitions
                .iter()
                .map(|(tp, _)| AssignedPartition {
                    tp: tp.clone(),
                    committed: None,
                    start: starts.get(tp).copied().flatten(),
                    assignment: 0,
                })
                .collect();
            self.take_on(assigned, |consumer, list| consumer.assign(list))
        });
        if let Err(error) = done {
            if !error.is_unavailable() {
                self.shared.error(error);
            }
            self.given = Some((partitions, Instant::now() + ASK_AGAIN));
        }
    }

    fn seek(&mut self, tp: &TopicPartition, to: StartFrom) -> Result<()> {
        if !self.queues.contains_key(tp) {
            return Err(Error::new(
                Kind::UnknownTopic,
                format!("seek {tp}"),
                "the partition isn't assigned here",
            ));
        }
        let start = starts(&self.consumer, [(tp.clone(), to)])?.get(tp).copied().flatten();
        let offset = start.map_or(RawOffset::Beginning, RawOffset::Offset);
        if self.halted.contains(tp) {
            // librdkafka seeks only what it fetches: this one is taken on anew.
            let mut list = raw::partitions([tp]);
            let again = self.consumer.incremental_unassign(&list).and_then(|()| {
                list.set_partition_offset(tp.topic.as_str(), tp.partition, offset)?;
                self.consumer.incremental_assign(&list)
            });
            again.map_err(|e| Error::from_rdkafka(format!("seek {tp}"), &e))?;
            self.halted.remove(tp);
        } else {
            self.consumer
                .seek(tp.topic.as_str(), tp.partition, offset, ASK)
                .map_err(|e| Error::from_rdkafka(format!("seek {tp}"), &e))?;
        }
        // What its queue still has is outdated, and librdkafka drops it when it is polled.
        self.shared.purge(tp, start);
        Ok(())
    }

    /// Takes records, partition by partition. Whether there may be more.
    fn serve_partitions(&mut self) -> bool {
        let mut more = false;
        let mut halted = Vec::new();
        let mut items = Vec::new();
        for (tp, queue) in &self.queues {
            if !self.shared.wants(tp) {
                continue;
            }
            let (mut room, mut taken) = (self.shared.room(), 0);
            while taken < TURN_RECORDS && room > 0 {
                match queue.poll(Duration::ZERO) {
                    None => break,
                    Some(Ok(message)) => {
                        let record = raw::record(&message, tp);
                        room = room.saturating_sub(record.payload_bytes());
                        items.push(Item::Record(record));
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => {
                        self.shared.push(tp, &mut items);
                        items.push(Item::End(self.end_of(tp)));
                    }
                    Some(Err(error)) => {
                        self.shared.push(tp, &mut items);
                        if self.partition_error(tp, &error) {
                            halted.push(tp.clone());
                        }
                    }
                }
                taken += 1;
            }
            more |= taken > 0;
            self.shared.push(tp, &mut items);
        }
        self.halted.extend(halted);
        more
    }

    /// The next offset at the end, which may be past markers of transactions that no record tells. The binding drops it
    /// from the event, so it is read from the event's text ("... reached end of partition at offset N (...").
    fn end_of(&self, tp: &TopicPartition) -> Offset {
        let told = end_in(&self.consumer.context().last_error.lock());
        let position = self.shared.position(tp).unwrap_or(0);
        told.map_or(position, |offset| offset.max(position))
    }

    /// Whether the partition stands still now.
    fn partition_error(&self, tp: &TopicPartition, error: &KafkaError) -> bool {
        let reason = self.consumer.context().last_error.lock().clone();
        let lost = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
        );
        if !lost {
            let made = Error::from_rdkafka(format!("consume {tp}"), error);
            if !made.is_unavailable() {
                self.shared.error(made.because(&reason));
            }
            return false;
        }
        let wanted = self.shared.position(tp);
        // Best effort: the error is told in any case.
        let available = self.consumer.fetch_watermarks(tp.topic.as_str(), tp.partition, ASK).ok();
        let range =
            available.map_or_else(String::new, |(low, high)| format!(" The log has {low} to {high}."));
        let wanted_text = wanted.map_or_else(|| "wanted".into(), |offset| offset.to_string());
        let detail = format!(
            "offset {wanted_text} isn't in the log.{range} Reading stands still here until its owner decides where to go on ({reason})"
        );
        let kind = Kind::OffsetOutOfRange { tp: tp.clone(), wanted, available };
        self.shared.error(Error::new(kind, format!("consume {tp}"), detail));
        true
    }
}

fn end_in(text: &str) -> Option<Offset> {
    let (_, rest) = text.split_once("at offset ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The group's offsets; partitions without one are absent.
pub(super) fn committed(
    consumer: &BaseConsumer<Hooks>,
    list: TopicPartitionList,
    within: Duration,
) -> Result<HashMap<TopicPartition, Committed>> {
    const WHAT: &str = "read committed offsets";
    let list = consumer.committed_offsets(list, within).map_err(|e| Error::from_rdkafka(WHAT, &e))?;
    let mut found = HashMap::new();
    for raw::Entry { tp, offset, metadata, error } in raw::entries(&list) {
        if let Some(code) = error {
            return Err(Error::from_code(format!("{WHAT} of {tp}"), code));
        }
        if offset >= 0 {
            found.insert(tp, Committed { offset, metadata });
        }
    }
    Ok(found)
}

/// Where partitions begin. `None`: at the log's start, which is asked when it is fetched.
fn starts(
    consumer: &BaseConsumer<Hooks>,
    partitions: impl IntoIterator<Item = (TopicPartition, StartFrom)>,
) -> Result<HashMap<TopicPartition, Option<Offset>>> {
    const WHAT: &str = "look up offsets";
    let mut found = HashMap::new();
    let mut asked = TopicPartitionList::new();
    let mut ask = |tp: &TopicPartition, timestamp: i64| -> Result<()> {
        let (topic, partition) = (tp.topic.as_str(), tp.partition);
        let at = RawOffset::from_raw(timestamp);
        asked
            .add_partition_offset(topic, partition, at)
            .map_err(|e| Error::from_rdkafka(format!("{WHAT} of {tp} at {timestamp} ms"), &e))
    };
    for (tp, start) in partitions {
        match start {
            StartFrom::Earliest => {
                found.insert(tp, None);
            }
            StartFrom::Offset(offset) => {
                found.insert(tp, Some(offset.max(0)));
            }
            StartFrom::Latest => ask(&tp, LATEST)?,
            StartFrom::Timestamp(at) => ask(&tp, at.max(0))?,
        }
    }
    if asked.count() == 0 {
        return Ok(found);
    }
    let answer = consumer.offsets_for_times(asked, ASK).map_err(|e| Error::from_rdkafka(WHAT, &e))?;
    let mut beyond = TopicPartitionList::new();
    for raw::Entry { tp, offset, error, .. } in raw::entries(&answer) {
        if let Some(code) = error {
            return Err(Error::from_code(format!("{WHAT} of {tp}"), code));
        }
        if offset >= 0 {
            found.insert(tp, Some(offset));
        } else {
            // No record of that time or later.
            beyond
                .add_partition_offset(tp.topic.as_str(), tp.partition, RawOffset::End)
                .map_err(|e| Error::from_rdkafka(WHAT, &e))?;
        }
    }
    if beyond.count() > 0 {
        let answer = consumer.offsets_for_times(beyond, ASK).map_err(|e| Error::from_rdkafka(WHAT, &e))?;
        for raw::Entry { tp, offset, error, .. } in raw::entries(&answer) {
            match (error, offset) {
                (Some(code), _) => return Err(Error::from_code(format!("{WHAT} of {tp}"), code)),
                (None, offset) if offset >= 0 => {
                    found.insert(tp, Some(offset));
                }
                (None, _) => {
                    return Err(Error::new(Kind::Protocol, format!("{WHAT} of {tp}"), "no offset came"));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_librdkafkas_text() {
        let text = "Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 50)";
        assert_eq!(end_in(text), Some(42));
        assert_eq!(end_in("something else"), None);
    }
}
