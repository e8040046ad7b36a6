//! LeaveGroup (13), versions 0-5: one member, from version 3 on many.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::leave_group::{MemberIdentity, MemberResponse};
use wire::api::{LeaveGroupRequest, LeaveGroupResponse};

use super::Call;
use crate::group::Leaving;
use crate::node::Node;

/// The first version that names many members.
const MANY_FROM: i16 = 3;

pub(super) async fn handle(node: &Arc<Node>, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let LeaveGroupRequest { group_id, member_id, members } = request;
    let many = call.version >= MANY_FROM;
    let leaving: Vec<Leaving> = if many {
        let leaving = |MemberIdentity { member_id, group_instance_id, reason: _ }: MemberIdentity| Leaving {
            member_id,
            instance_id: group_instance_id,
        };
        members.into_iter().map(leaving).collect()
    } else {
        vec![Leaving { member_id, instance_id: None }]
    };
    match node.groups.leave(&group_id, &leaving) {
        Err(error_code) => LeaveGroupResponse { error_code, ..Default::default() },
        Ok(left) if many => LeaveGroupResponse {
            members: leaving
                .into_iter()
                .zip(left)
                .map(|(Leaving { member_id, instance_id }, left)| MemberResponse {
                    member_id,
                    group_instance_id: instance_id,
                    error_code: left.err().unwrap_or(ErrorCode::NONE),
                })
                .collect(),
            ..Default::default()
        },
        Ok(left) => LeaveGroupResponse {
            error_code: left.into_iter().find_map(Result::err).unwrap_or(ErrorCode::NONE),
            ..Default::default()
        },
    }
}
