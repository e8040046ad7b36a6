//! One file per API key. Each file's header says its versions, its behaviour, and what is not done.
//!
//! Invariant: what ApiVersions advertises is the table here, and the table is what is served: a version that isn't in it
//! never reaches a handler.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod names;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use wire::api::*;
use wire::header::response_frame;
use wire::{ApiKey, ErrorKind, Message, Reader};

use crate::node::Node;
use crate::server::Refusal;

/// Who asks what.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The API's version.
    pub(crate) version: i16,
    /// Comes back with the answer.
    pub(crate) correlation_id: i32,
    /// The client's name for itself.
    pub(crate) client_id: String,
    /// Where it is.
    pub(crate) peer: SocketAddr,
    /// Which of the broker's addresses it connected to.
    pub(crate) local: SocketAddr,
}

impl Call {
    fn frame<M: Message>(&self, response: &M) -> Result<Bytes, wire::Error> {
        response_frame(self.version, self.correlation_id, response)
    }
}

/// A frame that is ready, with what it holds until it is sent.
pub(crate) type Ready = (Bytes, Option<OwnedSemaphorePermit>);

/// What becomes of a request once it has taken effect.
pub(crate) enum Reply {
    /// Nothing is sent (Produce with acks=0).
    None,
    /// This is sent.
    Now(Bytes),
    /// This is awaited, then sent: durability, or a long poll.
    Later(BoxFuture<'static, Result<Ready, wire::Error>>),
}

/// An API and the versions of it that are served.
pub(crate) struct Served {
    pub(crate) api: ApiKey,
    pub(crate) first: i16,
    pub(crate) last: i16,
}

macro_rules! serve {
    (
        later { $($later:ident $lf:literal..=$ll:literal => $lmodule:ident: $lrequest:ident;)* }
        now { $($api:ident $first:literal..=$last:literal => $module:ident: $request:ident;)* }
    ) => {
        /// What is served, and so advertised.
        pub(crate) static SERVED: &[Served] = &[
            $(Served { api: ApiKey::$later, first: $lf, last: $ll },)*
            $(Served { api: ApiKey::$api, first: $first, last: $last },)*
        ];

        /// Begins a request: when this returns, it has taken effect; its answer may be still to come.
        ///
        /// # Errors
        /// When the connection must be closed, because the protocol has no answer for what was sent.
        pub(crate) async fn begin(node: &Arc<Node>, api: ApiKey, call: Call, mut reader: Reader) -> Result<Reply, Refusal> {
            let served = SERVED.iter().find(|served| served.api == api);
            let version = call.version;
            if !served.is_some_and(|served| (served.first..=served.last).contains(&version)) {
                if api == ApiKey::ApiVersions {
                    return Ok(Reply::Now(api_versions::unknown_version(&call)?));
                }
                let error = wire::Error::from(ErrorKind::Version(version)).at(api.name());
                return Err(Refusal::Malformed(error));
            }
            match api {
                $(ApiKey::$later => {
                    let request = $lrequest::read(&mut reader, version)?;
                    $lmodule::begin(node, call, request).await
                })*
                $(ApiKey::$api => {
                    let request = $request::read(&mut reader, version)?;
                    let response = $module::handle(node, &call, request).await;
                    Ok(Reply::Now(call.frame(&response)?))
                })*
                other => Err(Refusal::Malformed(wire::Error::from(ErrorKind::ApiKey(other as i16)).at("request header"))),
            }
        }
    };
}

serve! {
    later {
        // From 0, not 3: librdkafka takes compression for granted only where it sees the old versions (KAFKA-18659).
        Produce 0..=13 => produce: ProduceRequest;
        Fetch 4..=18 => fetch: FetchRequest;
    }
    now {
        ListOffsets 1..=11 => list_offsets: ListOffsetsRequest;
        Metadata 0..=13 => metadata: MetadataRequest;
        OffsetCommit 2..=10 => offset_commit: OffsetCommitRequest;
        OffsetFetch 1..=10 => offset_fetch: OffsetFetchRequest;
        FindCoordinator 0..=6 => find_coordinator: FindCoordinatorRequest;
        JoinGroup 0..=9 => join_group: JoinGroupRequest;
        Heartbeat 0..=4 => heartbeat: HeartbeatRequest;
        LeaveGroup 0..=5 => leave_group: LeaveGroupRequest;
        SyncGroup 0..=5 => sync_group: SyncGroupRequest;
        DescribeGroups 0..=6 => describe_groups: DescribeGroupsRequest;
        ConsumerGroupHeartbeat 0..=1 => consumer_group_heartbeat: ConsumerGroupHeartbeatRequest;
        ConsumerGroupDescribe 0..=1 => consumer_group_describe: ConsumerGroupDescribeRequest;
        ListGroups 0..=5 => list_groups: ListGroupsRequest;
        ApiVersions 0..=4 => api_versions: ApiVersionsRequest;
        CreateTopics 2..=7 => create_topics: CreateTopicsRequest;
        DeleteTopics 1..=6 => delete_topics: DeleteTopicsRequest;
        DeleteRecords 0..=2 => delete_records: DeleteRecordsRequest;
        InitProducerId 0..=5 => init_producer_id: InitProducerIdRequest;
        AddPartitionsToTxn 0..=3 => add_partitions_to_txn: AddPartitionsToTxnRequest;
        AddOffsetsToTxn 0..=4 => add_offsets_to_txn: AddOffsetsToTxnRequest;
        EndTxn 0..=5 => end_txn: EndTxnRequest;
        TxnOffsetCommit 0..=5 => txn_offset_commit: TxnOffsetCommitRequest;
        DescribeProducers 0..=0 => describe_producers: DescribeProducersRequest;
        DescribeTransactions 0..=0 => describe_transactions: DescribeTransactionsRequest;
        ListTransactions 0..=1 => list_transactions: ListTransactionsRequest;
        OffsetForLeaderEpoch 2..=4 => offset_for_leader_epoch: OffsetForLeaderEpochRequest;
        DescribeConfigs 1..=4 => describe_configs: DescribeConfigsRequest;
        AlterConfigs 0..=2 => alter_configs: AlterConfigsRequest;
        CreatePartitions 0..=3 => create_partitions: CreatePartitionsRequest;
        DeleteGroups 0..=2 => delete_groups: DeleteGroupsRequest;
        IncrementalAlterConfigs 0..=1 => incremental_alter_configs: IncrementalAlterConfigsRequest;
        OffsetDelete 0..=0 => offset_delete: OffsetDeleteRequest;
        DescribeCluster 0..=2 => describe_cluster: DescribeClusterRequest;
    }
}
