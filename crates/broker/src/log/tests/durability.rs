//! What was acknowledged survives; what wasn't synced is neither shown nor kept by half.

use super::*;

#[test]
fn acknowledged_batches_survive_a_crash() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let mut expected = Vec::new();
    for fill in 0..20 {
        let spec = Spec { count: 3, fill, ..Spec::default() };
        let info = partition.append(spec.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
        assert_eq!(info.base_offset, i64::from(fill) * 3);
        assert_eq!(partition.visible().high_watermark, info.last_offset + 1);
        expected.push((info.base_offset, spec.bytes()[16..].to_vec()));
    }
    assert_eq!(contents(&partition, Isolation::ReadUncommitted), expected);
    let epoch = log.leader_epoch();
    for seed in 0..4 {
        disk.crash(seed);
        let log = open(&disk, config());
        let partition = log.partition(TOPIC, 0).unwrap();
        assert_eq!(contents(&partition, Isolation::ReadUncommitted), expected);
        assert!(log.leader_epoch() > epoch, "the leader epoch rises");
    }
}

/// The detector of the worst bug that this module could have: an answer that comes before its sync. The first half answers as
/// the broker must and loses nothing; the second answers at the append, and is caught.
#[test]
fn an_answer_before_its_sync_is_caught() {
    let lost = |wait: bool| {
        let disk = LossyDisk::new();
        let (log, partition) = one(&disk, PartitionConfig::default());
        let mut acknowledged = Vec::new();
        for fill in 0..10 {
            if fill == 5 {
                disk.hold_syncs();
            }
            let info = partition.append(Spec { fill, ..Spec::default() }.batch()).unwrap();
            if fill < 5 {
                log.wait_synced(info.position).unwrap();
            }
            if !wait || fill < 5 {
                acknowledged.push(info.base_offset);
            }
        }
        disk.wait_for_held_sync();
        assert_eq!(partition.visible().high_watermark, 5, "what isn't synced isn't visible");
        disk.crash(0);
        drop(log);
        let log = open(&disk, config());
        let there = contents(&log.partition(TOPIC, 0).unwrap(), Isolation::ReadUncommitted);
        acknowledged.retain(|offset| !there.iter().any(|(found, _)| found == offset));
        acknowledged.len()
    };
    assert_eq!(lost(true), 0);
    assert_eq!(lost(false), 5, "the disk must lose what wasn't synced, or this suite proves nothing");
}

#[test]
fn nothing_is_visible_or_woken_before_its_sync() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    disk.hold_syncs();
    let waiter = Waiter::new();
    partition.watch(&waiter);
    let info = partition.append(Spec::default().batch()).unwrap();
    let transactional = Spec { producer: Some((5, 0, 0)), transactional: true, ..Spec::default() };
    partition.append(transactional.batch()).unwrap();
    disk.wait_for_held_sync();
    assert_eq!(partition.log_end_offset(), 2);
    let hidden = Visible { log_start_offset: 0, high_watermark: 0, last_stable_offset: 0 };
    assert_eq!(partition.visible(), hidden);
    let read = partition.read(0, 1 << 20, true, Isolation::ReadUncommitted).unwrap();
    assert!(read.bytes.is_empty());
    assert!(partition.find_timestamp(0, Isolation::ReadUncommitted).unwrap().is_none());
    assert!(partition.find_max_timestamp().unwrap().is_none());
    let is_woken = |waiter: &Waiter| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(waiter.wait()).poll(&mut context).is_ready()
    };
    assert!(!is_woken(&waiter));
    disk.release_syncs();
    log.wait_synced(info.position).unwrap();
    wal::block_on(waiter.wait());
    log.wait_synced(Position(info.position.0 + 1)).unwrap();
    let shown = Visible { log_start_offset: 0, high_watermark: 2, last_stable_offset: 1 };
    assert_eq!(partition.visible(), shown);
}

#[test]
fn with_flush_os_the_process_may_die_but_not_the_machine() {
    let disk = LossyDisk::new();
    let os = Config { flush: Flush::Os, ..config() };
    let log = open(&disk, os.clone());
    create(&log, TOPIC, 1, PartitionConfig::default());
    let partition = log.partition(TOPIC, 0).unwrap();
    for fill in 0..10 {
        let info = partition.append(Spec { fill, ..Spec::default() }.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
        assert_eq!(partition.visible().high_watermark, i64::from(fill) + 1);
    }
    disk.kill();
    drop(log);
    let log = open(&disk, os);
    assert_eq!(log.partition(TOPIC, 0).unwrap().visible().high_watermark, 10);
}

/// After `kill -9` the page cache has frames that the disk doesn't. Recovery counts them, so it must sync them first.
#[test]
fn what_recovery_counts_is_durable() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    disk.hold_syncs();
    partition.append(Spec::default().batch()).unwrap();
    disk.wait_for_held_sync();
    disk.kill();
    drop(log);
    let log = open(&disk, config());
    let visible = log.partition(TOPIC, 0).unwrap().visible();
    assert_eq!(visible.high_watermark, 1, "the frame was whole in the page cache");
    disk.crash(0);
    drop(log);
    let log = open(&disk, config());
    assert_eq!(log.partition(TOPIC, 0).unwrap().visible(), visible, "it was shown, so it must be kept");
}

#[test]
fn a_frame_is_there_whole_or_not_at_all() {
    for seed in 0..40 {
        let disk = LossyDisk::new();
        let notes = Arc::new(Notes::default());
        let log = open_with(&disk, config(), vec![notes.clone()]).unwrap();
        create(&log, TOPIC, 3, PartitionConfig::default());
        let partitions: Vec<_> = (0..3).map(|index| log.partition(TOPIC, index).unwrap()).collect();
        for partition in &partitions {
            let spec = Spec { producer: Some((5, 0, 0)), transactional: true, ..Spec::default() };
            let info = partition.append(spec.batch()).unwrap();
            log.wait_synced(info.position).unwrap();
        }
        disk.hold_syncs();
        let mut frame = log.frame().entry(9, b"ended");
        for partition in &partitions {
            frame = frame.append_marker(partition, 5, 0, Outcome::Abort, 0);
        }
        let (infos, _) = frame.commit().unwrap();
        assert_eq!(infos.iter().map(|info| info.base_offset).collect::<Vec<_>>(), [1, 1, 1]);
        disk.wait_for_held_sync();
        disk.crash(seed);
        drop(log);
        let notes = Arc::new(Notes::default());
        let log = open_with(&disk, config(), vec![notes.clone()]).unwrap();
        let ended = notes.all() == [b"ended".to_vec()];
        for index in 0..3 {
            let partition = log.partition(TOPIC, index).unwrap();
            assert_eq!(partition.visible().high_watermark, if ended { 2 } else { 1 }, "seed {seed}");
            assert_eq!(partition.visible().last_stable_offset, if ended { 2 } else { 0 }, "seed {seed}");
            assert_eq!(partition.open_transaction(5).is_none(), ended, "seed {seed}");
        }
    }
}
