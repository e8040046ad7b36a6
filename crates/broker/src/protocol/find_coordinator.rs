//! FindCoordinator (10), versions 0-6: there is one broker, and it coordinates every group and transactional id.
//!
//! Not done: share groups (key type 2), which are refused as INVALID_REQUEST.

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::find_coordinator::Coordinator;
use wire::api::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::Call;
use crate::node::{NODE_ID, Node};

pub(super) async fn handle(
    node: &Arc<Node>,
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let FindCoordinatorRequest { key, key_type, coordinator_keys } = request;
    let one = |key: String| {
        let refused = match key_type {
            0 | 1 if key.is_empty() => Some("the key is empty"),
            0 | 1 => None,
            _ => Some("only groups (0) and transactional ids (1) have a coordinator here"),
        };
        match refused {
            None => {
                let (host, port) = node.address(call.local);
                Coordinator {
                    key,
                    node_id: NODE_ID,
                    host,
                    port,
                    error_code: ErrorCode::NONE,
                    error_message: None,
                }
            }
            Some(why) => Coordinator {
                key,
                node_id: -1,
                host: String::new(),
                port: -1,
                error_code: ErrorCode::INVALID_REQUEST,
                error_message: Some(why.to_owned()),
            },
        }
    };
    if call.version >= 4 {
        return FindCoordinatorResponse {
            coordinators: coordinator_keys.into_iter().map(one).collect(),
            ..Default::default()
        };
    }
    let Coordinator { key: _, node_id, host, port, error_code, error_message } = one(key);
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }
}
