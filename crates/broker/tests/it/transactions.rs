//! Transactions by the protocol's own bytes: both flavours (KIP-98 and KIP-890), fencing, and what read_committed sees.

use std::time::{Duration, Instant};

use wire::ErrorCode;
use wire::api::*;
use wire::records::{BatchBuilder, Compression};

use crate::support::{Client, Started, batch, push, start, values};

#[derive(Clone, Copy)]
struct Identity {
    id: i64,
    epoch: i16,
}

fn init(client: &mut Client, timeout_ms: i32) -> Identity {
    let response = client.call(
        5,
        &InitProducerIdRequest {
            transactional_id: Some("tx".into()),
            transaction_timeout_ms: timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    );
    assert_eq!(response.error_code, ErrorCode::NONE);
    Identity { id: response.producer_id, epoch: response.producer_epoch }
}

fn add(client: &mut Client, who: Identity) -> ErrorCode {
    let response = client.call(
        3,
        &AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: "tx".into(),
            v3_and_below_producer_id: who.id,
            v3_and_below_producer_epoch: who.epoch,
            v3_and_below_topics: vec![add_partitions_to_txn::AddPartitionsToTxnTopic {
                name: "t".into(),
                partitions: vec![0],
            }],
            ..Default::default()
        },
    );
    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

fn send(client: &mut Client, version: i16, who: Identity, sequence: i32, value: &str) -> ErrorCode {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(who.id, who.epoch, sequence).transactional();
    push(&mut builder, &[value]);
    client.produce_as(version, Some("tx"), "t", 0, builder.build().unwrap().into_bytes()).error_code
}

fn end(client: &mut Client, version: i16, who: Identity, committed: bool) -> EndTxnResponse {
    let request = EndTxnRequest {
        transactional_id: "tx".into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        committed,
    };
    client.call(version, &request)
}

fn committed(client: &mut Client) -> Vec<String> {
    let data = client.fetch("t", 0, 0, true);
    let mut aborted: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|aborted| (aborted.producer_id, aborted.first_offset))
        .collect();
    let mut found = Vec::new();
    let mut skipping = Vec::new();
    for batch in wire::records::batches(data.records.clone().unwrap()) {
        let batch = batch.unwrap();
        let header = *batch.header();
        aborted.retain(|(producer, first)| {
            let begins = *first <= header.base_offset;
            if begins {
                skipping.push(*producer);
            }
            !begins
        });
        if header.is_control() {
            let key = batch.records(1000).unwrap()[0].key.clone().unwrap();
            if wire::records::Marker::from_key(&key) == Some(wire::records::Marker::Abort) {
                skipping.retain(|producer| *producer != header.producer_id);
            }
        } else if !header.is_transactional() || !skipping.contains(&header.producer_id) {
            let records = batch.records(1 << 20).unwrap();
            found.extend(records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        }
    }
    found
}

fn started() -> (Started, Client) {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    (started, client)
}

#[test]
fn committed_is_seen_aborted_is_not() {
    let (started, mut client) = started();
    let who = init(&mut client, 60_000);
    assert_eq!(send(&mut client, 9, who, 0, "x"), ErrorCode::INVALID_TXN_STATE, "not in the transaction");
    assert_eq!(add(&mut client, who), ErrorCode::NONE);
    assert_eq!(send(&mut client, 9, who, 0, "aborted"), ErrorCode::NONE);
    client.produce("t", 0, batch(&["plain"]));
    // Open: nothing of it, and nothing behind it, is stable.
    assert_eq!(committed(&mut client), Vec::<String>::new());
    assert_eq!(client.list_offset("t", 0, -1, true).0, 0);
    assert_eq!(client.list_offset("t", 0, -1, false).0, 2);
    assert_eq!(values(&client.fetch("t", 0, 0, false)).len(), 2);
    assert_eq!(end(&mut client, 4, who, false).error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut client), ["plain"]);

    assert_eq!(add(&mut client, who), ErrorCode::NONE);
    assert_eq!(send(&mut client, 9, who, 1, "committed"), ErrorCode::NONE);
    assert_eq!(end(&mut client, 4, who, true).error_code, ErrorCode::NONE);
    assert_eq!(end(&mut client, 4, who, true).error_code, ErrorCode::NONE, "a retry");
    assert_eq!(end(&mut client, 4, who, false).error_code, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(committed(&mut client), ["plain", "committed"]);

    // After a restart the same, and the id goes on in its next epoch.
    started.guard.stop().unwrap();
    let (addr, _guard) = broker::testing::start(started.dir.path()).unwrap();
    let mut client = Client::connect(addr);
    assert_eq!(committed(&mut client), ["plain", "committed"]);
    let next = init(&mut client, 60_000);
    assert_eq!((next.id, next.epoch), (who.id, who.epoch + 1));
}

#[test]
fn a_new_owner_fences_the_old_one_and_ends_what_it_left() {
    let (started, mut client) = started();
    let old = init(&mut client, 60_000);
    add(&mut client, old);
    send(&mut client, 9, old, 0, "left open");
    let mut other = Client::connect(started.addr);
    let new = init(&mut other, 60_000);
    assert!(new.epoch > old.epoch);
    assert_eq!(committed(&mut client), Vec::<String>::new());
    assert_eq!(
        client.list_offset("t", 0, -1, true),
        client.list_offset("t", 0, -1, false),
        "nothing is open"
    );
    assert_eq!(add(&mut client, old), ErrorCode::PRODUCER_FENCED);
    assert_eq!(send(&mut client, 9, old, 1, "zombie"), ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(end(&mut client, 4, old, true).error_code, ErrorCode::PRODUCER_FENCED);
    add(&mut other, new);
    assert_eq!(send(&mut other, 9, new, 0, "new"), ErrorCode::NONE);
    assert_eq!(end(&mut other, 4, new, true).error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut client), ["new"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    let (_started, mut client) = started();
    let who = init(&mut client, 300);
    add(&mut client, who);
    send(&mut client, 9, who, 0, "slow");
    let began = Instant::now();
    // The long poll of a reader ends when the abort makes its marker stable.
    while client.list_offset("t", 0, -1, true).0 == 0 {
        assert!(began.elapsed() < Duration::from_secs(15), "the transaction is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(committed(&mut client), Vec::<String>::new());
    assert!(!end(&mut client, 4, who, true).error_code.is_ok());
}

#[test]
fn with_kip_890_producing_joins_and_ending_raises_the_epoch() {
    let (_started, mut client) = started();
    let who = init(&mut client, 60_000);
    assert_eq!(send(&mut client, 12, who, 0, "one"), ErrorCode::NONE);
    let ended = end(&mut client, 5, who, true);
    assert_eq!(ended.error_code, ErrorCode::NONE);
    let next = Identity { id: ended.producer_id, epoch: ended.producer_epoch };
    assert_eq!((next.id, next.epoch), (who.id, who.epoch + 1));
    assert_ne!(send(&mut client, 12, who, 1, "late"), ErrorCode::NONE);
    assert_eq!(send(&mut client, 12, next, 0, "two"), ErrorCode::NONE);
    assert_eq!(end(&mut client, 5, next, true).error_code, ErrorCode::NONE);
    assert_eq!(committed(&mut client), ["one", "two"]);
}

#[test]
fn offsets_hold_when_their_transaction_commits() {
    let (_started, mut client) = started();
    let offset_of = |client: &mut Client, require_stable| {
        let asked = offset_fetch::OffsetFetchRequestTopics {
            name: "t".into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: "g".into(),
                topics: Some(vec![asked]),
                ..Default::default()
            }],
            require_stable,
            ..Default::default()
        };
        let response = client.call(9, &request);
        let one = &response.groups[0].topics[0].partitions[0];
        (one.committed_offset, one.error_code)
    };
    let who = init(&mut client, 60_000);
    for (commits, before, after) in [(false, -1, -1), (true, -1, 42)] {
        let added = client.call(
            3,
            &AddOffsetsToTxnRequest {
                transactional_id: "tx".into(),
                producer_id: who.id,
                producer_epoch: who.epoch,
                group_id: "g".into(),
            },
        );
        assert_eq!(added.error_code, ErrorCode::NONE);
        let topic = txn_offset_commit::TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![txn_offset_commit::TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 42,
                ..Default::default()
            }],
        };
        let sent = client.call(
            3,
            &TxnOffsetCommitRequest {
                transactional_id: "tx".into(),
                group_id: "g".into(),
                producer_id: who.id,
                producer_epoch: who.epoch,
                topics: vec![topic],
                ..Default::default()
            },
        );
        assert_eq!(sent.topics[0].partitions[0].error_code, ErrorCode::NONE);
        assert_eq!(offset_of(&mut client, false), (before, ErrorCode::NONE));
        assert_eq!(offset_of(&mut client, true).1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
        let listed = client.call(1, &ListTransactionsRequest { duration_filter: -1, ..Default::default() });
        assert_eq!(listed.transaction_states[0].transaction_state, "Ongoing");
        assert_eq!(end(&mut client, 4, who, commits).error_code, ErrorCode::NONE);
        assert_eq!(offset_of(&mut client, true), (after, ErrorCode::NONE));
    }
}

#[test]
fn a_partition_names_its_producers_and_whose_transaction_is_open() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let who = init(&mut client, 60_000);
    assert_eq!(add(&mut client, who), ErrorCode::NONE);
    assert_eq!(send(&mut client, 9, who, 0, "a"), ErrorCode::NONE);
    assert_eq!(send(&mut client, 9, who, 1, "b"), ErrorCode::NONE);
    let describe = |client: &mut Client, topic: &str| {
        let topics =
            vec![describe_producers::TopicRequest { name: topic.into(), partition_indexes: vec![0] }];
        client.call(0, &DescribeProducersRequest { topics }).topics.remove(0).partitions.remove(0)
    };
    let found = describe(&mut client, "t");
    let [one] = &found.active_producers[..] else { panic!("{found:?}") };
    assert_eq!((one.producer_id, one.producer_epoch), (who.id, i32::from(who.epoch)));
    assert_eq!((one.last_sequence, one.current_txn_start_offset, one.coordinator_epoch), (1, 0, -1));
    assert!(one.last_timestamp > 0);
    assert_eq!(end(&mut client, 4, who, true).error_code, ErrorCode::NONE);
    let after = describe(&mut client, "t");
    assert_eq!(after.active_producers[0].current_txn_start_offset, -1);
    assert!(after.active_producers[0].coordinator_epoch >= 0);
    assert_eq!(describe(&mut client, "no").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}
