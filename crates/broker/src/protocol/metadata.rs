//! Metadata (3), versions 0-13: the broker, the topics, who leads them.
//!
//! A topic that doesn't exist is created when the broker's `auto_create_topics` and the request allow it (versions below 4
//! always do). There is one broker, which leads everything. No authorizer: authorized operations are all, where asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;
use wire::ErrorCode;
use wire::api::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use wire::api::{MetadataRequest, MetadataResponse};

use super::{Call, names};
use crate::catalog::Topic;
use crate::node::{NODE_ID, Node, catalog_code, chain};

/// Every operation on a topic, as a set of bits by Kafka's numbers: READ 3, WRITE 4, CREATE 5, DELETE 6, ALTER 7, DESCRIBE 8,
/// DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Every operation on a cluster: CREATE 5, ALTER 7, DESCRIBE 8, CLUSTER_ACTION 9, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11,
/// IDEMPOTENT_WRITE 12.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// "Not asked for."
pub(super) const NO_OPERATIONS: i32 = i32::MIN;

pub(super) async fn handle(node: &Arc<Node>, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let MetadataRequest {
        topics: wanted,
        allow_auto_topic_creation,
        include_cluster_authorized_operations,
        include_topic_authorized_operations,
    } = request;
    let operations = if include_topic_authorized_operations { TOPIC_OPERATIONS } else { NO_OPERATIONS };
    // Version 0 has no null: an empty list means all.
    let wanted = wanted.filter(|wanted| call.version > 0 || !wanted.is_empty());
    let mut topics = Vec::new();
    match wanted {
        None => topics.extend(node.catalog.topics().iter().map(|topic| describe(node, topic, operations))),
        Some(wanted) => {
            for one in wanted {
                let by_id = !one.topic_id.is_nil();
                let name = one.name.unwrap_or_default();
                let all = node.catalog.topics();
                let mut found = names::topic(&all, by_id, &name, one.topic_id).cloned();
                if found.is_err() && !by_id && node.config.auto_create_topics && allow_auto_topic_creation {
                    found = create(node, &name).await;
                }
                topics.push(match found {
                    Ok(topic) => describe(node, &topic, operations),
                    Err(error_code) => MetadataResponseTopic {
                        error_code: match types::TopicName::new(&name) {
                            Err(_) if !by_id => ErrorCode::INVALID_TOPIC_EXCEPTION,
                            _ => error_code,
                        },
                        // Versions before 12 have no null name.
                        name: (!by_id || call.version < 12).then_some(name),
                        topic_id: one.topic_id,
                        ..Default::default()
                    },
                });
            }
        }
    }
    let (host, port) = node.address(call.local);
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: NODE_ID, host, port, rack: None }],
        cluster_id: Some(node.cluster_id.clone()),
        controller_id: NODE_ID,
        topics,
        cluster_authorized_operations: if include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..Default::default()
    }
}

async fn create(node: &Arc<Node>, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    let created = node.catalog.create(name, node.config.partitions_default, BTreeMap::new(), false);
    match created {
        Ok((topic, position)) => match node.log.synced(position).await {
            Ok(()) => Ok(topic),
            Err(error) => {
                warn!(topic = name, error = %chain(&error), "a topic was not created");
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        },
        // Another client was faster.
        Err(crate::catalog::Error::Exists(_)) => {
            node.catalog.topics().named(name).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        Err(error) => Err(catalog_code(&error)),
    }
}

fn describe(node: &Node, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let leader_epoch = node.log.leader_epoch();
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: false,
        partitions: (0..topic.partitions)
            .map(|partition_index| MetadataResponsePartition {
                error_code: ErrorCode::NONE,
                partition_index,
                leader_id: NODE_ID,
                leader_epoch,
                replica_nodes: vec![NODE_ID],
                isr_nodes: vec![NODE_ID],
                offline_replicas: Vec::new(),
            })
            .collect(),
        topic_authorized_operations: operations,
    }
}
