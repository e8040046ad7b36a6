//! A group's offsets into a transaction.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// A group's offsets into a transaction: the request.
    request AddOffsetsToTxnRequest = 25, 0..=4, flexible 3 {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        group_id: String;
    }

    /// A group's offsets into a transaction: the response.
    response AddOffsetsToTxnResponse = 25, 0..=4, flexible 3 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
    }
}

impl crate::codec::Request for AddOffsetsToTxnRequest {
    type Response = AddOffsetsToTxnResponse;
}
