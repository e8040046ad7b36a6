//! ListGroups (16), versions 0-5. A group is of the type of its members; one without any is classic.

use std::sync::Arc;

use wire::api::list_groups::ListedGroup;
use wire::api::{ListGroupsRequest, ListGroupsResponse};

use super::Call;
use crate::group;
use crate::node::Node;

fn type_of(group: &group::ListedGroup) -> &'static str {
    if group.is_consumer { "consumer" } else { "classic" }
}

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let ListGroupsRequest { states_filter, types_filter } = request;
    let wanted = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
    };
    let groups = node
        .groups
        .list()
        .into_iter()
        .filter(|group| wanted(&states_filter, group.state.name()) && wanted(&types_filter, type_of(group)))
        .map(|group| ListedGroup {
            group_type: type_of(&group).to_owned(),
            group_id: group.group,
            protocol_type: group.protocol_type,
            group_state: group.state.name().to_owned(),
        })
        .collect();
    ListGroupsResponse { groups, ..Default::default() }
}
