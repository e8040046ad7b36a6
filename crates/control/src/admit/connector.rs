//! Connectors: topics are the workspace's, references are allowed, and the config is what the plugin takes.
//!
//! A value with a reference in it isn't known here: only the process that uses it can check it.

use std::collections::{BTreeMap, BTreeSet};

use connect::config::TaskConfig;
use resources::reference::Secret;
use resources::{ConnectorSpec, Problems};
use types::StageKind;

use super::Admission;
use crate::Error;

impl Admission<'_> {
    pub(super) async fn connector(
        &self,
        connector: &ConnectorSpec,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        for (i, topic) in connector.topics.iter().enumerate() {
            self.may_use(&format!("/spec/topics/{i}"), topic, problems).await?;
        }
        self.system_topics(StageKind::Connector, "/spec/topics", "", &connector.topics, problems).await?;
        self.plugin(connector, problems);
        if let Some(allowed) = &self.rules.references {
            for (key, reference) in connector.references() {
                if !allowed.allow(&reference) {
                    problems.add(
                        pointer(key),
                        "reference_not_allowed",
                        format!(
                            "{reference} isn't allowed in workspace {}: its spec.references says what is",
                            self.workspace
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    fn plugin(&self, connector: &ConnectorSpec, problems: &mut Problems) {
        let Some(factory) = self.sinks.iter().find(|sink| sink.plugin() == connector.plugin) else {
            let known: Vec<&str> = self.sinks.iter().map(|sink| sink.plugin()).collect();
            let known = known.join(", ");
            problems.add(
                "/spec/plugin",
                "not_found",
                format!("there is no such plugin; plugins are {known}"),
            );
            return;
        };
        let unknown: BTreeSet<&str> = connector.references().into_iter().map(|(key, _)| key).collect();
        let config: BTreeMap<String, Secret> =
            connector.config.iter().map(|(key, value)| (key.clone(), Secret::new(value.clone()))).collect();
        let mut found = TaskConfig::parse(&config, factory.keys()).err().unwrap_or_default();
        found.extend(factory.create(&config).err().unwrap_or_default());
        for problem in found.into_iter().filter(|problem| !unknown.contains(problem.key.as_str())) {
            problems.add(pointer(&problem.key), "config_invalid", problem.message);
        }
    }
}

fn pointer(key: &str) -> String {
    format!("/spec/config/{}", key.replace('~', "~0").replace('/', "~1"))
}
