//! Producers that are active on a partition.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Producers that are active on a partition: the request.
    request DescribeProducersRequest = 61, 0..=0, flexible 0 {
        topics: Vec<TopicRequest>;
    }

    /// Part of [`DescribeProducersRequest`].
    structure TopicRequest {
        name: String;
        partition_indexes: Vec<i32>;
    }

    /// Producers that are active on a partition: the response.
    response DescribeProducersResponse = 61, 0..=0, flexible 0 {
        throttle_time_ms: i32;
        topics: Vec<TopicResponse>;
    }

    /// Part of [`DescribeProducersResponse`].
    structure TopicResponse {
        name: String;
        partitions: Vec<PartitionResponse>;
    }

    /// Part of [`DescribeProducersResponse`].
    structure PartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        active_producers: Vec<ProducerState>;
    }

    /// Part of [`DescribeProducersResponse`].
    structure ProducerState {
        producer_id: i64;
        producer_epoch: i32;
        last_sequence: i32 [.., default -1];
        last_timestamp: i64 [.., default -1];
        coordinator_epoch: i32;
        current_txn_start_offset: i64 [.., default -1];
    }
}

impl crate::codec::Request for DescribeProducersRequest {
    type Response = DescribeProducersResponse;
}
