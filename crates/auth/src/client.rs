//! Clients as the authorizer knows them: a table that is published whole, never changed in place.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Grant, SecretDigest, UnixSeconds};

/// A secret of a client, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSecret {
    /// Of the secret.
    pub digest: SecretDigest,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// From when it isn't taken any more; `None`: it is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixSeconds>,
}

impl ClientSecret {
    pub(crate) fn is_valid(&self, now: UnixSeconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A machine identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its `client_id`.
    pub name: String,
    /// One that is deleted and made again has another.
    pub uid: String,
    /// What its tokens may allow at most.
    pub grant: Grant,
    /// Of its tokens, in seconds.
    pub token_lifetime_s: u64,
    /// Gets no token, and its tokens are refused.
    pub is_disabled: bool,
    /// How often its tokens were revoked: those of earlier epochs are refused.
    pub epoch: u64,
    /// At most two that are valid.
    pub secrets: Vec<ClientSecret>,
}

impl Client {
    /// Whether the secret that was shown is one of its own, at this time.
    pub fn takes(&self, shown: &SecretDigest, now: UnixSeconds) -> bool {
        // Every one is looked at, so that the time says nothing about which.
        self.secrets
            .iter()
            .fold(false, |taken, secret| taken | (secret.digest.is(shown) & secret.is_valid(now)))
    }
}

/// All clients of the moment.
#[derive(Debug, Clone, Default)]
pub struct Clients(HashMap<String, Arc<Client>>);

impl Clients {
    pub(crate) fn with(&self, client: Client) -> Self {
        let mut clients = self.clone();
        clients.0.insert(client.name.clone(), Arc::new(client));
        clients
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let mut clients = self.clone();
        clients.0.remove(name);
        clients
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.values()
    }

    /// The client of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Client>> {
        self.0.get(name)
    }
}

impl FromIterator<Client> for Clients {
    fn from_iter<T: IntoIterator<Item = Client>>(clients: T) -> Self {
        Self(clients.into_iter().map(|client| (client.name.clone(), Arc::new(client))).collect())
    }
}
