//! The authorizer: gives tokens for secrets, and says who a token's bearer is.
//!
//! Invariants: a token is taken only while its client is there, enabled and of the token's epoch, whatever the cache holds. A
//! request for a token costs one digest and one look into a table, whoever asks.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use types::{Scope, Scopes, TopicPattern, TopicPatterns, Workspaces};

use crate::access::{Access, Verified};
use crate::cache::{Cache, Place};
use crate::client::{Client, Clients};
use crate::error::{TokenError, TokenErrorKind};
use crate::{
    Claims, Grant, Issuer, KeySet, KeysError, SecretDigest, TOKEN_BYTES_MAX, Throttle, ThrottleConfig,
    UnixSeconds, metrics,
};

/// Failures of one address: so many at once, then one a second. Many clients may share an address.
pub const FAILURES_OF_ADDRESS: ThrottleConfig = ThrottleConfig { burst: 60, one_in_ms: 1000 };

/// Failures of one client's name, from wherever: so many at once, then one in six seconds.
pub const FAILURES_OF_CLIENT: ThrottleConfig = ThrottleConfig { burst: 10, one_in_ms: 6000 };

/// The time, given by whoever composes the process.
pub trait Clock: Send + Sync + 'static {
    /// Of the wall.
    fn now(&self) -> UnixSeconds;

    /// Milliseconds since whenever; never goes back.
    fn elapsed_ms(&self) -> u64;
}

struct Keys {
    set: KeySet,
    generation: u64,
}

/// One an installation.
pub struct Authorizer {
    issuer: Issuer,
    clock: Box<dyn Clock>,
    keys: ArcSwap<Keys>,
    clients: ArcSwap<Clients>,
    cache: Cache,
    addresses: Throttle,
    names: Throttle,
    /// What the process shows to itself.
    own: SecretDigest,
    /// Numbers tokens within this process' life.
    issued: AtomicU64,
    /// Tells this process' tokens from an earlier one's.
    begun: String,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A request for a token, as it was made.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// Which client.
    pub client_id: &'a str,
    /// What it shows.
    pub secret: &'a str,
    /// Scopes with spaces between them; `None`: all of the client's.
    pub scope: Option<&'a str>,
    /// Patterns with spaces between them; `None`: all of the client's.
    pub topics: Option<&'a str>,
    /// Workspaces with spaces between them; `None`: all of the client's.
    pub workspaces: Option<&'a str>,
    /// Who asks.
    pub peer: IpAddr,
}

/// A token that was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// It.
    pub token: String,
    /// What it lives, in seconds.
    pub lifetime_s: u64,
    /// What it allows.
    pub grant: Grant,
}

/// Why no token was given.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The client, or its secret, is wrong, or the client is disabled: who asks isn't told which.
    #[error("the client isn't known, or this isn't its secret")]
    InvalidClient,
    /// More is asked for than the client has, or what isn't anything.
    #[error("{0}")]
    InvalidScope(String),
    /// There were too many failures.
    #[error("there were too many failed attempts: wait")]
    Throttled {
        /// When to try again, in seconds.
        retry_after_s: u64,
    },
    /// No token can be made.
    #[error("no token can be made")]
    Keys(#[from] KeysError),
}

impl Authorizer {
    /// Knows no client yet. `own` is what the process shows to itself instead of a token.
    pub fn new(issuer: Issuer, keys: KeySet, own: SecretDigest, clock: impl Clock) -> Self {
        let begun = format!("{}-{}", clock.now(), keys.current_kid());
        Self {
            issuer,
            clock: Box::new(clock),
            keys: ArcSwap::from_pointee(Keys { set: keys, generation: 0 }),
            clients: ArcSwap::default(),
            cache: Cache::default(),
            addresses: Throttle::new(FAILURES_OF_ADDRESS),
            names: Throttle::new(FAILURES_OF_CLIENT),
            own,
            issued: AtomicU64::new(0),
            begun,
        }
    }

    /// From now on these are the clients.
    pub fn publish(&self, clients: Clients) {
        self.clients.store(Arc::new(clients));
    }

    /// Whether a client that can get tokens holds the scope.
    pub fn has_client_with(&self, scope: Scope) -> bool {
        let now = self.clock.now();
        let can =
            |client: &Client| !client.is_disabled && client.secrets.iter().any(|secret| secret.is_valid(now));
        self.clients.load().iter().any(|client| can(client) && client.grant.scopes.allow(scope))
    }

    /// From now on the client is as this, whatever it was.
    pub fn put_client(&self, client: Client) {
        self.clients.rcu(|clients| clients.with(client.clone()));
    }

    /// From now on there is no client of that name.
    pub fn remove_client(&self, name: &str) {
        self.clients.rcu(|clients| clients.without(name));
    }

    /// From now on these are the keys.
    pub fn set_keys(&self, set: KeySet) {
        let generation = self.keys.load().generation + 1;
        self.keys.store(Arc::new(Keys { set, generation }));
    }

    /// The keys of the moment.
    pub fn keys(&self) -> KeySet {
        self.keys.load().set.clone()
    }

    /// The wall clock's time.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// A token for a secret.
    pub fn issue(&self, request: &TokenRequest<'_>) -> Result<Issued, IssueError> {
        let issued = self.try_issue(request);
        match &issued {
            Ok(_) => metrics::issued(),
            Err(IssueError::InvalidClient) => metrics::token_refused("invalid_client"),
            Err(IssueError::InvalidScope(_)) => metrics::token_refused("invalid_scope"),
            Err(IssueError::Throttled { .. }) => metrics::token_refused("throttled"),
            Err(IssueError::Keys(_)) => metrics::token_refused("server_error"),
        }
        issued
    }

    fn try_issue(&self, request: &TokenRequest<'_>) -> Result<Issued, IssueError> {
        let TokenRequest { client_id, secret, scope, topics, workspaces, peer } = *request;
        let elapsed = self.clock.elapsed_ms();
        let throttled = |wait_ms: u64| IssueError::Throttled { retry_after_s: wait_ms.div_ceil(1000) };
        let address = network(peer);
        self.addresses.check(address, elapsed).map_err(throttled)?;
        let now = self.clock.now();
        let shown = SecretDigest::of(secret);
        let clients = self.clients.load();
        let known = clients.get(client_id).filter(|client| client.takes(&shown, now) & !client.is_disabled);
        let Some(client) = known else {
            self.addresses.failed(address, elapsed);
            // A right secret is always taken: nobody can lock a client out by failing in its name.
            let wait = self.names.check(client_id, elapsed);
            self.names.failed(client_id, elapsed);
            return Err(wait.map_or_else(throttled, |()| IssueError::InvalidClient));
        };
        let grant = narrowed(&client.grant, scope, topics, workspaces)?;
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let claims = Claims {
            iss: String::new(),
            aud: String::new(),
            sub: client.uid.clone(),
            client_id: client.name.clone(),
            iat: now,
            nbf: now,
            exp: now + client.token_lifetime_s,
            jti: format!("{}-{number}", self.begun),
            scope: grant.scopes.to_string(),
            topics: grant.topics.clone(),
            workspaces: grant.workspaces.clone(),
            epoch: client.epoch,
        };
        let token = self.issuer.mint(&self.keys.load().set, &claims)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::InvalidScope(format!(
                "the token would have {} bytes, but at most {TOKEN_BYTES_MAX} are taken: ask for fewer topics or \
                 workspaces",
                token.len()
            )));
        }
        Ok(Issued { token, lifetime_s: client.token_lifetime_s, grant })
    }

    /// Who shows this token.
    pub fn authenticate(&self, token: &str) -> Result<Access, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError(TokenErrorKind::TooLong));
        }
        let now = self.clock.now();
        let keys = self.keys.load();
        let place = Place::of(token);
        let verified = match self.cache.get(&place, keys.generation, now) {
            Some(verified) => verified,
            None if self.own.is(&SecretDigest::of(token)) => return Ok(Access::local()),
            None => {
                let claims = self.issuer.verify(&keys.set, token, now)?;
                let verified = Arc::new(Verified { grant: claims.grant(), claims });
                self.cache.put(place, Arc::clone(&verified), keys.generation, now);
                verified
            }
        };
        verified.claims.check_time(now)?;
        let clients = self.clients.load();
        let current = |client: &&Arc<Client>| {
            let Claims { sub, epoch, .. } = &verified.claims;
            client.uid == *sub && client.epoch == *epoch && !client.is_disabled
        };
        match clients.get(&verified.claims.client_id).filter(current) {
            Some(client) => Ok(Access::of(verified, Arc::clone(client))),
            None => Err(TokenError(TokenErrorKind::Revoked)),
        }
    }
}

/// Whom failures are counted for: an address, of IPv6 the network that one subscriber has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// What is asked for, which must be within what the client has.
fn narrowed(
    has: &Grant,
    scope: Option<&str>,
    topics: Option<&str>,
    workspaces: Option<&str>,
) -> Result<Grant, IssueError> {
    let invalid = |why: String| IssueError::InvalidScope(why);
    let scopes = match scope {
        None => has.scopes.clone(),
        Some(text) => {
            let asked = text.split_ascii_whitespace().map(|text| {
                let scope = text.parse::<Scope>().map_err(|error| invalid(error.to_string()))?;
                let refused = || invalid(format!("scope {scope} isn't one of the client's"));
                has.scopes.allow(scope).then_some(scope).ok_or_else(refused)
            });
            asked.collect::<Result<Scopes, _>>()?
        }
    };
    let topics = match topics {
        None => has.topics.clone(),
        Some(text) => {
            let asked = text
                .split_ascii_whitespace()
                .map(|text| text.parse::<TopicPattern>().map_err(|error| invalid(error.to_string())));
            let asked = asked.collect::<Result<TopicPatterns, _>>()?;
            if !has.topics.cover(&asked) {
                return Err(invalid("topics: they are wider than the client's".into()));
            }
            asked
        }
    };
    let workspaces = match workspaces {
        None => has.workspaces.clone(),
        Some(text) => {
            let asked = text.split_ascii_whitespace().map(str::to_owned);
            let asked = Workspaces::from(asked.collect::<std::collections::BTreeSet<_>>());
            if !has.workspaces.cover(&asked) {
                return Err(invalid("workspaces: they are more than the client's".into()));
            }
            asked
        }
    };
    let grant = Grant { workspaces, scopes, topics };
    match grant.scopes.is_empty() {
        true => Err(invalid("scope: a token needs one at least".into())),
        false => Ok(grant),
    }
}

#[cfg(test)]
mod tests;
