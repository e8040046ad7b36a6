//! Forgetting a group's offsets.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Forgetting a group's offsets: the request.
    request OffsetDeleteRequest = 47, 0..=0, flexible 32767 {
        group_id: String;
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// Part of [`OffsetDeleteRequest`].
    structure OffsetDeleteRequestTopic {
        name: String;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// Part of [`OffsetDeleteRequest`].
    structure OffsetDeleteRequestPartition {
        partition_index: i32;
    }

    /// Forgetting a group's offsets: the response.
    response OffsetDeleteResponse = 47, 0..=0, flexible 32767 {
        error_code: ErrorCode;
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// Part of [`OffsetDeleteResponse`].
    structure OffsetDeleteResponseTopic {
        name: String;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// Part of [`OffsetDeleteResponse`].
    structure OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for OffsetDeleteRequest {
    type Response = OffsetDeleteResponse;
}
