//! OffsetFetch (9), versions 1-10: a group's offsets, of the partitions that are named or of all; from version 8 on of many
//! groups. With `require_stable`, partitions in open transactions answer UNSTABLE_OFFSET_COMMIT (KIP-447).
//!
//! A partition without an offset answers -1, no error; so does one of a topic that doesn't exist, except by id.
//! Not done: member epochs (versions 9 on), which belong to the consumer protocol of KIP-848, are not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use wire::ErrorCode;
use wire::api::offset_fetch::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use wire::api::{OffsetFetchRequest, OffsetFetchResponse};

use super::{Call, names};
use crate::group::{FetchRequest, FetchedOffset, PartitionId};
use crate::node::Node;

/// The first version with many groups.
const MANY_FROM: i16 = 8;
/// The first version with topic ids.
const IDS_FROM: i16 = 10;

/// What is asked of one topic.
struct Wanted {
    name: String,
    id: Uuid,
    partitions: Vec<i32>,
}

/// The answer of one topic.
struct Found {
    name: String,
    id: Uuid,
    partitions: Vec<(i32, Result<FetchedOffset, ErrorCode>)>,
}

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let OffsetFetchRequest { group_id, topics, groups, require_stable } = request;
    if call.version < MANY_FROM {
        let wanted = topics.map(|topics| {
            let wanted = |one: wire::api::offset_fetch::OffsetFetchRequestTopic| Wanted {
                name: one.name,
                id: Uuid::nil(),
                partitions: one.partition_indexes,
            };
            topics.into_iter().map(wanted).collect()
        });
        return match fetch(node, call, group_id, wanted, require_stable).await {
            Err(error_code) => OffsetFetchResponse { error_code, ..Default::default() },
            Ok(found) => OffsetFetchResponse {
                topics: found.into_iter().map(old_topic).collect(),
                ..Default::default()
            },
        };
    }
    let mut answers = Vec::with_capacity(groups.len());
    for group in groups {
        let wanted = group.topics.map(|topics| {
            let wanted = |one: wire::api::offset_fetch::OffsetFetchRequestTopics| Wanted {
                name: one.name,
                id: one.topic_id,
                partitions: one.partition_indexes,
            };
            topics.into_iter().map(wanted).collect()
        });
        let group_id = group.group_id;
        answers.push(match fetch(node, call, group_id.clone(), wanted, require_stable).await {
            Err(error_code) => OffsetFetchResponseGroup { group_id, error_code, topics: Vec::new() },
            Ok(found) => OffsetFetchResponseGroup {
                group_id,
                error_code: ErrorCode::NONE,
                topics: found.into_iter().map(topic).collect(),
            },
        });
    }
    OffsetFetchResponse { groups: answers, ..Default::default() }
}

async fn fetch(
    node: &Node,
    call: &Call,
    group: String,
    wanted: Option<Vec<Wanted>>,
    require_stable: bool,
) -> Result<Vec<Found>, ErrorCode> {
    let all = node.catalog.topics();
    let by_id = call.version >= IDS_FROM;
    let Some(wanted) = wanted else {
        let fetched =
            node.groups.fetch_offsets(FetchRequest { group, partitions: None, require_stable }).await?;
        let mut by_topic: BTreeMap<Uuid, Found> = BTreeMap::new();
        for one in fetched {
            // Offsets of a topic that is gone have no name to be told by.
            let Some(topic) = all.with_id(one.partition.topic) else { continue };
            by_topic
                .entry(topic.id)
                .or_insert_with(|| Found { name: topic.name.clone(), id: topic.id, partitions: Vec::new() })
                .partitions
                .push((one.partition.partition, Ok(one)));
        }
        return Ok(by_topic.into_values().collect());
    };
    let resolve = |topic: &Wanted| names::topic(&all, by_id, &topic.name, topic.id).map(|topic| topic.id);
    let partitions = wanted
        .iter()
        .filter_map(|topic| Some((resolve(topic).ok()?, topic)))
        .flat_map(|(id, topic)| {
            topic.partitions.iter().map(move |p| PartitionId { topic: id, partition: *p })
        })
        .collect();
    let fetched = node
        .groups
        .fetch_offsets(FetchRequest { group, partitions: Some(partitions), require_stable })
        .await?;
    let mut fetched: std::collections::HashMap<PartitionId, FetchedOffset> =
        fetched.into_iter().map(|one| (one.partition, one)).collect();
    Ok(wanted
        .into_iter()
        .map(|topic| {
            let id = resolve(&topic);
            let partitions = topic
                .partitions
                .iter()
                .map(|index| {
                    let offset = match id {
                        Ok(id) => {
                            let partition = PartitionId { topic: id, partition: *index };
                            Ok(fetched.remove(&partition).unwrap_or_else(|| none(partition)))
                        }
                        Err(code) if by_id => Err(code),
                        Err(_) => Ok(none(PartitionId { topic: Uuid::nil(), partition: *index })),
                    };
                    (*index, offset)
                })
                .collect();
            Found { name: topic.name, id: topic.id, partitions }
        })
        .collect())
}

fn none(partition: PartitionId) -> FetchedOffset {
    FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error: ErrorCode::NONE }
}

fn failed(partition: i32, error: ErrorCode) -> FetchedOffset {
    FetchedOffset { error, ..none(PartitionId { topic: Uuid::nil(), partition }) }
}

fn old_topic(found: Found) -> OffsetFetchResponseTopic {
    let Found { name, id: _, partitions } = found;
    let partitions = partitions
        .into_iter()
        .map(|(index, offset)| {
            let FetchedOffset { partition: _, offset, leader_epoch, metadata, error } =
                offset.unwrap_or_else(|code| failed(index, code));
            OffsetFetchResponsePartition {
                partition_index: index,
                committed_offset: offset,
                committed_leader_epoch: leader_epoch,
                metadata: Some(metadata),
                error_code: error,
            }
        })
        .collect();
    OffsetFetchResponseTopic { name, partitions }
}

fn topic(found: Found) -> OffsetFetchResponseTopics {
    let Found { name, id, partitions } = found;
    let partitions = partitions
        .into_iter()
        .map(|(index, offset)| {
            let FetchedOffset { partition: _, offset, leader_epoch, metadata, error } =
                offset.unwrap_or_else(|code| failed(index, code));
            OffsetFetchResponsePartitions {
                partition_index: index,
                committed_offset: offset,
                committed_leader_epoch: leader_epoch,
                metadata: Some(metadata),
                error_code: error,
            }
        })
        .collect();
    OffsetFetchResponseTopics { name, topic_id: id, partitions }
}
