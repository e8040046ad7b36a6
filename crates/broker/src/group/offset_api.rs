//! Offsets of groups: commit, fetch, delete, transactions, retention. Invariant: no answer speaks of an offset
//! that isn't durable yet: commits wait for the sync of their own entry, fetches for that of what they read.

use std::collections::{BTreeSet, HashSet};

use parking_lot::MutexGuard;
use uuid::Uuid;
use wire::ErrorCode;

use super::coordinator::Groups;
use super::journal::{Outcome, PartitionId, Position};
use super::offsets::{Committed, OffsetMap};
use super::persist;
use super::request::{
    CommitRequest, FetchRequest, FetchedOffset, GroupState, OffsetToCommit, PartitionCode, TxnCommitRequest,
};
use super::state::{Context, Group};
use super::subscription;

impl Groups {
    /// OffsetCommit, of members and of simple consumers (which create the group). One answer a partition.
    ///
    /// # Errors
    /// What concerns the whole request; the protocol answers it for each partition.
    pub async fn commit_offsets(&self, request: CommitRequest) -> Result<Vec<PartitionCode>, ErrorCode> {
        let CommitRequest { group, member, retention_ms, offsets } = request;
        let (codes, position) = self.with(
            &group,
            member.generation < 0,
            ErrorCode::ILLEGAL_GENERATION,
            |group, cx| -> Result<_, ErrorCode> {
                group.check_commit(cx, &member, offsets.iter().map(|one| one.partition), false)?;
                let (codes, map) = self.accept(group, cx, offsets, retention_ms);
                if map.is_empty() {
                    return Ok((codes, None));
                }
                let entry = persist::committed_entry(&group.id, &map);
                let position = group.write(cx, entry);
                group.offsets.committed.extend(map);
                Ok((codes, Some(position)))
            },
        )??;
        self.settle(position).await?;
        Ok(codes)
    }

    /// Takes offsets into a transaction. Called by `txn` under the transaction's lock; the answer goes out when
    /// the position is durable.
    pub(crate) fn add_pending(
        &self,
        request: TxnCommitRequest,
    ) -> Result<(Vec<PartitionCode>, Option<Position>), ErrorCode> {
        let TxnCommitRequest { group, member, producer_id, offsets } = request;
        self.with(&group, member.generation < 0, ErrorCode::ILLEGAL_GENERATION, |group, cx| {
            group.check_commit(cx, &member, offsets.iter().map(|one| one.partition), true)?;
            let (codes, map) = self.accept(group, cx, offsets, None);
            if map.is_empty() {
                return Ok((codes, None));
            }
            let weight: usize = map.values().map(Committed::weight).sum();
            if group.offsets.pending_bytes(producer_id) + weight > self.config.pending_bytes_max {
                return Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
            }
            let entry = persist::pending_entry(&group.id, producer_id, &map);
            let position = group.write(cx, entry);
            group.offsets.add_pending(producer_id, map);
            Ok((codes, Some(position)))
        })?
    }

    /// Sorts out what is over a limit.
    fn accept(
        &self,
        group: &Group,
        cx: &Context<'_>,
        offsets: Vec<OffsetToCommit>,
        retention_ms: Option<i64>,
    ) -> (Vec<PartitionCode>, OffsetMap) {
        let at_ms = cx.clock.now_ms();
        let expires_ms = retention_ms.filter(|ms| *ms >= 0).map(|ms| at_ms.saturating_add(ms));
        let full = group.offsets.count_with(offsets.len()) > self.config.offsets_max;
        let mut codes = Vec::with_capacity(offsets.len());
        let mut map = OffsetMap::new();
        for OffsetToCommit { partition, offset, leader_epoch, metadata } in offsets {
            // At the limit only what replaces an offset is taken.
            if full && !group.offsets.committed.contains_key(&partition) {
                codes.push((partition, ErrorCode::POLICY_VIOLATION));
            } else if metadata.len() > self.config.offset_metadata_bytes_max {
                codes.push((partition, ErrorCode::OFFSET_METADATA_TOO_LARGE));
            } else {
                codes.push((partition, ErrorCode::NONE));
                map.insert(partition, Committed { offset, leader_epoch, metadata, at_ms, expires_ms });
            }
        }
        (codes, map)
    }

    /// OffsetFetch of one group. A group or partition without an offset answers -1 and no error.
    ///
    /// # Errors
    /// What concerns the whole group.
    pub async fn fetch_offsets(&self, request: FetchRequest) -> Result<Vec<FetchedOffset>, ErrorCode> {
        let FetchRequest { group, partitions, require_stable } = request;
        let Some(cell) = self.find(&group) else {
            self.journal()?;
            return Ok(partitions.into_iter().flatten().map(no_offset).collect());
        };
        let (fetched, position) = {
            let group = cell.lock();
            let offsets = &group.offsets;
            let partitions = partitions.unwrap_or_else(|| {
                let pending = offsets.pending.values().flat_map(|map| map.keys());
                let all: BTreeSet<&PartitionId> = match require_stable {
                    true => offsets.committed.keys().chain(pending).collect(),
                    false => offsets.committed.keys().collect(),
                };
                all.into_iter().copied().collect()
            });
            let fetched: Vec<FetchedOffset> = partitions
                .into_iter()
                .map(|partition| {
                    if require_stable && offsets.unstable(&partition) {
                        return FetchedOffset {
                            error: ErrorCode::UNSTABLE_OFFSET_COMMIT,
                            ..no_offset(partition)
                        };
                    }
                    match offsets.committed.get(&partition) {
                        None => no_offset(partition),
                        Some(Committed { offset, leader_epoch, metadata, .. }) => FetchedOffset {
                            partition,
                            offset: *offset,
                            leader_epoch: *leader_epoch,
                            metadata: metadata.clone(),
                            error: ErrorCode::NONE,
                        },
                    }
                })
                .collect();
            (fetched, group.position)
        };
        self.settle(position).await?;
        Ok(fetched)
    }

    /// OffsetDelete: (topic name, partition), because a member's subscription names topics.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`; `NON_EMPTY_GROUP` where the members' subscriptions can't be read.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[(String, PartitionId)],
    ) -> Result<Vec<PartitionCode>, ErrorCode> {
        let deleted = self.with(group, false, ErrorCode::GROUP_ID_NOT_FOUND, |group, cx| {
            let subscribed = match group.state {
                GroupState::Empty => HashSet::new(),
                _ => subscription::topics_of(group).ok_or(ErrorCode::NON_EMPTY_GROUP)?,
            };
            let code = |topic: &str| match subscribed.contains(topic) {
                true => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                false => ErrorCode::NONE,
            };
            let codes: Vec<PartitionCode> =
                partitions.iter().map(|(topic, partition)| (*partition, code(topic))).collect();
            let gone: Vec<PartitionId> = codes
                .iter()
                .filter(|(_, code)| *code == ErrorCode::NONE)
                .map(|(partition, _)| *partition)
                .collect();
            if gone.is_empty() {
                return Ok((codes, None));
            }
            let entry = persist::removed_offsets_entry(&group.id, &gone);
            let position = group.write(cx, entry);
            group.offsets.remove(&gone);
            Ok((codes, Some(position)))
        });
        let (codes, position) = deleted??;
        self.settle(position).await?;
        Ok(codes)
    }

    /// A topic was deleted: its offsets go too. Its id never comes back, so this only frees memory, and nobody
    /// needs to wait for it.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` before [`Groups::attach`].
    pub fn forget_topic(&self, topic: Uuid) -> Result<(), ErrorCode> {
        let journal = self.journal()?;
        let cx = self.context(journal);
        for cell in self.cells() {
            let mut group = cell.lock();
            if group.state != GroupState::Dead && group.offsets.has_topic(topic) {
                let entry = persist::topic_forgotten_entry(&group.id, topic);
                group.write(&cx, entry);
                group.offsets.forget_topic(topic);
            }
        }
        Ok(())
    }

    /// The end of a transaction, in the groups whose offsets are in it: `write` gets the journal entries (to put
    /// them into the frame that ends the transaction), and only if it succeeds is the end applied. The groups
    /// stay locked meanwhile, so nobody sees one half.
    pub(crate) fn end_transaction<E>(
        &self,
        groups: &BTreeSet<String>,
        producer_id: i64,
        outcome: Outcome,
        write: impl FnOnce(Vec<Vec<u8>>) -> Result<Position, E>,
    ) -> Result<Position, E> {
        // In the order of their names, as every end of a transaction takes them: no two can wait for each other.
        let cells: Vec<_> = groups.iter().filter_map(|group| self.find(group)).collect();
        let mut locked: Vec<MutexGuard<'_, Group>> = cells.iter().map(|cell| cell.lock()).collect();
        locked.retain(|group| group.offsets.pending.contains_key(&producer_id));
        let ended: Vec<OffsetMap> =
            locked.iter().map(|group| group.offsets.outcome_of(producer_id, outcome)).collect();
        let entries = locked
            .iter()
            .zip(&ended)
            .map(|(group, offsets)| persist::transaction_ended_entry(&group.id, producer_id, offsets));
        let position = write(entries.collect())?;
        for (group, offsets) in locked.iter_mut().zip(ended) {
            group.offsets.end_transaction(producer_id, offsets);
            group.position = Some(position);
        }
        Ok(position)
    }

    /// Drops offsets whose retention is over, and groups that have neither members nor offsets.
    pub(super) fn expire_offsets(&self) {
        let Ok(journal) = self.journal() else { return };
        let cx = self.context(journal);
        for cell in self.cells() {
            let mut group = cell.lock();
            if group.state == GroupState::Dead {
                continue;
            }
            let expired = self.expired(&group);
            if !expired.is_empty() {
                tracing::info!(group = %group.id, offsets = expired.len(), "offsets expired");
                let entry = persist::removed_offsets_entry(&group.id, &expired);
                group.write(&cx, entry);
                group.offsets.remove(&expired);
            }
            let unused =
                group.state == GroupState::Empty && group.offsets.is_empty() && group.pending.is_empty();
            if unused {
                self.remove_locked(&cx, &mut group);
                drop(group);
                self.forget(&cell);
            }
        }
    }

    fn expired(&self, group: &Group) -> Vec<PartitionId> {
        let now_ms = self.clock.now_ms();
        let retention_ms = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let simple = group.protocol_type.is_none();
        // With members, only what none of them subscribes to any more may go; topics are known by id here and by
        // name there, so such offsets stay until the group is empty or they are deleted.
        if group.state != GroupState::Empty {
            return Vec::new();
        }
        let is_over = |committed: &Committed| match committed.expires_ms {
            Some(expires_ms) => expires_ms <= now_ms,
            None => {
                let from_ms =
                    if simple { committed.at_ms } else { committed.at_ms.max(group.empty_since_ms) };
                from_ms.saturating_add(retention_ms) <= now_ms
            }
        };
        group
            .offsets
            .committed
            .iter()
            .filter(|(partition, committed)| is_over(committed) && !group.offsets.unstable(partition))
            .map(|(partition, _)| *partition)
            .collect()
    }
}

fn no_offset(partition: PartitionId) -> FetchedOffset {
    FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error: ErrorCode::NONE }
}
