//! DescribeCluster (60), versions 0-2: the one broker.
//!
//! Asked for controllers (endpoint type 2), it is refused as MISMATCHED_ENDPOINT_TYPE: this is a broker's listener.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_cluster::DescribeClusterBroker;
use wire::api::{DescribeClusterRequest, DescribeClusterResponse};

use super::Call;
use super::metadata::{CLUSTER_OPERATIONS, NO_OPERATIONS};
use crate::node::{NODE_ID, Node};

/// Endpoint type of brokers.
const BROKERS: i8 = 1;

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let DescribeClusterRequest {
        include_cluster_authorized_operations,
        endpoint_type,
        include_fenced_brokers: _,
    } = request;
    if call.version >= 1 && endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            error_message: Some(format!("endpoint type {endpoint_type}: this listener is a broker's (1)")),
            endpoint_type: BROKERS,
            ..Default::default()
        };
    }
    let (host, port) = node.address(call.local);
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: node.cluster_id.clone(),
        controller_id: NODE_ID,
        brokers: vec![DescribeClusterBroker { broker_id: NODE_ID, host, port, ..Default::default() }],
        cluster_authorized_operations: if include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..Default::default()
    }
}
