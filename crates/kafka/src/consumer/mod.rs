//! The consumer: a thread of its own polls librdkafka, the owner takes [`Event`]s at its own pace.
//!
//! Invariants:
//! - A slow owner never costs the membership: the thread goes on polling while the buffer is full.
//! - The records of a partition come in order, after its [`Event::Assigned`]. After [`Event::Revoked`] none comes: what
//!   was buffered is dropped, because the next owner reads it again.
//! - The rebalance waits for the [`RevokeAck`] (up to a deadline), so that the owner can finish and commit first.
//! - Nothing is committed that the owner didn't say, and a partition whose offset is gone stops with
//!   [`Kind::OffsetOutOfRange`](crate::Kind::OffsetOutOfRange): it never jumps.
//! - Memory is bounded: `buffer_bytes_max` here, and [`PARTITION_QUEUE_BYTES`] and one fetch a partition in librdkafka.
//!
//! Classic group protocol, cooperative-sticky, read_committed. Not done: subscribing by pattern, the protocol of KIP-848.

mod poller;
mod state;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{Semaphore, oneshot};
use types::{Headers, Offset, Record, TimestampMs, TopicName, TopicPartition};

use self::poller::{Hooks, Poller};
use self::state::Shared;
use crate::context::Voice;
use crate::{ClientConfig, Error, Kind, Result, raw};

/// What librdkafka may hold of one partition before it stops fetching it, beside the owner's buffer.
const PARTITION_QUEUE_BYTES: usize = 256 << 10;
/// One partition's part of one fetch answer, as it is compressed: JSON unfolds to ten times of that and more, and is held
/// unfolded. A larger record still comes, alone.
const PARTITION_FETCH_BYTES: usize = 256 << 10;
/// One fetch answer, as it is compressed.
const FETCH_BYTES: usize = 2 << 20;
/// How long a question to the engine (offsets, watermarks) may take.
const QUERY: Duration = Duration::from_secs(10);
/// How long any call may take, its turn included.
const CALL_MAX: Duration = Duration::from_secs(15);

/// Where a partition begins that has no committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// With the oldest record.
    Earliest,
    /// With records that come after the assignment. The offset is fixed then: commit it early, else a restart moves it.
    Latest,
    /// With the first record of this time or later; where there is none, as [`StartFrom::Latest`].
    Timestamp(TimestampMs),
    /// At this offset.
    Offset(Offset),
}

/// How records are fetched and handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchConfig {
    /// Payload that waits for the owner, in bytes.
    pub buffer_bytes_max: usize,
    /// Records of one [`Event::Records`].
    pub records_max: usize,
    /// Whether [`Event::EndOfPartition`] is told.
    pub end_of_partition: bool,
    /// How long the engine holds back an answer that has no records, in milliseconds. So long it may take until an end is
    /// told that lies behind a transaction's marker; shorter costs more requests while nothing comes.
    pub wait_max_ms: u32,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self { buffer_bytes_max: 4 << 20, records_max: 500, end_of_partition: false, wait_max_ms: 500 }
    }
}

/// A group's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// The group.
    pub group_id: String,
    /// A static member: it comes back to its partitions without a rebalance, and fences an earlier process of this name.
    pub group_instance_id: Option<String>,
    /// What to read, and where to begin where nothing is committed.
    pub topics: Vec<(TopicName, StartFrom)>,
    /// A member that isn't heard of for so long has lost its partitions, in milliseconds.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for a [`RevokeAck`], in milliseconds.
    pub revoke_timeout_ms: u32,
    /// Fetching.
    pub fetch: FetchConfig,
}

impl ConsumerConfig {
    /// With the defaults: session 10 s, revocation 15 s.
    pub fn new(group_id: impl Into<String>, topics: Vec<(TopicName, StartFrom)>) -> Self {
        Self {
            group_id: group_id.into(),
            group_instance_id: None,
            topics,
            session_timeout_ms: 10_000,
            revoke_timeout_ms: 15_000,
            fetch: FetchConfig::default(),
        }
    }
}

/// A record as it was read. Its bytes are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Where.
    pub tp: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp; -1 if it has none.
    pub timestamp_ms: TimestampMs,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers. A name that isn't UTF-8 is read lossily.
    pub headers: Headers,
}

impl ConsumedRecord {
    /// What it weighs: key, value, header names and values, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.payload_bytes()
    }

    /// The same content to be produced, with its timestamp.
    pub fn to_record(&self) -> Record {
        Record {
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp: (self.timestamp_ms >= 0).then_some(self.timestamp_ms),
        }
    }
}

/// A committed offset: the next record to read, and what was committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: Offset,
    /// At most 4,096 bytes of the committer's own.
    pub metadata: String,
}

/// A partition that is the owner's now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPartition {
    /// Which.
    pub tp: TopicPartition,
    /// What the group had committed.
    pub committed: Option<Committed>,
    /// Where reading begins: the committed offset, else by [`StartFrom`]. `None`: at the log's start, wherever that is by then.
    pub start: Option<Offset>,
    /// Numbers this consumer's assignments, rising from 1: for [`Handle::group_metadata`].
    pub assignment: u64,
}

/// A partition's first offset, and the one after the last that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The oldest record's offset.
    pub low: Offset,
    /// The next record's offset.
    pub high: Offset,
}

/// Lets the rebalance go on, when told or dropped.
#[derive(Debug)]
pub struct RevokeAck(Option<oneshot::Sender<()>>, Arc<state::Wake>);

impl RevokeAck {
    /// The owner has let go: what it wanted to commit is committed.
    pub fn done(self) {}
}

impl Drop for RevokeAck {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            let _ = done.send(());
        }
        self.1.wake();
    }
}

/// What happens to a consumer, in order.
#[derive(Debug)]
pub enum Event {
    /// Records of one partition, in order, at least one.
    Records(Vec<ConsumedRecord>),
    /// Partitions came.
    Assigned(Vec<AssignedPartition>),
    /// Partitions go.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Drop it when what must be committed is committed.
        done: RevokeAck,
        /// They are another's already (the session timed out, or the member was fenced): a commit would fail.
        lost: bool,
    },
    /// Nothing more to read now; `offset` is the next that will be. Only with [`FetchConfig::end_of_partition`].
    EndOfPartition(TopicPartition, Offset),
    /// Something failed. Unless [`is_fatal`](Error::is_fatal), the consumer goes on by itself.
    Error(Error),
}

/// The generation that a member is in: what [`send_offsets`](crate::Transaction::send_offsets) is checked against.
#[derive(Clone)]
pub struct GroupMetadata(Arc<ConsumerGroupMetadata>);

impl GroupMetadata {
    pub(crate) fn raw(&self) -> &ConsumerGroupMetadata {
        &self.0
    }
}

/// A consumer and its stream of events. What doesn't need the stream is on its [`Handle`], to which it derefs.
pub struct Consumer {
    handle: Handle,
    ended: Option<oneshot::Receiver<()>>,
}

/// Acts on a consumer from anywhere. Cheap to clone; it doesn't keep the consumer open.
#[derive(Clone)]
pub struct Handle {
    consumer: Weak<BaseConsumer<Hooks>>,
    shared: Arc<Shared>,
    /// Blocking commits and questions, one at a time: one that hangs must not pile up threads.
    turn: Arc<Semaphore>,
}

impl Consumer {
    /// Joins a group. It connects by itself, so this succeeds while the engine is away.
    pub fn subscribe(client: &ClientConfig, config: ConsumerConfig) -> Result<Self> {
        let mut settings = Self::settings(client, &config.fetch)?;
        settings
            .set("group.id", &config.group_id)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", config.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (config.session_timeout_ms / 4).max(100).to_string());
        if let Some(instance) = &config.group_instance_id {
            settings.set("group.instance.id", instance);
        }
        let made = Self::open(client, &settings, &config.fetch, Some(&config))?;
        if let Some(consumer) = made.handle.consumer.upgrade() {
            let topics: Vec<&str> = config.topics.iter().map(|(topic, _)| topic.as_str()).collect();
            consumer.subscribe(&topics).map_err(|e| {
                Error::from_rdkafka(format!("subscribe to {}", topics.join(", ")), &e).at(&client.bootstrap)
            })?;
        }
        Ok(made)
    }

    /// Reads partitions without a group: nothing is committed, [`Event::Assigned`] comes first.
    pub fn assign(
        client: &ClientConfig,
        partitions: Vec<(TopicPartition, StartFrom)>,
        fetch: FetchConfig,
    ) -> Result<Self> {
        let mut settings = Self::settings(client, &fetch)?;
        // librdkafka assigns only with a group; it is never joined and never committed to.
        settings.set("group.id", format!("vltava.reader.{}", client.client_id));
        let made = Self::open(client, &settings, &fetch, None)?;
        made.handle.shared.command(state::Command::Assign(partitions));
        Ok(made)
    }

    fn settings(client: &ClientConfig, fetch: &FetchConfig) -> Result<rdkafka::ClientConfig> {
        let FetchConfig { buffer_bytes_max: _, records_max: _, end_of_partition, wait_max_ms } = fetch;
        let mut settings = client.base()?;
        settings
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", end_of_partition.to_string())
            .set("queued.max.messages.kbytes", (PARTITION_QUEUE_BYTES / 1024).to_string())
            .set("fetch.max.bytes", FETCH_BYTES.to_string())
            .set("max.partition.fetch.bytes", PARTITION_FETCH_BYTES.to_string())
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.wait.max.ms", wait_max_ms.to_string());
        Ok(settings)
    }

    fn open(
        client: &ClientConfig,
        settings: &rdkafka::ClientConfig,
        fetch: &FetchConfig,
        group: Option<&ConsumerConfig>,
    ) -> Result<Self> {
        let voice = Voice::new(client);
        let shared = Arc::new(Shared::new(voice, fetch));
        let hooks = Hooks::new(shared.clone());
        let mut consumer = BaseConsumer::from_config_and_context(settings, hooks)
            .map_err(|e| Error::from_rdkafka("open a consumer", &e).at(&client.bootstrap))?;
        let wake = shared.wake.clone();
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let handle = Handle {
            consumer: Arc::downgrade(&consumer),
            shared: shared.clone(),
            turn: Arc::new(Semaphore::new(1)),
        };
        let (tell, ended) = oneshot::channel();
        let poller = Poller::new(consumer, shared, group);
        std::thread::Builder::new()
            .name("kafka-consumer".into())
            .spawn(move || {
                poller.run();
                let _ = tell.send(());
            })
            .map_err(|e| Error::new(Kind::Other, "start the consumer's thread", e.to_string()))?;
        Ok(Self { handle, ended: Some(ended) })
    }

    /// The next event; pending while there is none. Cancel-safe: an event that wasn't returned comes again.
    /// After the end: [`Kind::Closed`] for ever.
    pub async fn next(&mut self) -> Event {
        loop {
            // Before looking, so that an event between looking and waiting isn't missed.
            let ready = self.handle.shared.ready.notified();
            if let Some(event) = self.handle.shared.take() {
                return event;
            }
            ready.await;
        }
    }

    /// What is at hand, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.handle.shared.take()
    }

    /// A handle.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Leaves (a static member keeps its partitions until its session ends) and waits for the thread, at most `within`.
    pub async fn close(mut self, within: Duration) -> Result<()> {
        self.handle.shared.stop();
        let Some(ended) = self.ended.take() else { return Ok(()) };
        match tokio::time::timeout(within, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.handle.shared.voice.explain(Error::timeout("close a consumer", within))),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.shared.voice.close();
        self.handle.shared.stop();
    }
}

/// A consumer is its handle and the stream of events.
impl std::ops::Deref for Consumer {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Handle {
    /// Hands over no more records of these partitions until [`resume`](Handle::resume). What is buffered stays
    /// (bounded) and comes then. A partition that is revoked and comes back isn't paused.
    pub fn pause(&self, partitions: &[TopicPartition]) {
        self.shared.set_paused(partitions, true);
    }

    /// Ends a pause.
    pub fn resume(&self, partitions: &[TopicPartition]) {
        self.shared.set_paused(partitions, false);
    }

    /// Goes on elsewhere in an assigned partition. Records that were buffered are dropped; the next that comes is
    /// the one at `to` or after. [`StartFrom::Timestamp`] and [`StartFrom::Latest`] ask the engine.
    pub async fn seek(&self, tp: &TopicPartition, to: StartFrom) -> Result<()> {
        let (reply, replied) = oneshot::channel();
        self.shared.command(state::Command::Seek { tp: tp.clone(), to, reply });
        replied.await.unwrap_or_else(|_| Err(Error::closed(format!("seek {tp}"))))
    }

    /// The member's generation, to commit offsets of `partitions` in a transaction. `as_of` is the highest
    /// [`AssignedPartition::assignment`] that the caller knew of when it began with their records.
    ///
    /// The engine refuses offsets of a generation that is over, but what a member read in one generation it could
    /// commit in the next: where a partition went meanwhile and came again (the session timed out while the engine
    /// was away), it is read once more from where it was committed, and both would count. So this fails with the
    /// engine's own code, ILLEGAL_GENERATION, unless all partitions were held without a break.
    pub async fn group_metadata(&self, partitions: &[TopicPartition], as_of: u64) -> Result<GroupMetadata> {
        const WHAT: &str = "read the group's generation";
        // In this order. A session that timed out before the generation was read is seen as lost until the partitions
        // are let go, and these are taken out of what is held before they are. What happens after it was read makes
        // it a generation that is over, which is for the engine to find.
        let (metadata, lost) = self
            .blocking(WHAT, |consumer| {
                let metadata = consumer.group_metadata();
                Ok((metadata, consumer.assignment_lost()))
            })
            .await?;
        let metadata = metadata.ok_or_else(|| Error::new(Kind::Other, WHAT, "this consumer has no group"))?;
        let gone = if lost { partitions.first() } else { self.shared.not_held(partitions, as_of) };
        match gone {
            None => Ok(GroupMetadata(Arc::new(metadata))),
            Some(tp) => {
                let why = format!("{tp} was taken away after its records were read");
                Err(Error::from_code(WHAT, RDKafkaErrorCode::IllegalGeneration).because(&why))
            }
        }
    }

    /// Commits: each offset is the next record to read, with metadata of at most 4,096 bytes.
    pub async fn commit(&self, offsets: &[(TopicPartition, Offset, String)]) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        const WHAT: &str = "commit offsets";
        let list = raw::offsets(offsets);
        let shared = self.shared.clone();
        self.blocking(WHAT, move |consumer| {
            let until = Instant::now() + CALL_MAX;
            let wanted = || !shared.stopped() && Instant::now() < until;
            match raw::commit(consumer.client(), &list, wanted) {
                Some(Ok(())) => Ok(()),
                Some(Err(code)) => Err(Error::from_rdkafka(WHAT, &KafkaError::ConsumerCommit(code))),
                None if shared.stopped() => Err(Error::closed(WHAT)),
                None => Err(Error::timeout(WHAT, CALL_MAX)),
            }
        })
        .await
    }

    /// What the group has committed, in the order asked for.
    pub async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        let list = raw::partitions(partitions);
        let found = self
            .blocking("read committed offsets", move |consumer| poller::committed(consumer, list, QUERY))
            .await?;
        Ok(partitions.iter().map(|tp| found.get(tp).cloned()).collect())
    }

    /// Asks the engine for a partition's first and next offset.
    pub async fn watermarks(&self, tp: &TopicPartition) -> Result<Watermarks> {
        let asked = tp.clone();
        self.blocking("read watermarks", move |consumer| {
            let (low, high) = consumer
                .fetch_watermarks(asked.topic.as_str(), asked.partition, QUERY)
                .map_err(|e| Error::from_rdkafka(format!("read the watermarks of {asked}"), &e))?;
            Ok(Watermarks { low, high })
        })
        .await
    }

    /// First and next offset as the last fetch answer said, without asking. `None` before the first answer.
    /// Good enough for lag: it is as old as the last fetch, at most about 0.5 s.
    pub fn cached_watermarks(&self, tp: &TopicPartition) -> Option<Watermarks> {
        let consumer = self.consumer.upgrade()?;
        raw::cached_watermarks(consumer.client(), tp).map(|(low, high)| Watermarks { low, high })
    }

    /// How many records lie between `position` (the next to process) and the partition's end, by the last fetch answer.
    pub fn lag(&self, tp: &TopicPartition, position: Offset) -> Option<u64> {
        let Watermarks { low, high } = self.cached_watermarks(tp)?;
        Some(u64::try_from(high - position.max(low)).unwrap_or(0))
    }

    /// Runs a call that waits for the engine on a blocking thread. Its turn ends with the call, not with the caller.
    async fn blocking<T, F>(&self, what: &'static str, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&BaseConsumer<Hooks>) -> Result<T> + Send + 'static,
    {
        let consumer = self.consumer.clone();
        let turn = self.turn.clone();
        let run = async {
            let turn = turn.acquire_owned().await.map_err(|_| Error::closed(what))?;
            tokio::task::spawn_blocking(move || {
                let consumer = consumer.upgrade().ok_or_else(|| Error::closed(what))?;
                let done = call(&consumer);
                drop((consumer, turn));
                done
            })
            .await
            .map_err(|e| Error::new(Kind::Other, what, e.to_string()))?
        };
        match tokio::time::timeout(CALL_MAX, run).await {
            Ok(done) => done.map_err(|e| self.shared.voice.explain(e)),
            Err(_) => Err(self.shared.voice.explain(Error::timeout(what, CALL_MAX))),
        }
    }
}
