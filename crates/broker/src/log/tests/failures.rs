//! Disks that fail, files that are damaged, and limits that are reached.

use super::*;
use crate::log::testing::{Fault, Operation};

fn fault(operation: Operation, path: &str, errno: i32) -> Fault {
    Fault { operation, path: path.to_owned(), errno, after: 0, times: usize::MAX }
}

fn wal_files(disk: &LossyDisk) -> Vec<std::path::PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|it| it == "wal")).collect()
}

#[test]
fn a_failed_sync_makes_the_log_read_only() {
    for (operation, errno) in
        [(Operation::Sync, libc::EIO), (Operation::Sync, libc::ENOSPC), (Operation::Write, libc::EIO)]
    {
        let disk = LossyDisk::new();
        let (log, partition) = one(&disk, PartitionConfig::default());
        let info = partition.append(Spec::default().batch()).unwrap();
        log.wait_synced(info.position).unwrap();
        disk.inject(Fault { times: 1, ..fault(operation, ".wal", errno) });
        let lost = partition.append(Spec::default().batch()).unwrap();
        let error = log.wait_synced(lost.position).unwrap_err();
        let Error::ReadOnly { reason } = &error else { panic!("{error}") };
        assert!(reason.contains(".wal"), "{reason}");
        // The disk works again; the log doesn't pretend that nothing was.
        let refused = partition.append(Spec::default().batch()).unwrap_err();
        assert!(matches!(refused, AppendError::Storage(Error::ReadOnly { .. })), "{refused}");
        let entry = log.entry(9, b"entry");
        assert!(matches!(log.wait_synced(entry), Err(Error::ReadOnly { .. })));
        assert!(matches!(wal::block_on(log.room()), Err(Error::ReadOnly { .. })));
        assert!(matches!(log.frame().entry(9, b"entry").commit(), Err(AppendError::Storage(_))));
        log.wait_synced(info.position).expect("what was durable stays so");
        assert_eq!(contents(&partition, Isolation::ReadUncommitted).len(), 1);
        assert!(log.checkpoint().is_err());
        drop(log);
        disk.crash(0);
        let log = open(&disk, config());
        let partition = log.partition(TOPIC, 0).unwrap();
        assert_eq!(contents(&partition, Isolation::ReadUncommitted).len(), 1);
        let info = partition.append(Spec::default().batch()).unwrap();
        log.wait_synced(info.position).unwrap();
    }
}

#[test]
fn a_full_disk_holds_what_is_queued_and_ends_by_itself() {
    for rolls in [false, true] {
        let disk = LossyDisk::new();
        // With a file as small as one batch, the next frame needs a new file.
        let wal_file_bytes = if rolls { 4096 } else { 1 << 20 };
        let log = open(&disk, Config { wal_file_bytes, ..config() });
        create(&log, TOPIC, 1, PartitionConfig::default());
        let partition = log.partition(TOPIC, 0).unwrap();
        let mut stored = 0;
        while stored == 0 || (rolls && wal_files(&disk).len() < 2) {
            let info = partition.append(Spec::default().batch()).unwrap();
            log.wait_synced(info.position).unwrap();
            stored += 1;
        }
        // Two tries fail, the third finds space.
        disk.inject(Fault { times: 2, ..fault(Operation::Write, ".wal", libc::ENOSPC) });
        let held = partition.append(Spec::default().batch()).unwrap();
        while log.failure().is_none() {
            std::thread::yield_now();
        }
        assert!(matches!(log.failure(), Some(Error::Full { .. })), "{:?}", log.failure());
        let refused = partition.append(Spec::default().batch()).unwrap_err();
        assert!(matches!(&refused, AppendError::Storage(Error::Full { reason }) if reason.contains(".wal")));
        assert!(matches!(wal::block_on(log.room()), Err(Error::Full { .. })));
        assert_eq!(
            contents(&partition, Isolation::ReadUncommitted).len(),
            stored,
            "nothing shows before it is durable"
        );
        log.wait_synced(held.position).unwrap();
        assert!(log.failure().is_none());
        let info = partition.append(Spec::default().batch()).unwrap();
        log.wait_synced(info.position).unwrap();
        drop(log);
        disk.crash(0);
        let log = open(&disk, config());
        assert_eq!(contents(&log.partition(TOPIC, 0).unwrap(), Isolation::ReadUncommitted).len(), stored + 2);
    }
}

#[test]
fn a_log_on_a_full_disk_can_be_closed() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    disk.inject(fault(Operation::Write, ".wal", libc::ENOSPC));
    let held = partition.append(Spec::default().batch()).unwrap();
    assert!(log.close().is_err(), "what is held can't be stored");
    assert!(matches!(log.wait_synced(held.position), Err(Error::ReadOnly { .. })));
}

#[test]
fn no_space_for_a_segment_refuses_that_batch_alone() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig { segment_bytes: 250, ..PartitionConfig::default() });
    let mut stored = 0;
    for fill in 0..9 {
        if fill % 3 == 1 {
            disk.inject(Fault { times: 1, ..fault(Operation::Write, ".log", libc::ENOSPC) });
            let error = partition.append(Spec { fill, ..Spec::default() }.batch()).unwrap_err();
            assert!(matches!(error, AppendError::Storage(Error::Io { .. })), "{error}");
        } else {
            let info = partition.append(Spec { fill, ..Spec::default() }.batch()).unwrap();
            assert_eq!(info.base_offset, stored);
            stored += 1;
            log.wait_synced(info.position).unwrap();
        }
    }
    let before = contents(&partition, Isolation::ReadUncommitted);
    assert_eq!(before.len(), 6);
    log.close().unwrap();
    let log = open(&disk, config());
    assert_eq!(contents(&log.partition(TOPIC, 0).unwrap(), Isolation::ReadUncommitted), before);
}

#[test]
fn a_part_that_is_refused_leaves_nothing_of_its_frame() {
    let disk = LossyDisk::new();
    let log = open(&disk, config());
    create(&log, TOPIC, 2, PartitionConfig::default());
    let [first, second] = [0, 1].map(|index| log.partition(TOPIC, index).unwrap());
    let newer = Spec { producer: Some((5, 3, 0)), ..Spec::default() };
    second.append(newer.batch()).unwrap();
    let older = Spec { producer: Some((5, 2, 0)), ..Spec::default() };
    let frame = log.frame().append_batch(&first, older.batch()).append_batch(&second, older.batch());
    assert!(matches!(frame.commit(), Err(AppendError::InvalidProducerEpoch { current: 3, found: 2, .. })));
    assert_eq!(first.log_end_offset(), 0);
    let twice = log.frame().append_batch(&first, older.batch()).append_batch(&first, older.batch());
    assert!(matches!(twice.commit(), Err(AppendError::PartitionTwice { .. })));
    let info = first.append(Spec { fill: 99, ..Spec::default() }.batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    let spec = Spec { fill: 99, ..Spec::default() };
    assert_eq!(contents(&first, Isolation::ReadUncommitted), [(0, spec.bytes()[16..].to_vec())]);
}

#[test]
fn a_checkpoint_without_space_is_tried_again() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let info = partition.append(Spec::default().batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    disk.inject(Fault { times: 1, ..fault(Operation::Write, "checkpoint.tmp", libc::ENOSPC) });
    assert!(log.checkpoint().is_err());
    assert!(log.failure().is_none());
    log.checkpoint().unwrap();
    disk.crash(0);
    let log = open(&disk, config());
    assert_eq!(log.stats().frames_replayed, 0);
    assert_eq!(contents(&log.partition(TOPIC, 0).unwrap(), Isolation::ReadUncommitted).len(), 1);
}

#[test]
fn a_segment_that_does_not_sync_makes_the_log_read_only_and_loses_nothing() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let info = partition.append(Spec::default().batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    disk.inject(Fault { times: 1, ..fault(Operation::Sync, ".log", libc::EIO) });
    assert!(log.checkpoint().is_err());
    assert!(matches!(log.failure(), Some(Error::ReadOnly { .. })));
    disk.crash(0);
    drop(log);
    let log = open(&disk, config());
    assert_eq!(contents(&log.partition(TOPIC, 0).unwrap(), Isolation::ReadUncommitted).len(), 1);
}

#[test]
fn a_failed_read_is_an_error_and_passes() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let info = partition.append(Spec::default().batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    disk.inject(Fault { times: 1, ..fault(Operation::Read, ".log", libc::EIO) });
    let error = partition.read(0, 1000, true, Isolation::ReadUncommitted).unwrap_err();
    assert!(matches!(error, ReadError::Storage(Error::Io { .. })), "{error}");
    assert_eq!(contents(&partition, Isolation::ReadUncommitted).len(), 1);
}

#[test]
fn a_full_queue_is_busy_until_there_is_room() {
    let disk = LossyDisk::new();
    let log = open(&disk, Config { queue_bytes_max: 4096, ..config() });
    create(&log, TOPIC, 1, PartitionConfig::default());
    let partition = log.partition(TOPIC, 0).unwrap();
    disk.hold_syncs();
    let spec = Spec { payload: 1000, ..Spec::default() };
    let mut accepted = 0;
    let refused = loop {
        match partition.append(spec.batch()) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 100);
    };
    assert!(matches!(refused, AppendError::Busy), "{refused}");
    assert!((4..=5).contains(&accepted), "{accepted}");
    let entry = log.entry(9, b"entries are always taken");
    let mut room = std::pin::pin!(log.room());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(room.as_mut().poll(&mut context).is_pending());
    disk.release_syncs();
    wal::block_on(room).unwrap();
    partition.append(spec.batch()).unwrap();
    log.wait_synced(entry).unwrap();
}

#[test]
fn the_write_ahead_log_is_bounded_even_without_checkpoints() {
    let disk = LossyDisk::new();
    let log = open(&disk, Config { wal_file_bytes: 4096, wal_bytes_max: 16 << 10, ..config() });
    create(&log, TOPIC, 1, PartitionConfig::default());
    let partition = log.partition(TOPIC, 0).unwrap();
    let spec = Spec { payload: 1000, ..Spec::default() };
    let refused = loop {
        match partition.append(spec.batch()) {
            Ok(info) => log.wait_synced(info.position).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Busy), "{refused}");
    assert!(log.stats().wal_bytes < 40 << 10, "{:?}", log.stats());
    log.checkpoint().unwrap();
    assert!(log.stats().wal_bytes < 8 << 10, "{:?}", log.stats());
    partition.append(spec.batch()).unwrap();
}

#[test]
fn the_torn_end_of_the_write_ahead_log_is_cut_off() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    for fill in 0..5 {
        let info = partition.append(Spec { fill, ..Spec::default() }.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
    }
    drop(log);
    let path = wal_files(&disk).pop().unwrap();
    let whole = disk.read_file(&path).unwrap().len();
    // The last frame loses its end, or a bit; garbage behind it costs nothing.
    let mut left = 5;
    for damage in 0..3 {
        disk.damage(&path, |bytes| match damage {
            0 => bytes.extend_from_slice(&[0xab; 100]),
            1 => bytes[whole - 1] ^= 1,
            _ => bytes.truncate(bytes.len() - 3),
        })
        .unwrap();
        left -= i64::from(damage > 0);
        // The new files of later starts hold nothing: without them the damaged file is the last.
        let others = wal_files(&disk).into_iter().filter(|other| *other != path);
        others.for_each(|other| disk.remove(&other).unwrap());
        let log = open(&disk, config());
        assert_eq!(log.partition(TOPIC, 0).unwrap().visible().high_watermark, left, "damage {damage}");
    }
}

#[test]
fn damage_before_later_frames_is_refused() {
    let disk = LossyDisk::new();
    let log = open(&disk, Config { wal_file_bytes: 4096, ..config() });
    create(&log, TOPIC, 1, PartitionConfig::default());
    let partition = log.partition(TOPIC, 0).unwrap();
    for _ in 0..10 {
        let info = partition.append(Spec { payload: 1000, ..Spec::default() }.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
    }
    drop(log);
    let files = wal_files(&disk);
    assert!(files.len() >= 3);
    let before = disk.read_file(&files[1]).unwrap();
    disk.damage(&files[1], |bytes| bytes[500] ^= 1).unwrap();
    let error = open_with(&disk, config(), Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == files[1]), "{error}");
    disk.damage(&files[1], |bytes| *bytes = before).unwrap();
    disk.remove(&files[1]).unwrap();
    let error = open_with(&disk, config(), Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn newer_and_damaged_formats_are_refused() {
    let disk = LossyDisk::new();
    let (log, _) = one(&disk, PartitionConfig::default());
    log.close().unwrap();
    drop(log);
    let wal = wal_files(&disk).pop().unwrap();
    let checkpoint = Path::new(DIR).join("checkpoint");
    for path in [wal, checkpoint.clone()] {
        let before = disk.read_file(&path).unwrap();
        disk.damage(&path, |bytes| bytes[11] = 9).unwrap();
        let error = open_with(&disk, config(), Vec::new()).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 9, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("start the newer program"), "{error}");
        disk.damage(&path, |bytes| *bytes = before).unwrap();
    }
    disk.damage(&checkpoint, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let error = open_with(&disk, config(), Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == checkpoint), "{error}");
}

#[test]
fn machines_that_are_missing_or_refuse_end_the_opening() {
    let disk = LossyDisk::new();
    let log = open(&disk, config());
    log.wait_synced(log.entry(9, b"bad")).unwrap();
    drop(log);
    assert!(matches!(open_with(&disk, config(), Vec::new()), Err(Error::UnknownMachine { machine: 9 })));
    let error = open_with(&disk, config(), vec![Arc::new(Notes::default())]).unwrap_err();
    assert_eq!(wal::report(&error), "state machine 9 can't take what the log holds for it: a bad note");
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = Config { wal_file_bytes: 1, ..config() };
    let error = open_with(&LossyDisk::new(), bad, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "wal_file_bytes is 1: it must be at least 4096 bytes");
}
