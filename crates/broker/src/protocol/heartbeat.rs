//! Heartbeat (12), versions 0-4.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::{HeartbeatRequest, HeartbeatResponse};

use super::Call;
use crate::group::MemberRef;
use crate::node::Node;

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let HeartbeatRequest { group_id, generation_id, member_id, group_instance_id } = request;
    let member = MemberRef { member_id, instance_id: group_instance_id, generation: generation_id };
    let error_code = node.groups.heartbeat(&group_id, &member).err().unwrap_or(ErrorCode::NONE);
    HeartbeatResponse { throttle_time_ms: 0, error_code }
}
