//! The transactions there are.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// The transactions there are: the request.
    request ListTransactionsRequest = 66, 0..=2, flexible 0 {
        state_filters: Vec<String>;
        producer_id_filters: Vec<i64>;
        duration_filter: i64 [1.., default -1];
        transactional_id_pattern: Option<String> [2..];
    }

    /// The transactions there are: the response.
    response ListTransactionsResponse = 66, 0..=2, flexible 0 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        unknown_state_filters: Vec<String>;
        transaction_states: Vec<TransactionState>;
    }

    /// Part of [`ListTransactionsResponse`].
    structure TransactionState {
        transactional_id: String;
        producer_id: i64;
        transaction_state: String;
    }
}

impl crate::codec::Request for ListTransactionsRequest {
    type Response = ListTransactionsResponse;
}
