//! DescribeGroups (15), versions 0-6. A group that doesn't exist, or is of the consumer protocol, is Dead, from version 6 on
//! with GROUP_ID_NOT_FOUND.
//! No authorizer: authorized operations are all, where asked for.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_groups::{DescribedGroup, DescribedGroupMember};
use wire::api::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::Call;
use super::metadata::NO_OPERATIONS;
use crate::group::{self, GroupState};
use crate::node::Node;

/// Every operation on a group: READ 3, DELETE 6, DESCRIBE 8.
pub(super) const GROUP_OPERATIONS: i32 = 0b1_0100_1000;
/// The first version that tells a missing group from an empty one.
const MISSING_FROM: i16 = 6;

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let DescribeGroupsRequest { groups, include_authorized_operations } = request;
    let mut described = Vec::with_capacity(groups.len());
    for name in groups {
        let group::DescribedGroup { group, state, protocol_type, protocol, members } =
            node.groups.describe(&name).await;
        let missing = state == GroupState::Dead && call.version >= MISSING_FROM;
        described.push(DescribedGroup {
            error_code: if missing { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE },
            error_message: missing.then(|| format!("group '{group}' does not exist")),
            group_id: group,
            group_state: state.name().to_owned(),
            protocol_type,
            protocol_data: protocol,
            members: members
                .into_iter()
                .map(
                    |group::DescribedMember {
                         member_id,
                         instance_id,
                         client_id,
                         client_host,
                         metadata,
                         assignment,
                     }| DescribedGroupMember {
                        member_id,
                        group_instance_id: instance_id,
                        client_id,
                        client_host,
                        member_metadata: metadata,
                        member_assignment: assignment,
                    },
                )
                .collect(),
            authorized_operations: if include_authorized_operations {
                GROUP_OPERATIONS
            } else {
                NO_OPERATIONS
            },
        });
    }
    DescribeGroupsResponse { groups: described, ..Default::default() }
}
