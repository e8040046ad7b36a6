//! The content hash of a transform's version: what a manifest may name instead of a number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of a content. Prints as `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash([u8; 32]);

/// A text is no content hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no content hash: it must be \"sha256:\" and 64 hex digits")]
pub struct ContentHashError(String);

impl ContentHash {
    /// Of these parts: each is preceded by its length (u64, big-endian), so that no two lists of parts are
    /// one content.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, ContentHashError> {
        let wrong = || ContentHashError(text.chars().take(80).collect());
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?.as_bytes();
        let mut hash = [0; 32];
        if hex.len() != 64 {
            return Err(wrong());
        }
        for (byte, digits) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(digits[0]).ok_or_else(wrong)? << 4 | digit(digits[1]).ok_or_else(wrong)?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for ContentHash {
    type Error = ContentHashError;
    fn try_from(text: String) -> Result<Self, ContentHashError> {
        text.parse()
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_read_back_and_parts_do_not_run_together() {
        let hash = ContentHash::of(&[b"ab", b"c"]);
        assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
        assert_ne!(hash, ContentHash::of(&[b"a", b"bc"]));
        for bad in ["", "sha256:", "sha256:zz", &hash.to_string()[..70], &format!("{hash}0"), "sha256:é"] {
            assert!(bad.parse::<ContentHash>().is_err(), "{bad}");
        }
    }
}
