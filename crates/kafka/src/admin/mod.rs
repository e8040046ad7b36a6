//! Topics, their settings and offsets, by requests of our own on [`wire`]: what librdkafka's binding can't do
//! must be possible here, and no client of librdkafka is started to ask a question.
//!
//! Invariants: a connection a broker, opened when needed; every call ends within the timeout; answers are bounded. A
//! request goes to the broker that can answer it (controller, leader, coordinator), and again to another one when it
//! says that it isn't that any more. An answer that says "not now" is asked again until the timeout.
//!
//! Not done: TLS and SASL (settings that ask for them are refused), ACLs, SCRAM users and quotas.

mod answers;
mod groups;
pub(crate) mod link;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use types::{TopicName, TopicPartition};
use wire::api::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    MetadataResponse, create_partitions, create_topics, describe_configs, incremental_alter_configs,
    list_offsets, metadata,
};
use wire::{ErrorCode, Request};

pub use self::answers::{
    Broker, Cluster, ConfigEntry, ListedOffset, NewTopic, OffsetSpec, PartitionDescription, TopicDescription,
};
use self::link::{Link, kind_of};
use crate::{ClientConfig, Error, Kind, Result};

/// How long a call may take, unless [`Admin::with_timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long one broker may take for one answer.
const ATTEMPT: Duration = Duration::from_secs(6);
/// Between tries.
const RETRY: Duration = Duration::from_millis(50);
/// DescribeConfigs' and IncrementalAlterConfigs' resource type of topics.
const RESOURCE_TOPIC: i8 = 2;
/// `config_source` of a value that was set on the topic (DYNAMIC_TOPIC_CONFIG).
const SOURCE_TOPIC: i8 = 1;

/// Asks and changes the engine. Cheap to clone; clones share connections. Connects when first asked.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    client: ClientConfig,
    timeout: Duration,
    /// By address. The lock is held for one question.
    links: parking_lot::Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Link>>>>>,
    cluster: RwLock<Known>,
}

/// What the last metadata said.
#[derive(Debug, Clone, Default)]
struct Known {
    brokers: HashMap<i32, String>,
    controller: Option<i32>,
}

/// Who must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Any,
    Controller,
    Broker(i32),
}

impl Admin {
    /// Without connecting. Refuses settings that ask for TLS or SASL.
    pub fn new(client: &ClientConfig) -> Result<Self> {
        // Checks the settings that all clients share.
        client.base()?;
        if let Some(protocol) = client.extra.get("security.protocol")
            && !protocol.eq_ignore_ascii_case("plaintext")
        {
            let why = "administrative requests are made over plain TCP only, so far";
            return Err(Error::config("security.protocol", protocol, why));
        }
        Ok(Self(Arc::new(Inner {
            client: client.clone(),
            timeout: TIMEOUT,
            links: parking_lot::Mutex::default(),
            cluster: RwLock::default(),
        })))
    }

    /// The same, with its own connections and another limit for a call.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            client: self.0.client.clone(),
            timeout,
            links: parking_lot::Mutex::default(),
            cluster: RwLock::default(),
        }))
    }

    /// Brokers, controller and the cluster's id: also a check that the engine answers.
    pub async fn cluster(&self) -> Result<Cluster> {
        let answer = self.metadata("describe the cluster", Some(Vec::new())).await?;
        let brokers = answer
            .brokers
            .into_iter()
            .map(|b| Broker { id: b.node_id, host: b.host, port: b.port })
            .collect();
        let controller = (answer.controller_id >= 0).then_some(answer.controller_id);
        Ok(Cluster { id: answer.cluster_id, controller, brokers })
    }

    /// All topics.
    pub async fn list_topics(&self) -> Result<Vec<TopicDescription>> {
        let answer = self.metadata("list topics", None).await?;
        Ok(answer.topics.iter().filter(|t| t.error_code.is_ok()).filter_map(TopicDescription::of).collect())
    }

    /// Those that exist.
    pub async fn describe_topics(
        &self,
        topics: &[TopicName],
    ) -> Result<BTreeMap<TopicName, TopicDescription>> {
        const WHAT: &str = "describe topics";
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answer = self.metadata(WHAT, Some(topics.to_vec())).await?;
        let mut found = BTreeMap::new();
        for topic in &answer.topics {
            match topic.error_code {
                ErrorCode::NONE => {
                    found.extend(TopicDescription::of(topic).map(|d| (d.name.clone(), d)));
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {}
                code => {
                    let what = format!("{WHAT}: {}", topic.name.as_deref().unwrap_or("?"));
                    return Err(refused(&what, code, None).at(self.address()));
                }
            }
        }
        Ok(found)
    }

    /// Waits until every partition of these topics has a leader that takes requests.
    pub async fn await_topics(&self, topics: &[TopicName], within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let found = self.describe_topics(topics).await?;
            let missing = topics.iter().find(|t| {
                found.get(*t).is_none_or(|d| {
                    d.partitions.is_empty() || d.partitions.iter().any(|p| p.leader.is_none())
                })
            });
            match missing {
                None => return Ok(()),
                Some(topic) if Instant::now() >= deadline => {
                    let what = format!("wait for topic {topic}");
                    return Err(Error::timeout(what, within).at(self.address()));
                }
                Some(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Creates topics; each has a result of its own. [`Kind::TopicExists`] may also mean that an earlier try of this
    /// call made it and its answer was lost.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<BTreeMap<TopicName, Result<()>>> {
        const WHAT: &str = "create topics";
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = CreateTopicsRequest {
            topics: topics
                .iter()
                .map(|topic| create_topics::CreatableTopic {
                    name: topic.name.to_string(),
                    num_partitions: topic.partitions.unwrap_or(-1),
                    replication_factor: topic.replication_factor.unwrap_or(-1),
                    assignments: Vec::new(),
                    configs: topic
                        .config
                        .iter()
                        .map(|(name, value)| create_topics::CreatableTopicConfig {
                            name: name.clone(),
                            value: Some(value.clone()),
                        })
                        .collect(),
                })
                .collect(),
            timeout_ms: millis(ATTEMPT),
            validate_only,
        };
        let answer = self
            .ask(WHAT, To::Controller, &request, 7, |a| a.topics.iter().map(|t| t.error_code).collect())
            .await?;
        let results = answer.topics.into_iter().map(|t| (t.name, t.error_code, t.error_message));
        Ok(self.each("create topic", results))
    }

    /// Deletes topics; each has a result of its own.
    pub async fn delete_topics(&self, topics: &[TopicName]) -> Result<BTreeMap<TopicName, Result<()>>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = DeleteTopicsRequest {
            topic_names: topics.iter().map(ToString::to_string).collect(),
            timeout_ms: millis(ATTEMPT),
            ..Default::default()
        };
        let answer = self
            .ask("delete topics", To::Controller, &request, 5, |a| {
                a.responses.iter().map(|t| t.error_code).collect()
            })
            .await?;
        let results =
            answer.responses.into_iter().map(|t| (t.name.unwrap_or_default(), t.error_code, t.error_message));
        Ok(self.each("delete topic", results))
    }

    /// Raises a topic's partitions to `total`.
    pub async fn create_partitions(&self, topic: &TopicName, total: i32) -> Result<()> {
        let request = CreatePartitionsRequest {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: topic.to_string(),
                count: total,
                assignments: None,
            }],
            timeout_ms: millis(ATTEMPT),
            validate_only: false,
        };
        let answer = self
            .ask("create partitions", To::Controller, &request, 3, |a| {
                a.results.iter().map(|t| t.error_code).collect()
            })
            .await?;
        let results = answer.results.into_iter().map(|t| (t.name, t.error_code, t.error_message));
        let what = format!("raise the partitions to {total} of topic");
        self.each(&what, results).remove(topic).unwrap_or(Ok(()))
    }

    /// Settings of topics that exist. A topic that doesn't: [`Kind::UnknownTopic`].
    pub async fn describe_configs(
        &self,
        topics: &[TopicName],
    ) -> Result<BTreeMap<TopicName, BTreeMap<String, ConfigEntry>>> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = DescribeConfigsRequest {
            resources: topics
                .iter()
                .map(|topic| describe_configs::DescribeConfigsResource {
                    resource_type: RESOURCE_TOPIC,
                    resource_name: topic.to_string(),
                    configuration_keys: None,
                })
                .collect(),
            include_synonyms: false,
            include_documentation: false,
        };
        let answer = self
            .ask("describe settings", To::Any, &request, 4, |a| {
                a.results.iter().map(|r| r.error_code).collect()
            })
            .await?;
        let mut found = BTreeMap::new();
        for result in answer.results {
            if !result.error_code.is_ok() {
                let what = format!("describe the settings of {}", result.resource_name);
                return Err(refused(&what, result.error_code, result.error_message).at(self.address()));
            }
            let entries = result.configs.into_iter().map(|c| {
                let entry = ConfigEntry {
                    value: c.value,
                    is_set_on_topic: c.config_source == SOURCE_TOPIC,
                    is_sensitive: c.is_sensitive,
                    is_read_only: c.read_only,
                };
                (c.name, entry)
            });
            if let Ok(topic) = TopicName::new(&result.resource_name) {
                found.insert(topic, entries.collect());
            }
        }
        Ok(found)
    }

    /// Sets (`Some`) or unsets (`None`) single settings of a topic; others stay.
    pub async fn alter_config(&self, topic: &TopicName, changes: &[(String, Option<String>)]) -> Result<()> {
        /// `config_operation`: SET and DELETE.
        const OPERATIONS: (i8, i8) = (0, 1);
        let request = IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs::AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: topic.to_string(),
                configs: changes
                    .iter()
                    .map(|(name, value)| incremental_alter_configs::AlterableConfig {
                        name: name.clone(),
                        config_operation: if value.is_some() { OPERATIONS.0 } else { OPERATIONS.1 },
                        value: value.clone(),
                    })
                    .collect(),
            }],
            validate_only: false,
        };
        let answer = self
            .ask("change settings", To::Controller, &request, 1, |a| {
                a.responses.iter().map(|r| r.error_code).collect()
            })
            .await?;
        let results = answer.responses.into_iter().map(|r| (r.resource_name, r.error_code, r.error_message));
        self.each("change the settings of topic", results).remove(topic).unwrap_or(Ok(()))
    }

    /// Offsets of partitions, each asked of its leader. [`OffsetSpec::Latest`] is what a read_committed reader reaches.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        const WHAT: &str = "list offsets";
        let deadline = Instant::now() + self.0.timeout;
        let mut found = BTreeMap::new();
        let mut missing: Vec<_> = asked.to_vec();
        while !missing.is_empty() {
            let mut topics: Vec<_> = missing.iter().map(|(tp, _)| tp.topic.clone()).collect();
            topics.dedup();
            let described = self.describe_topics(&topics).await?;
            let mut by_leader: HashMap<(i32, i8), Vec<(TopicPartition, OffsetSpec)>> = HashMap::new();
            let mut later = Vec::new();
            for (tp, spec) in missing {
                let partition = described
                    .get(&tp.topic)
                    .and_then(|d| d.partitions.iter().find(|p| p.partition == tp.partition))
                    .ok_or_else(|| {
                        Error::new(Kind::UnknownTopic, format!("{WHAT} of {tp}"), "no such partition")
                            .at(self.address())
                    })?;
                match partition.leader {
                    Some(leader) => by_leader.entry((leader, spec.isolation())).or_default().push((tp, spec)),
                    None => later.push((tp, spec)),
                }
            }
            for ((leader, isolation), asked) in by_leader {
                later.extend(self.ask_offsets(leader, isolation, asked, &mut found).await?);
            }
            missing = later;
            if !missing.is_empty() {
                if Instant::now() >= deadline {
                    let what = format!("{WHAT} of {}: no leader", missing[0].0);
                    return Err(Error::timeout(what, self.0.timeout).at(self.address()));
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        Ok(found)
    }

    /// Asks one leader. Returns those that it doesn't lead any more.
    async fn ask_offsets(
        &self,
        leader: i32,
        isolation_level: i8,
        asked: Vec<(TopicPartition, OffsetSpec)>,
        found: &mut BTreeMap<TopicPartition, ListedOffset>,
    ) -> Result<Vec<(TopicPartition, OffsetSpec)>> {
        const WHAT: &str = "list offsets";
        let mut topics: BTreeMap<TopicName, Vec<list_offsets::ListOffsetsPartition>> = BTreeMap::new();
        for (tp, spec) in &asked {
            topics.entry(tp.topic.clone()).or_default().push(list_offsets::ListOffsetsPartition {
                partition_index: tp.partition,
                current_leader_epoch: -1,
                timestamp: spec.timestamp(),
            });
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level,
            topics: topics
                .into_iter()
                .map(|(name, partitions)| list_offsets::ListOffsetsTopic {
                    name: name.to_string(),
                    partitions,
                })
                .collect(),
            timeout_ms: millis(ATTEMPT),
        };
        // Codes are judged below, a partition at a time.
        let answer = self.ask(WHAT, To::Broker(leader), &request, 7, |_| Vec::new()).await?;
        let mut again = Vec::new();
        let specs: HashMap<_, _> = asked.into_iter().collect();
        for topic in answer.topics {
            let Ok(name) = TopicName::new(&topic.name) else { continue };
            for partition in topic.partitions {
                let tp = TopicPartition::new(name.clone(), partition.partition_index);
                match partition.error_code {
                    ErrorCode::NONE => {
                        let listed =
                            ListedOffset { offset: partition.offset, timestamp_ms: partition.timestamp };
                        found.insert(tp, listed);
                    }
                    code if is_transient(code) || code == ErrorCode::OFFSET_NOT_AVAILABLE => {
                        again.extend(specs.get(&tp).map(|spec| (tp, *spec)));
                    }
                    code => return Err(refused(&format!("{WHAT} of {tp}"), code, None).at(self.address())),
                }
            }
        }
        Ok(again)
    }

    fn address(&self) -> &str {
        &self.0.client.bootstrap
    }

    /// Asks for topics (`None`: all) and remembers the brokers.
    pub(crate) async fn metadata(
        &self,
        what: &str,
        topics: Option<Vec<TopicName>>,
    ) -> Result<MetadataResponse> {
        let request = MetadataRequest {
            topics: topics.map(|topics| {
                topics
                    .iter()
                    .map(|t| metadata::MetadataRequestTopic {
                        name: Some(t.to_string()),
                        ..Default::default()
                    })
                    .collect()
            }),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.ask(what, To::Any, &request, 12, |_| Vec::new()).await?;
        *self.0.cluster.write() = Known {
            brokers: answer.brokers.iter().map(|b| (b.node_id, format!("{}:{}", b.host, b.port))).collect(),
            controller: (answer.controller_id >= 0).then_some(answer.controller_id),
        };
        Ok(answer)
    }

    /// A producer id and epoch that nobody else has.
    pub(crate) async fn new_producer_id(&self) -> Result<(i64, i16)> {
        const WHAT: &str = "ask for a producer id";
        let request = InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
        let answer = self.ask(WHAT, To::Any, &request, 5, |a| vec![a.error_code]).await?;
        match answer.error_code {
            ErrorCode::NONE => Ok((answer.producer_id, answer.producer_epoch)),
            code => Err(refused(WHAT, code, None).at(self.address())),
        }
    }

    /// Asks until an answer comes that isn't "not now" or "not I", at most for the timeout.
    async fn ask<R: Request>(
        &self,
        what: &str,
        to: To,
        request: &R,
        version_max: i16,
        codes: impl Fn(&R::Response) -> Vec<ErrorCode>,
    ) -> Result<R::Response> {
        let deadline = Instant::now() + self.0.timeout;
        let mut last: Option<Error> = None;
        for attempt in 0usize.. {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                break;
            }
            let once = self.ask_once(to, attempt, request, version_max);
            let within = remaining.min(ATTEMPT);
            match tokio::time::timeout(within, once).await {
                Err(_) => last = Some(Error::timeout(what, within)),
                Ok(Err(error)) if error.is_unavailable() => last = Some(error),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(answer)) => match codes(&answer).into_iter().find(|code| is_transient(*code)) {
                    None => return Ok(answer),
                    Some(code) if Instant::now() + RETRY >= deadline => {
                        return Err(refused(what, code, None).at(self.address()));
                    }
                    Some(_) => {}
                },
            }
            tokio::time::sleep(RETRY).await;
            if to == To::Controller {
                // Another one may be the controller now.
                self.0.cluster.write().controller = None;
            }
        }
        let timeout = Error::timeout(what, self.0.timeout).at(self.address());
        Err(match last {
            Some(error) => timeout.because(&error.to_string()),
            None => timeout,
        })
    }

    async fn ask_once<R: Request>(
        &self,
        to: To,
        attempt: usize,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response> {
        let address = match to {
            To::Any => self.bootstrap(attempt),
            To::Controller => match self.controller_address() {
                Some(address) => address,
                None => {
                    let ask = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
                    let answer = self.on(&self.bootstrap(attempt), &ask, 12).await?;
                    let brokers: HashMap<_, _> = answer
                        .brokers
                        .iter()
                        .map(|b| (b.node_id, format!("{}:{}", b.host, b.port)))
                        .collect();
                    let controller = (answer.controller_id >= 0).then_some(answer.controller_id);
                    *self.0.cluster.write() = Known { brokers, controller };
                    self.controller_address().unwrap_or_else(|| self.bootstrap(attempt))
                }
            },
            To::Broker(id) => self.0.cluster.read().brokers.get(&id).cloned().ok_or_else(|| {
                Error::new(Kind::Unreachable, R::NAME, format!("broker {id} isn't known")).at(self.address())
            })?,
        };
        self.on(&address, request, version_max).await
    }

    fn controller_address(&self) -> Option<String> {
        let known = self.0.cluster.read();
        known.controller.and_then(|id| known.brokers.get(&id).cloned())
    }

    /// The bootstrap servers in turn.
    fn bootstrap(&self, attempt: usize) -> String {
        let servers: Vec<&str> =
            self.0.client.bootstrap.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
        let server = servers.get(attempt % servers.len().max(1)).copied().unwrap_or_default();
        // Kafka's tools take an address without a port for 9092.
        if server.rsplit_once(':').is_some() { server.to_owned() } else { format!("{server}:9092") }
    }

    /// Asks a broker over its connection, opening one if there is none. A connection that was idle may be dead: that is
    /// found out by asking, and asked again over a new one.
    async fn on<R: Request>(&self, address: &str, request: &R, version_max: i16) -> Result<R::Response> {
        let slot = self.0.links.lock().entry(address.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(mut link) = slot.take()
            && let Ok(answer) = link.ask(request, version_max).await
        {
            *slot = Some(link);
            return Ok(answer);
        }
        let mut link = Link::open(address, &self.0.client.client_id).await?;
        let answer = link.ask(request, version_max).await?;
        *slot = Some(link);
        Ok(answer)
    }

    fn each(
        &self,
        what: &str,
        results: impl Iterator<Item = (String, ErrorCode, Option<String>)>,
    ) -> BTreeMap<TopicName, Result<()>> {
        results
            .filter_map(|(name, code, message)| {
                let result = match code {
                    ErrorCode::NONE => Ok(()),
                    code => Err(refused(&format!("{what} {name}"), code, message).at(self.address())),
                };
                Some((TopicName::new(&name).ok()?, result))
            })
            .collect()
    }
}

fn millis(d: Duration) -> i32 {
    i32::try_from(d.as_millis()).unwrap_or(i32::MAX)
}

/// Answers that another try, maybe of another broker, may better.
fn is_transient(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_CONTROLLER
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::UNSTABLE_OFFSET_COMMIT
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
    )
}

/// The engine's no.
pub(crate) fn refused(what: &str, code: ErrorCode, message: Option<String>) -> Error {
    let detail = match message.filter(|m| !m.is_empty()) {
        Some(message) => format!("{code}: {message}"),
        None => code.to_string(),
    };
    Error::new(kind_of(code), what, detail).with_code(code.0).retriable(is_transient(code))
}
