//! The one body of every HTTP error: problem details for HTTP APIs (RFC 9457).

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use types::RequestId;

/// A value in a problem is cut at this many characters: it names what was wrong, it doesn't echo it.
const VALUE_CHARS_MAX: usize = 256;

/// What went wrong, for programs (`status`, `code`, `field`) and for people (`title`, `detail`). `code` is stable:
/// a new meaning gets a new code. As a response it has the media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    field: Option<Cow<'static, str>>,
    value: Option<Value>,
    request_id: Option<String>,
    retry_after_s: Option<u64>,
    challenge: Option<HeaderValue>,
    more: Map<String, Value>,
}

/// The members as they are written; the order is for people.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    r#type: String,
    title: Cow<'a, str>,
    status: u16,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

impl Problem {
    /// A problem with a status and a stable code in `snake_case`, of which the title is made.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            status,
            code: code.into(),
            detail: None,
            field: None,
            value: None,
            request_id: None,
            retry_after_s: None,
            challenge: None,
            more: Map::new(),
        }))
    }

    /// What exactly is wrong, and the way out.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Which part of the request is wrong: a header's name, a JSON pointer, `body`.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The wrong value; long text is cut. Never a secret.
    #[must_use]
    pub fn value(mut self, value: impl Into<Value>) -> Self {
        let mut value = value.into();
        if let Value::String(text) = &mut value
            && let Some((end, _)) = text.char_indices().nth(VALUE_CHARS_MAX)
        {
            text.truncate(end);
            text.push('…');
        }
        self.0.value = Some(value);
        self
    }

    /// The caller may try again after so many seconds (the `Retry-After` header).
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// How the caller may authenticate (the `WWW-Authenticate` header, RFC 9110, 11.6.1).
    #[must_use]
    pub fn challenge(mut self, challenge: HeaderValue) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// A further member of the document (an extension, RFC 9457, 3.2).
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.into(), value.into());
        self
    }

    /// The request that it answers; set by the listener, for every problem that leaves it.
    #[must_use]
    pub fn request_id(mut self, id: &RequestId) -> Self {
        self.0.request_id = Some(id.as_str().to_owned());
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The document's bytes: JSON.
    pub fn document(&self) -> Vec<u8> {
        let inner = &*self.0;
        let document = Document {
            // Dereferencing isn't needed to understand a problem; a URN promises no page.
            r#type: format!("urn:vltava:problem:{}", inner.code),
            title: title(&inner.code),
            status: inner.status.as_u16(),
            code: &inner.code,
            detail: inner.detail.as_deref(),
            field: inner.field.as_deref(),
            value: inner.value.as_ref(),
            request_id: inner.request_id.as_deref(),
            more: &inner.more,
        };
        serde_json::to_vec(&document).expect("a map with text keys and finite numbers always serialises")
    }
}

/// `topic_not_found` → `Topic not found`.
fn title(code: &str) -> Cow<'_, str> {
    let mut title = code.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title.into()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.document()));
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = &self.0.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
        }
        // The listener writes the document again with the request's id, which handlers needn't know.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_field_and_value() {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "topic_name_invalid")
            .detail("no")
            .field("topic")
            .value("a b")
            .request_id(&RequestId::from_caller("r1").unwrap())
            .with("line", 3);
        let text = String::from_utf8(problem.document()).unwrap();
        assert_eq!(
            text,
            r#"{"type":"urn:vltava:problem:topic_name_invalid","title":"Topic name invalid","status":422,"code":"topic_name_invalid","detail":"no","field":"topic","value":"a b","requestId":"r1","line":3}"#
        );
    }

    #[test]
    fn long_values_are_cut() {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "x").value("ä".repeat(1000));
        let document: Value = serde_json::from_slice(&problem.document()).unwrap();
        assert_eq!(document["value"].as_str().unwrap().chars().count(), VALUE_CHARS_MAX + 1);
    }

    #[test]
    fn a_problem_says_when_to_try_again() {
        let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "x").retry_after(2).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
