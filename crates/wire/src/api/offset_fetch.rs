//! Reading a group's offsets.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Reading a group's offsets: the request.
    request OffsetFetchRequest = 9, 1..=10, flexible 6 {
        group_id: String [..=7];
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, null 2];
        groups: Vec<OffsetFetchRequestGroup> [8..];
        require_stable: bool [7..];
    }

    /// Part of [`OffsetFetchRequest`].
    structure OffsetFetchRequestTopic {
        name: String [..=7];
        partition_indexes: Vec<i32> [..=7];
    }

    /// Part of [`OffsetFetchRequest`].
    structure OffsetFetchRequestGroup {
        group_id: String [8..];
        member_id: Option<String> [9..];
        member_epoch: i32 [9.., default -1];
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..];
    }

    /// Part of [`OffsetFetchRequest`].
    structure OffsetFetchRequestTopics {
        name: String [8..=9];
        topic_id: Uuid [10..];
        partition_indexes: Vec<i32> [8..];
    }

    /// Reading a group's offsets: the response.
    response OffsetFetchResponse = 9, 1..=10, flexible 6 {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetFetchResponseTopic> [..=7];
        error_code: ErrorCode [2..=7];
        groups: Vec<OffsetFetchResponseGroup> [8..];
    }

    /// Part of [`OffsetFetchResponse`].
    structure OffsetFetchResponseTopic {
        name: String [..=7];
        partitions: Vec<OffsetFetchResponsePartition> [..=7];
    }

    /// Part of [`OffsetFetchResponse`].
    structure OffsetFetchResponseGroup {
        group_id: String [8..];
        topics: Vec<OffsetFetchResponseTopics> [8..];
        error_code: ErrorCode [8..];
    }

    /// Part of [`OffsetFetchResponse`].
    structure OffsetFetchResponsePartition {
        partition_index: i32 [..=7];
        committed_offset: i64 [..=7];
        committed_leader_epoch: i32 [5..=7, default -1];
        metadata: Option<String> [..=7];
        error_code: ErrorCode [..=7];
    }

    /// Part of [`OffsetFetchResponse`].
    structure OffsetFetchResponseTopics {
        name: String [8..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetFetchResponsePartitions> [8..];
    }

    /// Part of [`OffsetFetchResponse`].
    structure OffsetFetchResponsePartitions {
        partition_index: i32 [8..];
        committed_offset: i64 [8..];
        committed_leader_epoch: i32 [8.., default -1];
        metadata: Option<String> [8..];
        error_code: ErrorCode [8..];
    }
}

impl crate::codec::Request for OffsetFetchRequest {
    type Response = OffsetFetchResponse;
}
