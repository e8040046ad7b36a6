//! The catalog: topics by name and id, how many partitions they have, how they are configured.
//!
//! Invariant: a topic's id is made once and never used again; a topic that is deleted and made anew under its name is
//! another topic. A change is one frame of the log together with the partitions it creates, configures or drops, so that
//! catalog and partitions can't disagree after a crash. Reads take no lock.

mod topic_config;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::{AppendError, Log, Machine, MachineError, Position};
pub use topic_config::{ConfigError, Definition, Kind, TopicConfig, definitions};

/// The catalog's number in the log's frames.
pub const CATALOG_MACHINE: u8 = 1;
/// The version of the catalog's entries and snapshot.
const FORMAT: u32 = 1;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id, for life.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Settings that were given, in their text form; the others have their defaults.
    pub config: BTreeMap<String, String>,
}

/// All topics at one moment.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    partitions: usize,
}

impl Topics {
    /// By name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    /// By id.
    #[must_use]
    pub fn with_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Partitions of all topics together.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    fn put(&mut self, topic: Topic) {
        self.remove(topic.id);
        self.partitions += topic.partitions.unsigned_abs() as usize;
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, id: Uuid) {
        if let Some(old) = self.by_id.remove(&id) {
            self.partitions -= old.partitions.unsigned_abs() as usize;
            // The name may be another topic's by now.
            if self.by_name.get(&old.name).is_some_and(|topic| topic.id == id) {
                self.by_name.remove(&old.name);
            }
        }
    }
}

#[cfg(test)]
impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(all: I) -> Self {
        let mut topics = Self::default();
        all.into_iter().for_each(|topic| topics.put(topic));
        topics
    }
}

/// An entry in the log: absolute values, so that replaying it twice changes nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Put { format: u32, topic: Topic },
    Delete { format: u32, id: Uuid },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    topics: Vec<Topic>,
}

/// Why the catalog refuses a change.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is a topic of that name.
    #[error("topic '{0}' already exists")]
    Exists(String),
    /// There is no such topic.
    #[error("topic '{0}' does not exist")]
    Unknown(String),
    /// The name breaks Kafka's rules.
    #[error("topic name '{name}' is invalid: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The rule.
        reason: String,
    },
    /// A number of partitions that can't be.
    #[error("partitions {count}: {reason}")]
    Partitions {
        /// The number.
        count: i32,
        /// The rule.
        reason: String,
    },
    /// A setting that can't be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log takes no writes.
    #[error("the catalog's change could not be stored")]
    Storage(#[source] Arc<AppendError>),
}

/// The catalog. See the module's docs.
pub struct Catalog {
    topics: ArcSwap<Topics>,
    /// Held over a change and the queueing of its frame, so that frames stand in the order of changes.
    changing: Mutex<()>,
    log: OnceLock<Weak<Log>>,
    partitions_max: usize,
}

impl Catalog {
    /// An empty catalog; the log restores it.
    #[must_use]
    pub fn new(partitions_max: usize) -> Self {
        Self { topics: ArcSwap::default(), changing: Mutex::new(()), log: OnceLock::new(), partitions_max }
    }

    /// Ties the catalog to its log, after the log has restored it.
    pub fn attach(&self, log: &Arc<Log>) {
        // A second call would name the same log: there is one.
        let _ = self.log.set(Arc::downgrade(log));
    }

    /// The topics as they are now.
    #[must_use]
    pub fn topics(&self) -> Arc<Topics> {
        self.topics.load_full()
    }

    fn log(&self) -> Result<Arc<Log>, Error> {
        let closed = || Error::Storage(Arc::new(AppendError::Storage(crate::log::Error::Closed)));
        self.log.get().and_then(Weak::upgrade).ok_or_else(closed)
    }

    fn change(&self, apply: impl FnOnce(&mut Topics)) {
        let mut topics = Topics::clone(&self.topics.load());
        apply(&mut topics);
        self.topics.store(Arc::new(topics));
    }

    fn room_for(&self, topics: &Topics, count: i32, more: i32) -> Result<(), Error> {
        let wanted = topics.partitions + more.unsigned_abs() as usize;
        if wanted > self.partitions_max {
            return Err(Error::Partitions {
                count,
                reason: format!(
                    "all topics together would have {wanted} partitions, the broker's limit is {}",
                    self.partitions_max
                ),
            });
        }
        Ok(())
    }

    /// Creates a topic, or with `validate_only` says whether it could be. The position is when it is durable.
    ///
    /// # Errors
    /// Name, partitions or settings are refused, the name is taken, or the log takes no writes.
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        config: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(Arc<Topic>, Position), Error> {
        let reason = |e: types::TopicNameError| Error::Name { name: name.to_owned(), reason: e.to_string() };
        types::TopicName::new(name).map_err(reason)?;
        if partitions < 1 {
            return Err(Error::Partitions {
                count: partitions,
                reason: "a topic needs at least 1".to_owned(),
            });
        }
        let settings = TopicConfig::parse(&config)?;
        let log = self.log()?;
        let _changing = self.changing.lock();
        let topics = self.topics.load();
        if topics.named(name).is_some() {
            return Err(Error::Exists(name.to_owned()));
        }
        // Kafka's metrics write '.' as '_': two topics that differ only there would share theirs.
        let plain = |name: &str| name.replace('.', "_");
        if let Some(other) = (name.contains(['.', '_']))
            .then(|| topics.iter().find(|other| plain(&other.name) == plain(name)))
            .flatten()
        {
            return Err(Error::Name {
                name: name.to_owned(),
                reason: format!("it differs from topic '{}' only in '.' and '_'", other.name),
            });
        }
        self.room_for(&topics, partitions, partitions)?;
        let topic = Topic { id: Uuid::new_v4(), name: name.to_owned(), partitions, config };
        if validate_only {
            return Ok((Arc::new(topic), Position::default()));
        }
        let entry = encode(&Entry::Put { format: FORMAT, topic: topic.clone() });
        let (_, position) = log
            .frame()
            .create_partitions(topic.id, partitions, settings.partition)
            .entry(CATALOG_MACHINE, &entry)
            .commit()
            .map_err(|e| Error::Storage(Arc::new(e)))?;
        self.change(|topics| topics.put(topic.clone()));
        Ok((Arc::new(topic), position))
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    /// There is none, or the log takes no writes.
    pub fn delete(&self, id: Uuid) -> Result<Position, Error> {
        let log = self.log()?;
        let _changing = self.changing.lock();
        if self.topics.load().with_id(id).is_none() {
            return Err(Error::Unknown(id.to_string()));
        }
        let entry = encode(&Entry::Delete { format: FORMAT, id });
        let (_, position) = log
            .frame()
            .entry(CATALOG_MACHINE, &entry)
            .drop_topic(id)
            .commit()
            .map_err(|e| Error::Storage(Arc::new(e)))?;
        self.change(|topics| topics.remove(id));
        Ok(position)
    }

    /// Raises a topic's number of partitions to `count`.
    ///
    /// # Errors
    /// There is no such topic, it has as many or more, or the log takes no writes.
    pub fn grow(&self, name: &str, count: i32, validate_only: bool) -> Result<Position, Error> {
        let log = self.log()?;
        let _changing = self.changing.lock();
        let topics = self.topics.load();
        let topic = topics.named(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        if count <= topic.partitions {
            return Err(Error::Partitions {
                count,
                reason: format!(
                    "topic '{name}' has {} already, and partitions can only be added",
                    topic.partitions
                ),
            });
        }
        self.room_for(&topics, count, count - topic.partitions)?;
        if validate_only {
            return Ok(Position::default());
        }
        let grown = Topic { partitions: count, ..Topic::clone(topic) };
        let settings = TopicConfig::parse(&grown.config)?;
        let entry = encode(&Entry::Put { format: FORMAT, topic: grown.clone() });
        let (_, position) = log
            .frame()
            .create_partitions(grown.id, count, settings.partition)
            .entry(CATALOG_MACHINE, &entry)
            .commit()
            .map_err(|e| Error::Storage(Arc::new(e)))?;
        self.change(|topics| topics.put(grown));
        Ok(position)
    }

    /// Changes a topic's settings: `change` gets the ones that were given.
    ///
    /// # Errors
    /// There is no such topic, the settings are refused, or the log takes no writes.
    pub fn configure(
        &self,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ConfigError>,
    ) -> Result<Position, Error> {
        let log = self.log()?;
        let _changing = self.changing.lock();
        let topics = self.topics.load();
        let topic = topics.named(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
        let mut changed = Topic::clone(topic);
        change(&mut changed.config)?;
        let settings = TopicConfig::parse(&changed.config)?;
        if validate_only {
            return Ok(Position::default());
        }
        let entry = encode(&Entry::Put { format: FORMAT, topic: changed.clone() });
        let (_, position) = log
            .frame()
            .configure(changed.id, settings.partition)
            .entry(CATALOG_MACHINE, &entry)
            .commit()
            .map_err(|e| Error::Storage(Arc::new(e)))?;
        self.change(|topics| topics.put(changed));
        Ok(position)
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    serde_json::to_vec(entry).expect("an entry has text keys only, which JSON can write")
}

fn newer(format: u32) -> MachineError {
    format!("the catalog has format {format}, this program knows up to {FORMAT}").into()
}

impl Machine for Catalog {
    fn id(&self) -> u8 {
        CATALOG_MACHINE
    }

    fn snapshot(&self) -> Vec<u8> {
        let _changing = self.changing.lock();
        let topics = self.topics.load().iter().map(|topic| Topic::clone(topic)).collect();
        serde_json::to_vec(&Snapshot { format: FORMAT, topics })
            .expect("topics have text keys only, which JSON can write")
    }

    fn restore(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        let Snapshot { format, topics: all } = serde_json::from_slice(snapshot)?;
        if format > FORMAT {
            return Err(newer(format));
        }
        self.change(|topics| all.into_iter().for_each(|topic| topics.put(topic)));
        Ok(())
    }

    fn replay(&self, entry: &[u8]) -> Result<(), MachineError> {
        match serde_json::from_slice(entry)? {
            Entry::Put { format, .. } | Entry::Delete { format, .. } if format > FORMAT => {
                return Err(newer(format));
            }
            Entry::Put { topic, .. } => self.change(|topics| topics.put(topic)),
            Entry::Delete { id, .. } => self.change(|topics| topics.remove(id)),
        }
        Ok(())
    }
}
