//! Partitions into a transaction.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Partitions into a transaction: the request.
    request AddPartitionsToTxnRequest = 24, 0..=5, flexible 3 {
        transactions: Vec<AddPartitionsToTxnTransaction> [4..];
        v3_and_below_transactional_id: String [..=3];
        v3_and_below_producer_id: i64 [..=3];
        v3_and_below_producer_epoch: i16 [..=3];
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [..=3];
    }

    /// Part of [`AddPartitionsToTxnRequest`].
    structure AddPartitionsToTxnTransaction {
        transactional_id: String [4..];
        producer_id: i64 [4..];
        producer_epoch: i16 [4..];
        verify_only: bool [4..];
        topics: Vec<AddPartitionsToTxnTopic> [4..];
    }

    /// Part of [`AddPartitionsToTxnRequest`].
    structure AddPartitionsToTxnTopic {
        name: String;
        partitions: Vec<i32>;
    }

    /// Partitions into a transaction: the response.
    response AddPartitionsToTxnResponse = 24, 0..=5, flexible 3 {
        throttle_time_ms: i32;
        error_code: ErrorCode [4..];
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4..];
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3];
    }

    /// Part of [`AddPartitionsToTxnResponse`].
    structure AddPartitionsToTxnResult {
        transactional_id: String [4..];
        topic_results: Vec<AddPartitionsToTxnTopicResult> [4..];
    }

    /// Part of [`AddPartitionsToTxnResponse`].
    structure AddPartitionsToTxnTopicResult {
        name: String;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    /// Part of [`AddPartitionsToTxnResponse`].
    structure AddPartitionsToTxnPartitionResult {
        partition_index: i32;
        partition_error_code: ErrorCode;
    }
}

impl crate::codec::Request for AddPartitionsToTxnRequest {
    type Response = AddPartitionsToTxnResponse;
}
