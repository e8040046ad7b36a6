//! Creating topics.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Creating topics: the request.
    request CreateTopicsRequest = 19, 2..=7, flexible 5 {
        topics: Vec<CreatableTopic>;
        timeout_ms: i32 [.., default 60000];
        validate_only: bool [1..];
    }

    /// Part of [`CreateTopicsRequest`].
    structure CreatableTopic {
        name: String;
        num_partitions: i32;
        replication_factor: i16;
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig>;
    }

    /// Part of [`CreateTopicsRequest`].
    structure CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    /// Part of [`CreateTopicsRequest`].
    structure CreatableTopicConfig {
        name: String;
        value: Option<String>;
    }

    /// Creating topics: the response.
    response CreateTopicsResponse = 19, 2..=7, flexible 5 {
        throttle_time_ms: i32 [2..];
        topics: Vec<CreatableTopicResult>;
    }

    /// Part of [`CreateTopicsResponse`].
    structure CreatableTopicResult {
        name: String;
        topic_id: Uuid [7..];
        error_code: ErrorCode;
        error_message: Option<String> [1..];
        topic_config_error_code: ErrorCode [5.., tag 0];
        num_partitions: i32 [5.., default -1];
        replication_factor: i16 [5.., default -1];
        configs: Option<Vec<CreatableTopicConfigs>> [5..];
    }

    /// Part of [`CreateTopicsResponse`].
    structure CreatableTopicConfigs {
        name: String [5..];
        value: Option<String> [5..];
        read_only: bool [5..];
        config_source: i8 [5.., default -1];
        is_sensitive: bool [5..];
    }
}

impl crate::codec::Request for CreateTopicsRequest {
    type Response = CreateTopicsResponse;
}
