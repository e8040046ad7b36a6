//! Replacing all settings of a resource.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Replacing all settings of a resource: the request.
    request AlterConfigsRequest = 33, 0..=2, flexible 2 {
        resources: Vec<AlterConfigsResource>;
        validate_only: bool;
    }

    /// Part of [`AlterConfigsRequest`].
    structure AlterConfigsResource {
        resource_type: i8;
        resource_name: String;
        configs: Vec<AlterableConfig>;
    }

    /// Part of [`AlterConfigsRequest`].
    structure AlterableConfig {
        name: String;
        value: Option<String>;
    }

    /// Replacing all settings of a resource: the response.
    response AlterConfigsResponse = 33, 0..=2, flexible 2 {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// Part of [`AlterConfigsResponse`].
    structure AlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<String>;
        resource_type: i8;
        resource_name: String;
    }
}

impl crate::codec::Request for AlterConfigsRequest {
    type Response = AlterConfigsResponse;
}
