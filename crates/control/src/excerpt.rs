//! Bytes of records as JSON shows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// Text where they are text, else base64; cut at `bytes_max`.
pub(crate) fn shown(bytes: Option<&Bytes>, bytes_max: usize) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    shown_of(&bytes[..bytes.len().min(bytes_max)], bytes.len())
}

/// The same of the beginning of `length` bytes.
pub(crate) fn shown_of(mut some: &[u8], length: usize) -> Value {
    let cut = length > some.len();
    if cut
        && let Err(error) = std::str::from_utf8(some)
        && error.error_len().is_none()
    {
        // Not within a character.
        some = &some[..error.valid_up_to()];
    }
    let mut value = match std::str::from_utf8(some) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": STANDARD.encode(some) }),
    };
    if cut {
        value["cutFromBytes"] = json!(length);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_are() {
        let of = |bytes: &'static [u8], max| shown(Some(&Bytes::from_static(bytes)), max);
        assert_eq!(shown(None, 9), Value::Null);
        assert_eq!(of(b"", 9), json!({"text": ""}));
        assert_eq!(of("aü".as_bytes(), 9), json!({"text": "aü"}));
        assert_eq!(of("aü".as_bytes(), 2), json!({"text": "a", "cutFromBytes": 3}));
        assert_eq!(of(&[0xff, 0x00], 9), json!({"base64": "/wA="}));
    }
}
