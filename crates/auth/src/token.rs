//! Tokens: JWTs in compact form (RFC 7515, 7519), as access tokens (RFC 9068).
//!
//! Invariant: a token that verifies was written by [`Issuer::mint`] with a key that is valid, to the byte. So its header has the
//! members `alg`, `typ` and `kid` and no other: what would have to be understood (`crit`, `jwk`, `jku`, `x5u`) is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use types::{Scope, TopicPatterns, Workspaces};

use crate::error::{TokenError, TokenErrorKind};
use crate::key::{KeySet, KeysError};
use crate::{Grant, UnixSeconds};

/// The longest token that is issued or looked at, in bytes; a request's headers have 32 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What a token lives where nobody says otherwise, in seconds.
pub const LIFETIME_DEFAULT_S: u64 = 15 * 60;

/// What it lives at most, in seconds.
pub const LIFETIME_MAX_S: u64 = 24 * 60 * 60;

/// What clocks may differ by, in seconds.
pub const CLOCK_SKEW_S: u64 = 60;

/// `typ` of an access token (RFC 9068, 2.1).
const TYPE: &str = "at+jwt";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Who it is for.
    pub aud: String,
    /// The client's `uid`: one that is deleted and made again is another.
    pub sub: String,
    /// The client's name.
    pub client_id: String,
    /// When it was issued.
    pub iat: UnixSeconds,
    /// Not valid before.
    pub nbf: UnixSeconds,
    /// Not valid from then on.
    pub exp: UnixSeconds,
    /// Names the token.
    pub jti: String,
    /// Scopes with spaces between them.
    pub scope: String,
    /// Patterns.
    pub topics: TopicPatterns,
    /// Names, or `["*"]`.
    pub workspaces: Workspaces,
    /// How often the client's tokens had been revoked when it was issued.
    pub epoch: u64,
}

impl Claims {
    /// What it allows. A scope that isn't known allows nothing.
    pub fn grant(&self) -> Grant {
        Grant {
            workspaces: self.workspaces.clone(),
            scopes: self.scope.split(' ').filter_map(|scope| scope.parse::<Scope>().ok()).collect(),
            topics: self.topics.clone(),
        }
    }

    /// Whether it is valid at this time, give or take [`CLOCK_SKEW_S`].
    pub fn check_time(&self, now: UnixSeconds) -> Result<(), TokenError> {
        let begins = self.nbf.max(self.iat);
        if begins > now.saturating_add(CLOCK_SKEW_S) {
            return Err(TokenError(TokenErrorKind::NotYetValid { at: begins }));
        }
        if self.exp.saturating_add(CLOCK_SKEW_S) <= now {
            return Err(TokenError(TokenErrorKind::Expired { at: self.exp }));
        }
        Ok(())
    }
}

/// Who issues and checks: `iss` and `aud` of all tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
}

impl Issuer {
    /// An installation that issues tokens for itself.
    pub fn installation(id: types::InstallationId) -> Self {
        let name = format!("urn:vltava:{id}");
        Self { issuer: name.clone(), audience: name }
    }

    /// A token of these claims. `iss` and `aud` are the issuer's own.
    pub fn mint(&self, keys: &KeySet, claims: &Claims) -> Result<String, KeysError> {
        let key = keys.current();
        let header =
            Header { alg: key.algorithm().as_str().into(), typ: TYPE.into(), kid: key.kid().to_owned() };
        let part = |json: Result<Vec<u8>, serde_json::Error>| {
            URL_SAFE_NO_PAD.encode(json.expect("texts, numbers and lists of texts always serialise"))
        };
        let claims = Claims { iss: self.issuer.clone(), aud: self.audience.clone(), ..claims.clone() };
        let mut token =
            format!("{}.{}", part(serde_json::to_vec(&header)), part(serde_json::to_vec(&claims)));
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What the token says, if it was issued here and is valid at this time. Whether its client may still use it is
    /// another question.
    pub fn verify(&self, keys: &KeySet, token: &str, now: UnixSeconds) -> Result<Claims, TokenError> {
        let refuse = |kind| TokenError(kind);
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refuse(TokenErrorKind::TooLong));
        }
        let malformed = || refuse(TokenErrorKind::Malformed);
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| malformed())?;
        if header.typ != TYPE {
            return Err(malformed());
        }
        let key = keys.find(&header.kid, now).ok_or(refuse(TokenErrorKind::UnknownKey))?;
        // The key says what to check by; the token may only say the same.
        if header.alg != key.algorithm().as_str() {
            return Err(refuse(TokenErrorKind::WrongAlgorithm));
        }
        if !key.verifies(message.as_bytes(), &bytes(signature)?) {
            return Err(refuse(TokenErrorKind::BadSignature));
        }
        let claims: Claims = serde_json::from_slice(&bytes(claims)?).map_err(|_| malformed())?;
        if claims.iss != self.issuer {
            return Err(refuse(TokenErrorKind::WrongIssuer));
        }
        if claims.aud != self.audience {
            return Err(refuse(TokenErrorKind::WrongAudience));
        }
        claims.check_time(now)?;
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
