//! A group's offsets: read, and moved while nobody is in the group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use types::{Offset, TopicName, TopicPartition};
use wire::api::{
    FindCoordinatorRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, offset_commit,
    offset_fetch,
};
use wire::{ErrorCode, Request};

use super::{Admin, RETRY, To, is_transient, refused};
use crate::{Committed, Error, Kind, Result};

/// Groups whose offsets are asked for, to find those that read a topic.
const GROUPS_ASKED_MAX: usize = 1_000;

impl Admin {
    /// Groups that have committed offsets of a topic: who read it, and will read what comes. Of the first thousand groups.
    pub async fn groups_reading(&self, topic: &TopicName) -> Result<BTreeSet<String>> {
        const WHAT: &str = "list groups";
        let mut groups = BTreeSet::new();
        for broker in self.cluster().await?.brokers {
            let request = ListGroupsRequest::default();
            let answer = self.ask(WHAT, To::Broker(broker.id), &request, 4, |a| vec![a.error_code]).await?;
            if !answer.error_code.is_ok() {
                return Err(refused(WHAT, answer.error_code, None).at(self.address()));
            }
            groups.extend(answer.groups.into_iter().map(|group| group.group_id));
        }
        let mut reading = BTreeSet::new();
        for group in groups.into_iter().take(GROUPS_ASKED_MAX) {
            if self.group_offsets(&group).await?.keys().any(|tp| tp.topic == *topic) {
                reading.insert(group);
            }
        }
        Ok(reading)
    }

    /// What a group has committed, of all partitions. A group that doesn't exist has nothing.
    pub async fn group_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        let what = format!("read the offsets of group {group}");
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: None,
            require_stable: true,
            ..Default::default()
        };
        let (answer, code) = self
            .ask_coordinator(&what, group, &request, |answer| {
                let partitions = answer.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code));
                std::iter::once(answer.error_code).chain(partitions).collect()
            })
            .await?;
        match code {
            None => Ok(committed(answer.topics)),
            Some(code) => Err(refused(&what, code, None).at(self.address())),
        }
    }

    /// Moves a group's offsets, with empty metadata; others stay. Nobody may be in the group: else it is
    /// [`Kind::GroupInUse`], and nothing is changed. A static member is in it until its session is over.
    pub async fn alter_group_offsets(&self, group: &str, offsets: &[(TopicPartition, Offset)]) -> Result<()> {
        let what = format!("move the offsets of group {group}");
        if offsets.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&TopicName, Vec<offset_commit::OffsetCommitRequestPartition>> =
            BTreeMap::new();
        for (tp, offset) in offsets {
            topics.entry(&tp.topic).or_default().push(offset_commit::OffsetCommitRequestPartition {
                partition_index: tp.partition,
                committed_offset: *offset,
                committed_leader_epoch: -1,
                committed_metadata: Some(String::new()),
            });
        }
        // Without a member and a generation: what an empty group takes from anybody.
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: topics
                .into_iter()
                .map(|(name, partitions)| offset_commit::OffsetCommitRequestTopic {
                    name: name.to_string(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let (_, code) = self
            .ask_coordinator(&what, group, &request, |answer| {
                answer.topics.iter().flat_map(|t| t.partitions.iter().map(|p| p.error_code)).collect()
            })
            .await?;
        match code {
            None => Ok(()),
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::REBALANCE_IN_PROGRESS) => {
                let why = "somebody is in the group";
                Err(Error::new(Kind::GroupInUse, what, why).at(self.address()))
            }
            Some(code) => Err(refused(&what, code, None).at(self.address())),
        }
    }

    /// Asks the group's coordinator, and again while it says "not now" or "not I", at most for the timeout. The first
    /// code of its last answer that is an error comes with it.
    async fn ask_coordinator<R: Request>(
        &self,
        what: &str,
        group: &str,
        request: &R,
        codes: impl Fn(&R::Response) -> Vec<ErrorCode>,
    ) -> Result<(R::Response, Option<ErrorCode>)> {
        let deadline = Instant::now() + self.0.timeout;
        loop {
            let coordinator = self.coordinator(group).await?;
            let answer = self.ask(what, To::Broker(coordinator), request, 7, |_| Vec::new()).await?;
            match codes(&answer).into_iter().find(|code| !code.is_ok()) {
                Some(code) if is_transient(code) && Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                code => return Ok((answer, code)),
            }
        }
    }

    async fn coordinator(&self, group: &str) -> Result<i32> {
        let what = format!("find the coordinator of group {group}");
        let request = FindCoordinatorRequest { key: group.to_owned(), ..Default::default() };
        let answer = self.ask(&what, To::Any, &request, 3, |a| vec![a.error_code]).await?;
        if !answer.error_code.is_ok() {
            return Err(refused(&what, answer.error_code, answer.error_message).at(self.address()));
        }
        self.0.cluster.write().brokers.insert(answer.node_id, format!("{}:{}", answer.host, answer.port));
        Ok(answer.node_id)
    }
}

fn committed(topics: Vec<offset_fetch::OffsetFetchResponseTopic>) -> BTreeMap<TopicPartition, Committed> {
    let mut found = BTreeMap::new();
    for topic in topics {
        let Ok(name) = TopicName::new(&topic.name) else { continue };
        for p in topic.partitions.into_iter().filter(|p| p.committed_offset >= 0) {
            let committed =
                Committed { offset: p.committed_offset as Offset, metadata: p.metadata.unwrap_or_default() };
            found.insert(TopicPartition::new(name.clone(), p.partition_index), committed);
        }
    }
    found
}
