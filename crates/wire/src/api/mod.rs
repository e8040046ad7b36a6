//! The messages, one file an API. Invariant: a version that is declared here is complete; what a broker advertises of it
//! is the broker's own decision.
//!
//! Names, types and versions of the fields are those of the protocol of Apache Kafka 4.3; versions that its brokers
//! dropped (KIP-896) are not declared, except Produce from 0.

use crate::codec::{Error, ErrorKind, Message, Reader};

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_transactions;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod list_transactions;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod txn_offset_commit;

pub use add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
pub use add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
pub use alter_configs::{AlterConfigsRequest, AlterConfigsResponse};
pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
pub use consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
pub use create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
pub use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub use delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
pub use delete_records::{DeleteRecordsRequest, DeleteRecordsResponse};
pub use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub use describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
pub use describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
pub use describe_producers::{DescribeProducersRequest, DescribeProducersResponse};
pub use describe_topic_partitions::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
pub use describe_transactions::{DescribeTransactionsRequest, DescribeTransactionsResponse};
pub use end_txn::{EndTxnRequest, EndTxnResponse};
pub use fetch::{FetchRequest, FetchResponse};
pub use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub use heartbeat::{HeartbeatRequest, HeartbeatResponse};
pub use incremental_alter_configs::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use join_group::{JoinGroupRequest, JoinGroupResponse};
pub use leave_group::{LeaveGroupRequest, LeaveGroupResponse};
pub use list_groups::{ListGroupsRequest, ListGroupsResponse};
pub use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub use list_transactions::{ListTransactionsRequest, ListTransactionsResponse};
pub use metadata::{MetadataRequest, MetadataResponse};
pub use offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
pub use offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
pub use offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
pub use offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
pub use produce::{ProduceRequest, ProduceResponse};
pub use sync_group::{SyncGroupRequest, SyncGroupResponse};
pub use txn_offset_commit::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

fn rewrite<M: Message>(reader: &mut Reader, version: i16) -> Result<Result<bytes::Bytes, Error>, Error> {
    let message = M::read(reader, version)?;
    let mut out = bytes::BytesMut::new();
    Ok(message.write(&mut out, version).map(|()| out.freeze()))
}

macro_rules! apis {
    ($($name:ident = $key:literal, $request:ident;)*) => {
        /// The APIs that are declared.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("`", stringify!($name), "`, key ", $key, ".")] $name = $key,)*
        }

        impl ApiKey {
            /// All of them, by key.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name),*];

            /// The first and last declared version.
            #[must_use]
            pub fn versions(self) -> (i16, i16) {
                match self { $(ApiKey::$name => <$request as crate::codec::Message>::VERSIONS,)* }
            }

            /// The first version with compact lengths and tagged fields.
            #[must_use]
            pub fn flexible_from(self) -> i16 {
                match self { $(ApiKey::$name => <$request as crate::codec::Message>::FLEXIBLE_FROM,)* }
            }

            /// The protocol's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(ApiKey::$name => stringify!($name),)* }
            }

            /// Reads a request of this API and writes it again: for tests and fuzzing of both. The inner error is the
            /// writer's: what was read can be written, so there is none.
            ///
            /// # Errors
            /// As the request's own decoder.
            pub fn probe(self, reader: &mut Reader, version: i16) -> Result<Result<bytes::Bytes, Error>, Error> {
                match self { $(ApiKey::$name => rewrite::<$request>(reader, version),)* }
            }

            /// As [`probe`](Self::probe), for a response of this API.
            ///
            /// # Errors
            /// As the response's own decoder.
            pub fn probe_response(self, reader: &mut Reader, version: i16) -> Result<Result<bytes::Bytes, Error>, Error> {
                match self {
                    $(ApiKey::$name => rewrite::<<$request as crate::codec::Request>::Response>(reader, version),)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = Error;

            fn try_from(key: i16) -> Result<Self, Error> {
                match key {
                    $($key => Ok(ApiKey::$name),)*
                    other => Err(Error::from(ErrorKind::ApiKey(other)).at("request header")),
                }
            }
        }
    };
}

apis! {
    Produce = 0, ProduceRequest;
    Fetch = 1, FetchRequest;
    ListOffsets = 2, ListOffsetsRequest;
    Metadata = 3, MetadataRequest;
    OffsetCommit = 8, OffsetCommitRequest;
    OffsetFetch = 9, OffsetFetchRequest;
    FindCoordinator = 10, FindCoordinatorRequest;
    JoinGroup = 11, JoinGroupRequest;
    Heartbeat = 12, HeartbeatRequest;
    LeaveGroup = 13, LeaveGroupRequest;
    SyncGroup = 14, SyncGroupRequest;
    DescribeGroups = 15, DescribeGroupsRequest;
    ListGroups = 16, ListGroupsRequest;
    ApiVersions = 18, ApiVersionsRequest;
    CreateTopics = 19, CreateTopicsRequest;
    DeleteTopics = 20, DeleteTopicsRequest;
    DeleteRecords = 21, DeleteRecordsRequest;
    InitProducerId = 22, InitProducerIdRequest;
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest;
    AddPartitionsToTxn = 24, AddPartitionsToTxnRequest;
    AddOffsetsToTxn = 25, AddOffsetsToTxnRequest;
    EndTxn = 26, EndTxnRequest;
    TxnOffsetCommit = 28, TxnOffsetCommitRequest;
    DescribeConfigs = 32, DescribeConfigsRequest;
    AlterConfigs = 33, AlterConfigsRequest;
    CreatePartitions = 37, CreatePartitionsRequest;
    DeleteGroups = 42, DeleteGroupsRequest;
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest;
    OffsetDelete = 47, OffsetDeleteRequest;
    DescribeCluster = 60, DescribeClusterRequest;
    DescribeProducers = 61, DescribeProducersRequest;
    DescribeTransactions = 65, DescribeTransactionsRequest;
    ListTransactions = 66, ListTransactionsRequest;
    ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest;
    ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest;
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest;
}
