//! Offsets that hold when their transaction commits.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Offsets that hold when their transaction commits: the request.
    request TxnOffsetCommitRequest = 28, 0..=5, flexible 3 {
        transactional_id: String;
        group_id: String;
        producer_id: i64;
        producer_epoch: i16;
        generation_id: i32 [3.., default -1];
        member_id: String [3..];
        group_instance_id: Option<String> [3..];
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    /// Part of [`TxnOffsetCommitRequest`].
    structure TxnOffsetCommitRequestTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    /// Part of [`TxnOffsetCommitRequest`].
    structure TxnOffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 [2.., default -1];
        committed_metadata: Option<String>;
    }

    /// Offsets that hold when their transaction commits: the response.
    response TxnOffsetCommitResponse = 28, 0..=5, flexible 3 {
        throttle_time_ms: i32;
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    /// Part of [`TxnOffsetCommitResponse`].
    structure TxnOffsetCommitResponseTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    /// Part of [`TxnOffsetCommitResponse`].
    structure TxnOffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for TxnOffsetCommitRequest {
    type Response = TxnOffsetCommitResponse;
}
