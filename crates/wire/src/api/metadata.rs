//! Brokers, topics, partitions and who leads them.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Brokers, topics, partitions and who leads them: the request.
    request MetadataRequest = 3, 0..=13, flexible 9 {
        topics: Option<Vec<MetadataRequestTopic>> [.., null 1];
        allow_auto_topic_creation: bool [4.., default true];
        include_cluster_authorized_operations: bool [8..=10];
        include_topic_authorized_operations: bool [8..];
    }

    /// Part of [`MetadataRequest`].
    structure MetadataRequestTopic {
        topic_id: Uuid [10..];
        name: Option<String> [.., null 10];
    }

    /// Brokers, topics, partitions and who leads them: the response.
    response MetadataResponse = 3, 0..=13, flexible 9 {
        throttle_time_ms: i32 [3..];
        brokers: Vec<MetadataResponseBroker>;
        cluster_id: Option<String> [2..];
        controller_id: i32 [1.., default -1];
        topics: Vec<MetadataResponseTopic>;
        cluster_authorized_operations: i32 [8..=10, default -2147483648];
        error_code: ErrorCode [13..];
    }

    /// Part of [`MetadataResponse`].
    structure MetadataResponseBroker {
        node_id: i32;
        host: String;
        port: i32;
        rack: Option<String> [1..];
    }

    /// Part of [`MetadataResponse`].
    structure MetadataResponseTopic {
        error_code: ErrorCode;
        name: Option<String> [.., null 12];
        topic_id: Uuid [10..];
        is_internal: bool [1..];
        partitions: Vec<MetadataResponsePartition>;
        topic_authorized_operations: i32 [8.., default -2147483648];
    }

    /// Part of [`MetadataResponse`].
    structure MetadataResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 [7.., default -1];
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32> [5..];
    }
}

impl crate::codec::Request for MetadataRequest {
    type Response = MetadataResponse;
}
