//! What groups of the consumer protocol (KIP-848) are like.

use uuid::Uuid;

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// What groups of the consumer protocol are like: the request.
    request ConsumerGroupDescribeRequest = 69, 0..=1, flexible 0 {
        group_ids: Vec<String>;
        include_authorized_operations: bool;
    }

    /// What groups of the consumer protocol are like: the response.
    response ConsumerGroupDescribeResponse = 69, 0..=1, flexible 0 {
        throttle_time_ms: i32;
        groups: Vec<DescribedGroup>;
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    structure DescribedGroup {
        error_code: ErrorCode;
        error_message: Option<String>;
        group_id: String;
        group_state: String;
        group_epoch: i32;
        assignment_epoch: i32;
        assignor_name: String;
        members: Vec<Member>;
        authorized_operations: i32 [.., default -2147483648];
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    structure Member {
        member_id: String;
        instance_id: Option<String>;
        rack_id: Option<String>;
        member_epoch: i32;
        client_id: String;
        client_host: String;
        subscribed_topic_names: Vec<String>;
        subscribed_topic_regex: Option<String>;
        assignment: Assignment;
        target_assignment: Assignment;
        member_type: i8 [1.., default -1];
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    structure Assignment {
        topic_partitions: Vec<TopicPartitions>;
    }

    /// Part of [`ConsumerGroupDescribeResponse`].
    structure TopicPartitions {
        topic_id: Uuid;
        topic_name: String;
        partitions: Vec<i32>;
    }
}

impl crate::codec::Request for ConsumerGroupDescribeRequest {
    type Response = ConsumerGroupDescribeResponse;
}
