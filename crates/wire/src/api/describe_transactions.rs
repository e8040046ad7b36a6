//! State of transactions.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// State of transactions: the request.
    request DescribeTransactionsRequest = 65, 0..=0, flexible 0 {
        transactional_ids: Vec<String>;
    }

    /// State of transactions: the response.
    response DescribeTransactionsResponse = 65, 0..=0, flexible 0 {
        throttle_time_ms: i32;
        transaction_states: Vec<TransactionState>;
    }

    /// Part of [`DescribeTransactionsResponse`].
    structure TransactionState {
        error_code: ErrorCode;
        transactional_id: String;
        transaction_state: String;
        transaction_timeout_ms: i32;
        transaction_start_time_ms: i64;
        producer_id: i64;
        producer_epoch: i16;
        topics: Vec<TopicData>;
    }

    /// Part of [`DescribeTransactionsResponse`].
    structure TopicData {
        topic: String;
        partitions: Vec<i32>;
    }
}

impl crate::codec::Request for DescribeTransactionsRequest {
    type Response = DescribeTransactionsResponse;
}
