//! IncrementalAlterConfigs (44), versions 0-1: sets, deletes, appends to or subtracts from single settings of a topic.
//! Answered when durable; a resource's changes are all made or none.
//!
//! Not done: the broker's settings can't be changed while it runs; they are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use wire::api::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Call;
use super::alter_configs::{change, only_topics};
use super::describe_configs::TOPIC;
use crate::catalog::{ConfigError, definitions};
use crate::node::Node;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) async fn handle(
    node: &Arc<Node>,
    _: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let IncrementalAlterConfigsRequest { resources, validate_only } = request;
    let mut responses = Vec::with_capacity(resources.len());
    for AlterConfigsResource { resource_type, resource_name, configs } in resources {
        let (error_code, error_message) = if resource_type == TOPIC {
            change(node, &resource_name, validate_only, |given| {
                configs.into_iter().try_for_each(|config| apply(given, config))
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
    IncrementalAlterConfigsResponse { responses, ..Default::default() }
}

fn apply(given: &mut BTreeMap<String, String>, change: AlterableConfig) -> Result<(), ConfigError> {
    let AlterableConfig { name, config_operation, value } = change;
    let bad = |reason: &str, value: Option<String>| ConfigError {
        name: name.clone(),
        value: value.unwrap_or_else(|| "null".to_owned()),
        reason: reason.to_owned(),
    };
    let Some(definition) = definitions().iter().find(|definition| definition.name == name) else {
        return Err(bad("there is no such setting", value));
    };
    match config_operation {
        DELETE => {
            given.remove(&name);
        }
        SET => {
            let value = value.ok_or_else(|| bad("a value must be given", None))?;
            given.insert(name, value);
        }
        APPEND | SUBTRACT => {
            if !matches!(definition.kind, crate::catalog::Kind::List(_)) {
                return Err(bad("it is no list: nothing can be appended or subtracted", value));
            }
            let value = value.ok_or_else(|| bad("a value must be given", None))?;
            let now = given.get(&name).map_or(definition.default, String::as_str);
            let mut words: Vec<&str> =
                now.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
            for word in value.split(',').map(str::trim) {
                words.retain(|have| *have != word);
                if config_operation == APPEND {
                    words.push(word);
                }
            }
            let words = words.join(",");
            given.insert(name, words);
        }
        other => return Err(bad(&format!("operation {other} is none of 0 to 3"), value)),
    }
    Ok(())
}
