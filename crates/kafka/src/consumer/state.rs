//! What the polling thread and the owner share: buffers per partition, events, commands.
//!
//! No call into librdkafka happens under these locks: its threads take [`Wake`]'s from its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};
use types::{Offset, TopicPartition};

use super::{ConsumedRecord, Event, FetchConfig, StartFrom};
use crate::context::Voice;
use crate::{Error, Result, metrics};

/// Wakes the polling thread.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    due: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    pub(crate) fn wake(&self) {
        let mut due = self.due.lock();
        if !*due {
            *due = true;
            self.changed.notify_one();
        }
    }

    /// Returns at once if somebody woke it since the last time.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut due = self.due.lock();
        if !*due {
            self.changed.wait_for(&mut due, at_most);
        }
        *due = false;
    }
}

/// What the owner wants of the polling thread.
pub(super) enum Command {
    Assign(Vec<(TopicPartition, StartFrom)>),
    Seek { tp: TopicPartition, to: StartFrom, reply: oneshot::Sender<Result<()>> },
}

/// What waits in a partition's buffer.
pub(super) enum Item {
    Record(ConsumedRecord),
    End(Offset),
}

#[derive(Default)]
struct Part {
    items: VecDeque<Item>,
    paused: bool,
    /// The next offset that the owner hasn't been handed.
    next: Option<Offset>,
}

#[derive(Default)]
struct State {
    parts: BTreeMap<TopicPartition, Part>,
    /// Partitions that are the owner's, with the number of the assignment with which each came. One that goes is taken
    /// out before the group is told, so before the group can give it to anybody.
    held: BTreeMap<TopicPartition, u64>,
    /// Counts assignments.
    assignments: u64,
    /// Where the last records were taken: the next ones come from the partition after it.
    last: Option<TopicPartition>,
    events: VecDeque<Event>,
    commands: VecDeque<Command>,
    /// Payload in `parts`.
    bytes: usize,
    /// The thread waits for room.
    full: bool,
    stop: bool,
    ended: bool,
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Arc<Wake>,
    pub(super) ready: Notify,
    pub(super) voice: Voice,
    bytes_max: usize,
    records_max: usize,
}

/// Events that wait for an owner that doesn't take them; beyond it, errors are only logged.
const ERRORS_MAX: usize = 64;

impl Shared {
    pub(super) fn new(voice: Voice, fetch: &FetchConfig) -> Self {
        Self {
            state: Mutex::default(),
            wake: Arc::default(),
            ready: Notify::new(),
            voice,
            bytes_max: fetch.buffer_bytes_max.max(1),
            records_max: fetch.records_max.max(1),
        }
    }

    // ---- the owner's side

    pub(super) fn take(&self) -> Option<Event> {
        let mut state = self.state.lock();
        if let Some(event) = state.events.pop_front() {
            return Some(event);
        }
        let taken = state.take_items(self.records_max);
        if taken.is_none() && state.ended {
            return Some(Event::Error(Error::closed("consume").fatal()));
        }
        let room = state.full && state.bytes <= self.bytes_max / 2;
        if room {
            state.full = false;
        }
        drop(state);
        if room {
            self.wake.wake();
        }
        if let Some(Event::Records(records)) = &taken {
            metrics::consumed(records.len(), records.iter().map(ConsumedRecord::payload_bytes).sum());
        }
        taken
    }

    /// The first of these partitions that isn't the owner's, or came only after the assignment `as_of`.
    pub(super) fn not_held<'t>(
        &self,
        partitions: &'t [TopicPartition],
        as_of: u64,
    ) -> Option<&'t TopicPartition> {
        let state = self.state.lock();
        partitions.iter().find(|tp| state.held.get(tp).is_none_or(|since| *since > as_of))
    }

    pub(super) fn set_paused(&self, partitions: &[TopicPartition], paused: bool) {
        let mut state = self.state.lock();
        for tp in partitions {
            if let Some(part) = state.parts.get_mut(tp) {
                part.paused = paused;
            }
        }
        drop(state);
        if !paused {
            self.wake.wake();
            self.ready.notify_one();
        }
    }

    pub(super) fn command(&self, command: Command) {
        let mut state = self.state.lock();
        if state.ended {
            if let Command::Seek { tp, reply, .. } = command {
                let _ = reply.send(Err(Error::closed(format!("seek {tp}"))));
            }
            return;
        }
        state.commands.push_back(command);
        drop(state);
        self.wake.wake();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.wake();
    }

    // ---- the thread's side

    pub(super) fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.parts.clear();
        state.bytes = 0;
        // Dropped outside of the lock: a revocation's ack wakes.
        let events = std::mem::take(&mut state.events);
        let commands = std::mem::take(&mut state.commands);
        drop(state);
        drop(events);
        for command in commands {
            if let Command::Seek { tp, reply, .. } = command {
                let _ = reply.send(Err(Error::closed(format!("seek {tp}"))));
            }
        }
        self.ready.notify_one();
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        self.state.lock().commands.pop_front()
    }

    pub(super) fn event(&self, event: Event) {
        let mut state = self.state.lock();
        if matches!(event, Event::Error(_)) && state.events.len() >= ERRORS_MAX {
            return;
        }
        state.events.push_back(event);
        drop(state);
        self.ready.notify_one();
    }

    pub(super) fn error(&self, error: Error) {
        self.event(Event::Error(self.voice.explain(error)));
    }

    pub(super) fn add(&self, tp: &TopicPartition, start: Option<Offset>) {
        let part = Part { next: start, ..Part::default() };
        self.state.lock().parts.insert(tp.clone(), part);
    }

    /// Partitions become the owner's; returns the number of this assignment.
    pub(super) fn hold(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> u64 {
        let mut state = self.state.lock();
        state.assignments += 1;
        let number = state.assignments;
        state.held.extend(partitions.into_iter().map(|tp| (tp, number)));
        number
    }

    pub(super) fn release(&self, partitions: &[TopicPartition]) {
        let mut state = self.state.lock();
        for tp in partitions {
            state.held.remove(tp);
        }
    }

    /// Drops what is buffered of a partition.
    pub(super) fn purge(&self, tp: &TopicPartition, next: Option<Offset>) {
        let mut state = self.state.lock();
        let State { parts, bytes, .. } = &mut *state;
        if let Some(part) = parts.get_mut(tp) {
            *bytes -= part.items.drain(..).map(|item| item.bytes()).sum::<usize>();
            part.next = next;
        }
    }

    pub(super) fn remove(&self, tp: &TopicPartition) {
        self.purge(tp, None);
        self.state.lock().parts.remove(tp);
    }

    /// The offset after the last buffered record.
    pub(super) fn position(&self, tp: &TopicPartition) -> Option<Offset> {
        self.state.lock().parts.get(tp).and_then(|part| part.next)
    }

    /// Whether more of the partition may be buffered now. If the buffer is full, the owner wakes the thread later.
    pub(super) fn wants(&self, tp: &TopicPartition) -> bool {
        let mut state = self.state.lock();
        if state.parts.get(tp).is_none_or(|part| part.paused) {
            return false;
        }
        let full = state.bytes >= self.bytes_max;
        state.full |= full;
        !full
    }

    /// How many bytes fit still.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.state.lock().bytes)
    }

    /// Buffers; what belongs to a partition that isn't assigned is dropped.
    pub(super) fn push(&self, tp: &TopicPartition, items: &mut Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let State { parts, bytes, .. } = &mut *state;
        let Some(part) = parts.get_mut(tp) else {
            items.clear();
            return;
        };
        for item in items.drain(..) {
            *bytes += item.bytes();
            part.next = Some(match &item {
                Item::Record(record) => record.offset + 1,
                Item::End(offset) => *offset,
            });
            part.items.push_back(item);
        }
        drop(state);
        self.ready.notify_one();
    }
}

impl Item {
    /// What it counts against the buffer: at least something, so that empty records are bounded too.
    fn bytes(&self) -> usize {
        /// A record's own memory beside its payload, roughly.
        const OVERHEAD: usize = 128;
        match self {
            Self::Record(record) => record.payload_bytes() + OVERHEAD,
            Self::End(_) => 0,
        }
    }
}

impl State {
    /// From the partition after the last one that has something and isn't paused.
    fn take_items(&mut self, records_max: usize) -> Option<Event> {
        let has = |part: &Part| !part.paused && !part.items.is_empty();
        let found = match &self.last {
            Some(last) => {
                let after = (std::ops::Bound::Excluded(last.clone()), std::ops::Bound::Unbounded);
                self.parts
                    .range(after)
                    .find(|(_, part)| has(part))
                    .or_else(|| self.parts.iter().find(|(_, part)| has(part)))
            }
            None => self.parts.iter().find(|(_, part)| has(part)),
        };
        let tp = found.map(|(tp, _)| tp.clone())?;
        self.last = Some(tp.clone());
        let items = &mut self.parts.get_mut(&tp)?.items;
        if let Some(Item::End(offset)) = items.front() {
            let offset = *offset;
            items.pop_front();
            return Some(Event::EndOfPartition(tp, offset));
        }
        let mut records = Vec::with_capacity(items.len().min(records_max));
        while records.len() < records_max && matches!(items.front(), Some(Item::Record(_))) {
            let Some(item) = items.pop_front() else { break };
            self.bytes -= item.bytes();
            if let Item::Record(record) = item {
                records.push(record);
            }
        }
        Some(Event::Records(records))
    }
}

#[cfg(test)]
mod tests {
    use types::{Headers, TopicName};

    use super::*;

    fn shared(bytes_max: usize, records_max: usize) -> Shared {
        let fetch = FetchConfig { buffer_bytes_max: bytes_max, records_max, ..FetchConfig::default() };
        Shared::new(Voice::new(&crate::ClientConfig::new("h:1", "c")), &fetch)
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").unwrap(), partition)
    }

    fn record(partition: i32, offset: Offset) -> Item {
        let value = Some(bytes::Bytes::from(vec![0; 72]));
        let (key, headers) = (None, Headers::new());
        Item::Record(ConsumedRecord { tp: tp(partition), offset, timestamp_ms: 0, key, value, headers })
    }

    fn offsets(event: Option<Event>) -> (i32, Vec<Offset>) {
        match event {
            Some(Event::Records(records)) => {
                (records[0].tp.partition, records.iter().map(|r| r.offset).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn partitions_take_turns_and_a_paused_one_waits() {
        let shared = shared(1 << 20, 2);
        for p in 0..2 {
            shared.add(&tp(p), Some(0));
            shared.push(&tp(p), &mut (0..3).map(|o| record(p, o)).collect());
        }
        assert_eq!(offsets(shared.take()), (0, vec![0, 1]));
        assert_eq!(offsets(shared.take()), (1, vec![0, 1]));
        shared.set_paused(&[tp(0)], true);
        assert_eq!(offsets(shared.take()), (1, vec![2]));
        assert!(shared.take().is_none());
        shared.set_paused(&[tp(0)], false);
        assert_eq!(offsets(shared.take()), (0, vec![2]));
        assert!(shared.take().is_none());
    }

    #[test]
    fn a_full_buffer_takes_no_more_until_half_is_taken() {
        let shared = shared(400, 1);
        shared.add(&tp(0), Some(0));
        shared.push(&tp(0), &mut vec![record(0, 0), record(0, 1)]);
        assert!(!shared.wants(&tp(0)));
        shared.take();
        assert!(shared.wants(&tp(0)));
        assert_eq!(shared.room(), 200);
    }

    #[test]
    fn a_revoked_partitions_records_are_dropped() {
        let shared = shared(1 << 20, 10);
        shared.add(&tp(0), Some(0));
        shared.push(&tp(0), &mut vec![record(0, 0), Item::End(5)]);
        assert_eq!(shared.position(&tp(0)), Some(5));
        shared.remove(&tp(0));
        shared.push(&tp(0), &mut vec![record(0, 1)]);
        assert!(shared.take().is_none());
        assert_eq!(shared.room(), 1 << 20);
    }

    #[test]
    fn after_the_end_the_owner_is_told_always() {
        let shared = shared(1, 1);
        shared.end();
        for _ in 0..2 {
            assert!(matches!(shared.take(), Some(Event::Error(e)) if e.is_fatal()));
        }
    }
}
