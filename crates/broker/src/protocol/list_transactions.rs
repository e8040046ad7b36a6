//! ListTransactions (66), versions 0-1, with filters by state, producer and how long a transaction is open.
//!
//! Not done: version 2, whose filter is a regular expression of another language (RE2).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::list_transactions::TransactionState;
use wire::api::{ListTransactionsRequest, ListTransactionsResponse};

use super::Call;
use crate::node::Node;

/// The states there are in the protocol; the last three never show here, as ends take effect at once.
const STATES: [&str; 7] = [
    "Empty",
    "Ongoing",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareCommit",
    "PrepareAbort",
    "PrepareEpochFence",
];

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let ListTransactionsRequest {
        state_filters,
        producer_id_filters,
        duration_filter,
        transactional_id_pattern: _,
    } = request;
    let (known, unknown): (Vec<_>, Vec<_>) =
        state_filters.into_iter().partition(|state| STATES.contains(&state.as_str()));
    let now = node.config.log.clock.now_ms();
    let unfiltered = known.is_empty() && unknown.is_empty();
    let states = node
        .transactions
        .list()
        .into_iter()
        .filter(|txn| unfiltered || known.iter().any(|state| state == txn.state.name()))
        .filter(|txn| producer_id_filters.is_empty() || producer_id_filters.contains(&txn.producer.id))
        .filter(|txn| duration_filter < 0 || (txn.start_ms >= 0 && now - txn.start_ms > duration_filter))
        .map(|txn| TransactionState {
            producer_id: txn.producer.id,
            transaction_state: txn.state.name().to_owned(),
            transactional_id: txn.transactional_id,
        })
        .collect();
    ListTransactionsResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::NONE,
        unknown_state_filters: unknown,
        transaction_states: states,
    }
}
