use ring::hmac;
use serde_json::{Value, json};
use types::InstallationId;

use super::*;
use crate::Algorithm;

const NOW: UnixSeconds = 1_800_000_000;

fn issuer() -> Issuer {
    Issuer { issuer: "urn:vltava:one".into(), audience: "urn:vltava:one".into() }
}

fn claims() -> Claims {
    Claims {
        iss: String::new(),
        aud: String::new(),
        sub: "uid".into(),
        client_id: "shop".into(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + LIFETIME_DEFAULT_S,
        jti: "1".into(),
        scope: "ingest:write control:read".into(),
        topics: ["dev.demo.*".parse().unwrap()].into_iter().collect(),
        workspaces: Workspaces::Named(["demo".to_owned()].into()),
        epoch: 3,
    }
}

fn keys(algorithm: Algorithm) -> KeySet {
    KeySet::generate(algorithm, NOW).unwrap()
}

/// A token of any header and claims, signed by the set's own key: what only its holder could make.
fn signed(keys: &KeySet, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = keys.current().sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(keys: &KeySet) -> Value {
    json!({ "alg": keys.algorithm().as_str(), "typ": "at+jwt", "kid": keys.current_kid() })
}

fn claims_json() -> Value {
    let issuer = issuer();
    serde_json::to_value(Claims { iss: issuer.issuer, aud: issuer.audience, ..claims() }).unwrap()
}

fn with(mut value: Value, name: &str, new: Value) -> Value {
    value[name] = new;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().shift_remove(name);
    value
}

#[test]
fn what_is_minted_verifies() {
    for algorithm in [Algorithm::Hs256, Algorithm::Es256] {
        let keys = keys(algorithm);
        let token = issuer().mint(&keys, &claims()).unwrap();
        let read = issuer().verify(&keys, &token, NOW).unwrap();
        assert_eq!(read.grant(), claims().grant());
        assert_eq!((read.client_id.as_str(), read.epoch, read.exp - read.iat), ("shop", 3, 900));
        assert_eq!((&read.iss, &read.aud), (&issuer().issuer, &issuer().audience));
        // What signs in the tests below makes what the issuer makes.
        let own = signed(&keys, &header(&keys), &claims_json());
        assert!(issuer().verify(&keys, &own, NOW).is_ok());
        // After a rotation the older key still checks.
        let later = keys.rotate(Algorithm::Hs256, NOW, false).unwrap();
        assert!(issuer().verify(&later, &token, NOW).is_ok());
    }
    assert_eq!(Issuer::installation(InstallationId::new()).issuer.len(), "urn:vltava:".len() + 36);
}

#[test]
fn time_is_checked_with_a_skew_of_60_s_and_no_more() {
    let keys = keys(Algorithm::Hs256);
    let token = issuer().mint(&keys, &claims()).unwrap();
    let exp = claims().exp;
    for (now, expected) in [
        (NOW - 61, Err("not_yet_valid")),
        (NOW - 60, Ok(())),
        (NOW, Ok(())),
        (exp, Ok(())),
        (exp + 59, Ok(())),
        (exp + 60, Err("expired")),
        (u64::MAX, Err("expired")),
        (0, Err("not_yet_valid")),
    ] {
        let found = issuer().verify(&keys, &token, now).map(drop).map_err(TokenError::reason);
        assert_eq!(found, expected, "at {now}");
    }
}

#[test]
fn what_was_not_issued_here_for_here_and_now_is_refused() {
    let hs = keys(Algorithm::Hs256);
    let es = keys(Algorithm::Es256);
    let other = keys(Algorithm::Hs256);
    let good = signed(&hs, &header(&hs), &claims_json());
    let parts: Vec<&str> = good.split('.').collect();
    let public = URL_SAFE_NO_PAD.decode(es.jwks(NOW)["keys"][0]["x"].as_str().unwrap()).unwrap();
    // The attack on checkers that let the token choose: the public key as the secret of an HMAC.
    let confused = {
        let head = with(header(&es), "alg", json!("HS256"));
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims_json().to_string())
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    };
    let unsigned = |alg: &str| {
        let head = with(header(&hs), "alg", json!(alg));
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(head.to_string()), parts[1])
    };
    let of = |header: Value, claims: Value| signed(&hs, &header, &claims);
    let (h, c) = (header(&hs), claims_json());
    let cases: Vec<(&str, &KeySet, String, &str)> = vec![
        ("nothing", &hs, String::new(), "malformed"),
        ("dots", &hs, "..".into(), "malformed"),
        ("one part", &hs, "abc".into(), "malformed"),
        ("two parts", &hs, format!("{}.{}", parts[0], parts[1]), "malformed"),
        ("four parts", &hs, format!("{good}.x"), "malformed"),
        ("no base64", &hs, format!("{}.{}.!!", parts[0], parts[1]), "malformed"),
        ("padding", &hs, format!("{good}="), "malformed"),
        ("a space", &hs, format!(" {good}"), "malformed"),
        ("no JSON", &hs, format!("{}.{}.{}", URL_SAFE_NO_PAD.encode("x"), parts[1], parts[2]), "malformed"),
        ("too long", &hs, "a".repeat(TOKEN_BYTES_MAX + 1), "too_long"),
        ("longest", &hs, "a".repeat(TOKEN_BYTES_MAX), "malformed"),
        ("no algorithm", &hs, unsigned("none"), "wrong_algorithm"),
        ("no algorithm, otherwise", &hs, unsigned("nOnE"), "wrong_algorithm"),
        ("no signature", &hs, unsigned("HS256"), "bad_signature"),
        ("a public key as a secret", &es, confused, "wrong_algorithm"),
        ("HS512", &hs, of(with(h.clone(), "alg", json!("HS512")), c.clone()), "wrong_algorithm"),
        ("RS256", &hs, of(with(h.clone(), "alg", json!("RS256")), c.clone()), "wrong_algorithm"),
        ("ES256 over an HMAC", &hs, of(with(h.clone(), "alg", json!("ES256")), c.clone()), "wrong_algorithm"),
        ("another kid", &hs, of(with(h.clone(), "kid", json!("../../etc/passwd")), c.clone()), "unknown_key"),
        ("no kid", &hs, of(without(h.clone(), "kid"), c.clone()), "malformed"),
        ("another type", &hs, of(with(h.clone(), "typ", json!("JWT")), c.clone()), "malformed"),
        ("crit", &hs, of(with(h.clone(), "crit", json!(["exp"])), c.clone()), "malformed"),
        ("a key in the header", &hs, of(with(h.clone(), "jwk", json!({})), c.clone()), "malformed"),
        ("a URL in the header", &hs, of(with(h.clone(), "jku", json!("http://x")), c.clone()), "malformed"),
        ("another's key", &other, good.clone(), "unknown_key"),
        ("another's key under our kid", &hs, signed(&other, &h, &c), "bad_signature"),
        (
            "claims that were changed",
            &hs,
            format!(
                "{}.{}.{}",
                parts[0],
                URL_SAFE_NO_PAD.encode(with(c.clone(), "scope", json!("admin")).to_string()),
                parts[2]
            ),
            "bad_signature",
        ),
        (
            "another issuer",
            &hs,
            of(h.clone(), with(c.clone(), "iss", json!("urn:vltava:two"))),
            "wrong_issuer",
        ),
        ("another audience", &hs, of(h.clone(), with(c.clone(), "aud", json!("other"))), "wrong_audience"),
        ("audiences", &hs, of(h.clone(), with(c.clone(), "aud", json!([issuer().audience]))), "malformed"),
        ("no audience", &hs, of(h.clone(), without(c.clone(), "aud")), "malformed"),
        ("no end", &hs, of(h.clone(), without(c.clone(), "exp")), "malformed"),
        ("an end as text", &hs, of(h.clone(), with(c.clone(), "exp", json!("9999999999"))), "malformed"),
        ("an end below 0", &hs, of(h.clone(), with(c.clone(), "exp", json!(-1))), "malformed"),
        ("a claim that nobody knows", &hs, of(h.clone(), with(c.clone(), "act", json!({}))), "malformed"),
        ("expired", &hs, of(h.clone(), with(c.clone(), "exp", json!(NOW - 60))), "expired"),
        ("not before", &hs, of(h.clone(), with(c.clone(), "nbf", json!(NOW + 61))), "not_yet_valid"),
        ("issued tomorrow", &hs, of(h, with(c, "iat", json!(NOW + 86_400))), "not_yet_valid"),
    ];
    for (what, keys, token, reason) in cases {
        let found = issuer().verify(keys, &token, NOW).unwrap_err();
        assert_eq!(found.reason(), reason, "{what}");
        assert!(!found.to_string().is_empty());
    }
}

#[test]
fn a_token_ends_with_its_key() {
    let first = keys(Algorithm::Hs256);
    let mut long = claims();
    long.exp = NOW + LIFETIME_MAX_S;
    let token = issuer().mint(&first, &long).unwrap();
    let second = first.rotate(Algorithm::Hs256, NOW, false).unwrap();
    assert!(issuer().verify(&second, &token, long.exp).is_ok());
    let forced = second.rotate(Algorithm::Hs256, NOW + 1, true).unwrap();
    let error = issuer().verify(&forced, &token, NOW + 2).unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::UnknownKey);
}

#[test]
fn every_byte_counts() {
    for algorithm in [Algorithm::Hs256, Algorithm::Es256] {
        let keys = keys(algorithm);
        let token = issuer().mint(&keys, &claims()).unwrap();
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(issuer().verify(&keys, &changed, NOW).is_err(), "byte {at} of {token}");
        }
    }
}
