//! Reading a partition: straight from the segment files, without a copy of ours beside the page cache, and never past what is
//! visible.

use std::sync::Arc;
use std::time::Instant;

use super::error::ReadError;
use super::partition::{Partition, State};
use super::segment::Segment;
use super::{Isolation, ReadResult, TimestampMatch, Visible};

impl Partition {
    fn limit(visible: Visible, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => visible.high_watermark,
            Isolation::ReadCommitted => visible.last_stable_offset,
        }
    }

    fn live_state(&self) -> Result<parking_lot::MutexGuard<'_, State>, ReadError> {
        let state = self.state.lock();
        if state.dropped { Err(self.read_dropped()) } else { Ok(state) }
    }

    /// Reads whole batches from `offset`: at most `bytes_max`, but with `min_one` at least one batch where there is one. Stops at
    /// the end of a segment. Empty between the limit of the isolation and the log's end.
    ///
    /// # Errors
    /// `OffsetOutOfRange` before the start or past the log's end; else see [`ReadError`].
    pub fn read(
        &self,
        offset: i64,
        bytes_max: usize,
        min_one: bool,
        isolation: Isolation,
    ) -> Result<ReadResult, ReadError> {
        let (visible, segments) = {
            let state = self.live_state()?;
            if offset < state.start || offset > state.end {
                return Err(ReadError::OffsetOutOfRange { offset, start: state.start, end: state.end });
            }
            // The one that holds the offset, and the next: where records are missing at a segment's end.
            let at = state.segment_at(offset);
            let segments: Vec<Arc<Segment>> = state.segments.iter().skip(at).take(2).cloned().collect();
            (state.visible(), segments)
        };
        let limit = Self::limit(visible, isolation);
        let mut result = ReadResult { bytes: bytes::Bytes::new(), visible, aborted: Vec::new() };
        if offset >= limit {
            return Ok(result);
        }
        for segment in segments {
            let read = segment
                .read(&self.shared.files, offset, limit, bytes_max, min_one)
                .map_err(|error| self.read_failed(offset, error))?;
            // A batch that doesn't fit ends the read: what comes behind it must not be taken for what comes next.
            if let Some(bytes) = read {
                result.bytes = bytes;
                break;
            }
        }
        if isolation == Isolation::ReadCommitted && !result.bytes.is_empty() {
            let mut end = offset;
            let mut at = 0;
            while let Some(header) = super::batch::Header::peek(&result.bytes[at..]) {
                end = header.next_offset();
                at += header.size;
            }
            result.aborted = self.state.lock().producers.aborted_in(offset, end);
        }
        Ok(result)
    }

    /// The first visible batch with a record at or after `timestamp_ms`; the record in it is the caller's to find. Markers
    /// aren't looked at.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn find_timestamp(
        &self,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<TimestampMatch>, ReadError> {
        let (visible, segments) = {
            let state = self.live_state()?;
            (state.visible(), state.segments.clone())
        };
        let limit = Self::limit(visible, isolation);
        let start = visible.log_start_offset;
        for segment in segments {
            let files = &self.shared.files;
            let found = segment
                .find_timestamp(files, timestamp_ms, start, limit)
                .map_err(|error| self.read_failed(start, error))?;
            if let Some((header, at)) = found {
                let batch =
                    segment.batch_at(files, &header, at).map_err(|error| self.read_failed(start, error))?;
                return Ok(Some(TimestampMatch { batch, header }));
            }
        }
        Ok(None)
    }

    /// The first visible batch among those with the greatest timestamp (ListOffsets -3). None where nothing is visible.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn find_max_timestamp(&self) -> Result<Option<TimestampMatch>, ReadError> {
        let (visible, segments) = {
            let state = self.live_state()?;
            (state.visible(), state.segments.clone())
        };
        let Visible { log_start_offset: start, high_watermark: limit, .. } = visible;
        let mut best: Option<i64> = None;
        for segment in segments {
            let state = segment.state();
            if state.size == 0 || best.is_some_and(|best| state.max_timestamp <= best) {
                continue;
            }
            // What a segment remembers may be before the start or not visible yet: then its batches are walked.
            let whole = (start..limit).contains(&state.max_timestamp_offset);
            let greatest = if whole {
                Some(state.max_timestamp)
            } else {
                let mut greatest = None;
                segment
                    .walk(&self.shared.files, 0, |header, _| {
                        if header.base_offset >= limit {
                            return std::ops::ControlFlow::Break(());
                        }
                        if header.last_offset() >= start && !header.is_control() {
                            greatest = greatest.max(Some(header.max_timestamp));
                        }
                        std::ops::ControlFlow::Continue(())
                    })
                    .map_err(|error| self.read_failed(start, error))?;
                greatest
            };
            best = best.max(greatest);
        }
        match best {
            None => Ok(None),
            Some(timestamp) => self.find_timestamp(timestamp, Isolation::ReadUncommitted),
        }
    }

    /// A file may be gone because the topic was dropped or the start offset moved while it was read.
    fn read_failed(&self, offset: i64, error: super::Error) -> ReadError {
        let state = self.state.lock();
        if state.dropped {
            self.read_dropped()
        } else if offset < state.start {
            ReadError::OffsetOutOfRange { offset, start: state.start, end: state.end }
        } else {
            *self.shared.read_failure.lock() = Some((Instant::now(), error.clone()));
            ReadError::Storage(error)
        }
    }
}
