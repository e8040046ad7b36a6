//! Groups by the protocol's own bytes, where librdkafka would hide what happens.

use bytes::Bytes;
use wire::ErrorCode;
use wire::api::*;

use crate::support::{Client, start};

fn join(client: &mut Client, member_id: &str) -> JoinGroupResponse {
    client.call(
        9,
        &JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: vec![join_group::JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: Bytes::from_static(b"m"),
            }],
            ..Default::default()
        },
    )
}

fn commit(client: &mut Client, version: i16, member: &str, generation: i32, offset: i64) -> ErrorCode {
    let topic = offset_commit::OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![offset_commit::OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_metadata: Some("note".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call(
        version,
        &OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: generation,
            member_id: member.into(),
            topics: vec![topic],
            ..Default::default()
        },
    );
    response.topics[0].partitions[0].error_code
}

#[test]
fn a_member_joins_commits_leaves_and_the_offsets_stay_over_a_restart() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let first = join(&mut client, "");
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    let joined = join(&mut client, &first.member_id);
    assert_eq!((joined.error_code, joined.members.len()), (ErrorCode::NONE, 1));
    let member = joined.member_id;
    let synced = client.call(
        5,
        &SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: member.clone(),
            assignments: vec![sync_group::SyncGroupRequestAssignment {
                member_id: member.clone(),
                assignment: Bytes::from_static(b"yours"),
            }],
            ..Default::default()
        },
    );
    assert_eq!((synced.error_code, &synced.assignment[..]), (ErrorCode::NONE, &b"yours"[..]));
    let beat = |generation_id| HeartbeatRequest {
        group_id: "g".into(),
        generation_id,
        member_id: member.clone(),
        ..Default::default()
    };
    assert_eq!(client.call(4, &beat(joined.generation_id)).error_code, ErrorCode::NONE);
    assert_eq!(client.call(4, &beat(joined.generation_id + 1)).error_code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut client, 9, &member, joined.generation_id + 1, 5), ErrorCode::ILLEGAL_GENERATION);
    for version in 2..=9 {
        assert_eq!(
            commit(&mut client, version, &member, joined.generation_id, 10 + i64::from(version)),
            ErrorCode::NONE
        );
    }
    let left = client.call(
        5,
        &LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![leave_group::MemberIdentity { member_id: member.clone(), ..Default::default() }],
            ..Default::default()
        },
    );
    assert_eq!(left.members[0].error_code, ErrorCode::NONE);

    started.guard.stop().unwrap();
    let (addr, _guard) = broker::testing::start(started.dir.path()).unwrap();
    let mut client = Client::connect(addr);
    let fetched = client.call(
        9,
        &OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchRequestGroup {
                group_id: "g".into(),
                ..Default::default()
            }],
            ..Default::default()
        },
    );
    let one = &fetched.groups[0].topics[0].partitions[0];
    assert_eq!((one.committed_offset, one.metadata.as_deref()), (19, Some("note")));
    let asked = offset_fetch::OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 5] };
    for version in 1..=7 {
        let fetched = client.call(
            version,
            &OffsetFetchRequest {
                group_id: "g".into(),
                topics: Some(vec![asked.clone()]),
                ..Default::default()
            },
        );
        let offsets: Vec<i64> = fetched.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
        assert_eq!(offsets, [19, -1]);
    }
    let described = client
        .call(6, &DescribeGroupsRequest { groups: vec!["g".into(), "no".into()], ..Default::default() });
    assert_eq!(described.groups[0].group_state, "Empty");
    assert_eq!(described.groups[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let listed = client.call(5, &ListGroupsRequest::default());
    assert_eq!(listed.groups.iter().map(|group| group.group_id.as_str()).collect::<Vec<_>>(), ["g"]);
    let deleted = client.call(2, &DeleteGroupsRequest { groups_names: vec!["g".into(), "no".into()] });
    let codes: Vec<ErrorCode> = deleted.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    assert!(client.call(5, &ListGroupsRequest::default()).groups.is_empty());
}

#[test]
fn offsets_of_what_does_not_exist_are_refused() {
    let started = start();
    let mut client = Client::connect(started.addr);
    assert_eq!(commit(&mut client, 9, "", -1, 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    client.create("t", 1, &[]);
    assert_eq!(commit(&mut client, 9, "", -1, 1), ErrorCode::NONE);
    let found = client.call(
        6,
        &FindCoordinatorRequest {
            key_type: 0,
            coordinator_keys: vec!["g".into(), String::new()],
            ..Default::default()
        },
    );
    assert_eq!(found.coordinators[0].port, i32::from(started.addr.port()));
    assert_eq!(found.coordinators[1].error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn the_broker_assigns_in_the_consumer_protocol() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 2, &[]);
    let beat = |client: &mut Client, version, member_id: &str, member_epoch, joins: bool| {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: member_id.into(),
            member_epoch,
            rebalance_timeout_ms: if joins { 10_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec!["t".into()]),
            topic_partitions: joins.then(Vec::new),
            ..Default::default()
        };
        client.call(version, &request)
    };
    assert_eq!(beat(&mut client, 1, "", 0, true).error_code, ErrorCode::INVALID_REQUEST);
    // Version 0 is given an id.
    let joined = beat(&mut client, 0, "", 0, true);
    assert_eq!((joined.error_code, joined.member_epoch), (ErrorCode::NONE, 1));
    assert!(joined.heartbeat_interval_ms > 0);
    let member = joined.member_id.unwrap();
    let assigned = joined.assignment.unwrap().topic_partitions;
    assert_eq!((assigned.len(), &assigned[0].partitions[..]), (1, &[0, 1][..]));
    assert_eq!(beat(&mut client, 1, &member, 1, false).assignment, None);
    assert_eq!(commit(&mut client, 9, &member, 1, 5), ErrorCode::NONE);
    assert_eq!(commit(&mut client, 9, &member, 2, 5), ErrorCode::STALE_MEMBER_EPOCH);

    let describe = |client: &mut Client| {
        let request = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
        client.call(1, &request).groups.remove(0)
    };
    let described = describe(&mut client);
    assert_eq!((described.error_code, described.group_state.as_str()), (ErrorCode::NONE, "Stable"));
    assert_eq!(described.members[0].assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(described.members[0].member_type, 1);
    let listed =
        client.call(5, &ListGroupsRequest { types_filter: vec!["Consumer".into()], ..Default::default() });
    assert_eq!((listed.groups.len(), listed.groups[0].group_type.as_str()), (1, "consumer"));
    // Not for the classic API, which says so in the way that lets tools ask the other one.
    let classic = client.call(6, &DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() });
    assert_eq!(classic.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(beat(&mut client, 1, &member, -1, false).member_epoch, -1);
    assert_eq!(describe(&mut client).error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let features = client.call(
        4,
        &ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() },
    );
    let level = |name: &str| {
        features.finalized_features.iter().find(|one| one.name == name).map(|one| one.max_version_level)
    };
    assert_eq!((level("group.version"), level("transaction.version")), (Some(1), Some(2)));
}
