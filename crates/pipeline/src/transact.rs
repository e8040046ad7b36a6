//! One batch's transaction: begin, produce, send the input's offsets, commit.
//!
//! Invariant: outputs, dead letters and offsets become visible together or not at all. Where the end of a
//! transaction isn't known, [`reopen`] finds it out: opening a producer under the same id ends what is
//! pending, and then the committed offsets say what was done. Nobody guesses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{ClientConfig, Error, Handle, Kind, TransactionalProducer, TxnConfig};
use types::{Offset, TopicPartition};

use crate::evaluate::Evaluated;

/// How long a full producer queue is waited for, at a time.
const FLUSH_MAX: Duration = Duration::from_secs(10);
/// Between two tries to reach an engine that is away.
const REOPEN_BACKOFF_MIN: Duration = Duration::from_millis(100);
const REOPEN_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How a lane's producer is opened.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) client: ClientConfig,
    /// `vltava.<installation>.<uid>.<slot>.<k>`.
    pub(crate) transactional_id: String,
    pub(crate) config: TxnConfig,
}

impl Opening {
    async fn open(&self) -> Result<TransactionalProducer, Error> {
        TransactionalProducer::open(&self.client, &self.transactional_id, self.config.clone()).await
    }
}

/// A transaction that didn't commit, as far as is known.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The producer is gone and the end unknown: [`reopen`] before anything else.
    pub(crate) unsure: bool,
}

/// Writes a batch, which was read under the assignment `as_of` or earlier ones. The producer comes back if it can be used
/// again.
pub(crate) async fn transact(
    opening: Arc<Opening>,
    producer: Option<TransactionalProducer>,
    consumer: Handle,
    batch: Arc<Evaluated>,
    as_of: u64,
    metadata: String,
) -> (Option<TransactionalProducer>, Result<(), Failed>) {
    let mut producer = match producer {
        Some(producer) => producer,
        None => match opening.open().await {
            Ok(producer) => producer,
            // Nothing was begun.
            Err(error) => return (None, Err(Failed { error, unsure: false })),
        },
    };
    match write(&mut producer, &consumer, &batch, as_of, &metadata).await {
        Ok(()) => (Some(producer), Ok(())),
        Err(error) => {
            let unsure = error.needs_reopen() || !producer.is_usable();
            ((!unsure).then_some(producer), Err(Failed { error, unsure }))
        }
    }
}

async fn write(
    producer: &mut TransactionalProducer,
    consumer: &Handle,
    batch: &Evaluated,
    as_of: u64,
    metadata: &str,
) -> Result<(), Error> {
    let transaction = producer.begin().await?;
    let filled = async {
        for write in &batch.writes {
            loop {
                match transaction.send(&write.topic, None, &write.record) {
                    Err(error) if *error.kind() == Kind::QueueFull => transaction.flush(FLUSH_MAX).await?,
                    sent => break sent?,
                }
            }
        }
        let offsets: Vec<_> =
            batch.offsets.iter().map(|(tp, next)| (tp.clone(), *next, metadata.to_owned())).collect();
        // Asked for as late as may be: a rebalance that took none of these partitions is none of this batch's concern.
        let partitions: Vec<_> = batch.offsets.keys().cloned().collect();
        let group = consumer.group_metadata(&partitions, as_of).await?;
        transaction.send_offsets(&offsets, &group).await
    };
    match filled.await {
        Ok(()) => transaction.commit().await,
        Err(error) => match transaction.abort().await {
            Ok(()) => Err(error),
            // The cause is what a person needs; that the producer is of no use any more says `is_usable`.
            Err(_) => Err(error),
        },
    }
}

/// Opens a producer, which ends what the one before it left, and reads what is committed since. Tries until it
/// succeeds or an error says that it never will; drop it to give up. Each failure is told.
pub(crate) async fn reopen(
    opening: Arc<Opening>,
    consumer: Handle,
    partitions: Vec<TopicPartition>,
    mut failed: impl FnMut(&Error),
) -> Result<(TransactionalProducer, BTreeMap<TopicPartition, Offset>), Error> {
    let mut backoff = REOPEN_BACKOFF_MIN;
    loop {
        let started = Instant::now();
        let tried = async {
            let producer = opening.open().await?;
            let committed = match partitions.is_empty() {
                true => Vec::new(),
                false => consumer.committed(&partitions).await?,
            };
            let known = partitions.iter().cloned().zip(committed);
            Ok((producer, known.filter_map(|(tp, c)| c.map(|c| (tp, c.offset))).collect()))
        };
        match tried.await {
            Ok(done) => return Ok(done),
            Err(error) if may_pass(&error) => failed(&error),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff.saturating_sub(started.elapsed())).await;
        backoff = (backoff * 2).min(REOPEN_BACKOFF_MAX);
    }
}

/// Whether the same thing may succeed later without anybody's doing.
pub(crate) fn may_pass(error: &Error) -> bool {
    /// A member whose generation is over, or that isn't in the group any more: the group tells the consumer.
    const ILLEGAL_GENERATION: i16 = 22;
    const UNKNOWN_MEMBER_ID: i16 = 25;
    const REBALANCE_IN_PROGRESS: i16 = 27;
    error.is_retriable()
        || error.is_unavailable()
        || matches!(error.code(), Some(ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS))
}
