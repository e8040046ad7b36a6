use std::time::Duration;

use runtime::http::Gate as _;
use serde_json::Value;
use tower::ServiceExt as _;
use types::{Scopes, TopicPatterns, Workspaces};

use super::*;
use crate::{
    Algorithm, Client, ClientSecret, Clients, Clock, Demand, Grant, Issuer, KeySet, Secret, TokenGate,
    UnixSeconds,
};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> UnixSeconds {
        1_800_000_000
    }

    fn elapsed_ms(&self) -> u64 {
        0
    }
}

fn authorizer(algorithm: Algorithm) -> (Arc<Authorizer>, Secret) {
    let (secret, own) = (Secret::generate().unwrap(), Secret::generate().unwrap());
    let issuer = Issuer { issuer: "i".into(), audience: "a".into() };
    let keys = KeySet::generate(algorithm, 0).unwrap();
    let authorizer = Authorizer::new(issuer, keys, own.digest(), Fixed);
    authorizer.publish(Clients::from_iter([Client {
        name: "shop".into(),
        uid: "1".into(),
        grant: Grant {
            workspaces: Workspaces::All,
            scopes: Scopes::from_iter([Scope::ControlRead, Scope::IngestWrite]),
            topics: TopicPatterns::all(),
        },
        token_lifetime_s: 60,
        is_disabled: false,
        epoch: 0,
        secrets: vec![ClientSecret { digest: secret.digest(), created_at: 0, until: None }],
    }]));
    (Arc::new(authorizer), secret)
}

async fn ask(router: &Router, request: Request) -> (u16, HeaderMap, Value) {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 16).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn post_form(authorization: Option<&str>, form: &str) -> Request {
    let mut request =
        Request::post(TOKEN_PATH).header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    request.body(Body::from(form.to_owned())).unwrap()
}

#[tokio::test]
async fn tokens_are_given_by_form_and_by_basic() {
    let (authorizer, secret) = authorizer(Algorithm::Hs256);
    let router = router(Arc::clone(&authorizer));
    let basic = format!("Basic {}", STANDARD.encode(format!("shop:{}", secret.reveal())));
    let in_form = format!("grant_type=client_credentials&client_id=shop&client_secret={}", secret.reveal());
    for request in [
        post_form(None, &in_form),
        post_form(Some(&basic), "grant_type=client_credentials"),
        post_form(Some(&basic.replace("Basic", "bAsIc")), "grant_type=client_credentials&client_id=shop"),
    ] {
        let (status, headers, body) = ask(&router, request).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(60)));
        assert_eq!(body["scope"], "ingest:write control:read");
        assert!(authorizer.authenticate(body["access_token"].as_str().unwrap()).is_ok());
    }
}

#[tokio::test]
async fn what_is_wrong_is_answered_as_oauth_says() {
    let (authorizer, secret) = authorizer(Algorithm::Hs256);
    let router = router(authorizer);
    let secret = secret.reveal();
    let good = format!("grant_type=client_credentials&client_id=shop&client_secret={secret}");
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let right = basic(&format!("shop:{secret}"));
    let cases = [
        (None, String::new(), 401, "invalid_client"),
        (None, good.replace("client_credentials", "password"), 400, "unsupported_grant_type"),
        (None, good.replace("grant_type=client_credentials&", ""), 400, "invalid_request"),
        (None, good.replace("client_id=shop", "client_id=shoq"), 401, "invalid_client"),
        (None, good.replace(secret, "x"), 401, "invalid_client"),
        (None, format!("{good}&client_id=shop"), 400, "invalid_request"),
        (None, format!("{good}&scope=admin"), 400, "invalid_scope"),
        (None, format!("{good}&scope=%00"), 400, "invalid_scope"),
        (None, format!("{good}&{}", "a=1&".repeat(2)), 400, "invalid_request"),
        (None, (0..40).map(|n| format!("f{n}=1&")).collect::<String>(), 400, "invalid_request"),
        (None, "\u{0}\u{7f}%%%=&&&=".into(), 401, "invalid_client"),
        (None, "x".repeat(FORM_BYTES_MAX + 1), 413, "invalid_request"),
        (Some(basic("shop:wrong")), "grant_type=client_credentials".into(), 401, "invalid_client"),
        (Some(basic("shop")), "grant_type=client_credentials".into(), 401, "invalid_client"),
        (Some("Basic !!!".into()), "grant_type=client_credentials".into(), 401, "invalid_client"),
        (Some("Basic".into()), "grant_type=client_credentials".into(), 401, "invalid_client"),
        (Some(right.replace("Basic", "Bearer")), good.clone(), 401, "invalid_client"),
        (Some(right.clone()), good.clone(), 400, "invalid_request"),
        (Some(right), "grant_type=client_credentials&client_id=other".into(), 400, "invalid_request"),
    ];
    for (authorization, form, status, error) in cases {
        let (found, headers, body) = ask(&router, post_form(authorization.as_deref(), &form)).await;
        assert_eq!((found, &body["error"]), (status, &json!(error)), "{form:.80}: {body}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(!body.to_string().contains(secret));
        if authorization.is_some() && found == 401 {
            assert!(headers.contains_key(header::WWW_AUTHENTICATE), "{form}");
        }
    }
    let json = Request::post(TOKEN_PATH).header("content-type", "application/json");
    let (status, _, body) = ask(&router, json.body(Body::from("{}")).unwrap()).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));
}

#[tokio::test]
async fn too_many_failures_have_to_wait() {
    let (authorizer, secret) = authorizer(Algorithm::Hs256);
    let router = router(authorizer);
    let wrong = "grant_type=client_credentials&client_id=shop&client_secret=x";
    for _ in 0..10 {
        assert_eq!(ask(&router, post_form(None, wrong)).await.0, 401);
    }
    let (status, headers, _) = ask(&router, post_form(None, wrong)).await;
    assert_eq!((status, &headers[header::RETRY_AFTER]), (429, &HeaderValue::from_static("6")));
    let right = wrong.replace("secret=x", &format!("secret={}", secret.reveal()));
    assert_eq!(ask(&router, post_form(None, &right)).await.0, 200);
}

#[tokio::test]
async fn a_signed_tokens_key_is_published() {
    let (authorizer, _) = authorizer(Algorithm::Es256);
    let kid = authorizer.keys().current_kid().to_owned();
    let request = Request::get(JWKS_PATH).body(Body::empty()).unwrap();
    let (status, _, body) = ask(&router(authorizer), request).await;
    assert_eq!((status, &body["keys"][0]["kid"]), (200, &json!(kid)));
}

#[tokio::test]
async fn a_gate_lets_in_who_shows_a_token_and_strangers_to_open_paths() {
    let (authorizer, secret) = authorizer(Algorithm::Hs256);
    let request = TokenRequest {
        client_id: "shop",
        secret: secret.reveal(),
        scope: None,
        topics: None,
        workspaces: None,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let token = authorizer.issue(&request).unwrap_or_else(|e| panic!("{e}")).token;
    let admit = |demand, path: &str, host: &str, authorization: &[&str]| {
        let mut request = Request::get(path).header("host", host);
        for value in authorization {
            request = request.header("authorization", *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let outcome = TokenGate::new(Arc::clone(&authorizer), demand).admit(&mut head);
        let name = Access::from_extensions(&head.extensions).map_or("stranger", Access::name).to_owned();
        match outcome {
            Ok(()) => Ok(name),
            Err(problem) => {
                let status = problem.status().as_u16();
                let code = problem.code().to_owned();
                let response = problem.into_response();
                assert!(response.headers().contains_key(header::WWW_AUTHENTICATE) || status != 401);
                Err((status, code))
            }
        }
    };
    let bearer = format!("Bearer {token}");
    let refused = |status, code: &str| Err((status, code.to_owned()));
    let is = |name: &str| Ok(name.to_owned());
    use Demand::{OfAll, OfOthers};
    assert_eq!(admit(OfOthers, "/x", "localhost", &[]), is("local"));
    assert_eq!(admit(OfOthers, "/x", "localhost", &[&bearer]), is("shop"));
    assert_eq!(admit(OfOthers, "/x", "vltava.example", &[]), refused(403, "host_not_allowed"));
    assert_eq!(admit(OfAll, "/x", "vltava.example", &[&bearer]), is("shop"));
    assert_eq!(admit(OfAll, "/x", "vltava.example", &[&format!("bearer  {token}")]), is("shop"));
    for path in ["/health", "/live", "/ready", "/oauth/token", "/.well-known/jwks.json"] {
        assert_eq!(admit(OfAll, path, "vltava.example", &[]), is("stranger"), "{path}");
    }
    for path in ["/", "/x", "/metrics", "/health/", "//health", "/HEALTH", "/oauth/token/", "/api/v1/status"]
    {
        assert_eq!(admit(OfAll, path, "localhost", &[]), refused(401, "token_missing"), "{path}");
    }
    // A wrong token is never taken for none.
    for demand in [OfAll, OfOthers] {
        for (shown, code) in [
            (vec!["Bearer x"], "token_invalid"),
            (vec!["Bearer "], "authorization_invalid"),
            (vec!["Bearer"], "authorization_invalid"),
            (vec![""], "authorization_invalid"),
            (vec!["Basic eDp4"], "authorization_invalid"),
            (vec![&bearer, &bearer], "authorization_invalid"),
            (vec![&*token], "authorization_invalid"),
        ] {
            assert_eq!(admit(demand, "/x", "localhost", &shown), refused(401, code), "{shown:?}");
        }
        for query in ["access_token=x", "a=1&ACCESS_TOKEN=x", "client_secret=y", "access_token"] {
            let path = format!("/oauth/token?{query}");
            assert_eq!(
                admit(demand, &path, "localhost", &[&bearer]),
                refused(400, "token_in_url"),
                "{query}"
            );
        }
        assert_eq!(admit(demand, "/x", "", &[&bearer]), refused(400, "host_invalid"));
    }
}

#[tokio::test]
async fn what_is_the_installations_is_for_who_has_all_of_it() {
    let routes = || Router::new().route("/metrics", get(|| async { "ok" }));
    let guarded = for_installation(routes(), Scope::ControlRead);
    let request = || Request::get("/metrics").body(Body::empty()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), ask(&guarded, request())).await.unwrap();
    assert_eq!((answer.0, &answer.2["code"]), (401, &json!("token_missing")));
    let mut request = request();
    request.extensions_mut().insert(Access::local());
    assert_eq!(ask(&guarded, request).await.0, 200);
}
