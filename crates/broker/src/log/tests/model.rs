//! The log against a model that is a list of frames: random appends, transactions, deletions, checkpoints and crashes. After each
//! crash the log must hold a prefix of the frames that contains everything acknowledged and everything ever shown, and be in every
//! respect what these frames make.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

const PARTITIONS: usize = 3;
const PRODUCERS: usize = 3;
const PRODUCER_BASE: i64 = 100;

#[derive(Debug, Clone)]
enum Step {
    /// Without a producer id.
    Plain {
        partition: usize,
        count: i32,
        payload: usize,
    },
    /// Idempotent or transactional: producer 0 is idempotent only.
    Produce {
        partition: usize,
        producer: usize,
        count: i32,
        payload: usize,
    },
    /// The last batch again.
    Retry {
        partition: usize,
        producer: usize,
    },
    /// A batch whose predecessor is missing.
    Gap {
        partition: usize,
        producer: usize,
    },
    End {
        producer: usize,
        outcome: Outcome,
    },
    Note,
    Delete {
        partition: usize,
        percent: i64,
    },
    Retain,
    Wait,
    Hold,
    AllowSyncs(usize),
    Checkpoint,
    Crash {
        seed: u64,
    },
    Kill,
    CrashInCheckpoint {
        syncs: usize,
        seed: u64,
    },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    let producer = 0..PRODUCERS;
    let (count, payload) = (1..4i32, 1..200usize);
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    prop_oneof![
        4 => (partition.clone(), count.clone(), payload.clone())
            .prop_map(|(partition, count, payload)| Step::Plain { partition, count, payload }),
        10 => (partition.clone(), producer.clone(), count, payload)
            .prop_map(|(partition, producer, count, payload)| Step::Produce { partition, producer, count, payload }),
        2 => (partition.clone(), producer.clone())
            .prop_map(|(partition, producer)| Step::Retry { partition, producer }),
        1 => (partition.clone(), producer.clone()).prop_map(|(partition, producer)| Step::Gap { partition, producer }),
        4 => (producer, outcome).prop_map(|(producer, outcome)| Step::End { producer, outcome }),
        2 => Just(Step::Note),
        1 => (partition, 0..=100i64).prop_map(|(partition, percent)| Step::Delete { partition, percent }),
        1 => Just(Step::Retain),
        2 => Just(Step::Wait),
        3 => Just(Step::Hold),
        2 => (1..3usize).prop_map(Step::AllowSyncs),
        2 => Just(Step::Checkpoint),
        3 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
        1 => Just(Step::Kill),
        2 => (0..8usize, any::<u64>()).prop_map(|(syncs, seed)| Step::CrashInCheckpoint { syncs, seed }),
        1 => Just(Step::Close),
    ]
}

#[derive(Debug, Clone)]
enum Fact {
    Batch { partition: usize, offset: i64, count: i32, bytes: Vec<u8>, producer: Option<(usize, i32, bool)> },
    Marker { partition: usize, offset: i64, producer: usize, outcome: Outcome },
    Start { partition: usize, offset: i64 },
    Note(Vec<u8>),
}

/// What the frames make of a partition.
#[derive(Debug, Default, Clone)]
struct Expected {
    /// Offset, next offset, and bytes behind the leader epoch; None for a marker.
    batches: Vec<(i64, i64, Option<Vec<u8>>)>,
    start: i64,
    end: i64,
    /// Per producer: first offset of its open transaction, its last batch (sequence, count, offset, bytes), next sequence.
    open: [Option<i64>; PRODUCERS],
    last: [Option<(i64, Vec<u8>)>; PRODUCERS],
    next_sequence: [i32; PRODUCERS],
    /// Producer, first offset, marker's offset.
    aborted: Vec<(usize, i64, i64)>,
}

impl Expected {
    fn last_stable_offset(&self) -> i64 {
        self.open.iter().flatten().copied().min().unwrap_or(self.end).max(self.start)
    }
}

fn fold(frames: &[Vec<Fact>]) -> (Vec<Expected>, Vec<Vec<u8>>) {
    let mut partitions = vec![Expected::default(); PARTITIONS];
    let mut notes = Vec::new();
    for fact in frames.iter().flatten() {
        match fact {
            Fact::Batch { partition, offset, count, bytes, producer } => {
                let expected = &mut partitions[*partition];
                assert_eq!(*offset, expected.end, "offsets follow each other");
                expected.end += i64::from(*count);
                expected.batches.push((*offset, expected.end, Some(bytes[16..].to_vec())));
                if let Some((producer, sequence, transactional)) = producer {
                    expected.next_sequence[*producer] = sequence + count;
                    expected.last[*producer] = Some((*offset, bytes.clone()));
                    if *transactional && expected.open[*producer].is_none() {
                        expected.open[*producer] = Some(*offset);
                    }
                }
            }
            Fact::Marker { partition, offset, producer, outcome } => {
                let expected = &mut partitions[*partition];
                assert_eq!(*offset, expected.end, "offsets follow each other");
                expected.end += 1;
                expected.batches.push((*offset, expected.end, None));
                if let Some(first) = expected.open[*producer].take()
                    && *outcome == Outcome::Abort
                {
                    expected.aborted.push((*producer, first, *offset));
                }
            }
            Fact::Start { partition, offset } => partitions[*partition].start = *offset,
            Fact::Note(note) => notes.push(note.clone()),
        }
    }
    (partitions, notes)
}

struct World {
    disk: LossyDisk,
    log: Option<Arc<Log>>,
    notes: Arc<Notes>,
    /// Frame n is at position n + 1.
    frames: Vec<Vec<Fact>>,
    acknowledged: usize,
    /// The greatest high watermark ever shown.
    shown: [i64; PARTITIONS],
    noted: u8,
}

fn small() -> Config {
    Config { wal_file_bytes: 4096, wal_bytes_max: 8 << 20, files_open_max: 4, ..config() }
}

fn topic() -> PartitionConfig {
    PartitionConfig {
        segment_bytes: 600,
        index_interval_bytes: 150,
        retention_bytes: Some(2000),
        retention_ms: None,
        ..PartitionConfig::default()
    }
}

impl World {
    fn new() -> Self {
        let disk = LossyDisk::new();
        let notes = Arc::new(Notes::default());
        let log = open_with(&disk, small(), vec![notes.clone()]).unwrap();
        create(&log, TOPIC, PARTITIONS as i32, topic());
        let frames = vec![Vec::new()];
        Self { disk, log: Some(log), notes, frames, acknowledged: 1, shown: [0; PARTITIONS], noted: 0 }
    }

    fn log(&self) -> &Arc<Log> {
        self.log.as_ref().unwrap()
    }

    fn partition(&self, index: usize) -> Arc<Partition> {
        self.log().partition(TOPIC, index as i32).unwrap()
    }

    fn pushed(&mut self, position: Position, facts: Vec<Fact>) {
        self.frames.push(facts);
        assert_eq!(position, Position(self.frames.len() as u64), "a frame's position is its number");
    }

    fn wait(&mut self) {
        self.disk.release_syncs();
        self.log().wait_synced(Position(self.frames.len() as u64)).unwrap();
        self.acknowledged = self.frames.len();
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (expected, _) = fold(&self.frames);
        match step {
            Step::Plain { partition, count, payload } => {
                let fill = self.frames.len() as u8;
                let spec = Spec { count: *count, payload: *payload, fill, ..Spec::default() };
                self.append(*partition, spec, None)?;
            }
            Step::Produce { partition, producer, count, payload } => {
                let sequence = expected[*partition].next_sequence[*producer];
                let transactional = *producer > 0;
                let spec = Spec {
                    count: *count,
                    payload: *payload,
                    fill: self.frames.len() as u8,
                    producer: Some((PRODUCER_BASE + *producer as i64, 0, sequence)),
                    transactional,
                    ..Spec::default()
                };
                self.append(*partition, spec, Some((*producer, sequence, transactional)))?;
            }
            Step::Retry { partition, producer } => {
                if let Some((offset, bytes)) = &expected[*partition].last[*producer] {
                    let batch = RawBatch::parse(Bytes::from(bytes.clone())).unwrap();
                    let info = self.partition(*partition).append(batch).unwrap();
                    prop_assert!(info.duplicate);
                    prop_assert_eq!(info.base_offset, *offset);
                }
            }
            Step::Gap { partition, producer } => {
                let sequence = expected[*partition].next_sequence[*producer];
                if sequence > 0 {
                    let producer = Some((PRODUCER_BASE + *producer as i64, 0, sequence + 7));
                    let error =
                        self.partition(*partition).append(Spec { producer, ..Spec::default() }.batch());
                    prop_assert!(matches!(error, Err(AppendError::OutOfOrderSequence { .. })), "{error:?}");
                }
            }
            Step::End { producer, outcome } => {
                let log = Arc::clone(self.log());
                let note = vec![255, self.noted];
                self.noted += 1;
                let mut facts = vec![Fact::Note(note.clone())];
                let notes = Arc::clone(&self.notes);
                let mut held = notes.0.lock();
                held.push(note.clone());
                let mut frame = log.frame().entry(9, &note);
                for (partition, expected) in expected.iter().enumerate() {
                    if expected.open[*producer].is_some() {
                        let handle = self.partition(partition);
                        frame =
                            frame.append_marker(&handle, PRODUCER_BASE + *producer as i64, 0, *outcome, 0);
                        let (producer, outcome, offset) = (*producer, *outcome, expected.end);
                        facts.push(Fact::Marker { partition, offset, producer, outcome });
                    }
                }
                let (_, position) = frame.commit().unwrap();
                drop(held);
                self.pushed(position, facts);
            }
            Step::Note => {
                let note = vec![1, self.noted];
                self.noted += 1;
                let position = self.notes.add(self.log(), &note);
                self.pushed(position, vec![Fact::Note(note)]);
            }
            Step::Delete { partition, percent } => {
                let handle = self.partition(*partition);
                let visible = handle.visible();
                let span = visible.high_watermark - visible.log_start_offset;
                let target = visible.log_start_offset + span * percent / 100;
                let (start, position) = handle.delete_records(target).unwrap();
                prop_assert_eq!(start, target);
                if target > visible.log_start_offset {
                    self.pushed(position, vec![Fact::Start { partition: *partition, offset: start }]);
                }
            }
            Step::Retain => {
                self.wait();
                self.log().retain();
                for (index, expected) in expected.iter().enumerate() {
                    let partition = self.partition(index);
                    let start = partition.visible().log_start_offset;
                    prop_assert!(
                        partition.size() >= 2000 || start == expected.start,
                        "only the surplus goes"
                    );
                    if start != expected.start {
                        self.frames.push(vec![Fact::Start { partition: index, offset: start }]);
                    }
                }
            }
            Step::Wait => {
                self.wait();
                self.check(self.frames.len())?;
            }
            Step::Hold => self.disk.hold_syncs(),
            Step::AllowSyncs(count) => self.disk.allow_syncs(*count),
            Step::Checkpoint => {
                self.disk.release_syncs();
                self.log().checkpoint().unwrap();
            }
            Step::Crash { seed } => {
                self.observe();
                self.disk.crash(*seed);
                self.reopen()?;
            }
            Step::Kill => {
                self.observe();
                self.disk.kill();
                self.reopen()?;
            }
            Step::CrashInCheckpoint { syncs, seed } => {
                self.disk.hold_syncs();
                self.disk.allow_syncs(*syncs);
                let log = Arc::clone(self.log());
                let checkpoint = std::thread::spawn(move || log.checkpoint().is_ok());
                while !checkpoint.is_finished() && !self.disk.is_sync_held() {
                    std::thread::yield_now();
                }
                self.observe();
                self.disk.crash(*seed);
                checkpoint.join().unwrap();
                self.reopen()?;
            }
            Step::Close => {
                self.disk.release_syncs();
                self.log().close().unwrap();
                self.acknowledged = self.frames.len();
                self.reopen()?;
                prop_assert_eq!(self.log().stats().frames_replayed, 0, "a clean start replays nothing");
            }
        }
        self.observe();
        Ok(())
    }

    fn append(
        &mut self,
        partition: usize,
        spec: Spec,
        producer: Option<(usize, i32, bool)>,
    ) -> Result<(), TestCaseError> {
        let info = self.partition(partition).append(spec.batch()).unwrap();
        prop_assert!(!info.duplicate);
        let (offset, count) = (info.base_offset, spec.count);
        self.pushed(
            info.position,
            vec![Fact::Batch { partition, offset, count, bytes: spec.bytes(), producer }],
        );
        Ok(())
    }

    fn observe(&mut self) {
        for index in 0..PARTITIONS {
            self.shown[index] = self.shown[index].max(self.partition(index).visible().high_watermark);
        }
    }

    fn reopen(&mut self) -> Result<(), TestCaseError> {
        self.log = None;
        self.notes = Arc::new(Notes::default());
        let log = open_with(&self.disk, small(), vec![self.notes.clone()]);
        let log = log.map_err(|error| TestCaseError::fail(wal::report(&error)))?;
        let kept = usize::try_from(log.stats().frames_total).unwrap();
        self.log = Some(log);
        prop_assert!(
            kept >= self.acknowledged,
            "{kept} frames are left of {} acknowledged",
            self.acknowledged
        );
        prop_assert!(kept <= self.frames.len());
        self.frames.truncate(kept);
        // What recovery shows it made durable.
        self.acknowledged = kept;
        for (index, shown) in self.shown.iter().enumerate() {
            let now = self.partition(index).visible().high_watermark;
            prop_assert!(now >= *shown, "partition {index} had shown {shown} and is back at {now}");
        }
        self.check(kept)
    }

    /// Everything is visible and is what the first `kept` frames make.
    fn check(&self, kept: usize) -> Result<(), TestCaseError> {
        let (expected, notes) = fold(&self.frames[..kept]);
        prop_assert_eq!(self.notes.all(), notes);
        for (index, expected) in expected.iter().enumerate() {
            let partition = self.partition(index);
            let visible = Visible {
                log_start_offset: expected.start,
                high_watermark: expected.end,
                last_stable_offset: expected.last_stable_offset(),
            };
            prop_assert_eq!(partition.visible(), visible, "partition {}", index);
            for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
                check_contents(&partition, expected, isolation)?;
            }
            for producer in 0..PRODUCERS {
                let id = PRODUCER_BASE + producer as i64;
                prop_assert_eq!(partition.open_transaction(id), expected.open[producer]);
                if let Some((offset, bytes)) = &expected.last[producer] {
                    let batch = RawBatch::parse(Bytes::from(bytes.clone())).unwrap();
                    let info = partition.append(batch).unwrap();
                    prop_assert!(info.duplicate && info.base_offset == *offset, "{info:?}");
                }
            }
        }
        Ok(())
    }
}

fn check_contents(
    partition: &Partition,
    expected: &Expected,
    isolation: Isolation,
) -> Result<(), TestCaseError> {
    let limit = match isolation {
        Isolation::ReadUncommitted => expected.end,
        Isolation::ReadCommitted => expected.last_stable_offset(),
    };
    let batches = expected.batches.iter();
    let readable = |base: i64, next: i64| next > expected.start && base < limit && expected.start < limit;
    let mut batches = batches.filter(|(base, next, _)| readable(*base, *next));
    let mut offset = expected.start;
    while offset < limit {
        let read = partition.read(offset, 300, true, isolation).unwrap();
        let from = offset;
        let mut rest = &read.bytes[..];
        prop_assert!(!rest.is_empty(), "nothing at {} of {}", offset, limit);
        while !rest.is_empty() {
            let header = Header::peek(rest).unwrap();
            let whole = Bytes::copy_from_slice(&rest[..header.size]);
            prop_assert!(RawBatch::parse(whole).is_ok());
            let Some((base, next, bytes)) = batches.next() else {
                return Err(TestCaseError::fail(format!("a batch too many at {}", header.base_offset)));
            };
            prop_assert_eq!((header.base_offset, header.next_offset()), (*base, *next));
            match bytes {
                Some(bytes) => prop_assert!(rest[16..header.size] == bytes[..], "bytes at {}", base),
                None => prop_assert!(header.is_control()),
            }
            offset = *next;
            rest = &rest[header.size..];
        }
        if isolation == Isolation::ReadCommitted {
            let aborted = expected.aborted.iter();
            let overlapping = aborted.filter(|(_, first, marker)| *marker >= from && *first < offset);
            let mut wanted: Vec<Aborted> = overlapping
                .map(|(producer, first, _)| Aborted {
                    producer_id: PRODUCER_BASE + *producer as i64,
                    first_offset: *first,
                })
                .collect();
            wanted.sort_by_key(|aborted| aborted.first_offset);
            prop_assert_eq!(read.aborted, wanted);
        }
    }
    prop_assert!(batches.next().is_none());
    Ok(())
}

/// 150, or what PROPTEST_CASES asks for in a long run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_is_what_its_frames_make(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step)?;
        }
        world.wait();
        world.check(world.frames.len())?;
    }
}
