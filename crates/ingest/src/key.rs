//! A record's key: what the caller names, else what the topic's JSON pointer finds in the event.
//!
//! The text was checked as JSON before, and its depth is bounded: this walk can't fail on either. Of
//! members that stand twice the last one counts, as in most parsers.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use runtime::http::Problem;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

const X_ENTITY_KEY: HeaderName = HeaderName::from_static("x-entity-key");

/// The caller's key, from `x-entity-key`: bytes as they came. An empty one is refused: it is an unset variable,
/// and would gather everything in one partition.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let refuse = |detail: &'static str| {
        Problem::new(StatusCode::BAD_REQUEST, "key_invalid").field("x-entity-key").detail(detail)
    };
    let mut keys = headers.get_all(X_ENTITY_KEY).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(refuse("the header may stand only once")),
        (Some(key), None) if key.is_empty() => {
            Err(refuse("the key can't be empty: leave the header out instead"))
        }
        (Some(key), None) => Ok(Some(Bytes::copy_from_slice(key.as_bytes()))),
    }
}

/// A JSON pointer (RFC 6901), taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

/// What a pointer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or null.
    Nothing,
    /// A string's text, a number as it was written, `true` or `false`.
    Key(Bytes),
    /// An array, an object, or a string that is no text (a lone surrogate): none of them is a key.
    NoKey,
}

impl Pointer {
    /// `pointer` was checked when its topic was declared; what isn't one finds nothing.
    pub(crate) fn new(pointer: &str) -> Self {
        Self(pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
    }

    /// Looks into `json`, which is valid.
    pub(crate) fn find(&self, json: &str) -> Found {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let Ok(Some(raw)) = Step(&self.0).deserialize(&mut deserializer) else { return Found::Nothing };
        match raw.get().as_bytes().first() {
            Some(b'"') => match serde_json::from_str::<Cow<'_, str>>(raw.get()) {
                Ok(text) => Found::Key(Bytes::copy_from_slice(text.as_bytes())),
                // A lone surrogate: no text, and so no key.
                Err(_) => Found::NoKey,
            },
            Some(b'{' | b'[') => Found::NoKey,
            Some(b'n') | None => Found::Nothing,
            Some(_) => Found::Key(Bytes::copy_from_slice(raw.get().as_bytes())),
        }
    }
}

/// Descends by the first token, and on.
#[derive(Clone, Copy)]
struct Step<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((token, rest)) = self.0.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(same) = map.next_key_seed(Name(token))? {
            if same {
                found = map.next_value_seed(Step(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((token, rest)) = self.0.split_first() else { return Ok(None) };
        // RFC 6901, 4: digits without a leading zero.
        let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
        let wanted: Option<usize> = token.parse().ok().filter(|_| plain);
        let (mut found, mut index) = (None, 0);
        loop {
            if wanted == Some(index) {
                match seq.next_element_seed(Step(rest))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member's name is the token.
struct Name<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key(text: &'static str) -> Found {
        Found::Key(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn pointers_find_scalars_as_they_were_written() {
        let json = r#"{"a":{"b~/c":"x\u0041é","n":1.50e2,"t":true,"z":null,"o":{},"big":123456789012345678901234567890},
            "list":[10,[11,"12"]],"":"empty","tw":1,"tw":2,"s":"","scalar":5,"lone":"\ud800"}"#;
        for (pointer, expected) in [
            ("/a/b~0~1c", key("xAé")),
            ("/a/n", key("1.50e2")),
            ("/a/big", key("123456789012345678901234567890")),
            ("/a/t", key("true")),
            ("/a/z", Found::Nothing),
            ("/a/o", Found::NoKey),
            ("/a", Found::NoKey),
            ("/list/0", key("10")),
            ("/list/1/1", key("12")),
            ("/list/01", Found::Nothing),
            ("/list/-", Found::Nothing),
            ("/list/+1", Found::Nothing),
            ("/list/9", Found::Nothing),
            ("/", key("empty")),
            ("/tw", key("2")),
            ("/s", key("")),
            ("/scalar/deeper", Found::Nothing),
            ("/none", Found::Nothing),
            ("/lone", Found::NoKey),
        ] {
            assert_eq!(Pointer::new(pointer).find(json), expected, "{pointer}");
        }
    }

    #[test]
    fn the_callers_key_is_taken_as_bytes() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_headers(&headers).unwrap(), None);
        headers.insert(X_ENTITY_KEY, HeaderValue::from_bytes(b"k\xff").unwrap());
        assert_eq!(of_headers(&headers).unwrap().unwrap(), Bytes::from_static(b"k\xff"));
        headers.append(X_ENTITY_KEY, HeaderValue::from_static("b"));
        assert_eq!(of_headers(&headers).unwrap_err().code(), "key_invalid");
        headers.insert(X_ENTITY_KEY, HeaderValue::from_static(""));
        assert_eq!(of_headers(&headers).unwrap_err().code(), "key_invalid");
    }
}
