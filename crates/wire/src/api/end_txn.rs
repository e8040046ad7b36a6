//! Commit or abort.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Commit or abort: the request.
    request EndTxnRequest = 26, 0..=5, flexible 3 {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        committed: bool;
    }

    /// Commit or abort: the response.
    response EndTxnResponse = 26, 0..=5, flexible 3 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 [5.., default -1];
        producer_epoch: i16 [5.., default -1];
    }
}

impl crate::codec::Request for EndTxnRequest {
    type Response = EndTxnResponse;
}
