//! Offsets by timestamp, and the ends of a partition.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Offsets by timestamp, and the ends of a partition: the request.
    request ListOffsetsRequest = 2, 1..=11, flexible 6 {
        replica_id: i32;
        isolation_level: i8 [2..];
        topics: Vec<ListOffsetsTopic>;
        timeout_ms: i32 [10..];
    }

    /// Part of [`ListOffsetsRequest`].
    structure ListOffsetsTopic {
        name: String;
        partitions: Vec<ListOffsetsPartition>;
    }

    /// Part of [`ListOffsetsRequest`].
    structure ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 [4.., default -1];
        timestamp: i64;
    }

    /// Offsets by timestamp, and the ends of a partition: the response.
    response ListOffsetsResponse = 2, 1..=11, flexible 6 {
        throttle_time_ms: i32 [2..];
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// Part of [`ListOffsetsResponse`].
    structure ListOffsetsTopicResponse {
        name: String;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// Part of [`ListOffsetsResponse`].
    structure ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        timestamp: i64 [1.., default -1];
        offset: i64 [1.., default -1];
        leader_epoch: i32 [4.., default -1];
    }
}

impl crate::codec::Request for ListOffsetsRequest {
    type Response = ListOffsetsResponse;
}
