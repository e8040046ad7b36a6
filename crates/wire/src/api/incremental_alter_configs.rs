//! Changing single settings.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Changing single settings: the request.
    request IncrementalAlterConfigsRequest = 44, 0..=1, flexible 1 {
        resources: Vec<AlterConfigsResource>;
        validate_only: bool;
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    structure AlterConfigsResource {
        resource_type: i8;
        resource_name: String;
        configs: Vec<AlterableConfig>;
    }

    /// Part of [`IncrementalAlterConfigsRequest`].
    structure AlterableConfig {
        name: String;
        config_operation: i8;
        value: Option<String>;
    }

    /// Changing single settings: the response.
    response IncrementalAlterConfigsResponse = 44, 0..=1, flexible 1 {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// Part of [`IncrementalAlterConfigsResponse`].
    structure AlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<String>;
        resource_type: i8;
        resource_name: String;
    }
}

impl crate::codec::Request for IncrementalAlterConfigsRequest {
    type Response = IncrementalAlterConfigsResponse;
}
