//! Topics: created, described, grown, configured, deleted; and all of it again after a restart.

use broker::testing;
use wire::ErrorCode;
use wire::api::*;

use crate::support::{Client, batch, start, start_with};

fn metadata_of(client: &mut Client, name: &str) -> metadata::MetadataResponseTopic {
    let topic = metadata::MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    client
        .ask(&MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        })
        .topics
        .remove(0)
}

#[test]
fn a_topic_lives_through_its_states_and_a_restart() {
    let started = start();
    let mut client = Client::connect(started.addr);
    client.create("t", 3, &[("retention.ms", "60000")]);
    let topic = metadata_of(&mut client, "t");
    assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::NONE, 3));
    let epoch = topic.partitions[0].leader_epoch;

    let grow = |count| CreatePartitionsRequest {
        topics: vec![create_partitions::CreatePartitionsTopic { name: "t".into(), count, assignments: None }],
        ..Default::default()
    };
    assert_eq!(client.ask(&grow(3)).results[0].error_code, ErrorCode::INVALID_PARTITIONS);
    assert_eq!(client.ask(&grow(5)).results[0].error_code, ErrorCode::NONE);
    assert_eq!(client.produce("t", 4, batch(&["a"])).error_code, ErrorCode::NONE);

    let set = |name: &str, value: &str| IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![incremental_alter_configs::AlterableConfig {
                name: name.into(),
                config_operation: 0,
                value: Some(value.into()),
            }],
        }],
        ..Default::default()
    };
    let refused = client.ask(&set("retention.ms", "soon"));
    assert_eq!(refused.responses[0].error_code, ErrorCode::INVALID_CONFIG);
    assert!(refused.responses[0].error_message.as_deref().unwrap().contains("retention.ms=soon"));
    assert_eq!(client.ask(&set("max.message.bytes", "100")).responses[0].error_code, ErrorCode::NONE);
    let too_large = client.produce("t", 0, batch(&["x".repeat(200).as_str()]));
    assert_eq!(too_large.error_code, ErrorCode::MESSAGE_TOO_LARGE);

    // After a restart: the same topic by id, grown, configured; the leader epoch rose.
    let cluster = started.guard.handle().cluster_id().to_owned();
    started.guard.stop().unwrap();
    let (addr, guard) = testing::start(started.dir.path()).unwrap();
    assert_eq!(guard.handle().cluster_id(), cluster);
    let mut client = Client::connect(addr);
    let again = metadata_of(&mut client, "t");
    assert_eq!((again.topic_id, again.partitions.len()), (topic.topic_id, 5));
    assert!(again.partitions[0].leader_epoch > epoch);
    let described = client.ask(&DescribeConfigsRequest {
        resources: vec![describe_configs::DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: Some(vec![
                "max.message.bytes".into(),
                "retention.ms".into(),
                "segment.ms".into(),
            ]),
        }],
        ..Default::default()
    });
    let configs: Vec<_> = described.results[0]
        .configs
        .iter()
        .map(|config| (config.name.as_str(), config.value.as_deref().unwrap(), config.config_source))
        .collect();
    assert_eq!(
        configs,
        [("max.message.bytes", "100", 1), ("retention.ms", "60000", 1), ("segment.ms", "604800000", 5)]
    );
    assert_eq!(crate::support::values(&client.fetch("t", 4, 0, false)), [(0, "a".to_owned())]);

    // Deleted, and made again under its name: another topic, without the records.
    let delete = DeleteTopicsRequest {
        topics: vec![delete_topics::DeleteTopicState { name: Some("t".into()), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(client.ask(&delete).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(client.ask(&delete).responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(metadata_of(&mut client, "t").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    client.create("t", 5, &[]);
    assert_ne!(metadata_of(&mut client, "t").topic_id, topic.topic_id);
    assert_eq!(crate::support::values(&client.fetch("t", 4, 0, false)), []);
}

#[test]
fn what_cannot_be_created_says_why() {
    let started = start_with(|config| config.limits.partitions_max = 10);
    let mut client = Client::connect(started.addr);
    client.create("a.b", 1, &[]);
    let cases = [
        ("a.b", 1, None, ErrorCode::TOPIC_ALREADY_EXISTS),
        ("a_b", 1, None, ErrorCode::INVALID_TOPIC_EXCEPTION),
        ("a/b", 1, None, ErrorCode::INVALID_TOPIC_EXCEPTION),
        ("", 1, None, ErrorCode::INVALID_TOPIC_EXCEPTION),
        ("c", 0, None, ErrorCode::INVALID_PARTITIONS),
        ("c", 10, None, ErrorCode::INVALID_PARTITIONS),
        ("c", 1, Some(("no.such", "1")), ErrorCode::INVALID_CONFIG),
    ];
    for (name, partitions, config, expected) in cases {
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: config
                .into_iter()
                .map(|(name, value)| create_topics::CreatableTopicConfig {
                    name: name.into(),
                    value: Some(value.into()),
                })
                .collect(),
            ..Default::default()
        };
        let response = client.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() });
        assert_eq!(response.topics[0].error_code, expected, "{name} {partitions}");
        assert!(response.topics[0].error_message.is_some());
    }
    // A replication factor for a cluster becomes 1.
    let topic = create_topics::CreatableTopic {
        name: "d".into(),
        num_partitions: 1,
        replication_factor: 3,
        ..Default::default()
    };
    let response = client.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    assert_eq!((response.topics[0].error_code, response.topics[0].replication_factor), (ErrorCode::NONE, 1));
}

#[test]
fn topics_come_into_being_by_themselves_only_where_allowed() {
    let started = start();
    let mut client = Client::connect(started.addr);
    assert_eq!(metadata_of(&mut client, "new").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let started = start_with(|config| {
        config.auto_create_topics = true;
        config.partitions_default = 2;
    });
    let mut client = Client::connect(started.addr);
    let topic = metadata_of(&mut client, "new");
    assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::NONE, 2));
    assert_eq!(metadata_of(&mut client, "no/name").error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
}

#[test]
fn versions_are_negotiated() {
    let started = start();
    let mut client = Client::connect(started.addr);
    let software =
        ApiVersionsRequest { client_software_name: "test".into(), client_software_version: "1".into() };
    let response = client.call(4, &software);
    assert_eq!(response.error_code, ErrorCode::NONE);
    let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!(produce.min_version, 0);
    let features: Vec<&str> = response.finalized_features.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(features, ["group.version", "transaction.version"]);
    let bad = ApiVersionsRequest { client_software_name: "-".into(), client_software_version: String::new() };
    assert_eq!(client.call(3, &bad).error_code, ErrorCode::INVALID_REQUEST);

    // A version of the future: answered in version 0, with what is served.
    use std::io::Write;
    let mut request = vec![0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 77, 255, 255, 1, 2];
    request[3] = (request.len() - 4) as u8;
    client.stream.write_all(&request).unwrap();
    let frame = client.receive_frame().unwrap();
    let response = wire::header::read_response::<ApiVersionsRequest>(frame, 0, 77).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 4));
    // Still usable.
    assert_eq!(client.call(4, &software).error_code, ErrorCode::NONE);

    // Every version that is advertised is answered.
    for api in response_of(&mut client, &software).api_keys {
        for version in api.min_version..=api.max_version {
            if let 3 = api.api_key {
                let all = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
                assert_eq!(client.call(version, &all).brokers.len(), 1);
            }
        }
    }
}

fn response_of(client: &mut Client, software: &ApiVersionsRequest) -> ApiVersionsResponse {
    client.call(3, software)
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let started = start();
    let error = testing::start(started.dir.path()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    let mut config = broker::Config::new(tempfile::tempdir().unwrap().path());
    config.listen = started.addr;
    let error = broker::Broker::open(config).err().unwrap();
    assert!(error.to_string().contains(&started.addr.to_string()), "{error}");
}
