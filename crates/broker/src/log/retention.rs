//! What ends a record's life but compaction: DeleteRecords, `retention.ms`, `retention.bytes`, and with them idle producer ids.
//!
//! All of them move the log start offset, as a frame of its own; segments before it leave the state at once and the disk with
//! the next checkpoint, because recovery from the last one still names them. A segment that a transaction is open or ending in
//! isn't removed by retention.

use std::sync::Arc;

use super::Position;
use super::error::ReadError;
use super::frame::FrameBuf;
use super::partition::{Partition, State, wake};

impl Partition {
    /// Moves the start offset up to `offset`, at most to the high watermark; -1 means the high watermark. The start offset from
    /// then on, and the position that makes it durable.
    ///
    /// # Errors
    /// `OffsetOutOfRange` above the high watermark or below -1; `Dropped`.
    pub fn delete_records(self: &Arc<Self>, offset: i64) -> Result<(i64, Position), ReadError> {
        let _writer = self.writer.lock();
        let mut state = self.state.lock();
        if state.dropped {
            return Err(self.read_dropped());
        }
        let target = if offset == -1 { state.high_watermark } else { offset };
        if target < 0 || target > state.high_watermark {
            let (start, end) = (state.start, state.high_watermark);
            return Err(ReadError::OffsetOutOfRange { offset, start, end });
        }
        if target <= state.start {
            return Ok((state.start, Position(state.position)));
        }
        let position = self.cut(&mut state, target);
        let (start, waiters) = (state.start, state.take_waiters());
        drop(state);
        wake(waiters);
        Ok((start, position))
    }

    /// Moves the start and queues it. The caller holds the writer lock: the last segment may go.
    fn cut(&self, state: &mut State, start: i64) -> Position {
        let removed = state.move_start(start);
        let mut frame = FrameBuf::with_capacity(64);
        frame.start(self.topic_id, self.index, state.start);
        let position = self.shared.wal.enqueue(frame, Vec::new());
        state.position = position.0;
        self.shared.doom_segments(removed);
        position
    }

    /// Replays a move of the start offset. Only while the log is opened.
    pub(super) fn replay_start(&self, start: i64, position: u64) {
        let mut state = self.state.lock();
        if position > state.position {
            let removed = state.move_start(start);
            self.shared.doom_segments(removed);
            state.position = position;
        }
    }

    /// Removes the segments that are too old or too many, and idle producer ids. Whether segments went.
    pub(super) fn retain(&self, producer_id_expiry_ms: i64) -> bool {
        let now_ms = self.shared.clock.now_ms();
        let _writer = self.writer.lock();
        let mut state = self.state.lock();
        if state.dropped {
            return false;
        }
        state.producers.expire(now_ms.saturating_sub(producer_id_expiry_ms));
        let stable = state.last_stable_offset();
        let mut left = state.size();
        let mut start = state.start;
        for (at, segment) in state.segments.iter().enumerate() {
            let next = state.segments.get(at + 1).map(|next| next.base_offset);
            let end = next.unwrap_or(state.end);
            // A segment of markers only is as old as its making.
            let newest = match segment.max_timestamp() {
                i64::MIN => segment.created_ms,
                newest => newest,
            };
            let age = now_ms.saturating_sub(newest);
            let expired = state
                .config
                .retention_ms
                .is_some_and(|limit| u64::try_from(age).is_ok_and(|age| age > limit));
            // As in Kafka: what remains is at least the limit, and the segment that is written stays.
            let surplus = next.is_some()
                && state.config.retention_bytes.is_some_and(|limit| left - segment.size() >= limit);
            if end > stable || !(expired || surplus) {
                break;
            }
            left -= segment.size();
            start = end;
        }
        if start == state.start {
            return false;
        }
        self.cut(&mut state, start);
        let (start, waiters) = (state.start, state.take_waiters());
        drop(state);
        tracing::debug!(topic_id = %self.topic_id, partition = self.index, start, "retention moved the start offset");
        wake(waiters);
        true
    }
}
