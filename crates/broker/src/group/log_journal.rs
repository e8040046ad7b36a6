//! The coordinators' journal on the broker's log. Invariant: a frame's markers and entries are one frame of the
//! log; a marker of a partition that is gone is left out, everything else is taken whole or refused whole.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::journal::{Frame, Journal, JournalError, Marker, PartitionId};
use crate::log::{AppendError, Error, Log, Position};

/// Writes to a [`Log`].
pub struct LogJournal {
    log: Arc<Log>,
}

impl LogJournal {
    /// A journal on an open log.
    #[must_use]
    pub fn new(log: Arc<Log>) -> Arc<LogJournal> {
        Arc::new(LogJournal { log })
    }
}

impl LogJournal {
    /// Commits a frame; `all` markers, or only those of partitions in which the producer has a transaction open.
    fn commit(&self, frame: &Frame, all: bool) -> Result<Position, AppendError> {
        let mut builder = self.log.frame();
        for marker in &frame.markers {
            let Marker { partition: PartitionId { topic, partition }, producer_id, producer_epoch, outcome } =
                *marker;
            let Some(partition) = self.log.partition(topic, partition) else { continue };
            if all || partition.open_transaction(producer_id).is_some() {
                // There is one coordinator, newer at every start: its epoch is the leader's.
                let epoch = self.log.leader_epoch();
                builder = builder.append_marker(&partition, producer_id, producer_epoch, outcome, epoch);
            }
        }
        for (machine, bytes) in &frame.entries {
            builder = builder.entry(*machine, bytes);
        }
        builder.commit().map(|(_infos, position)| position)
    }
}

impl Journal for LogJournal {
    fn entry(&self, machine: u8, bytes: Vec<u8>) -> Position {
        self.log.entry(machine, &bytes)
    }

    fn frame(&self, frame: Frame) -> Result<Position, JournalError> {
        let committed = match self.commit(&frame, true) {
            // Somebody wrote with this producer id and a higher epoch, outside of transactions, where the producer
            // itself wrote nothing. Such a partition needs no marker, and must not keep the others open.
            Err(AppendError::InvalidProducerEpoch { .. }) => self.commit(&frame, false),
            committed => committed,
        };
        match committed {
            Ok(position) => Ok(position),
            // Busy: wait. Dropped: a topic went between the look-up and the commit; the next try leaves it out.
            Err(AppendError::Busy | AppendError::Dropped { .. }) => Err(JournalError::Busy),
            Err(AppendError::Storage(error)) => Err(failed(&error)),
            Err(error) => Err(JournalError::Refused { reason: error.to_string() }),
        }
    }

    fn room(&self) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async { self.log.room().await.map_err(|error| failed(&error)) })
    }

    fn synced(&self, position: Position) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.log.synced(position).await.map_err(|error| failed(&error)) })
    }
}

fn failed(error: &Error) -> JournalError {
    JournalError::Failed { reason: error.to_string() }
}
