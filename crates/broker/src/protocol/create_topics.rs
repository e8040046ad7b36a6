//! CreateTopics (19), versions 2-7. Answered when all topics of the request are durable.
//!
//! A replication factor above 1 becomes 1, so that manifests for a cluster work here too (the answer says 1). Manual
//! assignments must name this broker only, for partitions 0 to n-1.
//!
//! Not done: the timeout isn't looked at, as nothing here waits for other brokers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tracing::{info, warn};
use wire::ErrorCode;
use wire::api::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use wire::api::{CreateTopicsRequest, CreateTopicsResponse};

use super::Call;
use super::describe_configs::{SOURCE_DEFAULT, SOURCE_TOPIC};
use crate::catalog::{self, Topic, definitions};
use crate::log::Position;
use crate::node::{NODE_ID, Node, catalog_code, chain};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let CreateTopicsRequest { topics, timeout_ms: _, validate_only } = request;
    let mut count: HashMap<String, usize> = HashMap::new();
    for topic in &topics {
        *count.entry(topic.name.clone()).or_default() += 1;
    }
    let mut last = Position::default();
    let mut results = Vec::with_capacity(topics.len());
    for wanted in topics {
        let name = wanted.name.clone();
        let created = if count.get(&name).is_some_and(|count| *count > 1) {
            Err((ErrorCode::INVALID_REQUEST, format!("topic '{name}' stands in the request twice")))
        } else {
            create(node, call, wanted, validate_only)
        };
        results.push(match created {
            Ok((topic, position)) => {
                last = last.max(position);
                created_result(&topic)
            }
            Err((error_code, message)) => CreatableTopicResult {
                name,
                error_code,
                error_message: Some(message),
                // Versions before 5 have none, and null is what Kafka says with an error.
                configs: None,
                ..Default::default()
            },
        });
    }
    if let Err(error) = node.log.synced(last).await {
        warn!(error = %chain(&error), "topics were not created");
        for result in results.iter_mut().filter(|result| result.error_code.is_ok()) {
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
            result.error_message = Some(chain(&error));
        }
    }
    CreateTopicsResponse { topics: results, ..Default::default() }
}

fn create(
    node: &Node,
    call: &Call,
    wanted: CreatableTopic,
    validate_only: bool,
) -> Result<(Arc<Topic>, Position), (ErrorCode, String)> {
    let CreatableTopic { name, num_partitions, replication_factor, assignments, configs } = wanted;
    let partitions = if assignments.is_empty() {
        match num_partitions {
            -1 => node.config.partitions_default,
            count => count,
        }
    } else {
        if num_partitions != -1 || replication_factor != -1 {
            let message =
                "assignments stand beside a partition count or replication factor: leave those at -1";
            return Err((ErrorCode::INVALID_REQUEST, message.to_owned()));
        }
        let mut indexes: Vec<i32> = assignments.iter().map(|one| one.partition_index).collect();
        indexes.sort_unstable();
        let whole = indexes.iter().zip(0..).all(|(index, place)| *index == place);
        if !whole || assignments.iter().any(|one| one.broker_ids != [NODE_ID]) {
            let message = format!("assignments must name broker {NODE_ID} alone, for partitions 0 to n-1");
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
        i32::try_from(assignments.len()).unwrap_or(i32::MAX)
    };
    match replication_factor {
        -1 | 1 => {}
        2.. => info!(topic = name, replication_factor, "one broker: the topic gets replication factor 1"),
        _ => {
            let message = format!("replication factor {replication_factor}: it must be 1 or more, or -1");
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
    }
    let mut config = BTreeMap::new();
    for given in configs {
        match given.value {
            Some(value) => {
                config.insert(given.name, value);
            }
            None => {
                let message = format!("topic setting {} is null: leave it out for its default", given.name);
                return Err((ErrorCode::INVALID_CONFIG, message));
            }
        }
    }
    let created = node.catalog.create(&name, partitions, config, validate_only);
    created.map_err(|error: catalog::Error| (catalog_code(&error), chain(&error))).inspect(|(topic, _)| {
        if !validate_only {
            info!(topic = topic.name, partitions, id = %topic.id, client = call.client_id, "topic created");
        }
    })
}

fn created_result(topic: &Topic) -> CreatableTopicResult {
    let configs = definitions()
        .iter()
        .map(|definition| {
            let given = topic.config.get(definition.name);
            CreatableTopicConfigs {
                name: definition.name.to_owned(),
                value: Some(given.cloned().unwrap_or_else(|| definition.default.to_owned())),
                read_only: false,
                config_source: if given.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT },
                is_sensitive: false,
            }
        })
        .collect();
    CreatableTopicResult {
        name: topic.name.clone(),
        topic_id: topic.id,
        num_partitions: topic.partitions,
        replication_factor: 1,
        configs: Some(configs),
        ..Default::default()
    }
}
