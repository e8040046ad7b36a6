//! DeleteGroups (42), versions 0-2: groups without members, with their offsets. Answered when durable.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::delete_groups::DeletableGroupResult;
use wire::api::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Call;
use crate::node::Node;

pub(super) async fn handle(node: &Arc<Node>, _: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let DeleteGroupsRequest { groups_names } = request;
    let mut results = Vec::with_capacity(groups_names.len());
    for group_id in groups_names {
        let error_code = node.groups.delete(&group_id).await.err().unwrap_or(ErrorCode::NONE);
        results.push(DeletableGroupResult { group_id, error_code });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
