//! The groups there are.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// The groups there are: the request.
    request ListGroupsRequest = 16, 0..=5, flexible 3 {
        states_filter: Vec<String> [4..];
        types_filter: Vec<String> [5..];
    }

    /// The groups there are: the response.
    response ListGroupsResponse = 16, 0..=5, flexible 3 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode;
        groups: Vec<ListedGroup>;
    }

    /// Part of [`ListGroupsResponse`].
    structure ListedGroup {
        group_id: String;
        protocol_type: String;
        group_state: String [4..];
        group_type: String [5..];
    }
}

impl crate::codec::Request for ListGroupsRequest {
    type Response = ListGroupsResponse;
}
