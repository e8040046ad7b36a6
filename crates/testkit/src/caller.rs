//! Callers with permissions that a test says. Their time stands still: a day after 1970 began.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use auth::{
    Access, Algorithm, Authorizer, Client, ClientSecret, Clients, Clock, Grant, Issuer, KeySet, Secret,
    TokenRequest, UnixSeconds,
};
use types::{Scope, Workspaces};

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> UnixSeconds {
        86_400
    }

    fn elapsed_ms(&self) -> u64 {
        0
    }
}

/// An authorizer that knows nobody.
pub fn authorizer() -> Authorizer {
    let keys = KeySet::generate(Algorithm::Hs256, 0).expect("random bytes");
    let issuer = Issuer { issuer: "test".into(), audience: "test".into() };
    let own = Secret::generate().expect("random bytes").digest();
    Authorizer::new(issuer, keys, own, Stopped)
}

/// Whoever shows a token of these scopes, workspaces (`*`: all) and topic patterns.
pub fn caller(scopes: &[Scope], workspaces: &[&str], topics: &[&str]) -> Access {
    let authorizer = authorizer();
    let secret = Secret::generate().expect("random bytes");
    let workspaces: BTreeSet<String> = workspaces.iter().map(|name| (*name).to_owned()).collect();
    authorizer.publish(Clients::from_iter([Client {
        name: "caller".into(),
        uid: "1".into(),
        grant: Grant {
            workspaces: Workspaces::from(workspaces),
            scopes: scopes.iter().copied().collect(),
            topics: topics.iter().map(|topic| topic.parse().expect("a pattern")).collect(),
        },
        token_lifetime_s: 900,
        is_disabled: false,
        epoch: 0,
        secrets: vec![ClientSecret { digest: secret.digest(), created_at: 0, until: None }],
    }]));
    let request = TokenRequest {
        client_id: "caller",
        secret: secret.reveal(),
        scope: None,
        topics: None,
        workspaces: None,
        peer: Ipv4Addr::LOCALHOST.into(),
    };
    let issued = authorizer.issue(&request).unwrap_or_else(|error| panic!("{error}"));
    authorizer.authenticate(&issued.token).unwrap_or_else(|error| panic!("{error}"))
}
