//! ApiVersions (18), versions 0-4: what is served.
//!
//! An unknown version is answered in version 0 with UNSUPPORTED_VERSION (KIP-511), so that any client can find one.
//! Finalised features: `transaction.version` 2 (KIP-890) and `group.version` 1 (KIP-848).

use std::sync::Arc;

use bytes::Bytes;
use wire::api::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use wire::api::{ApiVersionsRequest, ApiVersionsResponse};
use wire::header::response_frame;
use wire::{ApiKey, ErrorCode};

use super::{Call, SERVED};
use crate::node::Node;

/// Features by name and the version that is in force: how clients take part in transactions, and in groups.
const FEATURES: [(&str, i16); 2] = [("group.version", 1), ("transaction.version", 2)];

/// Names and versions of client software are theirs to choose, within this (KIP-511).
fn is_sane(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
}

pub(super) async fn handle(_: &Arc<Node>, call: &Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let ApiVersionsRequest { client_software_name, client_software_version } = request;
    if call.version >= 3 && !(is_sane(&client_software_name) && is_sane(&client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() };
    }
    ApiVersionsResponse {
        api_keys: advertised(),
        supported_features: FEATURES
            .iter()
            .map(|(name, version)| SupportedFeatureKey {
                name: (*name).to_owned(),
                min_version: 0,
                max_version: *version,
            })
            .collect(),
        // What is finalised never changes while this broker runs, so neither does its epoch.
        finalized_features_epoch: 0,
        finalized_features: FEATURES
            .iter()
            .map(|(name, version)| FinalizedFeatureKey {
                name: (*name).to_owned(),
                max_version_level: *version,
                min_version_level: *version,
            })
            .collect(),
        ..Default::default()
    }
}

fn advertised() -> Vec<ApiVersion> {
    let mut apis: Vec<_> = SERVED
        .iter()
        .map(|served| ApiVersion {
            api_key: served.api as i16,
            min_version: served.first,
            max_version: served.last,
        })
        .collect();
    apis.sort_by_key(|api| api.api_key);
    apis
}

/// The answer to a version that isn't served.
pub(super) fn unknown_version(call: &Call) -> Result<Bytes, wire::Error> {
    let served = advertised().into_iter().filter(|api| api.api_key == ApiKey::ApiVersions as i16).collect();
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: served,
        ..Default::default()
    };
    response_frame(0, call.correlation_id, &response)
}
