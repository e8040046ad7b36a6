//! SyncGroup (14), versions 0-5. Answered when the leader's assignment is there and durable.

use std::sync::Arc;

use wire::api::sync_group::SyncGroupRequestAssignment;
use wire::api::{SyncGroupRequest, SyncGroupResponse};

use super::Call;
use crate::group;
use crate::node::Node;

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let SyncGroupRequest {
        group_id,
        generation_id,
        member_id,
        group_instance_id,
        protocol_type,
        protocol_name,
        assignments,
    } = request;
    let synced = node
        .groups
        .sync(group::SyncRequest {
            group: group_id,
            member: group::MemberRef { member_id, instance_id: group_instance_id, generation: generation_id },
            protocol_type,
            protocol: protocol_name,
            assignments: assignments
                .into_iter()
                .map(|SyncGroupRequestAssignment { member_id, assignment }| (member_id, assignment))
                .collect(),
        })
        .await;
    let group::SyncResponse { error, protocol_type, protocol, assignment } = synced;
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: error,
        protocol_type,
        protocol_name: protocol,
        assignment,
    }
}
