//! DescribeProducers (61), version 0: who wrote to a partition last, and whose transaction is open there. What tools look for
//! transactions that hang with.

use std::sync::Arc;

use wire::api::describe_producers::{PartitionResponse, ProducerState, TopicRequest, TopicResponse};
use wire::api::{DescribeProducersRequest, DescribeProducersResponse};

use super::{Call, names};
use crate::log::ActiveProducer;
use crate::node::Node;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let DescribeProducersRequest { topics } = request;
    let all = node.catalog.topics();
    let topics = topics
        .into_iter()
        .map(|TopicRequest { name, partition_indexes }| {
            let found = names::topic(&all, false, &name, uuid::Uuid::nil());
            let partitions = partition_indexes
                .into_iter()
                .map(|partition_index| {
                    let answer = PartitionResponse { partition_index, ..Default::default() };
                    match found.and_then(|topic| names::partition(node, topic, partition_index)) {
                        Ok(partition) => PartitionResponse {
                            active_producers: partition.producers().into_iter().map(active).collect(),
                            ..answer
                        },
                        Err(error_code) => PartitionResponse {
                            error_code,
                            error_message: Some(format!("partition {name}-{partition_index} does not exist")),
                            ..answer
                        },
                    }
                })
                .collect();
            TopicResponse { name, partitions }
        })
        .collect();
    DescribeProducersResponse { topics, ..Default::default() }
}

fn active(producer: ActiveProducer) -> ProducerState {
    let ActiveProducer { id, epoch, coordinator_epoch, last_sequence, last_ms, open } = producer;
    ProducerState {
        producer_id: id,
        producer_epoch: i32::from(epoch),
        last_sequence: last_sequence.unwrap_or(-1),
        last_timestamp: last_ms,
        coordinator_epoch,
        current_txn_start_offset: open.unwrap_or(-1),
    }
}
