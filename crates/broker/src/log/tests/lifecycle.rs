//! Topics that come and go, records that grow old, starts and ends.

use std::time::{Duration, Instant};

use super::*;

fn segments(disk: &LossyDisk) -> usize {
    disk.files().iter().filter(|path| path.extension().is_some_and(|it| it == "log")).count()
}

/// A log whose partition has ten segments of one batch, a second apart.
fn ten_segments(disk: &LossyDisk, topic: PartitionConfig) -> (Arc<Log>, Arc<Partition>, TestClock) {
    let clock = TestClock::new();
    let log = open(disk, Config { clock: clock.clock(), ..config() });
    create(&log, TOPIC, 1, PartitionConfig { segment_bytes: 100, ..topic });
    let partition = log.partition(TOPIC, 0).unwrap();
    for at in 0..10 {
        let spec = Spec { timestamp: NOW + at * 1000, ..Spec::default() };
        let info = partition.append(spec.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
        clock.pass(1000);
    }
    assert_eq!(segments(disk), 10);
    (log, partition, clock)
}

#[test]
fn retention_by_time() {
    let disk = LossyDisk::new();
    let topic = PartitionConfig { retention_ms: Some(5500), ..PartitionConfig::default() };
    let (log, partition, clock) = ten_segments(&disk, topic);
    assert!(log.retain());
    // It is NOW + 10 s: the batches of 0 to 4 s are older than 5.5 s.
    assert_eq!(partition.visible().log_start_offset, 5);
    assert!(!log.retain());
    assert_eq!(segments(&disk), 10, "until the next checkpoint recovery may need them");
    disk.crash(0);
    drop(log);
    let log = open(&disk, Config { clock: clock.clock(), ..config() });
    let partition = log.partition(TOPIC, 0).unwrap();
    // The move wasn't waited for, so it may be lost, and is made again.
    log.retain();
    assert_eq!(partition.visible().log_start_offset, 5);
    log.checkpoint().unwrap();
    assert_eq!(segments(&disk), 5);
    let error = partition.read(4, 100, true, Isolation::ReadUncommitted).unwrap_err();
    assert!(matches!(error, ReadError::OffsetOutOfRange { offset: 4, start: 5, end: 10 }), "{error}");
    // In the end all of it goes, the segment that is written too.
    clock.pass(60_000);
    assert!(log.retain());
    assert_eq!(
        partition.visible(),
        Visible { log_start_offset: 10, high_watermark: 10, last_stable_offset: 10 }
    );
    log.close().unwrap();
    assert_eq!(segments(&disk), 0);
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    assert_eq!(partition.append(Spec::default().batch()).unwrap().base_offset, 10);
}

#[test]
fn retention_by_size() {
    let disk = LossyDisk::new();
    let topic = PartitionConfig { retention_ms: None, ..PartitionConfig::default() };
    let (log, partition, clock) = ten_segments(&disk, topic.clone());
    clock.pass(1_000_000_000_000);
    assert!(!log.retain(), "no limit");
    let limited = PartitionConfig { retention_bytes: Some(303), ..topic };
    log.frame().configure(TOPIC, limited).commit().unwrap();
    assert!(log.retain());
    // Batches have 101 bytes.
    assert_eq!((partition.size(), partition.visible().log_start_offset), (303, 7));
    log.close().unwrap();
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    assert_eq!(partition.config().retention_bytes, Some(303));
    assert_eq!((partition.size(), partition.visible().log_start_offset), (303, 7));
    assert_eq!(segments(&disk), 3);
}

#[test]
fn retention_spares_open_transactions() {
    let disk = LossyDisk::new();
    let clock = TestClock::new();
    let log = open(&disk, Config { clock: clock.clock(), ..config() });
    let topic =
        PartitionConfig { segment_bytes: 100, retention_ms: Some(1000), ..PartitionConfig::default() };
    create(&log, TOPIC, 1, topic);
    let partition = log.partition(TOPIC, 0).unwrap();
    partition.append(Spec::default().batch()).unwrap();
    let spec = Spec { producer: Some((5, 0, 0)), transactional: true, ..Spec::default() };
    let info = partition.append(spec.batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    clock.pass(10_000);
    assert!(log.retain());
    assert_eq!(partition.visible().log_start_offset, 1);
    let frame = log.frame().append_marker(&partition, 5, 0, Outcome::Commit, 0);
    let (_, position) = frame.commit().unwrap();
    log.wait_synced(position).unwrap();
    clock.pass(10_000);
    assert!(log.retain());
    assert_eq!(partition.visible().log_start_offset, 3);
}

#[test]
fn a_segment_rolls_by_age() {
    let disk = LossyDisk::new();
    let clock = TestClock::new();
    let log = open(&disk, Config { clock: clock.clock(), ..config() });
    create(&log, TOPIC, 1, PartitionConfig { segment_ms: 1000, ..PartitionConfig::default() });
    let partition = log.partition(TOPIC, 0).unwrap();
    for _ in 0..4 {
        partition.append(Spec::default().batch()).unwrap();
        clock.pass(600);
    }
    assert_eq!(segments(&disk), 2);
}

#[test]
fn idle_producers_are_forgotten() {
    let disk = LossyDisk::new();
    let clock = TestClock::new();
    let config = Config { clock: clock.clock(), producer_id_expiry_ms: 1000, ..config() };
    let log = open(&disk, config);
    create(&log, TOPIC, 1, PartitionConfig::default());
    let partition = log.partition(TOPIC, 0).unwrap();
    let first = Spec { producer: Some((5, 0, 0)), ..Spec::default() };
    partition.append(first.batch()).unwrap();
    clock.pass(900);
    log.retain();
    assert!(partition.append(first.batch()).unwrap().duplicate);
    clock.pass(900);
    log.retain();
    assert!(!partition.append(first.batch()).unwrap().duplicate);
}

#[test]
fn records_are_deleted_on_request() {
    let disk = LossyDisk::new();
    let (log, partition, _) = ten_segments(&disk, PartitionConfig::default());
    let waiter = Waiter::new();
    partition.watch(&waiter);
    let (start, position) = partition.delete_records(3).unwrap();
    log.wait_synced(position).unwrap();
    wal::block_on(waiter.wait());
    assert_eq!(start, 3);
    assert_eq!(partition.delete_records(1).unwrap().0, 3, "never backwards");
    assert!(matches!(partition.delete_records(11), Err(ReadError::OffsetOutOfRange { .. })));
    assert!(matches!(partition.delete_records(-2), Err(ReadError::OffsetOutOfRange { .. })));
    disk.crash(1);
    drop(log);
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    assert_eq!(partition.visible().log_start_offset, 3);
    assert_eq!(partition.delete_records(-1).unwrap().0, 10);
    log.close().unwrap();
    assert_eq!(segments(&disk), 0);
}

#[test]
fn a_dropped_topic_is_gone_for_all_and_for_good() {
    for crash in [false, true] {
        let disk = LossyDisk::new();
        let (log, partition, _) = ten_segments(&disk, PartitionConfig::default());
        log.checkpoint().unwrap();
        let other = Uuid::from_u128(2);
        create(&log, other, 1, PartitionConfig::default());
        let waiter = Waiter::new();
        partition.watch(&waiter);
        let (_, position) = log.frame().drop_topic(TOPIC).commit().unwrap();
        wal::block_on(waiter.wait());
        log.wait_synced(position).unwrap();
        assert!(log.partition(TOPIC, 0).is_none());
        assert!(matches!(partition.append(Spec::default().batch()), Err(AppendError::Dropped { .. })));
        let read = partition.read(0, 100, true, Isolation::ReadUncommitted);
        assert!(matches!(read, Err(ReadError::Dropped { .. })));
        assert!(matches!(partition.delete_records(-1), Err(ReadError::Dropped { .. })));
        if crash {
            disk.crash(7);
            drop(log);
            let log = open(&disk, config());
            assert_eq!(log.topics(), [(other, 1)]);
            log.close().unwrap();
        } else {
            log.close().unwrap();
        }
        assert_eq!(segments(&disk), 0);
        let log = open(&disk, config());
        assert_eq!(log.topics(), [(other, 1)]);
    }
}

#[test]
fn partitions_are_added() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig { segment_ms: 77, ..PartitionConfig::default() });
    partition.append(Spec::default().batch()).unwrap();
    create(&log, TOPIC, 3, PartitionConfig::default());
    assert!(Arc::ptr_eq(&partition, &log.partition(TOPIC, 0).unwrap()));
    assert_eq!(log.partition(TOPIC, 2).unwrap().config().segment_ms, 77);
    assert!(log.partition(TOPIC, 3).is_none() && log.partition(TOPIC, -1).is_none());
    drop(log);
    assert_eq!(open(&disk, config()).topics(), [(TOPIC, 3)]);
}

#[test]
fn open_files_are_bounded() {
    let disk = LossyDisk::new();
    let log = open(&disk, Config { files_open_max: 5, ..config() });
    create(&log, TOPIC, 20, PartitionConfig { segment_bytes: 200, ..PartitionConfig::default() });
    for round in 0..6u8 {
        for index in 0..20 {
            let partition = log.partition(TOPIC, index).unwrap();
            let info = partition.append(Spec { fill: round, ..Spec::default() }.batch()).unwrap();
            log.wait_synced(info.position).unwrap();
        }
        if round == 3 {
            log.checkpoint().unwrap();
        }
        assert!(log.stats().files_open <= 5, "{:?}", log.stats());
    }
    for index in 0..20 {
        let found = contents(&log.partition(TOPIC, index).unwrap(), Isolation::ReadUncommitted);
        assert_eq!(found.len(), 6);
        assert!(found.iter().zip(0..).all(|((offset, _), at)| *offset == at));
    }
}

#[test]
fn a_closed_log_refuses_and_replays_nothing() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let info = partition.append(Spec::default().batch()).unwrap();
    log.close().unwrap();
    log.close().unwrap();
    log.wait_synced(info.position).unwrap();
    let refused = partition.append(Spec::default().batch()).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(Error::Closed)), "{refused}");
    assert!(matches!(log.wait_synced(log.entry(9, b"late")), Err(Error::Closed)));
    let log = open(&disk, config());
    assert_eq!(log.stats().frames_replayed, 0);
}

/// Start-up is bounded by the write-ahead log's size: after a checkpoint a thousand partitions with data cost their table entry and
/// the cut of one file each.
#[test]
fn a_thousand_partitions_start_fast() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || Log::open(Arc::new(OsDisk), &dir.path().join("broker"), Config::default(), Vec::new()).unwrap();
    let log = open();
    create(&log, TOPIC, 1000, PartitionConfig::default());
    let mut last = Position::default();
    for index in 0..1000 {
        let partition = log.partition(TOPIC, index).unwrap();
        let producer = Some((i64::from(index), 0, 0));
        last =
            partition.append(Spec { producer, timestamp: -1, ..Spec::default() }.batch()).unwrap().position;
    }
    log.wait_synced(last).unwrap();
    drop(log);
    for clean in [false, true] {
        let started = Instant::now();
        let log = open();
        let took = started.elapsed();
        let stats = log.stats();
        println!("1000 partitions, {} frames replayed: {took:?}", stats.frames_replayed);
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(stats.frames_replayed == 0, clean);
        assert_eq!(log.partition(TOPIC, 999).unwrap().visible().high_watermark, 1);
        log.close().unwrap();
    }
}

/// Threads append while checkpoints run in the background and write-ahead log files come and go.
#[test]
fn concurrent_appends_keep_order_through_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { wal_file_bytes: 16 << 10, wal_bytes_max: 64 << 10, ..Config::default() };
    let topic = PartitionConfig { segment_bytes: 8 << 10, ..PartitionConfig::default() };
    let open = || Log::open(Arc::new(OsDisk), dir.path(), config.clone(), Vec::new()).unwrap();
    let log = open();
    create(&log, TOPIC, 3, topic);
    std::thread::scope(|scope| {
        for worker in 0..6u8 {
            let log = &log;
            scope.spawn(move || {
                let partition = log.partition(TOPIC, i32::from(worker % 3)).unwrap();
                for sequence in 0..200 {
                    let producer = Some((i64::from(worker), 0, sequence));
                    let spec = Spec { producer, payload: 150, timestamp: -1, ..Spec::default() };
                    let info = loop {
                        match partition.append(spec.batch()) {
                            Ok(info) => break info,
                            Err(AppendError::Busy) => wal::block_on(log.room()).unwrap(),
                            Err(error) => panic!("{error}"),
                        }
                    };
                    if sequence % 10 == 0 {
                        log.wait_synced(info.position).unwrap();
                        assert!(partition.visible().high_watermark > info.last_offset);
                    }
                }
            });
        }
    });
    log.wait_synced(log.entry(9, b"last")).unwrap();
    let whole: Vec<_> = (0..3)
        .map(|index| contents(&log.partition(TOPIC, index).unwrap(), Isolation::ReadUncommitted))
        .collect();
    assert!(whole.iter().all(|batches| batches.len() == 400));
    assert!(log.stats().wal_bytes < 300 << 10, "{:?}", log.stats());
    drop(log);
    let log = Log::open(Arc::new(OsDisk), dir.path(), config, vec![Arc::new(Notes::default())]).unwrap();
    for (index, whole) in (0..).zip(&whole) {
        let partition = log.partition(TOPIC, index).unwrap();
        assert_eq!(contents(&partition, Isolation::ReadUncommitted), *whole);
    }
}
