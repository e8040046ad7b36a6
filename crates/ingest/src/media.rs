//! Which bodies are taken: JSON in UTF-8, not encoded.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use runtime::http::Problem;

/// What `Content-Type` and `Content-Encoding` must say. Returns the media type as given.
pub(crate) fn check(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(given), None) = (types.next(), types.next()) else {
        return Err(unsupported("content-type")
            .detail("say once what the body is, e.g. content-type: application/json"));
    };
    let shown = || String::from_utf8_lossy(given.as_bytes()).into_owned();
    let mut parts = given.to_str().unwrap_or_default().split(';').map(str::trim);
    if !parts.next().is_some_and(is_json) {
        return Err(unsupported("content-type")
            .value(shown())
            .detail("only JSON is taken: application/json, or a type that ends in +json"));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        {
            return Err(unsupported("content-type")
                .value(shown())
                .detail("JSON is UTF-8 (RFC 8259, 8.1): send it as such"));
        }
    }
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding_not_supported")
                .field("content-encoding")
                .value(String::from_utf8_lossy(encoding.as_bytes()).into_owned())
                .detail("send the body without an encoding"));
        }
    }
    Ok(given.clone())
}

fn unsupported(field: &'static str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type_not_supported").field(field)
}

/// `application/json` or a structured syntax suffix `+json` (RFC 6839).
fn is_json(media: &str) -> bool {
    let Some((kind, subtype)) = media.split_once('/') else { return false };
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
    let sane = |part: &str| !part.is_empty() && part.bytes().all(token);
    let suffix = subtype.len().checked_sub("+json".len()).and_then(|at| subtype.get(at..));
    let json = (kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json"))
        || (subtype.len() > "+json".len()
            && suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json")));
    json && sane(kind) && sane(subtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn json_in_utf_8_is_taken() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"; profile=x",
            "application/cloudevents+json",
            "application/vnd.api+JSON ; charset=utf8",
            "text/x+json",
        ] {
            assert_eq!(check(&headers(&[("content-type", good)])).unwrap(), good);
        }
        assert!(
            check(&headers(&[("content-type", "application/json"), ("content-encoding", "identity")]))
                .is_ok()
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "json",
            "text/plain",
            "text/json",
            "application/xml",
            "application/jsonp",
            "application/json5",
            "application/+json",
            "application/x-ndjson",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json, text/plain",
            "application/json; charset=latin1",
            "application/json; charset=utf-16",
        ] {
            let problem = check(&headers(&[("content-type", bad)])).unwrap_err();
            assert_eq!(
                (problem.status().as_u16(), problem.code()),
                (415, "media_type_not_supported"),
                "{bad}"
            );
        }
        assert!(check(&headers(&[])).is_err());
        let encoded = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
        assert_eq!(check(&encoded).unwrap_err().code(), "content_encoding_not_supported");
    }

    #[test]
    fn two_content_types_are_none() {
        let mut two = headers(&[("content-type", "application/json")]);
        two.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(check(&two).is_err());
    }
}
