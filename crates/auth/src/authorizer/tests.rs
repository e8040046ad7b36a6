use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::{Algorithm, ClientSecret, Denied, LIFETIME_DEFAULT_S, Secret};

const NOW: UnixSeconds = 1_800_000_000;

/// A clock that stands until it is moved.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> UnixSeconds {
        NOW + self.0.load(Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.load(Relaxed) * 1000
    }
}

struct Rig {
    authorizer: Authorizer,
    clock: Hand,
    secret: Secret,
    own: Secret,
    client: Client,
}

fn rig() -> Rig {
    let clock = Hand::default();
    let (secret, own) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let keys = KeySet::generate(Algorithm::Hs256, NOW).unwrap();
    let issuer = Issuer { issuer: "i".into(), audience: "a".into() };
    let authorizer = Authorizer::new(issuer, keys, own.digest(), clock.clone());
    let client = Client {
        name: "shop".into(),
        uid: "uid-1".into(),
        grant: Grant {
            workspaces: Workspaces::Named(["demo".to_owned(), "shop".to_owned()].into()),
            scopes: [Scope::IngestWrite, Scope::ControlRead].into_iter().collect(),
            topics: ["dev.demo.*".parse().unwrap()].into_iter().collect(),
        },
        token_lifetime_s: LIFETIME_DEFAULT_S,
        is_disabled: false,
        epoch: 0,
        secrets: vec![ClientSecret { digest: secret.digest(), created_at: NOW, until: None }],
    };
    authorizer.publish(Clients::from_iter([client.clone()]));
    Rig { authorizer, clock, secret, own, client }
}

fn ask(secret: &Secret) -> TokenRequest<'_> {
    TokenRequest {
        client_id: "shop",
        secret: secret.reveal(),
        scope: None,
        topics: None,
        workspaces: None,
        peer: IpAddr::from([10, 0, 0, 1]),
    }
}

impl Rig {
    fn token(&self) -> String {
        self.authorizer.issue(&ask(&self.secret)).unwrap_or_else(|e| panic!("{e}")).token
    }

    fn reason(&self, token: &str) -> Option<&'static str> {
        self.authorizer.authenticate(token).err().map(TokenError::reason)
    }

    fn change(&self, change: impl FnOnce(&mut Client)) {
        let mut client = self.client.clone();
        change(&mut client);
        self.authorizer.publish(Clients::from_iter([client]));
    }
}

#[test]
fn a_secret_gives_a_token_and_that_says_what_may_be_done() {
    let rig = rig();
    let issued = rig.authorizer.issue(&ask(&rig.secret)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((issued.lifetime_s, &issued.grant), (900, &rig.client.grant));
    let access = rig.authorizer.authenticate(&issued.token).unwrap();
    assert_eq!(access.name(), "shop");
    assert_eq!(access.scope(Scope::IngestWrite), Ok(()));
    assert_eq!(access.scope(Scope::ControlWrite), Err(Denied::Scope(Scope::ControlWrite)));
    assert_eq!(access.workspace("demo"), Ok(()));
    assert_eq!(access.workspace("other"), Err(Denied::Workspace("other".into())));
    let topic = |name| types::TopicName::new(name).unwrap();
    assert_eq!(access.topic(&topic("dev.demo.a.raw")), Ok(()));
    assert!(access.topic(&topic("dev.shop.a.raw")).is_err());
    assert_eq!(access.installation(), Err(Denied::Installation));
    assert_ne!(issued.token, rig.token(), "no two are the same");
}

#[test]
fn a_token_is_no_wider_than_its_client() {
    let rig = rig();
    let asked = |scope, topics, workspaces| {
        let request = TokenRequest { scope, topics, workspaces, ..ask(&rig.secret) };
        rig.authorizer.issue(&request).map(|issued| issued.grant)
    };
    let grant = asked(Some("control:read"), Some("dev.demo.a.*"), Some("demo")).unwrap_or_default();
    assert_eq!(grant.scopes.to_string(), "control:read");
    assert!(rig.client.grant.covers(&grant) && !grant.covers(&rig.client.grant));
    for (scope, topics, workspaces, part) in [
        (Some("admin"), None, None, "admin"),
        (Some("control:write"), None, None, "control:write"),
        (Some("ingest:write all"), None, None, "is no scope"),
        (Some(" "), None, None, "needs one"),
        (None, Some("*"), None, "wider"),
        (None, Some("dev.*"), None, "wider"),
        (None, Some("dev.demo.* orders"), None, "wider"),
        (None, Some("a*b"), None, "last character"),
        (None, None, Some("*"), "more than"),
        (None, None, Some("demo other"), "more than"),
    ] {
        match asked(scope, topics, workspaces) {
            Err(IssueError::InvalidScope(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{scope:?} {topics:?} {workspaces:?}: {other:?}"),
        }
    }
    // Narrowed to nothing is nothing.
    let none = asked(None, Some(" "), Some(" ")).unwrap_or_default();
    assert!(none.topics.is_empty() && none.workspaces == Workspaces::default());
}

#[test]
fn what_happens_to_a_client_happens_to_its_tokens_at_once() {
    let rig = rig();
    let token = rig.token();
    // Into the cache.
    assert_eq!(rig.reason(&token), None);
    rig.change(|client| client.is_disabled = true);
    assert_eq!(rig.reason(&token), Some("revoked"));
    let error = rig.authorizer.issue(&ask(&rig.secret)).err();
    assert!(matches!(error, Some(IssueError::InvalidClient)));
    rig.change(|_| {});
    assert_eq!(rig.reason(&token), None, "enabled again");
    rig.change(|client| client.epoch = 1);
    assert_eq!(rig.reason(&token), Some("revoked"));
    rig.change(|client| client.uid = "uid-2".into());
    assert_eq!(rig.reason(&token), Some("revoked"), "another of the same name");
    rig.authorizer.publish(Clients::default());
    assert_eq!(rig.reason(&token), Some("revoked"));
    // A client that is narrowed narrows the tokens that it has.
    rig.change(|client| client.grant.scopes = [Scope::ControlRead].into_iter().collect());
    let access = rig.authorizer.authenticate(&token).unwrap();
    assert!(access.scope(Scope::IngestWrite).is_err() && access.scope(Scope::ControlRead).is_ok());
}

#[test]
fn a_cached_token_still_expires_and_ends_with_its_key() {
    let rig = rig();
    let token = rig.token();
    assert_eq!(rig.reason(&token), None);
    let keys = rig.authorizer.keys();
    let second = keys.rotate(Algorithm::Hs256, NOW, false).unwrap();
    rig.authorizer.set_keys(second.clone());
    assert_eq!(rig.reason(&token), None, "the key before still checks");
    rig.authorizer.set_keys(second.rotate(Algorithm::Hs256, NOW, true).unwrap());
    assert_eq!(rig.reason(&token), Some("unknown_key"));
    let token = rig.token();
    assert_eq!(rig.reason(&token), None);
    // Into the cache just before its end, and looked for just after.
    rig.clock.forward(LIFETIME_DEFAULT_S + 59);
    assert_eq!(rig.reason(&token), None);
    rig.clock.forward(1);
    assert_eq!(rig.reason(&token), Some("expired"));
}

#[test]
fn two_secrets_are_taken_until_the_older_one_ends() {
    let rig = rig();
    let newer = Secret::generate().unwrap();
    rig.change(|client| {
        client.secrets[0].until = Some(NOW + 100);
        client.secrets.push(ClientSecret { digest: newer.digest(), created_at: NOW, until: None });
    });
    let takes = |secret| rig.authorizer.issue(&ask(secret)).is_ok();
    assert!(takes(&rig.secret) && takes(&newer));
    rig.clock.forward(100);
    assert!(!takes(&rig.secret) && takes(&newer));
}

#[test]
fn failures_are_slowed_and_lock_nobody_out() {
    let rig = rig();
    let wrong = Secret::generate().unwrap();
    let from = |n: u8| TokenRequest { peer: IpAddr::from([10, 0, 1, n]), ..ask(&wrong) };
    let outcome = |request: &TokenRequest<'_>| match rig.authorizer.issue(request).err() {
        Some(IssueError::InvalidClient) => "invalid",
        Some(IssueError::Throttled { .. }) => "throttled",
        _ => "another",
    };
    // By name, from many addresses.
    let found: Vec<&str> = (0..20).map(|n| outcome(&from(n))).collect();
    assert_eq!(found.iter().filter(|outcome| **outcome == "invalid").count(), 10, "{found:?}");
    assert!(rig.authorizer.issue(&ask(&rig.secret)).is_ok(), "the right secret is taken");
    // By address, under many names, and whatever is right.
    let names: Vec<String> = (0..100).map(|n| format!("client-{n}")).collect();
    let peer = IpAddr::from([10, 0, 2, 1]);
    let all: Vec<&str> =
        names.iter().map(|name| outcome(&TokenRequest { client_id: name, peer, ..ask(&wrong) })).collect();
    assert_eq!(all.iter().filter(|outcome| **outcome == "invalid").count(), 60, "{all:?}");
    assert_eq!(outcome(&TokenRequest { peer, ..ask(&rig.secret) }), "throttled");
    rig.clock.forward(60);
    assert!(rig.authorizer.issue(&TokenRequest { peer, ..ask(&rig.secret) }).is_ok());
    let v6 = |text: &str| network(text.parse().unwrap());
    assert_eq!(v6("2001:db8:1:2:3::4"), v6("2001:db8:1:2:ffff::1"));
    assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    assert_eq!(v6("::ffff:10.0.0.1"), IpAddr::from([10, 0, 0, 1]));
}

#[test]
fn the_process_knows_itself_and_nobody_else_is_it() {
    let rig = rig();
    let access = rig.authorizer.authenticate(rig.own.reveal()).unwrap();
    assert_eq!((access.name(), access.installation()), ("local", Ok(())));
    assert_eq!(rig.reason(rig.secret.reveal()), Some("malformed"));
    assert!(!format!("{:?}", rig.authorizer).contains(rig.own.reveal()));
}
