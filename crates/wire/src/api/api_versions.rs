//! What a broker speaks.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// What a broker speaks: the request.
    request ApiVersionsRequest = 18, 0..=4, flexible 3 {
        client_software_name: String [3..];
        client_software_version: String [3..];
    }

    /// What a broker speaks: the response.
    response ApiVersionsResponse = 18, 0..=4, flexible 3 {
        error_code: ErrorCode;
        api_keys: Vec<ApiVersion>;
        throttle_time_ms: i32 [1..];
        supported_features: Vec<SupportedFeatureKey> [3.., tag 0];
        finalized_features_epoch: i64 [3.., tag 1, default -1];
        finalized_features: Vec<FinalizedFeatureKey> [3.., tag 2];
        zk_migration_ready: bool [3.., tag 3];
    }

    /// Part of [`ApiVersionsResponse`].
    structure ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    /// Part of [`ApiVersionsResponse`].
    structure SupportedFeatureKey {
        name: String [3..];
        min_version: i16 [3..];
        max_version: i16 [3..];
    }

    /// Part of [`ApiVersionsResponse`].
    structure FinalizedFeatureKey {
        name: String [3..];
        max_version_level: i16 [3..];
        min_version_level: i16 [3..];
    }
}

impl crate::codec::Request for ApiVersionsRequest {
    type Response = ApiVersionsResponse;
}
