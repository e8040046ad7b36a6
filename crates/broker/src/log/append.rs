//! Appending to a partition: check, write to the segment, queue. Nothing of a refused batch is left behind: bytes that a
//! failed write put behind a segment's end are overwritten by the next.

use std::sync::Arc;

use runtime::kill_points::{self, Point};

use super::batch::{self, Header, RawBatch};
use super::config::TimestampType;
use super::error::{AppendError, Error};
use super::frame::FrameBuf;
use super::partition::{Partition, State};
use super::producers::{Batch, Check};
use super::segment::{SEGMENT_BYTES_MAX, Segment};
use super::{AppendInfo, Outcome, Position};

/// What is about to be appended.
pub(super) enum Part {
    Batch(RawBatch),
    Marker { producer_id: i64, producer_epoch: i16, outcome: Outcome, coordinator_epoch: i32 },
}

/// A part that passed its checks. Valid while the writer lock is held.
pub(super) struct Prepared {
    /// With offsets.
    header: Header,
    marker: Option<(Outcome, i32)>,
    segment: Arc<Segment>,
    new_segment: bool,
    now_ms: i64,
    index_interval_bytes: u32,
}

/// The outcome of a check.
pub(super) enum Decision {
    Append(Prepared),
    Duplicate(AppendInfo),
}

impl Partition {
    /// Appends a producer's batch: checks its sequence and epoch, assigns offsets, queues it for the next sync. Synchronous,
    /// so that a caller can hold a lock over a check and the append (transactions of older clients).
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended. A retry of a batch that is there already is not an error.
    pub fn append(self: &Arc<Self>, batch: RawBatch) -> Result<AppendInfo, AppendError> {
        self.shared.wal.admit(batch.bytes().len())?;
        let _writer = self.writer.lock();
        let mut frame = FrameBuf::with_capacity(batch.bytes().len());
        match self.prepare(&Part::Batch(batch), &mut frame)? {
            Decision::Duplicate(info) => Ok(info),
            Decision::Append(prepared) => {
                let mut state = self.state.lock();
                let position = self.shared.wal.enqueue(frame, vec![Arc::clone(self) as _]);
                Ok(self.accept(&mut state, prepared, position))
            }
        }
    }

    /// Checks a part, adds it to the frame with its offsets, and writes it to the segment. The caller holds the writer lock, and
    /// calls [`Partition::accept`] before it lets go of it, unless another part of the frame is refused.
    pub(super) fn prepare(
        self: &Arc<Self>,
        part: &Part,
        frame: &mut FrameBuf,
    ) -> Result<Decision, AppendError> {
        let now_ms = self.shared.clock.now_ms();
        let (config, end, active) = {
            let state = self.state.lock();
            if state.dropped {
                return Err(self.append_dropped());
            }
            match part {
                Part::Batch(batch) => match state.producers.check(batch.header())? {
                    Check::New => {}
                    Check::Duplicate(batch) => return Ok(Decision::Duplicate(duplicate(&state, &batch))),
                },
                Part::Marker { producer_id, producer_epoch, coordinator_epoch, .. } => {
                    state.producers.check_marker(*producer_id, *producer_epoch, *coordinator_epoch)?;
                }
            }
            (Arc::clone(&state.config), state.end, state.segments.last().cloned())
        };
        let mut marker = None;
        let range = match part {
            Part::Batch(raw) => {
                let (bytes, max) = (raw.bytes().len(), config.max_message_bytes);
                if bytes > max {
                    return Err(AppendError::RecordTooLarge { bytes, max });
                }
                let range = frame.append(self.topic_id, self.index, raw.bytes());
                match config.timestamp_type {
                    TimestampType::LogAppendTime => batch::stamp(frame.bytes_mut(range.clone()), now_ms),
                    TimestampType::CreateTime => {
                        let min = config
                            .timestamp_before_max_ms
                            .map_or(i64::MIN, |before| now_ms.saturating_sub(before));
                        let max = config
                            .timestamp_after_max_ms
                            .map_or(i64::MAX, |after| now_ms.saturating_add(after));
                        for timestamp in [raw.header().base_timestamp, raw.header().max_timestamp] {
                            // -1: the producer gave none.
                            if timestamp != -1 && !(min..=max).contains(&timestamp) {
                                return Err(AppendError::InvalidTimestamp { timestamp, min, max });
                            }
                        }
                    }
                }
                range
            }
            Part::Marker { producer_id, producer_epoch, outcome, coordinator_epoch } => {
                marker = Some((*outcome, *coordinator_epoch));
                let bytes =
                    batch::marker(*producer_id, *producer_epoch, *outcome, *coordinator_epoch, now_ms);
                frame.append(self.topic_id, self.index, &bytes)
            }
        };
        batch::assign(frame.bytes_mut(range.clone()), end, self.shared.leader_epoch);
        let bytes = frame.bytes(range);
        let Some(header) = Header::peek(bytes) else {
            let what = "a batch whose header held no longer has one";
            return Err(AppendError::Storage(Error::corrupt(&self.dir, what)));
        };
        let fits = |segment: &Arc<Segment>| {
            let size = segment.size();
            let full = size + header.size as u64 > config.segment_bytes.min(SEGMENT_BYTES_MAX);
            let old = u64::try_from(now_ms - segment.created_ms).is_ok_and(|age| age >= config.segment_ms);
            let far = header.last_offset() - segment.base_offset > i64::from(i32::MAX);
            size == 0 || !(full || old || far)
        };
        let (segment, new_segment) = match active.filter(fits) {
            Some(segment) => (segment, false),
            None => (Segment::create(&self.dir, end, now_ms), true),
        };
        if new_segment {
            kill_points::pass(Point::SegmentRollBefore);
        }
        segment.write(&self.shared.files, bytes).map_err(AppendError::Storage)?;
        if new_segment {
            kill_points::pass(Point::SegmentRollAfter);
        }
        if marker.is_some() {
            kill_points::pass(Point::EndMarker);
        }
        let index_interval_bytes = config.index_interval_bytes;
        Ok(Decision::Append(Prepared { header, marker, segment, new_segment, now_ms, index_interval_bytes }))
    }

    /// Takes in what was written. The caller holds the writer lock and this state's, since before the frame was queued.
    pub(super) fn accept(&self, state: &mut State, prepared: Prepared, position: Position) -> AppendInfo {
        let Prepared { header, marker, segment, new_segment, now_ms, index_interval_bytes } = prepared;
        segment.accept(&header, index_interval_bytes);
        if new_segment {
            state.segments.push(segment);
        }
        match marker {
            None => state.producers.apply(&header, now_ms, position.0),
            Some((outcome, coordinator_epoch)) => {
                state.producers.apply_marker(&header, outcome, coordinator_epoch, now_ms);
            }
        }
        state.begin_epoch(header.leader_epoch, header.base_offset);
        state.end = header.next_offset();
        state.position = position.0;
        state.pending.push_back((position.0, state.end));
        AppendInfo {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: if header.is_log_append_time() { header.max_timestamp } else { -1 },
            log_start_offset: state.start,
            duplicate: false,
            position,
        }
    }

    /// Appends a batch of the write-ahead log again, unless the checkpoint has it. Only while the log is opened.
    pub(super) fn replay(self: &Arc<Self>, bytes: &[u8], position: u64) -> Result<(), Error> {
        let corrupt = |what: String| Error::corrupt(&self.dir, format!("frame {position} {what}"));
        let header = Header::peek(bytes).ok_or_else(|| corrupt("has no record batch".to_owned()))?;
        let marker = match header.is_control() {
            true => Some(
                batch::marker_outcome(bytes)
                    .ok_or_else(|| corrupt("has an unknown control batch".to_owned()))?,
            ),
            false => None,
        };
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.state.lock();
        if position <= state.position {
            return Ok(());
        }
        if header.base_offset != state.end {
            return Err(corrupt(format!(
                "has offset {}, the partition ends at {}",
                header.base_offset, state.end
            )));
        }
        let full = |segment: &Arc<Segment>| {
            let size = segment.size() + header.size as u64;
            size <= state.config.segment_bytes.min(SEGMENT_BYTES_MAX)
                && header.last_offset() - segment.base_offset <= i64::from(i32::MAX)
        };
        let (segment, new_segment) = match state.segments.last().cloned().filter(full) {
            Some(segment) => (segment, false),
            None => (Segment::create(&self.dir, state.end, now_ms), true),
        };
        segment.write(&self.shared.files, bytes)?;
        let index_interval_bytes = state.config.index_interval_bytes;
        let prepared = Prepared { header, marker, segment, new_segment, now_ms, index_interval_bytes };
        // Position 0 for the producers: what is replayed is durable, in this start's terms.
        self.accept(&mut state, prepared, Position(0));
        state.position = position;
        Ok(())
    }

    /// Everything that was replayed is durable: it is visible from here on.
    pub(super) fn finish_replay(&self) {
        let mut state = self.state.lock();
        state.pending.clear();
        state.high_watermark = state.end;
        let end = state.end;
        state.producers.settle(end);
    }
}

fn duplicate(state: &State, batch: &Batch) -> AppendInfo {
    AppendInfo {
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        log_append_time: batch.log_append_time,
        log_start_offset: state.start,
        duplicate: true,
        position: Position(batch.position),
    }
}
