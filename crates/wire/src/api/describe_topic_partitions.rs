//! Partitions of topics, in pages.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Partitions of topics, in pages: the request.
    request DescribeTopicPartitionsRequest = 75, 0..=0, flexible 0 {
        topics: Vec<TopicRequest>;
        response_partition_limit: i32 [.., default 2000];
        cursor: Option<Cursor>;
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    structure TopicRequest {
        name: String;
    }

    /// Part of [`DescribeTopicPartitionsRequest`].
    structure Cursor {
        topic_name: String;
        partition_index: i32;
    }

    /// Partitions of topics, in pages: the response.
    response DescribeTopicPartitionsResponse = 75, 0..=0, flexible 0 {
        throttle_time_ms: i32;
        topics: Vec<DescribeTopicPartitionsResponseTopic>;
        next_cursor: Option<CursorResponse>;
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    structure DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode;
        name: Option<String>;
        topic_id: Uuid;
        is_internal: bool;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        topic_authorized_operations: i32 [.., default -2147483648];
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    structure CursorResponse {
        topic_name: String;
        partition_index: i32;
    }

    /// Part of [`DescribeTopicPartitionsResponse`].
    structure DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 [.., default -1];
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        eligible_leader_replicas: Option<Vec<i32>>;
        last_known_elr: Option<Vec<i32>>;
        offline_replicas: Vec<i32>;
    }
}

impl crate::codec::Request for DescribeTopicPartitionsRequest {
    type Response = DescribeTopicPartitionsResponse;
}
