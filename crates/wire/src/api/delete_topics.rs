//! Deleting topics.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Deleting topics: the request.
    request DeleteTopicsRequest = 20, 1..=6, flexible 4 {
        topics: Vec<DeleteTopicState> [6..];
        topic_names: Vec<String> [..=5];
        timeout_ms: i32;
    }

    /// Part of [`DeleteTopicsRequest`].
    structure DeleteTopicState {
        name: Option<String> [6..];
        topic_id: Uuid [6..];
    }

    /// Deleting topics: the response.
    response DeleteTopicsResponse = 20, 1..=6, flexible 4 {
        throttle_time_ms: i32 [1..];
        responses: Vec<DeletableTopicResult>;
    }

    /// Part of [`DeleteTopicsResponse`].
    structure DeletableTopicResult {
        name: Option<String> [.., null 6];
        topic_id: Uuid [6..];
        error_code: ErrorCode;
        error_message: Option<String> [5..];
    }
}

impl crate::codec::Request for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;
}
