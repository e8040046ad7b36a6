//! DescribeConfigs (32), versions 1-4: a topic's settings, given or default, and a few of the broker's.
//!
//! The broker's settings are read-only here: they come from its configuration file. Not done: synonyms beyond the setting
//! itself, and documentation texts (null).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use wire::api::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::Call;
use crate::catalog::{Topic, definitions};
use crate::log::Flush;
use crate::node::{NODE_ID, Node};

/// Resource types.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
/// Where a value comes from: given for the topic.
pub(super) const SOURCE_TOPIC: i8 = 1;
/// From the broker's configuration file.
const SOURCE_STATIC: i8 = 4;
/// It is the default.
pub(super) const SOURCE_DEFAULT: i8 = 5;
/// Types of the broker's settings.
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let DescribeConfigsRequest { resources, include_synonyms: _, include_documentation: _ } = request;
    let results = resources
        .into_iter()
        .map(|DescribeConfigsResource { resource_type, resource_name, configuration_keys }| {
            let described = match resource_type {
                TOPIC => match node.catalog.topics().named(&resource_name) {
                    Some(topic) => Ok(of_topic(topic)),
                    None => Err((
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        format!("topic '{resource_name}' does not exist"),
                    )),
                },
                BROKER if resource_name.is_empty() => Ok(Vec::new()),
                BROKER if resource_name == NODE_ID.to_string() => Ok(of_broker(node)),
                BROKER => Err((
                    ErrorCode::INVALID_REQUEST,
                    format!("broker '{resource_name}' is not here, this is broker {NODE_ID}"),
                )),
                other => Err((
                    ErrorCode::INVALID_REQUEST,
                    format!("resource type {other}: only topics (2) and brokers (4) have settings here"),
                )),
            };
            match described {
                Ok(mut configs) => {
                    if let Some(wanted) = configuration_keys {
                        configs.retain(|config| wanted.contains(&config.name));
                    }
                    DescribeConfigsResult { resource_type, resource_name, configs, ..Default::default() }
                }
                Err((error_code, message)) => DescribeConfigsResult {
                    error_code,
                    error_message: Some(message),
                    resource_type,
                    resource_name,
                    configs: Vec::new(),
                },
            }
        })
        .collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

fn of_topic(topic: &Topic) -> Vec<DescribeConfigsResourceResult> {
    definitions()
        .iter()
        .map(|definition| {
            let given = topic.config.get(definition.name);
            DescribeConfigsResourceResult {
                name: definition.name.to_owned(),
                value: Some(given.cloned().unwrap_or_else(|| definition.default.to_owned())),
                config_source: if given.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT },
                config_type: definition.kind.number(),
                ..Default::default()
            }
        })
        .collect()
}

fn of_broker(node: &Node) -> Vec<DescribeConfigsResourceResult> {
    let config = &node.config;
    let flush = match config.flush {
        Flush::Sync => "sync",
        Flush::Os => "os",
    };
    [
        ("auto.create.topics.enable", config.auto_create_topics.to_string(), BOOLEAN),
        ("broker.id", NODE_ID.to_string(), INT),
        (
            "group.initial.rebalance.delay.ms",
            config.group_initial_rebalance_delay.as_millis().to_string(),
            INT,
        ),
        ("node.id", NODE_ID.to_string(), INT),
        ("num.partitions", config.partitions_default.to_string(), INT),
        ("transaction.max.timeout.ms", config.transaction_timeout_max.as_millis().to_string(), INT),
        ("connections.max.idle.ms", config.limits.idle_max.as_millis().to_string(), LONG),
        ("fetch.max.bytes", config.limits.fetch_bytes_max.to_string(), INT),
        ("max.connections", config.limits.connections_max.to_string(), INT),
        ("socket.request.max.bytes", config.limits.produce_frame_bytes_max.to_string(), INT),
        ("vltava.flush", flush.to_owned(), STRING),
    ]
    .into_iter()
    .map(|(name, value, config_type)| DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value),
        read_only: true,
        config_source: SOURCE_STATIC,
        config_type,
        ..Default::default()
    })
    .collect()
}
