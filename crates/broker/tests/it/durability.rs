//! No reply comes before its sync, and what was replied is there after a crash: on a disk that forgets what wasn't synced.

use std::sync::Arc;
use std::time::Duration;

use broker::log::testing::LossyDisk;
use broker::testing;
use broker::{Broker, Config};
use wire::ErrorCode;
use wire::api::*;

use crate::support::{Client, batch, fetch_request, produce_request, values};

fn on(disk: &LossyDisk) -> Broker {
    Broker::build(Config::new("/broker"), Arc::new(disk.clone())).unwrap()
}

#[test]
fn nothing_is_acknowledged_or_shown_before_it_is_synced() {
    let disk = LossyDisk::new();
    let (addr, guard) = testing::run(on(&disk));
    let mut client = Client::connect(addr);
    client.create("t", 1, &[]);
    client.produce("t", 0, batch(&["before"]));

    disk.hold_syncs();
    let produced: Vec<i32> =
        [1, -1].map(|acks| client.send(9, &produce_request(None, acks, "t", 0, batch(&["held"])))).into();
    disk.wait_for_held_sync();
    let mut reader = Client::connect(addr);
    // Read and listed up to the synced offset only; the long poll is not woken.
    assert_eq!(values(&reader.fetch("t", 0, 0, false)), [(0, "before".to_owned())]);
    assert_eq!(reader.list_offset("t", 0, -1, false).0, 1);
    let poll = reader.send(12, &fetch_request("t", 0, 1, false, 15_000));
    client.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.receive_frame().is_err(), "an answer came before the sync");
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    disk.release_syncs();
    for correlation in produced {
        let response = client.receive::<ProduceRequest>(9, correlation);
        assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
    let response = reader.receive::<FetchRequest>(12, poll);
    assert!(!values(&response.responses[0].partitions[0]).is_empty());
    guard.stop().unwrap();
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    for seed in 0..8 {
        let disk = LossyDisk::new();
        let (addr, guard) = testing::run(on(&disk));
        let mut client = Client::connect(addr);
        client.create("t", 2, &[]);
        for i in 0..20 {
            let produced = client.produce("t", i % 2, batch(&[&i.to_string()]));
            assert_eq!(produced.error_code, ErrorCode::NONE);
        }
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![offset_commit::OffsetCommitRequestPartition {
                partition_index: 1,
                committed_offset: 5,
                ..Default::default()
            }],
            ..Default::default()
        };
        let committed = client.call(
            9,
            &OffsetCommitRequest {
                group_id: "g".into(),
                generation_id_or_member_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            },
        );
        assert_eq!(committed.topics[0].partitions[0].error_code, ErrorCode::NONE);
        // The power goes; what the process does after that reaches no disk.
        disk.crash(seed);
        // Its log can't be closed in good order any more, which is the point.
        let _ = guard.stop();

        let after = LossyDisk::clone(&disk);
        let (addr, guard) = testing::run(on(&after));
        let mut client = Client::connect(addr);
        for partition in 0..2 {
            let found = values(&client.fetch("t", partition, 0, false));
            let expected: Vec<(i64, String)> =
                (0..10).map(|i| (i, (i * 2 + i64::from(partition)).to_string())).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
        let asked = offset_fetch::OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![1] };
        let fetched = client.call(
            7,
            &OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![asked]), ..Default::default() },
        );
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, 5);
        guard.stop().unwrap();
    }
}
