//! A producer id and epoch, and fencing of who had it.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// A producer id and epoch, and fencing of who had it: the request.
    request InitProducerIdRequest = 22, 0..=6, flexible 2 {
        transactional_id: Option<String>;
        transaction_timeout_ms: i32;
        producer_id: i64 [3.., default -1];
        producer_epoch: i16 [3.., default -1];
        enable2_pc: bool [6..];
        keep_prepared_txn: bool [6..];
    }

    /// A producer id and epoch, and fencing of who had it: the response.
    response InitProducerIdResponse = 22, 0..=6, flexible 2 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 [.., default -1];
        producer_epoch: i16;
        ongoing_txn_producer_id: i64 [6.., default -1];
        ongoing_txn_producer_epoch: i16 [6.., default -1];
    }
}

impl crate::codec::Request for InitProducerIdRequest {
    type Response = InitProducerIdResponse;
}
