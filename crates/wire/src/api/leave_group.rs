//! Leaving a group.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Leaving a group: the request.
    request LeaveGroupRequest = 13, 0..=5, flexible 4 {
        group_id: String;
        member_id: String [..=2];
        members: Vec<MemberIdentity> [3..];
    }

    /// Part of [`LeaveGroupRequest`].
    structure MemberIdentity {
        member_id: String [3..];
        group_instance_id: Option<String> [3..];
        reason: Option<String> [5..];
    }

    /// Leaving a group: the response.
    response LeaveGroupResponse = 13, 0..=5, flexible 4 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode;
        members: Vec<MemberResponse> [3..];
    }

    /// Part of [`LeaveGroupResponse`].
    structure MemberResponse {
        member_id: String [3..];
        group_instance_id: Option<String> [3..];
        error_code: ErrorCode [3..];
    }
}

impl crate::codec::Request for LeaveGroupRequest {
    type Response = LeaveGroupResponse;
}
