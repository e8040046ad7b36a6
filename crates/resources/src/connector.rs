//! The Connector: topics that a plugin delivers. Its shape and its config's are Kafka Connect's.
//!
//! Invariant: a config value that is a secret is a reference (`${env:NAME}`, `${file:PATH}`), never the secret
//! itself. So nothing that stores, lists or shows a connector has a secret to hide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::TopicName;

use crate::decode::At;
use crate::pipeline::SOURCES_MAX;
use crate::problem::{Problems, child};
use crate::reference::{Reference, Template, is_sensitive};
use crate::topic::CONFIG_ENTRIES_MAX;

/// Tasks of one connector.
pub const TASKS_MAX: u16 = 64;

/// The longest config value, in bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 64 << 10;

/// What a connector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectorSpec {
    /// `http-sink`.
    pub plugin: String,
    /// What it delivers; at least one.
    pub topics: Vec<TopicName>,
    /// From 1.
    #[serde(default = "one")]
    pub tasks_max: u16,
    /// The plugin's own, which the plugin checks; references are unresolved.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

fn one() -> u16 {
    1
}

impl ConnectorSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let plugin =
            object.required("plugin", problems).and_then(|at| at.some_text(100, problems)).map(String::from);
        let topics = object.required("topics", problems).and_then(|at| {
            let list = at.list(SOURCES_MAX, problems)?;
            if list.is_empty() {
                problems.invalid(at.pointer.clone(), "can't be empty: a connector needs a topic");
            }
            let mut topics = Vec::new();
            let mut seen = BTreeSet::new();
            for at in &list {
                let Some(topic) = at.parsed(problems, TopicName::for_caller) else { continue };
                if !seen.insert(topic.clone()) {
                    problems.add(at.pointer.clone(), "duplicate", format!("{topic} is given twice"));
                }
                topics.push(topic);
            }
            Some(topics)
        });
        let tasks_max = object
            .field("tasksMax")
            .and_then(|at| at.integer(1, TASKS_MAX.into(), problems))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(1);
        let config = object.field("config").and_then(|at| {
            let config = at.scalars(CONFIG_ENTRIES_MAX, problems)?;
            for (name, value) in &config {
                check_value(&child(&at.pointer, name), name, value, problems);
            }
            Some(config)
        });
        object.finish(problems);
        Some(Self { plugin: plugin?, topics: topics?, tasks_max, config: config.unwrap_or_default() })
    }

    /// All references of the config, each with its key.
    pub fn references(&self) -> Vec<(&str, Reference)> {
        let mut references = Vec::new();
        for (key, value) in &self.config {
            if let Ok(template) = Template::parse(value) {
                references.extend(template.references().map(|reference| (key.as_str(), reference.clone())));
            }
        }
        references
    }
}

fn check_value(pointer: &str, name: &str, value: &str, problems: &mut Problems) {
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        problems.invalid(
            pointer,
            format!("has {} bytes, but at most {CONFIG_VALUE_BYTES_MAX} are allowed", value.len()),
        );
        return;
    }
    let template = match Template::parse(value) {
        Ok(template) => template,
        Err(error) => {
            problems.invalid(pointer, error);
            return;
        }
    };
    let way_out = "use ${env:NAME} or ${file:PATH}, so that the value itself is stored nowhere";
    // A word before it, as in `Bearer ${env:TOKEN}`, is no secret.
    if is_sensitive(name) && !value.is_empty() && template.references().next().is_none() {
        problems.add(pointer, "literal_secret", format!("{name} is a secret: {way_out}"));
    }
    if has_password(value) && template.references().next().is_none() {
        problems.add(pointer, "literal_secret", format!("{name} is a URL with a password in it: {way_out}"));
    }
}

/// Whether a text is a URL with `user:password@`.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(value: &serde_json::Value) -> Result<ConnectorSpec, Problems> {
        let mut problems = Problems::new();
        let spec = ConnectorSpec::decode(&At { value, pointer: "/spec".into() }, &mut problems);
        problems.or(spec)
    }

    #[test]
    fn config_values_are_strings_and_secrets_are_references() {
        let spec = decode(&json!({
            "plugin": "http-sink",
            "topics": ["a"],
            "config": {"http.url": "http://127.0.0.1:9/x", "http.timeout.ms": 500,
                       "http.signing.secret": "${file:/run/secrets/signing}"},
        }))
        .unwrap();
        assert_eq!(spec.config["http.timeout.ms"], "500");
        assert_eq!(
            spec.references(),
            [("http.signing.secret", Reference::File("/run/secrets/signing".into()))]
        );
    }

    #[test]
    fn literal_secrets_are_refused_and_not_shown() {
        let problems = decode(&json!({
            "plugin": "http-sink",
            "topics": [],
            "config": {"http.signing.secret": "whsec_hunter2", "http.url": "https://u:hunter2@example.com/",
                       "x": "${vault:hunter1}", "http.header.authorization": "Bearer ${env:T}"},
        }))
        .unwrap_err();
        let text = problems.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(problems.len(), 4, "{text}");
        assert_eq!(problems.iter().filter(|p| p.code == "literal_secret").count(), 2);
    }
}
