//! Secrets of machines: random, and kept as a digest.
//!
//! A secret has 256 random bits, so there is nothing to guess, and SHA-256 is enough of a digest: a slow password hash would
//! only let strangers burn our time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Every secret begins so: whoever looks for leaked secrets knows it by that.
const PREFIX: &str = "vltava_cs_";

const BYTES: usize = 32;

/// A secret in clear. It is shown once and dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// So many random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

impl Secret {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandom> {
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<BYTES>()?))))
    }

    /// What is kept of it.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }

    /// To show it, once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret. Written in base64url.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretDigest([u8; BYTES]);

impl SecretDigest {
    /// Of what somebody shows, whatever it is.
    pub fn of(shown: &str) -> Self {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest(&SHA256, shown.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Whether both are of the same secret, in constant time.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

impl PartialEq for SecretDigest {
    fn eq(&self, other: &Self) -> bool {
        self.is(other)
    }
}

impl Eq for SecretDigest {}

impl TryFrom<String> for SecretDigest {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "a secret's digest is 32 bytes in base64url";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong)?;
        Ok(Self(bytes.try_into().map_err(|_| wrong)?))
    }
}

impl From<SecretDigest> for String {
    fn from(digest: SecretDigest) -> Self {
        URL_SAFE_NO_PAD.encode(digest.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_digest_and_shown_by_nothing_else() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert!(one.reveal().starts_with(PREFIX) && one.reveal().len() == PREFIX.len() + 43);
        assert!(one.digest().is(&SecretDigest::of(one.reveal())));
        assert!(!one.digest().is(&two.digest()));
        assert!(!one.digest().is(&SecretDigest::of("")));
        let shown = format!("{one:?} {:?}", one.digest());
        assert!(!shown.contains(&one.reveal()[PREFIX.len()..]), "{shown}");
        assert!(!shown.contains(&String::from(one.digest())), "{shown}");
    }

    #[test]
    fn a_digest_reads_and_reads_back() {
        let digest = Secret::generate().unwrap().digest();
        let text = String::from(digest.clone());
        assert_eq!(SecretDigest::try_from(text).unwrap(), digest);
        for bad in ["", "AA", "not base64!"] {
            assert!(SecretDigest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
