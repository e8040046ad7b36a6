//! AlterConfigs (33), versions 0-2: replaces all of a topic's given settings. Answered when durable.
//!
//! Not done: the broker's settings can't be changed while it runs; they are refused.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::alter_configs::{AlterConfigsResource, AlterConfigsResourceResponse};
use wire::api::{AlterConfigsRequest, AlterConfigsResponse};

use super::Call;
use super::describe_configs::TOPIC;
use crate::catalog::ConfigError;
use crate::node::{Node, catalog_code, chain};

/// The answer to a resource that isn't a topic.
pub(super) fn only_topics(resource_type: i8) -> (ErrorCode, Option<String>) {
    let message = format!("resource type {resource_type}: only the settings of topics (2) can be changed");
    (ErrorCode::INVALID_REQUEST, Some(message))
}

/// Changes a topic's settings and waits until that is durable.
pub(super) async fn change(
    node: &Node,
    topic: &str,
    validate_only: bool,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, String>) -> Result<(), ConfigError>,
) -> (ErrorCode, Option<String>) {
    match node.catalog.configure(topic, validate_only, change) {
        Ok(position) => match node.log.synced(position).await {
            Ok(()) => (ErrorCode::NONE, None),
            Err(error) => (ErrorCode::KAFKA_STORAGE_ERROR, Some(chain(&error))),
        },
        Err(error) => (catalog_code(&error), Some(chain(&error))),
    }
}

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let AlterConfigsRequest { resources, validate_only } = request;
    let mut responses = Vec::with_capacity(resources.len());
    for AlterConfigsResource { resource_type, resource_name, configs } in resources {
        let (error_code, error_message) = if resource_type == TOPIC {
            change(node, &resource_name, validate_only, |given| {
                given.clear();
                // Null is how a client says "the default".
                given.extend(configs.into_iter().filter_map(|config| Some((config.name, config.value?))));
                Ok(())
            })
            .await
        } else {
            only_topics(resource_type)
        };
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    AlterConfigsResponse { responses, ..Default::default() }
}
