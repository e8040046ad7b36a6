//! Keys that sign tokens, by `kid`.
//!
//! Invariants: at most two keys are valid, the **current** one, which signs, and the **previous** one, which only checks, until
//! the last token of its time has expired. A key has one algorithm for life.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::UnixSeconds;
use crate::secret::random;
use crate::token::{CLOCK_SKEW_S, LIFETIME_MAX_S};

/// How long a key that was followed by another still checks, in seconds: the longest life of a token, and the skew.
pub const OVERLAP_S: u64 = LIFETIME_MAX_S + CLOCK_SKEW_S;

/// The format of the keys' document.
const FORMAT: u32 = 1;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256: who checks can sign too. For one installation that checks its own.
    #[serde(rename = "HS256")]
    Hs256,
    /// ECDSA on P-256: others check by the published key.
    #[serde(rename = "ES256")]
    Es256,
}

impl Algorithm {
    /// As `alg` says it (RFC 7518, 3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
        }
    }
}

/// Why keys can't be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not the document that is written here. What it holds is not shown.
    #[error("the keys' document is broken at line {line}, column {column}")]
    Broken {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Written by a newer Vltava.
    #[error(
        "the keys' document has format {0}, but this version of Vltava knows format {FORMAT}: use a newer one"
    )]
    NewerFormat(u32),
    /// A key in it is none.
    #[error("key {0} is broken")]
    Key(String),
    /// Not one or two keys.
    #[error("the keys' document has {0} keys: there must be one or two")]
    Count(usize),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// Why keys aren't rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A third key would end the tokens of the first.
    #[error(
        "the key before is valid until {until} (Unix time), and no more than two are: rotate then, or by force"
    )]
    TwoValid {
        /// When the previous key ends.
        until: UnixSeconds,
    },
    /// There is none to be made.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

#[derive(Clone)]
enum Material {
    Hs256(hmac::Key, Vec<u8>),
    /// The public point, uncompressed, and the pair in PKCS#8.
    Es256 {
        public: Vec<u8>,
        pkcs8: Vec<u8>,
    },
}

/// One key.
#[derive(Clone)]
pub(crate) struct Key {
    kid: String,
    created_at: UnixSeconds,
    /// From when it doesn't check any more; `None`: the current one.
    until: Option<UnixSeconds>,
    material: Material,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, created_at, until, material: _ } = self;
        f.debug_struct("Key")
            .field("kid", kid)
            .field("algorithm", &self.algorithm())
            .field("created_at", created_at)
            .field("until", until)
            .finish_non_exhaustive()
    }
}

impl Key {
    fn generate(algorithm: Algorithm, now: UnixSeconds) -> Result<Self, KeysError> {
        let kid = URL_SAFE_NO_PAD.encode(random::<9>().map_err(|_| KeysError::NoRandom)?);
        let bytes = match algorithm {
            Algorithm::Hs256 => random::<32>().map_err(|_| KeysError::NoRandom)?.to_vec(),
            Algorithm::Es256 => {
                let rng = SystemRandom::new();
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng);
                pkcs8.map_err(|_| KeysError::NoRandom)?.as_ref().to_vec()
            }
        };
        Self::of(kid, now, None, algorithm, bytes)
    }

    fn of(
        kid: String,
        created_at: UnixSeconds,
        until: Option<UnixSeconds>,
        algorithm: Algorithm,
        bytes: Vec<u8>,
    ) -> Result<Self, KeysError> {
        let material = match algorithm {
            // RFC 7518, 3.2: no shorter than the hash.
            Algorithm::Hs256 if bytes.len() < 32 => return Err(KeysError::Key(kid)),
            Algorithm::Hs256 => Material::Hs256(hmac::Key::new(hmac::HMAC_SHA256, &bytes), bytes),
            Algorithm::Es256 => match pair(&bytes) {
                Some(pair) => Material::Es256 { public: pair.public_key().as_ref().to_vec(), pkcs8: bytes },
                None => return Err(KeysError::Key(kid)),
            },
        };
        Ok(Self { kid, created_at, until, material })
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Hs256(..) => Algorithm::Hs256,
            Material::Es256 { .. } => Algorithm::Es256,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        match &self.material {
            Material::Hs256(key, _) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Material::Es256 { pkcs8, .. } => {
                let signed = pair(pkcs8).map(|pair| pair.sign(&SystemRandom::new(), message));
                match signed {
                    Some(Ok(signature)) => Ok(signature.as_ref().to_vec()),
                    Some(Err(_)) => Err(KeysError::NoRandom),
                    None => Err(KeysError::Key(self.kid.clone())),
                }
            }
        }
    }

    /// In constant time, as far as it is a secret's.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Hs256(key, _) => hmac::verify(key, message, signature).is_ok(),
            Material::Es256 { public, .. } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(message, signature).is_ok()
            }
        }
    }

    /// As a JWK (RFC 7517); a shared secret is none to publish.
    fn jwk(&self) -> Option<Value> {
        let Material::Es256 { public, .. } = &self.material else { return None };
        // 0x04, x, y (SEC 1, 2.3.3).
        let (x, y) = public.get(1..)?.split_at_checked(32)?;
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        Some(json!({
            "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y),
            "use": "sig", "alg": "ES256", "kid": self.kid,
        }))
    }
}

fn pair(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()
}

/// The keys of an installation. A change makes a new set.
#[derive(Debug, Clone)]
pub struct KeySet {
    current: Key,
    previous: Option<Key>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    format: u32,
    /// The current one first.
    keys: Vec<DocumentKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DocumentKey {
    kid: String,
    alg: Algorithm,
    created_at: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixSeconds>,
    /// HS256: the secret; ES256: the pair in PKCS#8. In base64url.
    key: String,
}

impl KeySet {
    /// One new key.
    pub fn generate(algorithm: Algorithm, now: UnixSeconds) -> Result<Self, KeysError> {
        Ok(Self { current: Key::generate(algorithm, now)?, previous: None })
    }

    /// A new current key; the one until now goes on checking for [`OVERLAP_S`]. Unless forced it is refused while there are
    /// two: the tokens of the older one would end before their time.
    pub fn rotate(
        &self,
        algorithm: Algorithm,
        now: UnixSeconds,
        is_forced: bool,
    ) -> Result<Self, RotateError> {
        if let Some(until) = self.previous.as_ref().and_then(|previous| previous.until)
            && now < until
            && !is_forced
        {
            return Err(RotateError::TwoValid { until });
        }
        let previous = Key { until: Some(now + OVERLAP_S), ..self.current.clone() };
        Ok(Self { current: Key::generate(algorithm, now)?, previous: Some(previous) })
    }

    /// How new tokens are signed.
    pub fn algorithm(&self) -> Algorithm {
        self.current.algorithm()
    }

    /// The `kid` of the key that signs.
    pub fn current_kid(&self) -> &str {
        self.current.kid()
    }

    pub(crate) fn current(&self) -> &Key {
        &self.current
    }

    /// The key of that `kid`, if it checks at this time.
    pub(crate) fn find(&self, kid: &str, now: UnixSeconds) -> Option<&Key> {
        let valid = |key: &&Key| key.kid == kid && key.until.is_none_or(|until| now < until);
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(valid)
    }

    /// What others check tokens by (RFC 7517, 5): the public keys that are valid.
    pub fn jwks(&self, now: UnixSeconds) -> Value {
        let keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
        let valid = keys.filter(|key| key.until.is_none_or(|until| now < until));
        json!({ "keys": valid.filter_map(Key::jwk).collect::<Vec<_>>() })
    }

    /// With all secrets, to be kept where nobody else reads.
    pub fn to_document(&self) -> String {
        let key = |key: &Key| DocumentKey {
            kid: key.kid.clone(),
            alg: key.algorithm(),
            created_at: key.created_at,
            until: key.until,
            key: URL_SAFE_NO_PAD.encode(match &key.material {
                Material::Hs256(_, bytes) => bytes,
                Material::Es256 { pkcs8, .. } => pkcs8,
            }),
        };
        let keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten().map(key).collect();
        let document = Document { format: FORMAT, keys };
        let mut text = serde_json::to_string_pretty(&document).expect("texts and numbers always serialise");
        text.push('\n');
        text
    }

    /// What [`KeySet::to_document`] wrote.
    pub fn from_document(text: &str) -> Result<Self, KeysError> {
        // serde's own message could quote what it stands at.
        let broken = |e: serde_json::Error| KeysError::Broken { line: e.line(), column: e.column() };
        let value: Value = serde_json::from_str(text).map_err(broken)?;
        if let Some(format) = value.get("format").and_then(Value::as_u64).filter(|n| *n > FORMAT.into()) {
            return Err(KeysError::NewerFormat(u32::try_from(format).unwrap_or(u32::MAX)));
        }
        let Document { format: _, keys } = serde_json::from_str(text).map_err(broken)?;
        let count = keys.len();
        let mut keys = keys.into_iter().map(|key| {
            let DocumentKey { kid, alg, created_at, until, key } = key;
            match URL_SAFE_NO_PAD.decode(key) {
                Ok(bytes) => Key::of(kid, created_at, until, alg, bytes),
                Err(_) => Err(KeysError::Key(kid)),
            }
        });
        match (keys.next(), keys.next(), keys.next()) {
            (Some(current), previous, None) => {
                Ok(Self { current: current?, previous: previous.transpose()? })
            }
            _ => Err(KeysError::Count(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_and_reads_back_and_shows_no_secret() {
        for algorithm in [Algorithm::Hs256, Algorithm::Es256] {
            let set = KeySet::generate(algorithm, 100).unwrap().rotate(algorithm, 200, false).unwrap();
            let text = set.to_document();
            let again = KeySet::from_document(&text).unwrap();
            assert_eq!(again.to_document(), text);
            let signature = set.current.sign(b"x").unwrap();
            assert!(again.current.verifies(b"x", &signature));
            assert!(!again.current.verifies(b"y", &signature));
            assert!(!again.previous.as_ref().unwrap().verifies(b"x", &signature));
            let document: Value = serde_json::from_str(&text).unwrap();
            let secret = document["keys"][0]["key"].as_str().unwrap();
            assert!(!format!("{set:?}").contains(secret));
        }
    }

    #[test]
    fn two_keys_are_valid_and_the_older_one_ends() {
        let first = KeySet::generate(Algorithm::Hs256, 0).unwrap();
        let second = first.rotate(Algorithm::Es256, 1000, false).unwrap();
        let until = 1000 + OVERLAP_S;
        let old = first.current_kid();
        assert!(second.find(old, until - 1).is_some() && second.find(old, until).is_none());
        assert!(second.find(second.current_kid(), u64::MAX).is_some());
        let refused = second.rotate(Algorithm::Hs256, until - 1, false).unwrap_err();
        assert!(matches!(refused, RotateError::TwoValid { until: u } if u == until), "{refused}");
        let forced = second.rotate(Algorithm::Hs256, until - 1, true).unwrap();
        assert!(forced.find(old, 1001).is_none(), "the third pushes the first out");
        assert!(second.rotate(Algorithm::Hs256, until, false).is_ok());
    }

    #[test]
    fn only_public_keys_are_published() {
        let set = KeySet::generate(Algorithm::Hs256, 0).unwrap();
        assert_eq!(set.jwks(0), json!({ "keys": [] }));
        let set = set.rotate(Algorithm::Es256, 0, false).unwrap();
        let jwks = set.jwks(0);
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
        assert_eq!(jwks["keys"][0]["kid"], set.current_kid());
        assert_eq!(jwks["keys"][0]["x"].as_str().unwrap().len(), 43);
        assert!(jwks["keys"][0].get("d").is_none());
        // The one before stays published as long as it checks.
        let set = set.rotate(Algorithm::Es256, OVERLAP_S, false).unwrap();
        assert_eq!(set.jwks(OVERLAP_S)["keys"].as_array().unwrap().len(), 2);
        assert_eq!(set.jwks(2 * OVERLAP_S)["keys"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn broken_documents_are_refused_without_being_quoted() {
        let text = KeySet::generate(Algorithm::Hs256, 0).unwrap().to_document();
        let document: Value = serde_json::from_str(&text).unwrap();
        let secret = document["keys"][0]["key"].as_str().unwrap().to_owned();
        for (bad, part) in [
            ("", "broken"),
            ("{}", "broken"),
            ("{\"format\": 2}", "format 2"),
            ("{\"format\": 1, \"keys\": []}", "0 keys"),
            (&text.replace(&secret, &secret[..20]), "is broken"),
            (&text.replace(&secret, &format!("{secret}!")), "is broken"),
            (&text.replace("HS256", &secret), "broken at line"),
            (&text.replace("HS256", "ES256"), "is broken"),
        ] {
            let error = KeySet::from_document(bad).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains(&secret[..20]), "{bad}: {error}");
        }
    }

    /// RFC 7515, A.1 and A.3.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let secret =
            bytes("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
        let key = Key::of("k".into(), 0, None, Algorithm::Hs256, secret).unwrap();
        let message = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = bytes("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(key.sign(message.as_bytes()).unwrap(), signature);
        assert!(key.verifies(message.as_bytes(), &signature));

        let mut public = vec![4];
        public.extend(bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"));
        public.extend(bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"));
        let material = Material::Es256 { public, pkcs8: Vec::new() };
        let key = Key { kid: "k".into(), created_at: 0, until: None, material };
        let message = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature =
            bytes("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
        assert!(key.verifies(message.as_bytes(), &signature));
        assert!(!key.verifies(b"another", &signature));
    }
}
