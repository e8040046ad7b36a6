//! Raising the start of a partition.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Raising the start of a partition: the request.
    request DeleteRecordsRequest = 21, 0..=2, flexible 2 {
        topics: Vec<DeleteRecordsTopic>;
        timeout_ms: i32;
    }

    /// Part of [`DeleteRecordsRequest`].
    structure DeleteRecordsTopic {
        name: String;
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// Part of [`DeleteRecordsRequest`].
    structure DeleteRecordsPartition {
        partition_index: i32;
        offset: i64;
    }

    /// Raising the start of a partition: the response.
    response DeleteRecordsResponse = 21, 0..=2, flexible 2 {
        throttle_time_ms: i32;
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// Part of [`DeleteRecordsResponse`].
    structure DeleteRecordsTopicResult {
        name: String;
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// Part of [`DeleteRecordsResponse`].
    structure DeleteRecordsPartitionResult {
        partition_index: i32;
        low_watermark: i64;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for DeleteRecordsRequest {
    type Response = DeleteRecordsResponse;
}
