//! Handing out and getting a generation's assignment.

use bytes::Bytes;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Handing out and getting a generation's assignment: the request.
    request SyncGroupRequest = 14, 0..=5, flexible 4 {
        group_id: String;
        generation_id: i32;
        member_id: String;
        group_instance_id: Option<String> [3..];
        protocol_type: Option<String> [5..];
        protocol_name: Option<String> [5..];
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// Part of [`SyncGroupRequest`].
    structure SyncGroupRequestAssignment {
        member_id: String;
        assignment: Bytes;
    }

    /// Handing out and getting a generation's assignment: the response.
    response SyncGroupResponse = 14, 0..=5, flexible 4 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode;
        protocol_type: Option<String> [5..];
        protocol_name: Option<String> [5..];
        assignment: Bytes;
    }
}

impl crate::codec::Request for SyncGroupRequest {
    type Response = SyncGroupResponse;
}
