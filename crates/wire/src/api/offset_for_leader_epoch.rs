//! Where a leader epoch ends.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Where a leader epoch ends: the request.
    request OffsetForLeaderEpochRequest = 23, 2..=4, flexible 4 {
        replica_id: i32 [3.., default -2];
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    structure OffsetForLeaderTopic {
        topic: String;
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// Part of [`OffsetForLeaderEpochRequest`].
    structure OffsetForLeaderPartition {
        partition: i32;
        current_leader_epoch: i32 [2.., default -1];
        leader_epoch: i32;
    }

    /// Where a leader epoch ends: the response.
    response OffsetForLeaderEpochResponse = 23, 2..=4, flexible 4 {
        throttle_time_ms: i32 [2..];
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    structure OffsetForLeaderTopicResult {
        topic: String;
        partitions: Vec<EpochEndOffset>;
    }

    /// Part of [`OffsetForLeaderEpochResponse`].
    structure EpochEndOffset {
        error_code: ErrorCode;
        partition: i32;
        leader_epoch: i32 [1.., default -1];
        end_offset: i64 [.., default -1];
    }
}

impl crate::codec::Request for OffsetForLeaderEpochRequest {
    type Response = OffsetForLeaderEpochResponse;
}
