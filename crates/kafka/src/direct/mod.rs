//! A producer of our own on [`wire`], for engines that are reached over plain TCP: acks=all and idempotent like librdkafka's, at a
//! fraction of its CPU time, because what comes together goes together, and who waits is woken from the runtime's own threads.
//!
//! Invariants: a partition's records go in the order of their sends, one batch at a time; a batch that may be stored is
//! sent again as it was, and the engine recognises it; what is told stored was acknowledged by all replicas in sync. A record has
//! its limit of time, whatever happens to the engine. Nothing waits for more records: while a request is under way, the next
//! one fills.
//!
//! - [`lanes`]: what waits, by partition, and its sequences: state without I/O;
//! - [`batch`]: batches, and what answers mean;
//! - [`coordinator`]: the task that knows the topics and gives up what took too long;
//! - [`worker`]: the task of a broker;
//! - [`partitioner`].
//!
//! Not done: transactions, TLS and SASL: librdkafka's producer does them.

mod batch;
mod coordinator;
mod lanes;
mod partitioner;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use types::{Partition, Record, TopicName};
use wire::records::Compression;

use self::batch::Pending;
use self::lanes::{Lanes, Limits};
use crate::context::Voice;
use crate::producer::MESSAGE_BYTES_MAX;
use crate::{Admin, ClientConfig, Delivered, Error, Kind, ProducerConfig, Result, metrics};

/// How long the engine may take for one answer, unless a record's time is shorter.
const REQUEST: Duration = Duration::from_secs(10);

/// The producer: the owner of its tasks, which end when it is dropped. What isn't sent then is dropped, and told so.
pub(crate) struct Direct {
    shared: Arc<Shared>,
    /// Tasks end when it is gone.
    _alive: watch::Sender<()>,
}

struct Shared {
    client_id: String,
    compression: Compression,
    linger: Duration,
    batch_bytes_max: usize,
    delivery_timeout: Duration,
    /// The engine has so long for an answer.
    request_timeout: Duration,
    admin: Admin,
    voice: Voice,
    lanes: Mutex<Lanes>,
    /// Wakes the coordinator.
    look: Notify,
    /// Nothing is outstanding.
    drained: Notify,
}

impl Direct {
    /// Whether these settings are ones that it does.
    pub(crate) fn can(client: &ClientConfig) -> bool {
        client
            .extra
            .iter()
            .all(|(name, value)| name == "security.protocol" && value.eq_ignore_ascii_case("plaintext"))
    }

    /// Connects when there is something to send. To be called on a tokio runtime.
    pub(crate) fn open(client: &ClientConfig, config: &ProducerConfig) -> Result<Self> {
        let ProducerConfig {
            linger_ms,
            compression,
            queue_messages_max,
            queue_bytes_max,
            delivery_timeout_ms,
            batch_bytes_max,
        } = config;
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|e| Error::new(Kind::Other, "open a producer", e.to_string()))?;
        let delivery_timeout = Duration::from_millis(u64::from(*delivery_timeout_ms).max(1));
        let request_timeout = delivery_timeout.min(REQUEST);
        let batch_bytes = usize::try_from(*batch_bytes_max).unwrap_or(usize::MAX);
        let limits = Limits {
            records: usize::try_from(*queue_messages_max).unwrap_or(usize::MAX),
            bytes: usize::try_from(*queue_bytes_max).unwrap_or(usize::MAX),
            batch_bytes,
        };
        let (alive, gone) = watch::channel(());
        let shared = Arc::new(Shared {
            client_id: client.client_id.clone(),
            compression: compression_of(compression)?,
            linger: Duration::from_millis((*linger_ms).into()),
            batch_bytes_max: batch_bytes,
            delivery_timeout,
            request_timeout,
            admin: Admin::new(client)?.with_timeout(request_timeout),
            voice: Voice::new(client),
            lanes: Mutex::new(Lanes::new(limits)),
            look: Notify::new(),
            drained: Notify::new(),
        });
        drop(runtime.spawn(coordinator::run(shared.clone(), gone)));
        Ok(Self { shared, _alive: alive })
    }

    /// See [`crate::Producer::send`].
    pub(crate) fn send(
        &self,
        topic: &TopicName,
        partition: Option<Partition>,
        record: Record,
    ) -> Result<oneshot::Receiver<Result<Delivered>>> {
        let (tell, told) = oneshot::channel();
        let pending = Pending::new(record, partition, tell);
        let pushed = if pending.weight > MESSAGE_BYTES_MAX {
            let why = format!("a record of {} bytes: at most {MESSAGE_BYTES_MAX} are sent", pending.weight);
            Err(Error::new(Kind::TooLarge, format!("produce to {topic}"), why))
        } else {
            self.shared.lanes.lock().push(topic, pending)
        };
        match pushed {
            Ok(true) => self.shared.look.notify_one(),
            Ok(false) => {}
            Err(error) => {
                metrics::produce_error(&error);
                return Err(self.shared.voice.explain(error));
            }
        }
        Ok(told)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.shared.lanes.lock().records()
    }

    /// Waits until nothing is outstanding.
    pub(crate) async fn drained(&self, within: Duration) -> Result<()> {
        let wait = async {
            loop {
                let notified = self.shared.drained.notified();
                if self.in_flight() == 0 {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(within, wait).await.map_err(|_| {
            let operation = format!("flush {} records", self.in_flight());
            self.shared.voice.explain(Error::timeout(operation, within))
        })
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.shared.voice.close();
    }
}

impl Shared {
    /// Tells records' senders that they failed.
    fn fail(&self, records: Vec<Pending>, error: impl FnOnce() -> Error) {
        if records.is_empty() {
            return;
        }
        let error = self.voice.explain(error());
        for pending in records {
            pending.failed(error.clone());
        }
        self.settled();
    }

    /// To be called after records were told their end.
    fn settled(&self) {
        if self.lanes.lock().records() == 0 {
            self.drained.notify_waiters();
        }
    }
}

fn compression_of(name: &str) -> Result<Compression> {
    use Compression as C;
    [C::None, C::Gzip, C::Snappy, C::Lz4, C::Zstd].into_iter().find(|codec| codec.name() == name).ok_or_else(
        || Error::config("compression.type", name, "it is one of none, gzip, snappy, lz4 and zstd"),
    )
}
