//! Brokers of a cluster.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Brokers of a cluster: the request.
    request DescribeClusterRequest = 60, 0..=2, flexible 0 {
        include_cluster_authorized_operations: bool;
        endpoint_type: i8 [1.., default 1];
        include_fenced_brokers: bool [2..];
    }

    /// Brokers of a cluster: the response.
    response DescribeClusterResponse = 60, 0..=2, flexible 0 {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        endpoint_type: i8 [1.., default 1];
        cluster_id: String;
        controller_id: i32 [.., default -1];
        brokers: Vec<DescribeClusterBroker>;
        cluster_authorized_operations: i32 [.., default -2147483648];
    }

    /// Part of [`DescribeClusterResponse`].
    structure DescribeClusterBroker {
        broker_id: i32;
        host: String;
        port: i32;
        rack: Option<String>;
        is_fenced: bool [2..];
    }
}

impl crate::codec::Request for DescribeClusterRequest {
    type Response = DescribeClusterResponse;
}
