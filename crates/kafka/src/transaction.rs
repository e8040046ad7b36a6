//! Transactional producers: a [`Transaction`] is consumed by commit or abort.
//!
//! One transaction of a producer is open at a time. When [`Transaction::commit`] fails, the transaction has been
//! aborted already, unless the error [`needs_reopen`](Error::needs_reopen): then the producer is of no
//! more use, and opening it again under its id ends what it left. A transaction that is dropped is
//! aborted before the next one begins. librdkafka's blocking calls run on blocking threads, in
//! slices of [`SLICE`], so that one that nobody awaits any more ends soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};
use runtime::kill_points::{self, Point};
use types::{Offset, Partition, Record, TopicName, TopicPartition};

use crate::consumer::GroupMetadata;
use crate::producer::{Delivered, Hooks, Link, ProducerConfig, Settle};
use crate::{ClientConfig, Error, Kind, Result, metrics, raw};

/// The longest single blocking call; a longer wait is made of several.
const SLICE: Duration = Duration::from_secs(2);
/// Between tries of a call that may succeed later.
const RETRY: Duration = Duration::from_millis(50);

/// A transactional producer's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnConfig {
    /// The engine aborts a transaction that is open longer, in milliseconds. So long, at most, a killed owner holds
    /// up readers of what it wrote.
    pub timeout_ms: u32,
    /// How long opening, committing, aborting and sending offsets may each take, in milliseconds.
    pub operation_timeout_ms: u32,
    /// Queue and batches. Its delivery timeout is held to `timeout_ms`.
    pub producer: ProducerConfig,
}

impl Default for TxnConfig {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            operation_timeout_ms: 15_000,
            // Records of a batch come at once and then a commit waits for them: lingering would only add to it.
            producer: ProducerConfig { linger_ms: 1, ..ProducerConfig::default() },
        }
    }
}

/// A producer with a `transactional.id`. The next one that opens under the same id fences it.
pub struct TransactionalProducer {
    link: Arc<Link<Fate>>,
    client: ClientConfig,
    id: String,
    config: TxnConfig,
    state: Arc<Mutex<State>>,
}

/// Between transactions; in one; one was dropped; a delivery failed; the end of one wasn't awaited; the client broke.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    Open,
    MustAbort,
    MustReopen,
    Ending,
    Broken(String),
}

/// Where the first failed delivery of a transaction is kept for its commit.
type Failure = Arc<Mutex<Option<Error>>>;

struct Fate {
    topic: TopicName,
    bytes: usize,
    enqueued: Instant,
    failure: Failure,
}

impl Settle for Fate {
    fn settle(self, fate: Result<Delivered>) {
        if let Err(error) = fate {
            self.failure.lock().get_or_insert(error);
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

impl TransactionalProducer {
    /// Opens it: fences an earlier owner of the id and ends what that left open. Waits for the engine at most
    /// `operation_timeout_ms`; a retriable error means that it may be tried again.
    pub async fn open(client: &ClientConfig, transactional_id: &str, config: TxnConfig) -> Result<Self> {
        let link = Self::connect(client, transactional_id, &config)?;
        let (client, id) = (client.clone(), transactional_id.to_owned());
        let made = Self { link, client, id, config, state: Arc::new(Mutex::new(State::Ready)) };
        made.call("open", |p, within| p.init_transactions(within)).await?;
        Ok(made)
    }

    fn connect(client: &ClientConfig, id: &str, config: &TxnConfig) -> Result<Arc<Link<Fate>>> {
        let mut settings = client.base()?;
        let producer = ProducerConfig {
            delivery_timeout_ms: config.producer.delivery_timeout_ms.min(config.timeout_ms),
            ..config.producer.clone()
        };
        producer.apply(&mut settings);
        settings.set("transactional.id", id).set("transaction.timeout.ms", config.timeout_ms.to_string());
        Ok(Arc::new(Link::open(client, &settings)?))
    }

    /// Its `transactional.id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it can begin a transaction; if not, open another one.
    pub fn is_usable(&self) -> bool {
        !self.link.is_broken() && !matches!(*self.state.lock(), State::Broken(_) | State::Ending)
    }

    /// Begins a transaction; aborts first the one before it if that was dropped.
    pub async fn begin(&mut self) -> Result<Transaction<'_>> {
        let state = self.state.lock().clone();
        match state {
            State::Ready => {}
            State::MustAbort | State::Open => self.abort().await?,
            State::MustReopen => {
                // librdkafka goes on numbering past the record that failed, and the engine would refuse the next
                // ones: it takes a new epoch.
                self.link = Self::connect(&self.client, &self.id, &self.config)?;
                *self.state.lock() = State::Ending;
                self.call("open again", |p, within| p.init_transactions(within)).await?;
                *self.state.lock() = State::Ready;
            }
            State::Ending => {
                let why = "the end of the last transaction wasn't awaited; open the producer again";
                return Err(self.broken(why));
            }
            State::Broken(why) => return Err(self.broken(&why)),
        }
        self.call("begin a transaction", |p, _| p.begin_transaction()).await?;
        *self.state.lock() = State::Open;
        kill_points::pass(Point::TransactionBegun);
        Ok(Transaction { producer: self, failure: Failure::default(), ended: false, begun: Instant::now() })
    }

    /// Aborts what is open and closes.
    pub async fn close(self) -> Result<()> {
        let open = matches!(*self.state.lock(), State::Open | State::MustAbort);
        if open { self.abort().await } else { Ok(()) }
    }

    async fn abort(&self) -> Result<()> {
        *self.state.lock() = State::Ending;
        let ended = self.call("abort", |p, within| p.abort_transaction(within)).await;
        metrics::transaction("aborted");
        *self.state.lock() = match &ended {
            Ok(()) => State::Ready,
            Err(error) => State::Broken(error.to_string()),
        };
        // Whatever it was: after a failed abort only a new producer knows where it stands.
        ended.map_err(Error::fatal)
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(Kind::Other, format!("begin a transaction of {}", self.id), why)
            .at(self.link.voice().address())
            .fatal()
    }

    /// Runs a blocking call until it ends, for as long as it may be tried again, at most `operation_timeout_ms`.
    async fn call<F>(&self, what: &str, call: F) -> Result<()>
    where
        F: Fn(&BaseProducer<Hooks<Fate>>, Duration) -> Result<(), KafkaError> + Send + Sync + 'static,
    {
        let deadline = Instant::now() + Duration::from_millis(self.config.operation_timeout_ms.into());
        let call = Arc::new(call);
        loop {
            let slice = deadline.saturating_duration_since(Instant::now()).min(SLICE);
            let (link, run) = (self.link.clone(), call.clone());
            let ended = tokio::task::spawn_blocking(move || {
                let ended = run(link.producer(), slice);
                drop(link);
                ended
            })
            .await
            .map_err(|e| Error::new(Kind::Other, format!("{what} of {}", self.id), e.to_string()).fatal())?;
            let Err(error) = ended else { return Ok(()) };
            let retriable =
                matches!(&error, KafkaError::Transaction(e) if e.is_retriable() && !e.txn_requires_abort());
            if retriable && Instant::now() + RETRY < deadline {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let operation = format!("{what} of {}", self.id);
            return Err(match self.link.fatal(&operation) {
                Some(fatal) => fatal,
                None => self.link.voice().explain(Error::from_rdkafka(operation, &error)),
            });
        }
    }
}

/// An open transaction. Dropped without an end, it is aborted before the next one.
#[must_use = "a transaction that isn't committed is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
    failure: Failure,
    ended: bool,
    begun: Instant,
}

impl Transaction<'_> {
    /// Enqueues a record; its delivery is part of the commit.
    ///
    /// [`Kind::QueueFull`]: wait for [`flush`](Transaction::flush) and send it again.
    pub fn send(&self, topic: &TopicName, partition: Option<Partition>, record: &Record) -> Result<()> {
        let fate = Fate {
            topic: topic.clone(),
            bytes: record.payload_bytes(),
            enqueued: Instant::now(),
            failure: self.failure.clone(),
        };
        self.producer.link.send(topic, partition, record, fate)
    }

    /// Waits until all records sent so far are delivered or failed; a failure is told by the commit.
    pub async fn flush(&self, within: Duration) -> Result<()> {
        self.producer.link.drained(within).await
    }

    /// Puts a consumer's offsets into the transaction: each is the next record to read, with metadata of at most
    /// 4,096 bytes. Fails where the member's generation is over: then abort.
    pub async fn send_offsets(
        &self,
        offsets: &[(TopicPartition, Offset, String)],
        group: &GroupMetadata,
    ) -> Result<()> {
        let list = raw::offsets(offsets);
        let group = group.clone();
        kill_points::pass(Point::OffsetsBefore);
        self.producer
            .call("send offsets", move |p, within| p.send_offsets_to_transaction(&list, group.raw(), within))
            .await
            .map_err(|e| if e.is_fatal() { e } else { e.aborted() })?;
        kill_points::pass(Point::OffsetsAfter);
        Ok(())
    }

    /// Commits. On an error, the transaction was aborted, unless the error [`needs_reopen`](Error::needs_reopen).
    pub async fn commit(mut self) -> Result<()> {
        self.ended = true;
        let producer = &*self.producer;
        let flushed = Instant::now();
        let within = Duration::from_millis(producer.config.timeout_ms.into());
        *producer.state.lock() = State::Ending;
        let delivered = producer.link.drained(within).await;
        let failed = self.failure.lock().take();
        if let Some(error) = failed.or(delivered.err()) {
            return Err(self.give_up(error).await);
        }
        kill_points::pass(Point::CommitBefore);
        match producer.call("commit", |p, within| p.commit_transaction(within)).await {
            Ok(()) => {
                kill_points::pass(Point::CommitAfter);
                *producer.state.lock() = State::Ready;
                metrics::transaction_committed(flushed.elapsed());
                Ok(())
            }
            Err(error) if error.requires_abort() => Err(self.give_up(error).await),
            Err(error) => {
                *producer.state.lock() = State::Broken(error.to_string());
                metrics::transaction("unknown");
                let open_ms = self.begun.elapsed().as_millis() as u64;
                tracing::warn!(id = producer.id, %error, open_ms, "the end of a transaction is unknown");
                Err(if error.is_fatal() { error } else { error.outcome_unknown() })
            }
        }
    }

    /// Aborts. An error means that the producer must be opened again.
    pub async fn abort(mut self) -> Result<()> {
        self.ended = true;
        self.producer.abort().await
    }

    /// Aborts because of an error, which becomes fatal if that fails too.
    async fn give_up(&self, error: Error) -> Error {
        let error = self.producer.link.fatal(&format!("commit of {}", self.producer.id)).unwrap_or(error);
        if error.is_fatal() {
            *self.producer.state.lock() = State::Broken(error.to_string());
            return error;
        }
        match self.producer.abort().await {
            Ok(()) => {
                *self.producer.state.lock() = State::MustReopen;
                error.aborted()
            }
            Err(failed) if failed.is_fenced() => failed,
            Err(failed) => error.aborted().because(&failed.to_string()).fatal(),
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            *self.producer.state.lock() = State::MustAbort;
        }
    }
}
