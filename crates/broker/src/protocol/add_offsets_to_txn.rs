//! AddOffsetsToTxn (25), versions 0-4: a group's offsets will follow in a producer's transaction.

use std::sync::Arc;

use wire::api::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use wire::{ApiKey, ErrorCode};

use super::Call;
use crate::node::Node;
use crate::txn::{Producer, code_for_version};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id } = request;
    let producer = Producer { id: producer_id, epoch: producer_epoch };
    let added = node.transactions.add_offsets(&transactional_id, producer, &group_id);
    let code = added.err().unwrap_or(ErrorCode::NONE);
    AddOffsetsToTxnResponse {
        throttle_time_ms: 0,
        error_code: code_for_version(ApiKey::AddOffsetsToTxn, call.version, code),
    }
}
