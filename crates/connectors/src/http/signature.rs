//! Standard Webhooks signatures: `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`.
//! While a secret is rotated there are several, and as many signatures, separated by spaces.
//!
//! Not done: `v1a` (ed25519).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Secrets that may be in force at once.
const SECRETS_MAX: usize = 4;
/// In bytes; a shorter secret can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Signs with every secret in force.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

impl Signer {
    /// Secrets separated by spaces: `whsec_` and base64, or any other text, whose bytes are the key.
    /// The error never repeats a secret.
    pub fn parse(secrets: &str) -> Result<Self, String> {
        let keys: Result<Vec<_>, String> = secrets
            .split_whitespace()
            .map(|secret| {
                let key = match secret.strip_prefix("whsec_") {
                    Some(encoded) => STANDARD
                        .decode(encoded)
                        .map_err(|_| String::from("what follows \"whsec_\" isn't base64"))?,
                    None => secret.as_bytes().to_vec(),
                };
                if key.len() < SECRET_BYTES_MIN {
                    return Err(format!(
                        "a secret of {} bytes is too short; use at least {SECRET_BYTES_MIN}",
                        key.len()
                    ));
                }
                Ok(Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"))
            })
            .collect();
        match keys? {
            keys if keys.is_empty() => Err("is empty".into()),
            keys if keys.len() > SECRETS_MAX => {
                Err(format!("at most {SECRETS_MAX} secrets can be in force at once"))
            }
            keys => Ok(Self(keys)),
        }
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self
            .0
            .iter()
            .map(|key| {
                let mut mac = key.clone();
                mac.update(id.as_bytes());
                mac.update(format!(".{timestamp}.").as_bytes());
                mac.update(body);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            })
            .collect();
        signatures.join(" ")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_published_example_holds() {
        let signer = Signer::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn every_secret_in_force_signs() {
        let signer = Signer::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw another-secret-of-text").unwrap();
        let signatures = signer.sign("id", 1, b"");
        assert_eq!(signatures.split(' ').count(), 2);
        assert!(signatures.split(' ').all(|s| s.starts_with("v1,")));
    }

    #[test]
    fn a_bad_secret_is_refused_without_being_repeated() {
        for bad in ["whsec_%%%", "short", " ", "aaaaaaaaaaaaaaaaaa whsec_c2hvcnQ="] {
            let error = Signer::parse(bad).unwrap_err();
            assert!(!error.contains("%%%") && !error.contains("short\""), "{error}");
        }
        assert_eq!(format!("{:?}", Signer::parse("aaaaaaaaaaaaaaaaaa").unwrap()), "Signer(1 secrets)");
    }
}
