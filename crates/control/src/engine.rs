//! How the reconciler reaches the engine: as much of its administration as topics need.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::BoxFuture;
use types::TopicName;

pub use kafka::NewTopic;

/// A topic as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineTopic {
    /// How many.
    pub partitions: i32,
    /// Every setting in force, defaults included.
    pub config: BTreeMap<String, String>,
    /// The names of those that are set on the topic itself.
    pub set: Vec<String>,
}

/// What the engine said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// For people; names what was tried.
    pub message: String,
    /// The topic exists already.
    pub exists: bool,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

impl From<kafka::Error> for EngineError {
    fn from(error: kafka::Error) -> Self {
        Self { exists: *error.kind() == kafka::Kind::TopicExists, message: error.to_string() }
    }
}

/// What became of each topic that was to be created.
pub type Created = BTreeMap<TopicName, Result<(), EngineError>>;

/// The engine's topics. Called by the reconciler, one call at a time; an error ends its pass, which begins
/// again after a pause.
pub trait Engine: Send + Sync + 'static {
    /// All topics but the engine's own (`__*`).
    fn topics(&self) -> BoxFuture<'_, Result<BTreeMap<TopicName, EngineTopic>, EngineError>>;

    /// Creates them, and waits until they can be used. The answer of each by its name.
    fn create<'a>(&'a self, topics: &'a [NewTopic]) -> BoxFuture<'a, Result<Created, EngineError>>;

    /// Grows a topic to so many partitions.
    fn grow<'a>(&'a self, topic: &'a TopicName, partitions: i32) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Sets settings of a topic, or takes them back to their default.
    fn configure<'a>(
        &'a self,
        topic: &'a TopicName,
        changes: &'a [(String, Option<String>)],
    ) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// The engine by Kafka's protocol: the embedded broker and Apache Kafka alike.
#[derive(Clone)]
pub struct KafkaEngine {
    admin: kafka::Admin,
}

/// How long created topics may take to be usable.
const USABLE_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

impl fmt::Debug for KafkaEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaEngine")
    }
}

impl KafkaEngine {
    /// Over a client.
    pub fn new(admin: kafka::Admin) -> Self {
        Self { admin }
    }
}

impl Engine for KafkaEngine {
    fn topics(&self) -> BoxFuture<'_, Result<BTreeMap<TopicName, EngineTopic>, EngineError>> {
        Box::pin(async move {
            let described = self.admin.list_topics().await?;
            let own =
                |topic: &kafka::TopicDescription| topic.internal || topic.name.as_str().starts_with("__");
            let described: Vec<_> = described.into_iter().filter(|topic| !own(topic)).collect();
            let names: Vec<TopicName> = described.iter().map(|topic| topic.name.clone()).collect();
            let mut configs = self.admin.describe_configs(&names).await?;
            let mut topics = BTreeMap::new();
            for topic in described {
                let mut found = EngineTopic {
                    partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                    ..EngineTopic::default()
                };
                // Deleted between the two questions: it isn't there any more.
                let Some(entries) = configs.remove(&topic.name) else { continue };
                for (name, entry) in entries {
                    if entry.is_set_on_topic {
                        found.set.push(name.clone());
                    }
                    if let Some(value) = entry.value {
                        found.config.insert(name, value);
                    }
                }
                topics.insert(topic.name, found);
            }
            Ok(topics)
        })
    }

    fn create<'a>(&'a self, topics: &'a [NewTopic]) -> BoxFuture<'a, Result<Created, EngineError>> {
        Box::pin(async move {
            let answers = self.admin.create_topics(topics, false).await?;
            let made: Vec<TopicName> =
                answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(name, _)| name.clone()).collect();
            self.admin.await_topics(&made, USABLE_WITHIN).await?;
            Ok(answers.into_iter().map(|(name, answer)| (name, answer.map_err(EngineError::from))).collect())
        })
    }

    fn grow<'a>(&'a self, topic: &'a TopicName, partitions: i32) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { Ok(self.admin.create_partitions(topic, partitions).await?) })
    }

    fn configure<'a>(
        &'a self,
        topic: &'a TopicName,
        changes: &'a [(String, Option<String>)],
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { Ok(self.admin.alter_config(topic, changes).await?) })
    }
}
