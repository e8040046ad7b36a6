//! DeleteTopics (20), versions 1-6, by name or id. Answered when the deletions are durable.
//!
//! Offsets that groups have committed of it go with it.

use std::sync::Arc;

use tracing::{info, warn};
use wire::ErrorCode;
use wire::api::delete_topics::{DeletableTopicResult, DeleteTopicState};
use wire::api::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::{Call, names};
use crate::log::Position;
use crate::node::{Node, catalog_code, chain};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let DeleteTopicsRequest { topics, topic_names, timeout_ms: _ } = request;
    let named =
        topic_names.into_iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let mut last = Position::default();
    let mut responses = Vec::new();
    for DeleteTopicState { name, topic_id } in topics.into_iter().chain(named) {
        let by_id = name.is_none();
        let all = node.catalog.topics();
        let found = names::topic(&all, by_id, name.as_deref().unwrap_or_default(), topic_id).cloned();
        responses.push(match found {
            Err(error_code) => DeletableTopicResult { name, topic_id, error_code, ..Default::default() },
            Ok(topic) => {
                let mut result = DeletableTopicResult {
                    name: Some(topic.name.clone()),
                    topic_id: topic.id,
                    ..Default::default()
                };
                match node.catalog.delete(topic.id) {
                    Ok(position) => {
                        last = last.max(position);
                        // Frees memory only, the id never comes back: an error is the coordinator still starting.
                        if let Err(code) = node.groups.forget_topic(topic.id) {
                            warn!(topic = topic.name, %code, "offsets of a deleted topic stay");
                        }
                        info!(topic = topic.name, id = %topic.id, client = call.client_id, "topic deleted");
                    }
                    Err(error) => {
                        result.error_code = catalog_code(&error);
                        result.error_message = Some(chain(&error));
                    }
                }
                result
            }
        });
    }
    if let Err(error) = node.log.synced(last).await {
        warn!(error = %chain(&error), "topics were not deleted");
        for result in responses.iter_mut().filter(|result| result.error_code.is_ok()) {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.error_message = Some(chain(&error));
        }
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}
