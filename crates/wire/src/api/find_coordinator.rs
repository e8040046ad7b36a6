//! Which broker coordinates a group or a transactional id.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Which broker coordinates a group or a transactional id: the request.
    request FindCoordinatorRequest = 10, 0..=6, flexible 3 {
        key: String [..=3];
        key_type: i8 [1..];
        coordinator_keys: Vec<String> [4..];
    }

    /// Which broker coordinates a group or a transactional id: the response.
    response FindCoordinatorResponse = 10, 0..=6, flexible 3 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..=3];
        error_message: Option<String> [1..=3];
        node_id: i32 [..=3];
        host: String [..=3];
        port: i32 [..=3];
        coordinators: Vec<Coordinator> [4..];
    }

    /// Part of [`FindCoordinatorResponse`].
    structure Coordinator {
        key: String [4..];
        node_id: i32 [4..];
        host: String [4..];
        port: i32 [4..];
        error_code: ErrorCode [4..];
        error_message: Option<String> [4..];
    }
}

impl crate::codec::Request for FindCoordinatorRequest {
    type Response = FindCoordinatorResponse;
}
