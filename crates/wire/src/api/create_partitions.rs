//! More partitions for a topic.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// More partitions for a topic: the request.
    request CreatePartitionsRequest = 37, 0..=3, flexible 2 {
        topics: Vec<CreatePartitionsTopic>;
        timeout_ms: i32;
        validate_only: bool;
    }

    /// Part of [`CreatePartitionsRequest`].
    structure CreatePartitionsTopic {
        name: String;
        count: i32;
        assignments: Option<Vec<CreatePartitionsAssignment>>;
    }

    /// Part of [`CreatePartitionsRequest`].
    structure CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }

    /// More partitions for a topic: the response.
    response CreatePartitionsResponse = 37, 0..=3, flexible 2 {
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// Part of [`CreatePartitionsResponse`].
    structure CreatePartitionsTopicResult {
        name: String;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}

impl crate::codec::Request for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;
}
