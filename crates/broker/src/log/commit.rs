//! Frames of several ops: all of them become durable and visible, or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::append::{Decision, Part};
use super::batch::RawBatch;
use super::config::{MAX_FRAME_BYTES, PartitionConfig};
use super::error::AppendError;
use super::frame::FrameBuf;
use super::partition::Partition;
use super::wal::Advance;
use super::{AppendInfo, Log, Outcome, Position};

enum Op {
    Part(Arc<Partition>, Part),
    Entry { machine: u8, bytes: Vec<u8> },
    Create { topic_id: Uuid, count: i32, config: PartitionConfig },
    Configure { topic_id: Uuid, config: PartitionConfig },
    Drop { topic_id: Uuid },
}

/// Ops that become durable together, as one frame. Nothing happens before [`FrameBuilder::commit`].
#[must_use = "nothing happens before commit"]
pub struct FrameBuilder<'a> {
    log: &'a Log,
    ops: Vec<Op>,
}

impl<'a> FrameBuilder<'a> {
    pub(super) fn new(log: &'a Log) -> Self {
        Self { log, ops: Vec::new() }
    }

    fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Appends a batch, as [`Partition::append`]. At most one batch or marker a partition in one frame.
    pub fn append_batch(self, partition: &Arc<Partition>, batch: RawBatch) -> Self {
        self.with(Op::Part(Arc::clone(partition), Part::Batch(batch)))
    }

    /// Ends a producer's transaction in a partition. A partition where it has none gets the marker too, and its epoch.
    pub fn append_marker(
        self,
        partition: &Arc<Partition>,
        producer_id: i64,
        producer_epoch: i16,
        outcome: Outcome,
        coordinator_epoch: i32,
    ) -> Self {
        let part = Part::Marker { producer_id, producer_epoch, outcome, coordinator_epoch };
        self.with(Op::Part(Arc::clone(partition), part))
    }

    /// Adds an entry of a state machine.
    pub fn entry(self, machine: u8, bytes: &[u8]) -> Self {
        self.with(Op::Entry { machine, bytes: bytes.to_vec() })
    }

    /// Creates partitions `0..count` of a topic, as far as they don't exist (a new topic, or CreatePartitions; then the topic
    /// keeps its configuration). Put the catalog's entry into the same frame: replay brings both back, in order.
    pub fn create_partitions(self, topic_id: Uuid, count: i32, config: PartitionConfig) -> Self {
        self.with(Op::Create { topic_id, count, config })
    }

    /// Changes a topic's configuration.
    pub fn configure(self, topic_id: Uuid, config: PartitionConfig) -> Self {
        self.with(Op::Configure { topic_id, config })
    }

    /// Drops a topic: its partitions answer `Dropped` at once, its files go with the next checkpoint.
    pub fn drop_topic(self, topic_id: Uuid) -> Self {
        self.with(Op::Drop { topic_id })
    }

    /// Queues the frame: all of it, or nothing where a part is refused. The infos are of batches and markers, in their order.
    /// Only frames with batches are refused as `Busy`.
    ///
    /// # Errors
    /// The first batch or marker that was refused, or the state of the log.
    pub fn commit(self) -> Result<(Vec<AppendInfo>, Position), AppendError> {
        let inner = &self.log.inner;
        let wal = &inner.shared.wal;
        let capacity = |op: &Op| match op {
            Op::Part(_, Part::Batch(batch)) => batch.bytes().len() + 32,
            Op::Entry { bytes, .. } => bytes.len() + 16,
            _ => 192,
        };
        let capacity = self.ops.iter().map(capacity).sum();
        let has_batch = self.ops.iter().any(|op| matches!(op, Op::Part(_, Part::Batch(_))));
        if has_batch {
            wal.admit(capacity)?;
        } else if let Some(error) = wal.halted() {
            return Err(AppendError::Storage(error));
        }
        if capacity > MAX_FRAME_BYTES {
            return Err(AppendError::FrameTooLarge { bytes: capacity, max: MAX_FRAME_BYTES });
        }

        let changes_table = self
            .ops
            .iter()
            .any(|op| matches!(op, Op::Create { .. } | Op::Configure { .. } | Op::Drop { .. }));
        let mut table = changes_table.then(|| inner.table.change());

        // Every partition that the frame writes, or stops writers of: in the one order in which locks are taken.
        let mut touched: BTreeMap<(Uuid, i32), Arc<Partition>> = BTreeMap::new();
        for op in &self.ops {
            if let Op::Part(partition, _) = op {
                let (topic_id, index) = (partition.topic_id, partition.index);
                if touched.insert((topic_id, index), Arc::clone(partition)).is_some() {
                    return Err(AppendError::PartitionTwice { topic_id, partition: index });
                }
            }
        }
        for op in &self.ops {
            if let (Op::Drop { topic_id }, Some(table)) = (op, &table)
                && let Some(topic) = table.get(*topic_id)
            {
                for partition in &topic.partitions {
                    touched.insert((*topic_id, partition.index), Arc::clone(partition));
                }
            }
        }
        let writers: Vec<_> = touched.values().map(|partition| partition.writer.lock()).collect();

        let mut frame = FrameBuf::with_capacity(capacity);
        let mut decisions = Vec::new();
        for op in &self.ops {
            match op {
                Op::Part(partition, part) => {
                    decisions.push((Arc::clone(partition), partition.prepare(part, &mut frame)?));
                }
                Op::Entry { machine, bytes } => frame.entry(*machine, bytes),
                Op::Create { topic_id, count, config } => frame.create(*topic_id, *count, config),
                Op::Configure { topic_id, config } => frame.configure(*topic_id, config),
                Op::Drop { topic_id } => frame.drop_topic(*topic_id),
            }
        }

        let mut states: BTreeMap<(Uuid, i32), _> =
            touched.iter().map(|(key, partition)| (*key, partition.state.lock())).collect();
        let mut position = Position::default();
        if !frame.is_empty() {
            let written = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Append(_)));
            let written = written.map(|(partition, _)| Arc::clone(partition) as Arc<dyn Advance>).collect();
            position = wal.enqueue(frame, written);
        }
        let mut infos = Vec::with_capacity(decisions.len());
        for (partition, decision) in decisions {
            let info = match decision {
                Decision::Duplicate(info) => info,
                Decision::Append(prepared) => {
                    let state = states
                        .get_mut(&(partition.topic_id, partition.index))
                        .expect("every part's partition was put into `touched` above");
                    partition.accept(state, prepared, position)
                }
            };
            position = position.max(info.position);
            infos.push(info);
        }
        drop(states);
        if let Some(mut table) = table.take() {
            for op in &self.ops {
                match op {
                    Op::Part(..) | Op::Entry { .. } => {}
                    Op::Create { topic_id, count, config } => {
                        table.create(&inner.shared, *topic_id, *count, config);
                    }
                    Op::Configure { topic_id, config } => table.configure(*topic_id, config),
                    Op::Drop { topic_id } => table.drop_topic(&inner.shared, *topic_id),
                }
            }
            table.publish(position.0);
        }
        // Writers of a dropped topic see `dropped` when they get their lock.
        drop(writers);
        Ok((infos, position))
    }
}
