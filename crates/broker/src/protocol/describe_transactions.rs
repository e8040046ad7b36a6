//! DescribeTransactions (65), version 0.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_transactions::{TopicData, TransactionState};
use wire::api::{DescribeTransactionsRequest, DescribeTransactionsResponse};

use super::Call;
use crate::node::Node;
use crate::txn::Described;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let DescribeTransactionsRequest { transactional_ids } = request;
    let all = node.catalog.topics();
    let states = transactional_ids
        .into_iter()
        .map(|id| match node.transactions.describe(&id) {
            Err(error_code) => TransactionState { error_code, transactional_id: id, ..Default::default() },
            Ok(Described { transactional_id, state, producer, timeout_ms, start_ms, partitions }) => {
                let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
                for partition in &partitions {
                    if let Some(topic) = all.with_id(partition.topic) {
                        topics.entry(&topic.name).or_default().push(partition.partition);
                    }
                }
                TransactionState {
                    error_code: ErrorCode::NONE,
                    transactional_id,
                    transaction_state: state.name().to_owned(),
                    transaction_timeout_ms: timeout_ms,
                    transaction_start_time_ms: start_ms,
                    producer_id: producer.id,
                    producer_epoch: producer.epoch,
                    topics: topics
                        .into_iter()
                        .map(|(topic, partitions)| TopicData { topic: topic.to_owned(), partitions })
                        .collect(),
                }
            }
        })
        .collect();
    DescribeTransactionsResponse { transaction_states: states, ..Default::default() }
}
