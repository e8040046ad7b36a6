//! The sink that is the engine: idempotent producers, one for each class of topics' limits.
//!
//! A producer gathers records into batches without knowing their topic's `max.message.bytes`, against which the
//! engine holds the whole batch: small records of a topic with a small limit would be refused together, though
//! each of them fits. So topics whose limit is below the usual batch size share a producer with the next
//! lower power of two as its batch size. When a topic's limit changes class, its records change producer, and two
//! that are sent around that moment may be stored in the other order.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kafka::{ClientConfig, Kind, Producer, ProducerConfig};
use parking_lot::Mutex;
use tokio::time::Instant;
use types::{Record, TopicName};

use crate::sink::{Sink, SinkError, Stored};

/// Producers of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Producers(Arc<Inner>);

struct Inner {
    client: ClientConfig,
    config: ProducerConfig,
    usual: Producer,
    /// By batch size in bytes, a power of two below the usual one: at most 31 of them.
    smaller: Mutex<BTreeMap<u32, Producer>>,
}

impl Producers {
    /// Opens the usual one; it connects by itself. `config.batch_bytes_max` is the usual batch size.
    pub fn open(client: ClientConfig, config: ProducerConfig) -> Result<Self, kafka::Error> {
        let usual = Producer::new(&client, config.clone())?;
        Ok(Self(Arc::new(Inner { client, config, usual, smaller: Mutex::default() })))
    }

    /// Records that are sent and neither acknowledged nor failed.
    pub fn in_flight(&self) -> usize {
        let smaller: usize = self.0.smaller.lock().values().map(Producer::in_flight).sum();
        self.0.usual.in_flight() + smaller
    }

    /// Waits until everything that was sent is acknowledged or failed, at most `within`.
    pub async fn flush(&self, within: Duration) -> Result<(), kafka::Error> {
        let deadline = Instant::now() + within;
        let smaller: Vec<_> = self.0.smaller.lock().values().cloned().collect();
        for producer in std::iter::once(&self.0.usual).chain(&smaller) {
            producer.flush(deadline.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    fn of(&self, max_message_bytes: u64) -> Result<Producer, kafka::Error> {
        let Some(batch_bytes_max) = batch_class(max_message_bytes, self.0.config.batch_bytes_max) else {
            return Ok(self.0.usual.clone());
        };
        let mut smaller = self.0.smaller.lock();
        if let Some(producer) = smaller.get(&batch_bytes_max) {
            return Ok(producer.clone());
        }
        let config = ProducerConfig { batch_bytes_max, ..self.0.config.clone() };
        let producer = Producer::new(&self.0.client.named(&format!("batch-{batch_bytes_max}")), config)?;
        smaller.insert(batch_bytes_max, producer.clone());
        Ok(producer)
    }
}

/// The batch size for a topic's limit; `None`: the usual one fits.
fn batch_class(max_message_bytes: u64, usual: u32) -> Option<u32> {
    let limit = u32::try_from(max_message_bytes).unwrap_or(u32::MAX).max(1);
    (limit < usual).then(|| 1 << limit.ilog2())
}

impl Sink for Producers {
    type Delivery = Delivery;

    fn send(&self, topic: &TopicName, max_message_bytes: u64, record: Record) -> Result<Delivery, SinkError> {
        let producer = self.of(max_message_bytes).map_err(sink_error)?;
        producer.send(topic, None, record).map(Delivery).map_err(sink_error)
    }
}

/// See [`Sink::Delivery`].
#[derive(Debug)]
pub struct Delivery(kafka::Delivery);

impl Future for Delivery {
    type Output = Result<Stored, SinkError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|fate| {
            let kafka::Delivered { partition, offset } = fate.map_err(sink_error)?;
            Ok(Stored { partition, offset })
        })
    }
}

fn sink_error(error: kafka::Error) -> SinkError {
    match error.kind() {
        Kind::QueueFull => SinkError::QueueFull,
        Kind::TooLarge => SinkError::TooLarge,
        Kind::UnknownTopic => SinkError::UnknownTopic,
        _ if error.is_unavailable() => SinkError::Unavailable(error.to_string()),
        _ => SinkError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_never_exceeds_the_topics_limit() {
        let usual = 1_000_000;
        for (limit, class) in [
            (1_048_588, None),
            (1_000_000, None),
            (u64::MAX, None),
            (999_999, Some(524_288)),
            (524_288, Some(524_288)),
            (1000, Some(512)),
            (1, Some(1)),
            (0, Some(1)),
        ] {
            assert_eq!(batch_class(limit, usual), class, "{limit}");
        }
    }
}
