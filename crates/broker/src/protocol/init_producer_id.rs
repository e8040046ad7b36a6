//! InitProducerId (22), versions 0-5: an identity for an idempotent producer, or the next epoch of a transactional id,
//! which fences who had it and aborts what it left open. Answered when durable.
//!
//! Not done: two-phase commit (version 6, KIP-939).

use std::sync::Arc;

use wire::api::{InitProducerIdRequest, InitProducerIdResponse};
use wire::{ApiKey, ErrorCode};

use super::Call;
use crate::node::Node;
use crate::txn::{InitRequest, Producer, code_for_version};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let InitProducerIdRequest {
        transactional_id,
        transaction_timeout_ms,
        producer_id,
        producer_epoch,
        enable2_pc: _,
        keep_prepared_txn: _,
    } = request;
    let expected = Producer { id: producer_id, epoch: producer_epoch };
    let initialised = node
        .transactions
        .init_producer_id(InitRequest { transactional_id, timeout_ms: transaction_timeout_ms, expected })
        .await;
    match initialised {
        Ok(Producer { id, epoch }) => InitProducerIdResponse {
            error_code: ErrorCode::NONE,
            producer_id: id,
            producer_epoch: epoch,
            ..Default::default()
        },
        Err(code) => InitProducerIdResponse {
            error_code: code_for_version(ApiKey::InitProducerId, call.version, code),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    }
}
