//! Reads stretches of partitions, each up to an end that was fixed before: so every read ends.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use types::{Offset, TopicName, TopicPartition};

use crate::{ClientConfig, ConsumedRecord, Consumer, Error, Event, FetchConfig, Kind, StartFrom};

/// A read that gets nothing for so long has stalled. Longer than the transactions of Vltava's own may be open (10 s).
const IDLE_MAX: Duration = Duration::from_secs(45);
/// Reads are short and wait for their end: it must be told soon.
const WAIT_MAX_MS: u32 = 20;
/// Payload that is fetched ahead, in bytes.
const BUFFER_BYTES_MAX: usize = 2 << 20;

/// Offsets from `start` up to, without, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Where.
    pub tp: TopicPartition,
    /// The first.
    pub start: Offset,
    /// The one after the last.
    pub end: Offset,
}

/// Why a read couldn't go on.
#[derive(Debug, Clone)]
pub enum ScanError {
    /// The engine or the client.
    Failed(Error),
    /// Nothing came, and the end isn't reached.
    Stalled {
        /// One of the topics that aren't read to their ends.
        topic: TopicName,
        /// How long was waited.
        after: Duration,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Stalled { topic, after } => {
                let seconds = after.as_secs();
                write!(f, "reading {topic} didn't get on for {seconds} s; a transaction may be open there")
            }
        }
    }
}

impl std::error::Error for ScanError {}

impl From<Error> for ScanError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Goes through stretches without a group; a partition's records come in order. Dropped, it reads no more.
pub struct Scan {
    consumer: Option<Consumer>,
    ends: HashMap<TopicPartition, Offset>,
}

impl Scan {
    /// Opens a reader. Stretches without offsets are read already.
    pub fn open(client: &ClientConfig, stretches: Vec<Stretch>) -> Result<Self, ScanError> {
        let stretches: Vec<_> = stretches.into_iter().filter(|s| s.start < s.end).collect();
        let ends = stretches.iter().map(|s| (s.tp.clone(), s.end)).collect();
        if stretches.is_empty() {
            return Ok(Self { consumer: None, ends });
        }
        let fetch = FetchConfig {
            end_of_partition: true,
            buffer_bytes_max: BUFFER_BYTES_MAX,
            wait_max_ms: WAIT_MAX_MS,
            ..FetchConfig::default()
        };
        let from = stretches.into_iter().map(|s| (s.tp, StartFrom::Offset(s.start))).collect();
        let consumer = Consumer::assign(client, from, fetch)?;
        Ok(Self { consumer: Some(consumer), ends })
    }

    /// The next records, of one partition; `None` when all stretches are read. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Vec<ConsumedRecord>>, ScanError> {
        loop {
            let Some(topic) = self.ends.keys().next().map(|tp| tp.topic.clone()) else { return Ok(None) };
            let Some(consumer) = &mut self.consumer else { return Ok(None) };
            let event = tokio::time::timeout(IDLE_MAX, consumer.next())
                .await
                .map_err(|_| ScanError::Stalled { topic: topic.clone(), after: IDLE_MAX })?;
            match event {
                Event::Records(mut records) => {
                    let Some(tp) = records.first().map(|r| r.tp.clone()) else { continue };
                    let Some(end) = self.ends.get(&tp).copied() else { continue };
                    let reached = records.last().is_some_and(|r| r.offset + 1 >= end);
                    records.retain(|r| r.offset < end);
                    if reached {
                        // What comes after its end isn't read for nothing.
                        consumer.pause(std::slice::from_ref(&tp));
                        self.ends.remove(&tp);
                    }
                    if !records.is_empty() {
                        return Ok(Some(records));
                    }
                }
                Event::EndOfPartition(tp, offset) => {
                    // Below the end: an open transaction holds the rest back. It comes.
                    if self.ends.get(&tp).is_some_and(|end| offset >= *end) {
                        self.ends.remove(&tp);
                    }
                }
                Event::Error(error) => self.failed(error).await?,
                Event::Assigned(_) | Event::Revoked { .. } => {}
            }
        }
    }

    /// Records whose retention is over are gone: reading goes on with what is there.
    async fn failed(&mut self, error: Error) -> Result<(), ScanError> {
        if let (Kind::OffsetOutOfRange { tp, wanted, available }, Some(consumer)) =
            (error.kind().clone(), &self.consumer)
            && let Some((low, _)) = available
            && wanted.is_none_or(|wanted| wanted < low)
        {
            if self.ends.get(&tp).is_some_and(|end| low >= *end) {
                self.ends.remove(&tp);
                return Ok(());
            }
            return Ok(consumer.seek(&tp, StartFrom::Earliest).await?);
        }
        Err(error.into())
    }

    /// Reads all, until `each` breaks.
    pub async fn run(
        client: &ClientConfig,
        stretches: Vec<Stretch>,
        mut each: impl FnMut(ConsumedRecord) -> ControlFlow<()>,
    ) -> Result<(), ScanError> {
        let mut scan = Self::open(client, stretches)?;
        'all: while let Some(records) = scan.next().await? {
            for record in records {
                if each(record).is_break() {
                    break 'all;
                }
            }
        }
        Ok(())
    }
}
