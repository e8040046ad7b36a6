//! Tests of the log as a whole, on a disk that loses what wasn't synced.

mod durability;
mod failures;
mod lifecycle;
mod model;
mod reading;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use super::testing::LossyDisk;
use super::*;

pub(super) const DIR: &str = "/data/broker";
pub(super) const NOW: i64 = 1_800_000_000_000;

/// A clock that only a test moves.
#[derive(Clone)]
pub(super) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW)))
    }

    pub(super) fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(super) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::new(move || now.load(Ordering::SeqCst))
    }
}

pub(super) fn config() -> Config {
    Config { background: false, clock: TestClock::new().clock(), ..Config::default() }
}

pub(super) fn open(disk: &LossyDisk, config: Config) -> Arc<Log> {
    open_with(disk, config, Vec::new()).expect("the log opens")
}

pub(super) fn open_with(
    disk: &LossyDisk,
    config: Config,
    machines: Vec<Arc<dyn Machine>>,
) -> Result<Arc<Log>, Error> {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), config, machines)
}

pub(super) fn create(log: &Log, topic_id: Uuid, count: i32, config: PartitionConfig) {
    let (_, position) = log.frame().create_partitions(topic_id, count, config).commit().unwrap();
    log.wait_synced(position).unwrap();
}

/// A log with one partition.
pub(super) fn one(disk: &LossyDisk, config: PartitionConfig) -> (Arc<Log>, Arc<Partition>) {
    let log = open(disk, self::config());
    create(&log, TOPIC, 1, config);
    let partition = log.partition(TOPIC, 0).unwrap();
    (log, partition)
}

pub(super) const TOPIC: Uuid = Uuid::from_u128(1);

/// A batch in the making. Its records are filler: the log doesn't look into them.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    pub(super) count: i32,
    pub(super) fill: u8,
    pub(super) payload: usize,
    pub(super) producer: Option<(i64, i16, i32)>,
    pub(super) transactional: bool,
    pub(super) timestamp: i64,
}

impl Default for Spec {
    fn default() -> Self {
        Self { count: 1, fill: 7, payload: 40, producer: None, transactional: false, timestamp: NOW }
    }
}

impl Spec {
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut out = vec![self.fill; 61 + self.payload];
        let (producer_id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let length = i32::try_from(out.len() - 12).unwrap();
        out[..8].copy_from_slice(&0i64.to_be_bytes());
        out[8..12].copy_from_slice(&length.to_be_bytes());
        out[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        out[16] = 2;
        out[21..23].copy_from_slice(&(if self.transactional { 1i16 << 4 } else { 0 }).to_be_bytes());
        out[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        out[27..35].copy_from_slice(&self.timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&epoch.to_be_bytes());
        out[53..57].copy_from_slice(&sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn batch(self) -> RawBatch {
        RawBatch::parse(Bytes::from(self.bytes())).unwrap()
    }
}

/// What a fetcher sees: all visible batches from the start, with their bytes behind the leader epoch.
pub(super) fn contents(partition: &Partition, isolation: Isolation) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    let mut offset = partition.visible().log_start_offset;
    loop {
        let read = partition.read(offset, 4096, true, isolation).unwrap();
        if read.bytes.is_empty() {
            return found;
        }
        let mut rest = &read.bytes[..];
        while !rest.is_empty() {
            let header = Header::peek(rest).unwrap();
            let batch = RawBatch::parse(Bytes::copy_from_slice(&rest[..header.size])).unwrap();
            found.push((header.base_offset, batch.bytes()[16..].to_vec()));
            offset = header.next_offset();
            rest = &rest[header.size..];
        }
    }
}

/// A state machine that remembers every entry, as absolute facts.
#[derive(Default)]
pub(super) struct Notes(pub(super) Mutex<Vec<Vec<u8>>>);

impl Notes {
    /// Adds a note as the trait asks: change and entry under one lock.
    pub(super) fn add(&self, log: &Log, note: &[u8]) -> Position {
        let mut notes = self.0.lock();
        notes.push(note.to_vec());
        log.entry(self.id(), note)
    }

    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().clone()
    }
}

impl Machine for Notes {
    fn id(&self) -> u8 {
        9
    }

    fn snapshot(&self) -> Vec<u8> {
        let notes = self.0.lock();
        let mut out = vec![1];
        for note in notes.iter() {
            out.push(u8::try_from(note.len()).unwrap());
            out.extend_from_slice(note);
        }
        out
    }

    fn restore(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        let Some((1, mut rest)) = snapshot.split_first().map(|(version, rest)| (*version, rest)) else {
            return Err("not a version 1 snapshot".into());
        };
        let mut notes = self.0.lock();
        while let Some((length, tail)) = rest.split_first() {
            let (note, tail) = tail.split_at(usize::from(*length));
            notes.push(note.to_vec());
            rest = tail;
        }
        Ok(())
    }

    fn replay(&self, entry: &[u8]) -> Result<(), MachineError> {
        let mut notes = self.0.lock();
        if entry == b"bad" {
            return Err("a bad note".into());
        }
        if !notes.iter().any(|note| note == entry) {
            notes.push(entry.to_vec());
        }
        Ok(())
    }
}
