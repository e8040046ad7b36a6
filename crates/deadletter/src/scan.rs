//! Reads stretches of partitions, each up to an end that was fixed before: so every read ends.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use kafka::{ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, Kind, StartFrom};
use types::{Offset, TopicPartition};

use crate::{Error, Result};

/// A read that gets nothing for so long has stalled. Longer than the transactions of Vltava's own may be open (10 s).
const IDLE_MAX: Duration = Duration::from_secs(45);
/// Reads are short and wait for their end: it must be told soon.
const WAIT_MAX_MS: u32 = 20;
/// Payload that is fetched ahead, in bytes.
const BUFFER_BYTES_MAX: usize = 2 << 20;

/// Offsets from `start` up to, without, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) tp: TopicPartition,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
}

/// Goes through stretches; a partition's records come in order.
pub(crate) struct Scan {
    consumer: Option<Consumer>,
    ends: HashMap<TopicPartition, Offset>,
}

impl Scan {
    pub(crate) fn open(client: &ClientConfig, stretches: Vec<Stretch>) -> Result<Self> {
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
        let consumer = Consumer::assign(client, from, fetch)
            .map_err(Error::kafka("opening a reader of dead letters"))?;
        Ok(Self { consumer: Some(consumer), ends })
    }

    /// The next records, of one partition; `None` when all stretches are read.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ConsumedRecord>>> {
        loop {
            let Some(topic) = self.ends.keys().next().map(|tp| tp.topic.clone()) else { return Ok(None) };
            let Some(consumer) = &mut self.consumer else { return Ok(None) };
            let event = tokio::time::timeout(IDLE_MAX, consumer.next())
                .await
                .map_err(|_| Error::Stalled { topic: topic.clone(), after: IDLE_MAX })?;
            match event {
                Event::Records(mut records) => {
                    let Some(tp) = records.first().map(|r| r.tp.clone()) else { continue };
                    let Some(end) = self.ends.get(&tp).copied() else { continue };
                    let reached = records.last().is_some_and(|r| r.offset + 1 >= end);
                    records.retain(|r| r.offset < end);
                    if reached {
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

    /// Letters whose retention is over are gone: reading goes on with what is there.
    async fn failed(&mut self, error: kafka::Error) -> Result<()> {
        if let (Kind::OffsetOutOfRange { tp, wanted, available }, Some(consumer)) =
            (error.kind().clone(), &self.consumer)
            && let Some((low, _)) = available
            && wanted.is_none_or(|wanted| wanted < low)
        {
            if self.ends.get(&tp).is_some_and(|end| low >= *end) {
                self.ends.remove(&tp);
                return Ok(());
            }
            return consumer
                .seek(&tp, StartFrom::Earliest)
                .await
                .map_err(Error::kafka(format!("reading {tp}")));
        }
        Err(Error::kafka("reading dead letters")(error))
    }

    /// Reads all, until `each` breaks.
    pub(crate) async fn run(
        client: &ClientConfig,
        stretches: Vec<Stretch>,
        mut each: impl FnMut(ConsumedRecord) -> ControlFlow<()>,
    ) -> Result<()> {
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
