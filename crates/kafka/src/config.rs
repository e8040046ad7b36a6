//! How every client reaches the engine, and the limits that keep an idle one small.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::config::RDKafkaLogLevel;

use crate::Error;
use crate::context::Quiet;

/// Where the engine is and who asks. One value serves every client of a process.
#[derive(Clone, Default)]
pub struct ClientConfig {
    /// `host:port`, several between commas.
    pub bootstrap: String,
    /// Names the client in the broker's logs, quotas and metrics.
    pub client_id: String,
    /// librdkafka settings as they stand in its CONFIGURATION.md (`security.protocol`, `sasl.*`, `ssl.*`, ...). What
    /// this crate's guarantees rest on (`acks`, `enable.idempotence`, `isolation.level`, ...) can't be overridden here.
    pub extra: BTreeMap<String, String>,
    /// Shared by all clones: clients of one engine don't all warn of the same thing.
    pub(crate) quiet: Arc<Quiet>,
}

/// Settings that decide what the clients promise: `extra` naming one of them is refused.
const FIXED: [&str; 16] = [
    "acks",
    "request.required.acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "transactional.id",
];

impl ClientConfig {
    /// Without further settings.
    pub fn new(bootstrap: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            client_id: client_id.into(),
            extra: BTreeMap::new(),
            quiet: Arc::default(),
        }
    }

    /// The same engine under another client id: `<client_id>.<suffix>`.
    pub fn named(&self, suffix: &str) -> Self {
        Self { client_id: format!("{}.{suffix}", self.client_id), ..self.clone() }
    }

    /// What all kinds of clients share.
    pub(crate) fn base(&self) -> Result<rdkafka::ClientConfig, Error> {
        if self.bootstrap.trim().is_empty() {
            return Err(Error::config("kafka.bootstrap", "", "it is empty; say host:port"));
        }
        let mut config = rdkafka::ClientConfig::new();
        for (name, value) in &self.extra {
            if FIXED.contains(&name.as_str()) {
                return Err(Error::config(name, value, "this setting is fixed by Vltava's guarantees"));
            }
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            // An engine that was away for a minute is found again within a second, not after librdkafka's 10.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "1000")
            // A topic that was just made is seen soon; a topic that isn't there is known soon.
            .set("topic.metadata.refresh.fast.interval.ms", "100")
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("metadata.max.age.ms", "60000")
            .set("allow.auto.create.topics", "false")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            // Idle connections of a broker that sheds them are no news.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Values may be passwords: names only.
        struct Names<'a>(&'a BTreeMap<String, String>);
        impl fmt::Debug for Names<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.0.keys()).finish()
            }
        }
        let Self { bootstrap, client_id, extra, quiet: _ } = self;
        f.debug_struct("ClientConfig")
            .field("bootstrap", bootstrap)
            .field("client_id", client_id)
            .field("extra", &Names(extra))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_values_of_settings() {
        let mut config = ClientConfig::new("h:9092", "c");
        config.extra.insert("sasl.password".into(), "hunter2".into());
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn guarantees_are_not_settings() {
        let mut config = ClientConfig::new("h:9092", "c");
        config.extra.insert("acks".into(), "0".into());
        let error = config.base().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("acks"), "{error}");
        assert!(ClientConfig::new(" ", "c").base().is_err());
    }
}
