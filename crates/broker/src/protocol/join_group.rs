//! JoinGroup (11), versions 0-9. Answered when the group's next generation begins, or the join fails.

use std::sync::Arc;

use wire::api::join_group::{JoinGroupRequestProtocol, JoinGroupResponseMember};
use wire::api::{JoinGroupRequest, JoinGroupResponse};

use super::Call;
use crate::group;
use crate::node::Node;

pub(super) async fn handle(node: &Arc<Node>, call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let JoinGroupRequest {
        group_id,
        session_timeout_ms,
        rebalance_timeout_ms,
        member_id,
        group_instance_id,
        protocol_type,
        protocols,
        reason,
    } = request;
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        tracing::debug!(
            group = group_id,
            member = member_id,
            client = call.client_id,
            reason,
            "member joins"
        );
    }
    let joined = node
        .groups
        .join(group::JoinRequest {
            group: group_id,
            member_id,
            instance_id: group_instance_id,
            client_id: call.client_id.clone(),
            client_host: format!("/{}", call.peer.ip().to_canonical()),
            session_timeout_ms,
            rebalance_timeout_ms: if call.version == 0 { session_timeout_ms } else { rebalance_timeout_ms },
            protocol_type,
            protocols: protocols
                .into_iter()
                .map(|JoinGroupRequestProtocol { name, metadata }| (name, metadata))
                .collect(),
            knows_member_ids: call.version >= 4,
            skips_assignment: call.version >= 9,
        })
        .await;
    let group::JoinResponse {
        error,
        generation,
        protocol_type,
        protocol,
        leader,
        skip_assignment,
        member_id,
        members,
    } = joined;
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: error,
        generation_id: generation,
        protocol_type,
        // Versions before 7 have no null here.
        protocol_name: if call.version < 7 { Some(protocol.unwrap_or_default()) } else { protocol },
        leader,
        skip_assignment,
        member_id,
        members: members
            .into_iter()
            .map(|group::JoinedMember { member_id, instance_id, metadata }| JoinGroupResponseMember {
                member_id,
                group_instance_id: instance_id,
                metadata,
            })
            .collect(),
    }
}
