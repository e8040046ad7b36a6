//! Joining a group, and waiting for its next generation.

use bytes::Bytes;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Joining a group, and waiting for its next generation: the request.
    request JoinGroupRequest = 11, 0..=9, flexible 6 {
        group_id: String;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 [1.., default -1];
        member_id: String;
        group_instance_id: Option<String> [5..];
        protocol_type: String;
        protocols: Vec<JoinGroupRequestProtocol>;
        reason: Option<String> [8..];
    }

    /// Part of [`JoinGroupRequest`].
    structure JoinGroupRequestProtocol {
        name: String;
        metadata: Bytes;
    }

    /// Joining a group, and waiting for its next generation: the response.
    response JoinGroupResponse = 11, 0..=9, flexible 6 {
        throttle_time_ms: i32 [2..];
        error_code: ErrorCode;
        generation_id: i32 [.., default -1];
        protocol_type: Option<String> [7..];
        protocol_name: Option<String> [.., null 7];
        leader: String;
        skip_assignment: bool [9..];
        member_id: String;
        members: Vec<JoinGroupResponseMember>;
    }

    /// Part of [`JoinGroupResponse`].
    structure JoinGroupResponseMember {
        member_id: String;
        group_instance_id: Option<String> [5..];
        metadata: Bytes;
    }
}

impl crate::codec::Request for JoinGroupRequest {
    type Response = JoinGroupResponse;
}
