//! A group's state and members.

use bytes::Bytes;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// A group's state and members: the request.
    request DescribeGroupsRequest = 15, 0..=6, flexible 5 {
        groups: Vec<String>;
        include_authorized_operations: bool [3..];
    }

    /// A group's state and members: the response.
    response DescribeGroupsResponse = 15, 0..=6, flexible 5 {
        throttle_time_ms: i32 [1..];
        groups: Vec<DescribedGroup>;
    }

    /// Part of [`DescribeGroupsResponse`].
    structure DescribedGroup {
        error_code: ErrorCode;
        error_message: Option<String> [6..];
        group_id: String;
        group_state: String;
        protocol_type: String;
        protocol_data: String;
        members: Vec<DescribedGroupMember>;
        authorized_operations: i32 [3.., default -2147483648];
    }

    /// Part of [`DescribeGroupsResponse`].
    structure DescribedGroupMember {
        member_id: String;
        group_instance_id: Option<String> [4..];
        client_id: String;
        client_host: String;
        member_metadata: Bytes;
        member_assignment: Bytes;
    }
}

impl crate::codec::Request for DescribeGroupsRequest {
    type Response = DescribeGroupsResponse;
}
