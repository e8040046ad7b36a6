//! Reading record batches.

use bytes::Bytes;
use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Reading record batches: the request.
    request FetchRequest = 1, 4..=18, flexible 12 {
        cluster_id: Option<String> [12.., tag 0];
        replica_id: i32 [..=14, default -1];
        replica_state: ReplicaState [15.., tag 1];
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 [3.., default 2147483647];
        isolation_level: i8 [4..];
        session_id: i32 [7..];
        session_epoch: i32 [7.., default -1];
        topics: Vec<FetchTopic>;
        forgotten_topics_data: Vec<ForgottenTopic> [7..];
        rack_id: String [11..];
    }

    /// Part of [`FetchRequest`].
    structure ReplicaState {
        replica_id: i32 [15.., default -1];
        replica_epoch: i64 [15.., default -1];
    }

    /// Part of [`FetchRequest`].
    structure FetchTopic {
        topic: String [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<FetchPartition>;
    }

    /// Part of [`FetchRequest`].
    structure ForgottenTopic {
        topic: String [7..=12];
        topic_id: Uuid [13..];
        partitions: Vec<i32> [7..];
    }

    /// Part of [`FetchRequest`].
    structure FetchPartition {
        partition: i32;
        current_leader_epoch: i32 [9.., default -1];
        fetch_offset: i64;
        last_fetched_epoch: i32 [12.., default -1];
        log_start_offset: i64 [5.., default -1];
        partition_max_bytes: i32;
        replica_directory_id: Uuid [17.., tag 0];
        high_watermark: i64 [18.., tag 1, default 9223372036854775807];
    }

    /// Reading record batches: the response.
    response FetchResponse = 1, 4..=18, flexible 12 {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [7..];
        session_id: i32 [7..];
        responses: Vec<FetchableTopicResponse>;
        node_endpoints: Vec<NodeEndpoint> [16.., tag 0];
    }

    /// Part of [`FetchResponse`].
    structure FetchableTopicResponse {
        topic: String [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<PartitionData>;
    }

    /// Part of [`FetchResponse`].
    structure NodeEndpoint {
        node_id: i32 [16..];
        host: String [16..];
        port: i32 [16..];
        rack: Option<String> [16..];
    }

    /// Part of [`FetchResponse`].
    structure PartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        high_watermark: i64;
        last_stable_offset: i64 [4.., default -1];
        log_start_offset: i64 [5.., default -1];
        diverging_epoch: EpochEndOffset [12.., tag 0];
        current_leader: LeaderIdAndEpoch [12.., tag 1];
        snapshot_id: SnapshotId [12.., tag 2];
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..];
        preferred_read_replica: i32 [11.., default -1];
        records: Option<Bytes>;
    }

    /// Part of [`FetchResponse`].
    structure EpochEndOffset {
        epoch: i32 [12.., default -1];
        end_offset: i64 [12.., default -1];
    }

    /// Part of [`FetchResponse`].
    structure LeaderIdAndEpoch {
        leader_id: i32 [12.., default -1];
        leader_epoch: i32 [12.., default -1];
    }

    /// Part of [`FetchResponse`].
    structure SnapshotId {
        end_offset: i64 [.., default -1];
        epoch: i32 [.., default -1];
    }

    /// Part of [`FetchResponse`].
    structure AbortedTransaction {
        producer_id: i64 [4..];
        first_offset: i64 [4..];
    }
}

impl crate::codec::Request for FetchRequest {
    type Response = FetchResponse;
}
