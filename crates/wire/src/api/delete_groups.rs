//! Deleting groups.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Deleting groups: the request.
    request DeleteGroupsRequest = 42, 0..=2, flexible 2 {
        groups_names: Vec<String>;
    }

    /// Deleting groups: the response.
    response DeleteGroupsResponse = 42, 0..=2, flexible 2 {
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult>;
    }

    /// Part of [`DeleteGroupsResponse`].
    structure DeletableGroupResult {
        group_id: String;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for DeleteGroupsRequest {
    type Response = DeleteGroupsResponse;
}
