//! Clients: made, their secrets shown once, rotated, revoked.

use std::net::Ipv4Addr;

use auth::{IssueError, TokenRequest};
use serde_json::{Value, json};

use crate::plane::Plane;

fn client(scopes: Value) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": "Client", "metadata": {"name": "shop"},
        "spec": {"scopes": scopes, "workspaces": ["demo"], "topics": ["dev.demo.*"]}})
}

fn token(plane: &Plane, secret: &str) -> Result<String, IssueError> {
    let request = TokenRequest {
        client_id: "shop",
        secret,
        scope: None,
        topics: None,
        workspaces: None,
        peer: Ipv4Addr::LOCALHOST.into(),
    };
    plane.control.authorizer().issue(&request).map(|issued| issued.token)
}

async fn rotate(plane: &Plane, body: Value) -> String {
    let answer = plane.post("/clients/shop:rotateSecret", &body).await.is(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.body["clientId"], "shop");
    answer.body["clientSecret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_secret_is_shown_once_and_nowhere_else() {
    let plane = Plane::demo().await;
    let made = plane.put("", &client(json!(["ingest:write"]))).await.is(201);
    assert_eq!(made.body["status"], json!({"state": "Active", "secrets": []}));
    assert!(made.body["metadata"].get("workspace").is_none());
    assert!(token(&plane, "").is_err(), "without a secret nobody is it");
    let secret = rotate(&plane, json!({})).await;
    assert!(token(&plane, &secret).is_ok());
    let digest = String::from(auth::SecretDigest::of(&secret));
    for path in ["/clients/shop", "/clients", "/status"] {
        let text = plane.get(path).await.is(200).body.to_string();
        assert!(
            !text.contains(&secret) && !text.contains(&digest) && !text.contains("digest"),
            "{path}: {text}"
        );
    }
    let again = plane.put("", &client(json!(["control:read"]))).await.is(200);
    assert!(!again.body.to_string().contains(&digest), "{}", again.body);
    assert!(token(&plane, &secret).is_ok(), "another spec leaves the secret");
    let set = json!({"manifests": [client(json!(["ingest:write"]))], "source": "git"});
    for verb in ["plan", "apply"] {
        let text = plane.send_set(verb, &set).await.is(200).body.to_string();
        assert!(!text.contains(&digest) && !text.contains("digest"), "{text}");
    }
    // It is in no workspace.
    plane.get("/workspaces/demo/clients").await.is(404);
    plane.put_at("/workspaces/demo/clients/shop", &[], &client(json!(["admin"]))).await.is(404);
}

#[tokio::test]
async fn two_secrets_are_valid_during_a_rotation_and_a_third_pushes_the_first_out() {
    let plane = Plane::demo().await;
    plane.put("", &client(json!(["ingest:write"]))).await.is(201);
    let first = rotate(&plane, json!({})).await;
    let second = rotate(&plane, json!({"previousValidSeconds": 60})).await;
    assert!(token(&plane, &first).is_ok() && token(&plane, &second).is_ok());
    let status = plane.get("/clients/shop").await.body["status"].clone();
    assert_eq!(status["secrets"][0]["validUntil"], "1970-01-02T00:01:00Z");
    assert_eq!(status["secrets"][1]["validUntil"], Value::Null);
    let third = rotate(&plane, json!({})).await;
    assert!(
        token(&plane, &first).is_err() && token(&plane, &second).is_ok() && token(&plane, &third).is_ok()
    );
    let fourth = rotate(&plane, json!({"previousValidSeconds": 0})).await;
    assert!(
        token(&plane, &third).is_err() && token(&plane, &second).is_err() && token(&plane, &fourth).is_ok()
    );
    for bad in
        [json!({"previousValidSeconds": 99_999_999}), json!({"previousValidSeconds": -1}), json!({"x": 1})]
    {
        plane.post("/clients/shop:rotateSecret", &bad).await.is(400);
    }
    plane.post("/clients/nobody:rotateSecret", &json!({})).await.is(404);
    plane.post("/clients/shop:explode", &json!({})).await.is(404);
}

#[tokio::test]
async fn what_is_revoked_is_refused_from_the_answer_on() {
    let plane = Plane::demo().await;
    plane.put("", &client(json!(["ingest:write"]))).await.is(201);
    let secret = rotate(&plane, json!({})).await;
    let first = token(&plane, &secret).unwrap();
    let reason = |token: &str| plane.control.authorizer().authenticate(token).err().map(|e| e.reason());
    assert_eq!(reason(&first), None);
    let disabled = plane.post("/clients/shop:disable", &json!({})).await.is(200);
    assert_eq!(disabled.body["status"]["state"], "Disabled");
    assert_eq!(reason(&first), Some("revoked"));
    assert!(token(&plane, &secret).is_err());
    // A manifest that is applied again lets nobody in again.
    plane.put("", &client(json!(["ingest:write"]))).await.is(200);
    assert_eq!(reason(&first), Some("revoked"));
    plane.post("/clients/shop:enable", &json!({})).await.is(200);
    assert_eq!(reason(&first), None);
    plane.post("/clients/shop:revoke", &json!({})).await.is(200);
    assert_eq!(reason(&first), Some("revoked"));
    assert!(token(&plane, &secret).is_err());
    let secret = rotate(&plane, json!({})).await;
    let second = token(&plane, &secret).unwrap();
    assert_eq!((reason(&first), reason(&second)), (Some("revoked"), None));
    plane.delete("/clients/shop").await.is(204);
    assert_eq!(reason(&second), Some("revoked"));
    plane.put("", &client(json!(["ingest:write"]))).await.is(201);
    assert_eq!(reason(&second), Some("revoked"), "another client of the same name");
    assert!(token(&plane, &secret).is_err());
}

#[tokio::test]
async fn the_table_is_what_the_store_says_after_a_restart() {
    let plane = Plane::demo().await;
    plane.put("", &client(json!(["ingest:write"]))).await.is(201);
    let secret = rotate(&plane, json!({})).await;
    plane.control.authorizer().publish(auth::Clients::default());
    assert!(token(&plane, &secret).is_err());
    plane.control.publish_clients().await.unwrap();
    assert!(token(&plane, &secret).is_ok());
}

#[tokio::test]
async fn what_is_no_client_is_refused() {
    let plane = Plane::demo().await;
    let mut inside = client(json!(["ingest:write"]));
    inside["metadata"]["workspace"] = json!("demo");
    let answer = plane.put_at("/clients/shop", &[], &inside).await.is(422);
    assert!(answer.pointers().contains(&"/metadata/workspace"), "{}", answer.body);
    let answer = plane.put_at("/clients/shop", &[], &client(json!(["everything"]))).await.is(422);
    assert_eq!(answer.pointers(), ["/spec/scopes/0"]);
    plane.put_at("/clients/Shop%20", &[], &client(json!(["ingest:write"]))).await.is(422);
}
