//! Settings of topics and brokers.

use crate::ErrorCode;
use crate::codec::messages;

messages! {
    /// Settings of topics and brokers: the request.
    request DescribeConfigsRequest = 32, 1..=4, flexible 4 {
        resources: Vec<DescribeConfigsResource>;
        include_synonyms: bool [1..];
        include_documentation: bool [3..];
    }

    /// Part of [`DescribeConfigsRequest`].
    structure DescribeConfigsResource {
        resource_type: i8;
        resource_name: String;
        configuration_keys: Option<Vec<String>>;
    }

    /// Settings of topics and brokers: the response.
    response DescribeConfigsResponse = 32, 1..=4, flexible 4 {
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult>;
    }

    /// Part of [`DescribeConfigsResponse`].
    structure DescribeConfigsResult {
        error_code: ErrorCode;
        error_message: Option<String>;
        resource_type: i8;
        resource_name: String;
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// Part of [`DescribeConfigsResponse`].
    structure DescribeConfigsResourceResult {
        name: String;
        value: Option<String>;
        read_only: bool;
        config_source: i8 [1.., default -1];
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym> [1..];
        config_type: i8 [3..];
        documentation: Option<String> [3..];
    }

    /// Part of [`DescribeConfigsResponse`].
    structure DescribeConfigsSynonym {
        name: String [1..];
        value: Option<String> [1..];
        source: i8 [1..];
    }
}

impl crate::codec::Request for DescribeConfigsRequest {
    type Response = DescribeConfigsResponse;
}
