//! Storing a group's offsets.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Storing a group's offsets: the request.
    request OffsetCommitRequest = 8, 2..=10, flexible 8 {
        group_id: String;
        generation_id_or_member_epoch: i32 [1.., default -1];
        member_id: String [1..];
        group_instance_id: Option<String> [7..];
        retention_time_ms: i64 [2..=4, default -1];
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// Part of [`OffsetCommitRequest`].
    structure OffsetCommitRequestTopic {
        name: String [..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// Part of [`OffsetCommitRequest`].
    structure OffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [6.., default -1];
        committed_metadata: Option<String>;
    }

    /// Storing a group's offsets: the response.
    response OffsetCommitResponse = 8, 2..=10, flexible 8 {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// Part of [`OffsetCommitResponse`].
    structure OffsetCommitResponseTopic {
        name: String [..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// Part of [`OffsetCommitResponse`].
    structure OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for OffsetCommitRequest {
    type Response = OffsetCommitResponse;
}
