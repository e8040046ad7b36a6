//! Being a member of a group by the consumer protocol (KIP-848): joining, staying, leaving, and learning one's partitions.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Being a member of a group by the consumer protocol: the request.
    request ConsumerGroupHeartbeatRequest = 68, 0..=1, flexible 0 {
        group_id: String;
        member_id: String;
        member_epoch: i32;
        instance_id: Option<String>;
        rack_id: Option<String>;
        rebalance_timeout_ms: i32 [.., default -1];
        subscribed_topic_names: Option<Vec<String>>;
        subscribed_topic_regex: Option<String> [1..];
        server_assignor: Option<String>;
        topic_partitions: Option<Vec<TopicPartitions>>;
    }

    /// Part of [`ConsumerGroupHeartbeatRequest`] and [`ConsumerGroupHeartbeatResponse`].
    structure TopicPartitions {
        topic_id: Uuid;
        partitions: Vec<i32>;
    }

    /// Being a member of a group by the consumer protocol: the response.
    response ConsumerGroupHeartbeatResponse = 68, 0..=1, flexible 0 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        member_id: Option<String>;
        member_epoch: i32;
        heartbeat_interval_ms: i32;
        assignment: Option<Assignment>;
    }

    /// Part of [`ConsumerGroupHeartbeatResponse`].
    structure Assignment {
        topic_partitions: Vec<TopicPartitions>;
    }
}

impl crate::codec::Request for ConsumerGroupHeartbeatRequest {
    type Response = ConsumerGroupHeartbeatResponse;
}
