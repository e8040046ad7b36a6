//! Staying a member of a group.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Staying a member of a group: the request.
    request HeartbeatRequest = 12, 0..=4, flexible 4 {
        group_id: String;
        generation_id: i32;
        member_id: String;
        group_instance_id: Option<String> [3..];
    }

    /// Staying a member of a group: the response.
    response HeartbeatResponse = 12, 0..=4, flexible 4 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for HeartbeatRequest {
    type Response = HeartbeatResponse;
}
