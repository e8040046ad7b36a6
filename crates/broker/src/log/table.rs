//! Which partitions there are. The log keeps this table itself, with frames of its own: so appends, creations and drops are
//! in one order, and recovery needs no other part of the broker to know where a batch belongs.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::config::PartitionConfig;
use super::partition::{Doomed, Partition, Shared, wake};

/// A topic's partitions, by index.
#[derive(Clone)]
pub(super) struct Topic {
    pub(super) config: Arc<PartitionConfig>,
    pub(super) partitions: Vec<Arc<Partition>>,
}

pub(super) type Topics = HashMap<Uuid, Arc<Topic>>;

#[derive(Default)]
pub(super) struct Table {
    /// Read without a lock.
    current: ArcSwap<Topics>,
    /// Taken to change it; holds the position of the last change.
    change: Mutex<u64>,
}

/// A table that is being changed.
pub(super) struct TableChange<'a> {
    table: &'a Table,
    position: MutexGuard<'a, u64>,
    topics: Topics,
}

impl Table {
    pub(super) fn load(&self) -> Arc<Topics> {
        self.current.load_full()
    }

    pub(super) fn partition(&self, topic_id: Uuid, index: i32) -> Option<Arc<Partition>> {
        let topics = self.current.load();
        topics.get(&topic_id)?.partitions.get(usize::try_from(index).ok()?).cloned()
    }

    /// The table and the position up to which it has all changes.
    pub(super) fn snapshot(&self) -> (Arc<Topics>, u64) {
        let position = self.change.lock();
        (self.current.load_full(), *position)
    }

    pub(super) fn change(&self) -> TableChange<'_> {
        let position = self.change.lock();
        TableChange { table: self, topics: Topics::clone(&self.current.load()), position }
    }
}

impl TableChange<'_> {
    /// The position of the last change before this.
    pub(super) fn position(&self) -> u64 {
        *self.position
    }

    pub(super) fn get(&self, topic_id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(&topic_id)
    }

    pub(super) fn insert(&mut self, topic_id: Uuid, topic: Topic) {
        self.topics.insert(topic_id, Arc::new(topic));
    }

    /// Partitions `0..count`, as far as they're missing. A topic that exists keeps its configuration.
    pub(super) fn create(
        &mut self,
        shared: &Arc<Shared>,
        topic_id: Uuid,
        count: i32,
        config: &PartitionConfig,
    ) {
        let mut topic = match self.topics.get(&topic_id) {
            Some(topic) => Topic::clone(topic),
            None => Topic { config: Arc::new(config.clone()), partitions: Vec::new() },
        };
        for index in i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)..count {
            let config = Arc::clone(&topic.config);
            topic.partitions.push(Partition::new(Arc::clone(shared), topic_id, index, config));
        }
        self.insert(topic_id, topic);
    }

    /// Gives a topic's partitions another configuration. Takes their state locks one by one.
    pub(super) fn configure(&mut self, topic_id: Uuid, config: &PartitionConfig) {
        let Some(topic) = self.topics.get(&topic_id) else { return };
        let config = Arc::new(config.clone());
        for partition in &topic.partitions {
            partition.state.lock().config = Arc::clone(&config);
        }
        let partitions = topic.partitions.clone();
        self.insert(topic_id, Topic { config, partitions });
    }

    /// Takes a topic out; its files go with the next checkpoint. Takes the partitions' state locks one by one.
    pub(super) fn drop_topic(&mut self, shared: &Shared, topic_id: Uuid) {
        let Some(topic) = self.topics.remove(&topic_id) else { return };
        for partition in &topic.partitions {
            let waiters = {
                let mut state = partition.state.lock();
                state.dropped = true;
                state.take_waiters()
            };
            wake(waiters);
        }
        shared.doom([Doomed::Dir(shared.topic_dir(topic_id))]);
    }

    /// Shows the table to all, as of `position`.
    pub(super) fn publish(mut self, position: u64) {
        *self.position = position;
        self.table.current.store(Arc::new(self.topics));
    }
}
