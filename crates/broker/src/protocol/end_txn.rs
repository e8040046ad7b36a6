//! EndTxn (26), versions 0-5: commits or aborts. Answered when markers, offsets and state are durable, as one frame. From
//! version 5 on (KIP-890) the producer's epoch rises, and the answer carries it.

use std::sync::Arc;

use wire::api::{EndTxnRequest, EndTxnResponse};
use wire::{ApiKey, ErrorCode};

use super::Call;
use crate::node::Node;
use crate::txn::{EndRequest, Producer, code_for_version};

/// The first version in which the epoch rises.
const BUMPS_FROM: i16 = 5;

pub(super) async fn handle(node: &Arc<Node>, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    let EndTxnRequest { transactional_id, producer_id, producer_epoch, committed } = request;
    let ended = node
        .transactions
        .end(EndRequest {
            transactional_id,
            producer: Producer { id: producer_id, epoch: producer_epoch },
            commit: committed,
            bumps_epoch: call.version >= BUMPS_FROM,
        })
        .await;
    match ended {
        Ok(Producer { id, epoch }) => EndTxnResponse {
            throttle_time_ms: 0,
            error_code: ErrorCode::NONE,
            producer_id: id,
            producer_epoch: epoch,
        },
        Err(code) => EndTxnResponse {
            throttle_time_ms: 0,
            error_code: code_for_version(ApiKey::EndTxn, call.version, code),
            producer_id: -1,
            producer_epoch: -1,
        },
    }
}
