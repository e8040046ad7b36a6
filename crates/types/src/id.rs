//! Identities. Made once, opaque, never reused: groups and transactional ids derive from them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("{0:?} isn't a UUID")]
    NotAUuid(String),
    /// Too long, empty, or with characters that can't go into a header or a log line.
    #[error("an id must be 1 to {max} visible ASCII characters", max = RequestId::LENGTH_MAX)]
    NotSane,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one: a UUID v7 (RFC 9562), so that sorting by it is sorting by birth.
            #[expect(clippy::new_without_default, reason = "two new ones differ: no value is the default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID.
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::NotAUuid(text.chars().take(64).collect()))
            }
        }
    };
}

uuid_id! {
    /// One store and its control plane. Two installations on one cluster never share group or
    /// transactional ids.
    InstallationId
}

uuid_id! {
    /// One resource, from its creation to its deletion: made again under the same name, it has another.
    Uid
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Bytes);

        impl $name {
            /// In characters; longer ones are refused.
            pub const LENGTH_MAX: usize = 128;

            /// A new one: a UUID v7.
            #[expect(clippy::new_without_default, reason = "two new ones differ: no value is the default")]
            pub fn new() -> Self {
                Self(Bytes::from(Uuid::now_v7().to_string()))
            }

            /// A caller's own: 1 to 128 visible ASCII characters, which no log or header can be broken with.
            pub fn from_caller(text: &str) -> Result<Self, IdError> {
                let sane = !text.is_empty()
                    && text.len() <= Self::LENGTH_MAX
                    && text.bytes().all(|b| b.is_ascii_graphic());
                if sane { Ok(Self(Bytes::copy_from_slice(text.as_bytes()))) } else { Err(IdError::NotSane) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("it was made of a text")
            }

            /// The text's bytes, visible ASCII; costs no copy.
            pub fn to_bytes(&self) -> Bytes {
                self.0.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text_id! {
    /// Names an HTTP request; the records of a batch share it. Cheap to clone.
    RequestId
}

text_id! {
    /// Names an event: the caller's idempotency key or CloudEvents id, else a new UUID v7. Cheap to clone.
    EventId
}

impl EventId {
    /// The id of the `index`th record made of this event: of a batch's element or of a fan-out.
    pub fn element(&self, index: usize) -> Self {
        Self(Bytes::from(format!("{self}.{index}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_callers_are_checked() {
        assert_eq!(RequestId::from_caller("req-1").unwrap().as_str(), "req-1");
        for bad in ["", "a b", "a\nb", "ü", &"x".repeat(129)] {
            assert_eq!(RequestId::from_caller(bad), Err(IdError::NotSane), "{bad:?}");
        }
    }

    #[test]
    fn uuids_read_back() {
        let uid = Uid::new();
        assert_eq!(uid.to_string().parse::<Uid>().unwrap(), uid);
        assert!("no".parse::<Uid>().is_err());
    }

    #[test]
    fn elements_are_numbered() {
        assert_eq!(EventId::from_caller("k").unwrap().element(3).as_str(), "k.3");
    }
}
