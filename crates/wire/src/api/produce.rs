//! Appending record batches.

use bytes::Bytes;
use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Appending record batches: the request.
    request ProduceRequest = 0, 0..=13, flexible 9 {
        transactional_id: Option<String> [3..];
        acks: i16;
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData>;
    }

    /// Part of [`ProduceRequest`].
    structure TopicProduceData {
        name: String [..=12];
        topic_id: Uuid [13..];
        partition_data: Vec<PartitionProduceData>;
    }

    /// Part of [`ProduceRequest`].
    structure PartitionProduceData {
        index: i32;
        records: Option<Bytes>;
    }

    /// Appending record batches: the response.
    response ProduceResponse = 0, 0..=13, flexible 9 {
        responses: Vec<TopicProduceResponse>;
        throttle_time_ms: i32 [1..];
        node_endpoints: Vec<NodeEndpoint> [10.., tag 0];
    }

    /// Part of [`ProduceResponse`].
    structure TopicProduceResponse {
        name: String [..=12];
        topic_id: Uuid [13..];
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// Part of [`ProduceResponse`].
    structure NodeEndpoint {
        node_id: i32 [10..];
        host: String [10..];
        port: i32 [10..];
        rack: Option<String> [10..];
    }

    /// Part of [`ProduceResponse`].
    structure PartitionProduceResponse {
        index: i32;
        error_code: ErrorCode;
        base_offset: i64;
        log_append_time_ms: i64 [2.., default -1];
        log_start_offset: i64 [5.., default -1];
        record_errors: Vec<BatchIndexAndErrorMessage> [8..];
        error_message: Option<String> [8..];
        current_leader: LeaderIdAndEpoch [10.., tag 0];
    }

    /// Part of [`ProduceResponse`].
    structure BatchIndexAndErrorMessage {
        batch_index: i32 [8..];
        batch_index_error_message: Option<String> [8..];
    }

    /// Part of [`ProduceResponse`].
    structure LeaderIdAndEpoch {
        leader_id: i32 [10.., default -1];
        leader_epoch: i32 [10.., default -1];
    }
}

impl crate::codec::Request for ProduceRequest {
    type Response = ProduceResponse;
}
