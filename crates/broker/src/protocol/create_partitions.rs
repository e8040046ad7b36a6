//! CreatePartitions (37), versions 0-3. Answered when the partitions are durable.
//!
//! Manual assignments must name this broker only.

use std::sync::Arc;

use tracing::{info, warn};
use wire::ErrorCode;
use wire::api::create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use wire::api::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::Call;
use crate::log::Position;
use crate::node::{NODE_ID, Node, catalog_code, chain};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let CreatePartitionsRequest { topics, timeout_ms: _, validate_only } = request;
    let mut last = Position::default();
    let mut results = Vec::with_capacity(topics.len());
    for CreatePartitionsTopic { name, count, assignments } in topics {
        let elsewhere = assignments.iter().flatten().any(|one| one.broker_ids != [NODE_ID]);
        let (error_code, error_message) = if elsewhere {
            let message = format!("assignments must name broker {NODE_ID} alone");
            (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some(message))
        } else {
            match node.catalog.grow(&name, count, validate_only) {
                Ok(position) => {
                    last = last.max(position);
                    if !validate_only {
                        info!(topic = name, partitions = count, client = call.client_id, "partitions added");
                    }
                    (ErrorCode::NONE, None)
                }
                Err(error) => (catalog_code(&error), Some(chain(&error))),
            }
        };
        results.push(CreatePartitionsTopicResult { name, error_code, error_message });
    }
    if let Err(error) = node.log.synced(last).await {
        warn!(error = %chain(&error), "partitions were not created");
        for result in results.iter_mut().filter(|result| result.error_code.is_ok()) {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.error_message = Some(chain(&error));
        }
    }
    CreatePartitionsResponse { results, ..Default::default() }
}
