//! What reads find, and what appends check.

use super::*;

fn offsets(bytes: &[u8]) -> Vec<i64> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(header) = Header::peek(rest) {
        found.push(header.base_offset);
        rest = &rest[header.size..];
    }
    found
}

#[test]
fn reads_are_whole_batches_within_limits() {
    let disk = LossyDisk::new();
    let topic =
        PartitionConfig { segment_bytes: 1000, index_interval_bytes: 200, ..PartitionConfig::default() };
    let (log, partition) = one(&disk, topic);
    let mut last = Position::default();
    for fill in 0..30 {
        last = partition.append(Spec { count: 2, fill, ..Spec::default() }.batch()).unwrap().position;
    }
    log.wait_synced(last).unwrap();
    let read = |offset, bytes_max, min_one| {
        offsets(&partition.read(offset, bytes_max, min_one, Isolation::ReadUncommitted).unwrap().bytes)
    };
    // Batches have 101 bytes and two records; nine fit a segment.
    assert_eq!(read(0, 303, false), [0, 2, 4]);
    assert_eq!(read(0, 304, false), [0, 2, 4]);
    assert_eq!(read(5, 202, false), [4, 6], "the batch that holds the offset comes first");
    assert!(read(5, 100, false).is_empty());
    assert_eq!(read(5, 100, true), [4]);
    assert_eq!(read(17, 1000, true), [16], "a read ends with its segment");
    assert_eq!(read(18, 1_000_000, true).len(), 9);
    assert_eq!(read(59, 1000, true), [58]);
    assert!(read(60, 1000, true).is_empty());
    let out = |offset| partition.read(offset, 1000, true, Isolation::ReadUncommitted).unwrap_err();
    assert!(matches!(out(61), ReadError::OffsetOutOfRange { offset: 61, start: 0, end: 60 }));
    assert!(matches!(out(-1), ReadError::OffsetOutOfRange { .. }));
}

#[test]
fn a_batch_that_does_not_fit_is_not_passed_over_for_a_smaller_one_of_the_next_segment() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig { segment_bytes: 300, ..PartitionConfig::default() });
    let mut last = Position::default();
    for payload in [1000, 10, 10] {
        last = partition.append(Spec { payload, ..Spec::default() }.batch()).unwrap().position;
    }
    log.wait_synced(last).unwrap();
    let read = |offset, bytes_max, min_one| {
        offsets(&partition.read(offset, bytes_max, min_one, Isolation::ReadUncommitted).unwrap().bytes)
    };
    assert!(read(0, 500, false).is_empty(), "offset 0 comes first, or nothing does");
    assert_eq!(read(0, 500, true), [0]);
    assert_eq!(read(1, 500, false), [1, 2]);
}

#[test]
fn batches_are_found_by_time_also_after_a_start() {
    let disk = LossyDisk::new();
    let topic = PartitionConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        timestamp_after_max_ms: None,
        ..PartitionConfig::default()
    };
    let (log, partition) = one(&disk, topic);
    // One batch of the future lies in the middle.
    let time = |at: i64| if at == 40 { 1_000_000 } else { at * 10 };
    for at in 0..100 {
        let info = partition.append(Spec { timestamp: time(at), ..Spec::default() }.batch()).unwrap();
        log.wait_synced(info.position).unwrap();
    }
    let check = |partition: &Partition| {
        for wanted in [0, 1, 10, 395, 400, 401, 999] {
            let found = partition.find_timestamp(wanted, Isolation::ReadUncommitted).unwrap().unwrap();
            let expected = (0..100).find(|at| time(*at) >= wanted).unwrap();
            assert_eq!(found.header.base_offset, expected, "at {wanted}");
            assert_eq!(RawBatch::parse(found.batch).unwrap().header(), &found.header);
        }
        assert!(partition.find_timestamp(1_000_001, Isolation::ReadUncommitted).unwrap().is_none());
        assert_eq!(partition.find_max_timestamp().unwrap().unwrap().header.base_offset, 40);
    };
    check(&partition);
    log.close().unwrap();
    drop(log);
    let log = open(&disk, config());
    check(&log.partition(TOPIC, 0).unwrap());
    drop(log);
    // Indexes are hints: damaged or gone, the answers are the same.
    for (at, path) in disk.files().into_iter().enumerate() {
        if path.extension().is_some_and(|it| it == "index") {
            match at % 3 {
                0 => disk.remove(&path).unwrap(),
                1 => disk.damage(&path, |bytes| bytes[22] ^= 1).unwrap(),
                _ => disk.damage(&path, |bytes| bytes.truncate(50)).unwrap(),
            }
        }
    }
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    check(&partition);
    assert_eq!(contents(&partition, Isolation::ReadUncommitted).len(), 100);
    partition.delete_records(50).unwrap();
    let newest = partition.find_max_timestamp().unwrap().unwrap();
    assert_eq!(newest.header.base_offset, 99);
}

#[test]
fn an_index_that_lies_is_built_anew() {
    let disk = LossyDisk::new();
    let topic = PartitionConfig { index_interval_bytes: 200, ..PartitionConfig::default() };
    let (log, partition) = one(&disk, topic);
    for _ in 0..50 {
        partition.append(Spec { payload: 1000, ..Spec::default() }.batch()).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let index =
        disk.files().into_iter().find(|path| path.extension().is_some_and(|it| it == "index")).unwrap();
    disk.damage(&index, |bytes| {
        // Whole entries with a right CRC, each about a place in the middle of a batch.
        for entry in bytes[16..].chunks_exact_mut(20) {
            let position = u32::from_be_bytes(entry[4..8].try_into().unwrap()) + 5;
            entry[4..8].copy_from_slice(&position.to_be_bytes());
            let crc = crc32c::crc32c(&entry[..16]);
            entry[16..].copy_from_slice(&crc.to_be_bytes());
        }
    })
    .unwrap();
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    for offset in 0..50 {
        let read = partition.read(offset, 1, true, Isolation::ReadUncommitted).unwrap();
        assert_eq!(offsets(&read.bytes), [offset]);
    }
}

#[test]
fn log_append_time_is_stamped_into_the_batch() {
    let disk = LossyDisk::new();
    let topic =
        PartitionConfig { timestamp_type: TimestampType::LogAppendTime, ..PartitionConfig::default() };
    let (log, partition) = one(&disk, topic);
    let spec = Spec { timestamp: 5, producer: Some((1, 0, 0)), ..Spec::default() };
    let info = partition.append(spec.batch()).unwrap();
    assert_eq!(info.log_append_time, NOW);
    assert_eq!(
        partition.append(spec.batch()).unwrap().log_append_time,
        NOW,
        "a duplicate's answer is the first's"
    );
    log.wait_synced(info.position).unwrap();
    let read = partition.read(0, 1000, true, Isolation::ReadUncommitted).unwrap();
    let batch = RawBatch::parse(read.bytes).expect("its CRC is new");
    assert!(batch.header().is_log_append_time());
    assert_eq!(batch.header().max_timestamp, NOW);
    assert_eq!(batch.bytes()[61..], spec.bytes()[61..], "the records are as they were sent");
    assert_eq!(batch.header().leader_epoch, log.leader_epoch());
}

#[test]
fn a_topics_limits_are_kept() {
    let disk = LossyDisk::new();
    let topic = PartitionConfig {
        max_message_bytes: 200,
        timestamp_before_max_ms: Some(1000),
        timestamp_after_max_ms: Some(100),
        ..PartitionConfig::default()
    };
    let (_log, partition) = one(&disk, topic);
    let append = |spec: Spec| partition.append(spec.batch());
    assert!(append(Spec { payload: 139, ..Spec::default() }).is_ok());
    let error = append(Spec { payload: 140, ..Spec::default() }).unwrap_err();
    assert!(matches!(error, AppendError::RecordTooLarge { bytes: 201, max: 200 }), "{error}");
    for (timestamp, ok) in
        [(NOW - 1000, true), (NOW - 1001, false), (NOW + 100, true), (NOW + 101, false), (-1, true)]
    {
        let result = append(Spec { timestamp, ..Spec::default() });
        assert_eq!(result.is_ok(), ok, "{result:?}");
        assert!(ok || matches!(result, Err(AppendError::InvalidTimestamp { .. })));
    }
}

#[test]
fn batches_that_do_not_hold_are_not_batches() {
    let good = Spec::default().bytes();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        RawBatch::parse(Bytes::from(bytes))
    };
    assert!(with(&|_| {}).is_ok());
    assert!(matches!(with(&|bytes| bytes.truncate(60)), Err(BatchError::Length { found: 60, .. })));
    assert!(matches!(with(&|bytes| bytes.push(0)), Err(BatchError::Length { found: 102, expected: 101 })));
    assert!(matches!(with(&|bytes| bytes[8] = 0xff), Err(BatchError::Length { .. })));
    assert!(matches!(with(&|bytes| bytes[16] = 1), Err(BatchError::Magic { found: 1 })));
    assert!(matches!(with(&|bytes| bytes[70] ^= 1), Err(BatchError::Crc { .. })));
    let sealed = |spec: Spec| RawBatch::parse(Bytes::from(spec.bytes()));
    assert!(matches!(sealed(Spec { count: 0, ..Spec::default() }), Err(BatchError::Count { .. })));
    let no_sequence = Spec { producer: Some((5, 0, -1)), ..Spec::default() };
    assert!(matches!(sealed(no_sequence), Err(BatchError::Producer { .. })));
    let idle_sequence = Spec { producer: Some((-1, -1, 0)), ..Spec::default() };
    assert!(sealed(idle_sequence).is_ok(), "a sequence without a producer id says nothing");
    let no_producer = Spec { transactional: true, ..Spec::default() };
    assert!(matches!(sealed(no_producer), Err(BatchError::Producer { .. })));
}

#[test]
fn retries_are_recognised_after_a_start() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    let spec = |sequence| Spec { producer: Some((5, 0, sequence)), ..Spec::default() };
    partition.append(spec(0).batch()).unwrap();
    log.checkpoint().unwrap();
    let info = partition.append(spec(1).batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    disk.crash(0);
    drop(log);
    let log = open(&disk, config());
    let partition = log.partition(TOPIC, 0).unwrap();
    for sequence in 0..2 {
        let info = partition.append(spec(sequence).batch()).unwrap();
        assert!(info.duplicate && info.base_offset == i64::from(sequence));
        log.wait_synced(info.position).unwrap();
    }
    assert!(!partition.append(spec(2).batch()).unwrap().duplicate);
}

#[test]
fn leader_epochs_have_ends() {
    let disk = LossyDisk::new();
    let (log, partition) = one(&disk, PartitionConfig::default());
    assert_eq!(partition.epoch_end(1), None);
    let info = partition.append(Spec { count: 3, ..Spec::default() }.batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    drop(log);
    drop(open(&disk, config()));
    let log = open(&disk, config());
    assert_eq!(log.leader_epoch(), 3);
    let partition = log.partition(TOPIC, 0).unwrap();
    let info = partition.append(Spec { count: 2, ..Spec::default() }.batch()).unwrap();
    log.wait_synced(info.position).unwrap();
    assert_eq!(
        [0, 1, 2, 3, 9].map(|epoch| partition.epoch_end(epoch)),
        [None, Some((1, 3)), Some((1, 3)), Some((3, 5)), Some((3, 5)),]
    );
}
