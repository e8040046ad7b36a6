//! AddPartitionsToTxn (24), versions 0-3: partitions into a producer's transaction, all or none.
//!
//! Not done: versions 4 and later, which brokers send to each other in batches and to verify: there is one broker.

use std::sync::Arc;

use wire::api::add_partitions_to_txn::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
use wire::api::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use wire::{ApiKey, ErrorCode};

use super::{Call, names};
use crate::node::Node;
use crate::txn::{Producer, code_for_version};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let AddPartitionsToTxnRequest {
        transactions: _,
        v3_and_below_transactional_id: transactional_id,
        v3_and_below_producer_id: id,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: topics,
    } = request;
    let all = node.catalog.topics();
    let mut wanted = Vec::new();
    let mut answer = Vec::with_capacity(topics.len());
    let mut missing = false;
    for topic in topics {
        let found = names::topic(&all, false, &topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for index in topic.partitions {
            let known = found.and_then(|found| names::known(found, index));
            match known {
                Ok(partition) => wanted.push(partition),
                Err(_) => missing = true,
            }
            partitions.push((index, known));
        }
        answer.push((topic.name, partitions));
    }
    let code = if missing {
        ErrorCode::OPERATION_NOT_ATTEMPTED
    } else {
        let added = node.transactions.add_partitions(&transactional_id, Producer { id, epoch }, &wanted);
        let code = added.err().unwrap_or(ErrorCode::NONE);
        code_for_version(ApiKey::AddPartitionsToTxn, call.version, code)
    };
    let results = answer
        .into_iter()
        .map(|(name, partitions)| AddPartitionsToTxnTopicResult {
            name,
            results_by_partition: partitions
                .into_iter()
                .map(|(partition_index, known)| AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code: known.err().unwrap_or(code),
                })
                .collect(),
        })
        .collect();
    AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results, ..Default::default() }
}
