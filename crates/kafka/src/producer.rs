//! The producer: acks=all, idempotent, ordered by the order of [`Producer::send`] calls.
//!
//! Enqueueing is synchronous, so two sends of one thread to one partition can't overtake each other; a full
//! queue is an error at once, never a wait. What became of a record is a future of its own. Where the engine is reached over
//! plain TCP, the producer is our own ([`crate::direct`]); librdkafka's does the rest. After a
//! fatal error of that one (its sequence is broken) the client is opened again by itself: records
//! that were in flight then have failed, and say so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use runtime::kill_points::{self, Point};
use tokio::sync::{Notify, oneshot};
use types::{Headers, Offset, Partition, Record, TopicName};

use crate::context::Voice;
use crate::direct::Direct;
use crate::{ClientConfig, Error, Kind, Result, metrics, raw};

/// Deliveries that are told in one go (each is that of a batch) before other tasks get their turn.
const TURN: usize = 32;
/// A producer that broke isn't opened again more often.
const REOPEN: Duration = Duration::from_secs(1);
/// The client's own limit of a record, in bytes: the engine's is asked for and decides.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A producer's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerConfig {
    /// How long a batch waits for more records, in milliseconds.
    pub linger_ms: u32,
    /// `lz4`, `zstd`, `snappy`, `gzip` or `none`.
    pub compression: String,
    /// Records that wait or are in flight; beyond it: [`Kind::QueueFull`].
    pub queue_messages_max: u32,
    /// Their bytes; beyond it: [`Kind::QueueFull`]. In steps of 1 KiB.
    pub queue_bytes_max: u64,
    /// A record that isn't acknowledged by then has failed, in milliseconds.
    pub delivery_timeout_ms: u32,
    /// A batch's bytes before compression. The broker holds a batch, compressed, against the topic's
    /// `max.message.bytes`: for a topic whose limit is lower than this, lower this too.
    pub batch_bytes_max: u32,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            linger_ms: 5,
            compression: "lz4".into(),
            queue_messages_max: 100_000,
            queue_bytes_max: 64 << 20,
            delivery_timeout_ms: 30_000,
            batch_bytes_max: 1_000_000,
        }
    }
}

impl ProducerConfig {
    pub(crate) fn apply(&self, config: &mut rdkafka::ClientConfig) {
        let Self {
            linger_ms,
            compression,
            queue_messages_max,
            queue_bytes_max,
            delivery_timeout_ms,
            batch_bytes_max,
        } = self;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger_ms.to_string())
            .set("compression.type", compression)
            .set("queue.buffering.max.messages", queue_messages_max.to_string())
            .set("queue.buffering.max.kbytes", queue_bytes_max.div_ceil(1024).to_string())
            .set("delivery.timeout.ms", delivery_timeout_ms.to_string())
            .set("request.timeout.ms", (*delivery_timeout_ms).clamp(1, 10_000).to_string())
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("batch.size", batch_bytes_max.to_string());
    }
}

/// Where a record was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
}

/// What becomes of an enqueued record. Dropping it changes nothing: the record is sent all the same.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<Delivered>>);

impl Future for Delivery {
    type Output = Result<Delivered>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|fate| fate.unwrap_or_else(|_| Err(Error::closed("produce"))))
    }
}

/// A producer. Cheap to clone: clones share one client. Dropping the last one drops what isn't sent yet, so
/// [`flush`](Producer::flush) first.
#[derive(Clone)]
pub struct Producer(Arc<Way>);

/// How an engine is reached.
enum Way {
    /// Over plain TCP.
    Direct(Direct),
    /// By librdkafka, whose settings say how.
    Library(Library),
}

struct Library {
    client: ClientConfig,
    config: ProducerConfig,
    live: Mutex<Live>,
}

struct Live {
    link: Arc<Link<Fate>>,
    opened: Instant,
}

impl Producer {
    /// Opens the client; it connects by itself, so this succeeds while the engine is away. To be called on a tokio runtime:
    /// tasks there serve the deliveries.
    pub fn new(client: &ClientConfig, config: ProducerConfig) -> Result<Self> {
        let way = if Direct::can(client) {
            Way::Direct(Direct::open(client, &config)?)
        } else {
            Way::Library(Library::open(client, config)?)
        };
        Ok(Self(Arc::new(way)))
    }

    /// Enqueues a record, in order. `partition` of `None`: by murmur2 of the key, or any where there is none.
    ///
    /// An error here means that nothing was sent: [`Kind::QueueFull`], [`Kind::TooLarge`] (over the client's
    /// own 64 MiB), [`Kind::UnknownTopic`] where it is known that there is no such partition. The [`Delivery`] tells the rest:
    /// [`Kind::TooLarge`] by the topic's limit, [`Kind::UnknownTopic`] after at most 5 s, [`Kind::Timeout`] after the delivery
    /// timeout.
    pub fn send(&self, topic: &TopicName, partition: Option<Partition>, record: Record) -> Result<Delivery> {
        kill_points::pass(Point::ProduceBefore);
        match &*self.0 {
            Way::Direct(direct) => direct.send(topic, partition, record).map(Delivery),
            Way::Library(library) => library.send(topic, partition, record),
        }
    }

    /// Records that are enqueued and not yet acknowledged or failed.
    pub fn in_flight(&self) -> usize {
        match &*self.0 {
            Way::Direct(direct) => direct.in_flight(),
            Way::Library(library) => library.live.lock().link.outstanding(),
        }
    }

    /// Waits until every enqueued record is acknowledged or failed, at most `within`.
    pub async fn flush(&self, within: Duration) -> Result<()> {
        match &*self.0 {
            Way::Direct(direct) => direct.drained(within).await,
            Way::Library(library) => {
                let link = library.live.lock().link.clone();
                link.drained(within).await
            }
        }
    }
}

impl Library {
    fn open(client: &ClientConfig, config: ProducerConfig) -> Result<Self> {
        let link = Arc::new(Self::link_to(client, &config)?);
        let live = Mutex::new(Live { link, opened: Instant::now() });
        Ok(Self { client: client.clone(), config, live })
    }

    fn link_to(client: &ClientConfig, config: &ProducerConfig) -> Result<Link<Fate>> {
        let mut settings = client.base()?;
        config.apply(&mut settings);
        Link::open(client, &settings)
    }

    fn send(&self, topic: &TopicName, partition: Option<Partition>, record: Record) -> Result<Delivery> {
        let link = self.link()?;
        let (tell, told) = oneshot::channel();
        let fate = Fate {
            tell: Some(tell),
            topic: topic.clone(),
            bytes: record.payload_bytes(),
            enqueued: Instant::now(),
        };
        link.send(topic, partition, &record, fate)?;
        Ok(Delivery(told))
    }

    /// The client; opened anew if a fatal error has broken it.
    fn link(&self) -> Result<Arc<Link<Fate>>> {
        let mut live = self.live.lock();
        if live.link.is_broken() && live.opened.elapsed() >= REOPEN {
            let address = &self.client.bootstrap;
            tracing::warn!(client = self.client.client_id, address, "opening the producer again");
            live.link = Arc::new(Self::link_to(&self.client, &self.config)?);
            live.opened = Instant::now();
        }
        Ok(live.link.clone())
    }
}

/// A record's way back to its sender.
struct Fate {
    tell: Option<oneshot::Sender<Result<Delivered>>>,
    topic: TopicName,
    bytes: usize,
    enqueued: Instant,
}

impl Settle for Fate {
    fn settle(mut self, fate: Result<Delivered>) {
        if fate.is_ok() {
            kill_points::pass(Point::ProduceAfter);
        }
        if let Some(tell) = self.tell.take() {
            // The sender may have lost interest.
            let _ = tell.send(fate);
        }
    }
    fn topic(&self) -> &TopicName {
        &self.topic
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn enqueued(&self) -> Instant {
        self.enqueued
    }
}

/// What a record carries through the client, to be told its end.
pub(crate) trait Settle: Send + Sync + 'static {
    /// Called once, on the task that serves the client: must not block.
    fn settle(self, fate: Result<Delivered>);
    fn topic(&self) -> &TopicName;
    fn bytes(&self) -> usize;
    fn enqueued(&self) -> Instant;
}

/// librdkafka's producer and the task that serves its deliveries. Plain and transactional producers share it.
///
/// A task and no thread: who waits for a record is woken on the runtime's own threads, all of a batch together. From
/// another thread each of them would cost a system call.
pub(crate) struct Link<F: Settle> {
    /// `None` only while dropping.
    producer: Option<Arc<BaseProducer<Hooks<F>>>>,
    hooks: Arc<Counts>,
    wake: Arc<Wake>,
}

/// Wakes the task that serves a producer.
#[derive(Default)]
pub(crate) struct Wake {
    pub(crate) ready: Notify,
    stop: AtomicBool,
}

/// What the serving task holds. It goes on a thread of its own, since dropping the client waits: what isn't sent is
/// dropped, and told so.
struct Served<F: Settle>(Option<(raw::Watch, Arc<BaseProducer<Hooks<F>>>)>);

impl<F: Settle> Served<F> {
    async fn serve(self, wake: Arc<Wake>, name: String) {
        while !wake.stop.load(Ordering::Acquire) {
            wake.ready.notified().await;
            let Some((queue, producer)) = &self.0 else { return };
            let mut turn = 0;
            while queue.len() > 0 {
                producer.poll(Duration::ZERO);
                turn += 1;
                if turn % TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        tracing::debug!(client = name, "deliveries are served no more: the producer was dropped");
    }
}

impl<F: Settle> Drop for Served<F> {
    fn drop(&mut self) {
        let Some((watch, producer)) = self.0.take() else { return };
        let end = std::thread::Builder::new().name("kafka-end".into()).spawn(move || {
            drop(watch);
            drop(producer);
        });
        if let Err(error) = end {
            tracing::warn!(%error, "no thread for the end of a producer: it ended here");
        }
    }
}

/// Deliveries that are awaited, and whether the client broke.
pub(crate) struct Counts {
    pub(crate) voice: Voice,
    outstanding: AtomicUsize,
    drained: Notify,
    broken: AtomicBool,
}

pub(crate) struct Hooks<F> {
    counts: Arc<Counts>,
    fate: std::marker::PhantomData<fn(F)>,
}

impl<F: Settle> Link<F> {
    pub(crate) fn open(client: &ClientConfig, settings: &rdkafka::ClientConfig) -> Result<Self> {
        let counts = Arc::new(Counts {
            voice: Voice::new(client),
            outstanding: AtomicUsize::new(0),
            drained: Notify::new(),
            broken: AtomicBool::new(false),
        });
        let hooks = Hooks { counts: counts.clone(), fate: std::marker::PhantomData };
        let producer: BaseProducer<Hooks<F>> = settings
            .create_with_context(hooks)
            .map_err(|e| Error::from_rdkafka("open a producer", &e).at(&client.bootstrap))?;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|e| Error::new(Kind::Other, "serve a producer", e.to_string()))?;
        let producer = Arc::new(producer);
        let wake = Arc::new(Wake::default());
        let watch = raw::Watch::new(producer.client(), wake.clone());
        // What came before it was watched.
        wake.ready.notify_one();
        let served = Served(Some((watch, producer.clone())));
        // Its owner is the link: it ends when that is dropped, and holds nothing that must be waited for.
        drop(runtime.spawn(served.serve(wake.clone(), client.client_id.clone())));
        Ok(Self { producer: Some(producer), hooks: counts, wake })
    }

    pub(crate) fn producer(&self) -> &Arc<BaseProducer<Hooks<F>>> {
        self.producer.as_ref().expect("taken in drop only")
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.hooks.voice
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.hooks.broken.load(Ordering::Acquire)
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.hooks.outstanding.load(Ordering::Acquire)
    }

    pub(crate) fn send(
        &self,
        topic: &TopicName,
        partition: Option<Partition>,
        record: &Record,
        fate: F,
    ) -> Result<()> {
        let mut message = BaseRecord::<[u8], [u8], Box<F>>::with_opaque_to(topic.as_str(), Box::new(fate));
        message.partition = partition;
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        // librdkafka takes 0 for "now": the epoch itself can't be said.
        message.timestamp = record.timestamp;
        if !record.headers.is_empty() {
            message.headers = Some(headers(&record.headers));
        }
        // Before the send: the delivery may come before it returns.
        self.hooks.outstanding.fetch_add(1, Ordering::AcqRel);
        self.producer().send(message).map_err(|(error, _)| {
            self.hooks.settled();
            self.hooks.note(&error);
            let operation = format!("produce to {topic}");
            let error = self.fatal(&operation).unwrap_or_else(|| Error::from_rdkafka(operation, &error));
            metrics::produce_error(&error);
            self.hooks.voice.explain(error)
        })
    }

    /// What broke the client for good, if something has. Later failures (purged records, refused calls) are only its
    /// consequences and don't tell, e.g., that it was fenced.
    pub(crate) fn fatal(&self, operation: &str) -> Option<Error> {
        let (code, why) = self.producer().client().fatal_error()?;
        Some(self.voice().explain(Error::from_code(operation, code).because(&why).fatal()))
    }

    /// Waits until nothing is outstanding.
    pub(crate) async fn drained(&self, within: Duration) -> Result<()> {
        let wait = async {
            loop {
                let notified = self.hooks.drained.notified();
                if self.outstanding() == 0 {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(within, wait).await.map_err(|_| {
            let operation = format!("flush {} records", self.outstanding());
            self.hooks.voice.explain(Error::timeout(operation, within))
        })
    }
}

impl<F: Settle> Drop for Link<F> {
    fn drop(&mut self) {
        self.hooks.voice.close();
        // In this order: the serving task must be the last owner, because dropping the client waits.
        self.producer = None;
        self.wake.stop.store(true, Ordering::Release);
        self.wake.ready.notify_one();
    }
}

impl Counts {
    fn settled(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drained.notify_waiters();
        }
    }

    fn note(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.broken.store(true, Ordering::Release);
        }
    }
}

impl<F: Settle> ClientContext for Hooks<F> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.counts.voice.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.counts.note(&error);
        self.counts.voice.error(&error, reason);
    }
}

impl<F: Settle> ProducerContext for Hooks<F> {
    type DeliveryOpaque = Box<F>;

    fn delivery(&self, result: &DeliveryResult<'_>, fate: Box<F>) {
        match result {
            Ok(message) => {
                metrics::produced(fate.bytes(), fate.enqueued().elapsed());
                fate.settle(Ok(Delivered { partition: message.partition(), offset: message.offset() }));
            }
            Err((error, _)) => {
                self.counts.note(error);
                let error = Error::from_rdkafka(format!("produce to {}", fate.topic()), error);
                metrics::produce_error(&error);
                fate.settle(Err(self.counts.voice.explain(error)));
            }
        }
        self.counts.settled();
    }
}

fn headers(headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |made, header| {
        made.insert(Header { key: &header.name, value: header.value.as_deref() })
    })
}
