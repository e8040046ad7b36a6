//! Why a token is refused.

use std::fmt;

use crate::UnixSeconds;

/// A token that isn't accepted. Neither it nor its parts are in here: a log would keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenError(pub(crate) TokenErrorKind);

/// Which rule it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenErrorKind {
    /// Longer than any that is issued.
    TooLong,
    /// Not three parts of base64url with JSON in the first two, as this installation writes them.
    Malformed,
    /// Its `kid` names no key that is valid now.
    UnknownKey,
    /// Its `alg` isn't the one of the key that it names; `none` never is.
    WrongAlgorithm,
    /// The signature isn't the key's.
    BadSignature,
    /// `iss` is another.
    WrongIssuer,
    /// `aud` is another.
    WrongAudience,
    /// Its time is over.
    Expired {
        /// `exp`.
        at: UnixSeconds,
    },
    /// Its time has not come.
    NotYetValid {
        /// `nbf` or `iat`.
        at: UnixSeconds,
    },
    /// Its client is gone or disabled, or its tokens were revoked.
    Revoked,
}

impl TokenError {
    /// Which rule it broke.
    pub fn kind(self) -> TokenErrorKind {
        self.0
    }

    /// For metrics and logs: from a closed set.
    pub fn reason(self) -> &'static str {
        match self.0 {
            TokenErrorKind::TooLong => "too_long",
            TokenErrorKind::Malformed => "malformed",
            TokenErrorKind::UnknownKey => "unknown_key",
            TokenErrorKind::WrongAlgorithm => "wrong_algorithm",
            TokenErrorKind::BadSignature => "bad_signature",
            TokenErrorKind::WrongIssuer => "wrong_issuer",
            TokenErrorKind::WrongAudience => "wrong_audience",
            TokenErrorKind::Expired { .. } => "expired",
            TokenErrorKind::NotYetValid { .. } => "not_yet_valid",
            TokenErrorKind::Revoked => "revoked",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TokenErrorKind::TooLong => "the token is longer than any that is issued here",
            TokenErrorKind::Malformed => "the token is no JWT of this installation",
            TokenErrorKind::UnknownKey => {
                "the token's key isn't valid any more, or is another installation's: get a new token"
            }
            TokenErrorKind::WrongAlgorithm => "the token's algorithm isn't its key's",
            TokenErrorKind::BadSignature => "the token's signature is wrong",
            TokenErrorKind::WrongIssuer => "the token was issued by another installation",
            TokenErrorKind::WrongAudience => "the token is for another audience",
            TokenErrorKind::Expired { .. } => "the token has expired: get a new one",
            TokenErrorKind::NotYetValid { .. } => "the token isn't valid yet: compare the clocks",
            TokenErrorKind::Revoked => "the token was revoked, or its client is disabled or deleted",
        })
    }
}

impl std::error::Error for TokenError {}
