//! Tokens as users meet them: the first client, the command line, restarts.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Platform, binary, client, log_of};

const REQUIRED: [(&str, &str); 1] = [("VLTAVA_AUTH__MODE", "required")];
const SOON: Duration = Duration::from_secs(20);

/// Lines of `NAME=VALUE`.
fn variables(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

fn admin(data_dir: &Path) -> Vec<(String, String)> {
    variables(&std::fs::read_to_string(data_dir.join("keys/admin.env")).unwrap())
}

fn run(platform: &Platform, with: &[(String, String)], arguments: &[&str]) -> Output {
    let mut command = binary();
    command.envs(with.iter().map(|(name, value)| (name, value)));
    command.args(arguments).args(["--url", &platform.url]).output().unwrap()
}

#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn the_first_client_lets_others_in_and_a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start_with(dir.path(), &[], &REQUIRED).unwrap();
    let admin = admin(dir.path());
    assert!(refusal(&run(&platform, &[], &["status"])).contains("token_missing"));
    text(&run(&platform, &admin, &["status"]));
    let create = ["clients", "create", "shop", "--scope", "ingest:write", "--workspace", "demo"];
    let made = run(&platform, &admin, &[&create[..], &["--topic", "dev.demo.*"]].concat());
    let shop = variables(&text(&made));
    assert!(text(&run(&platform, &admin, &["clients", "ls"])).contains("dev.demo.*"));
    let refused = refusal(&run(&platform, &shop, &["status"]));
    assert!(refused.contains("control:read") && refused.contains("insufficient_scope"), "{refused}");
    let token = text(&run(&platform, &shop, &["token"])).trim().to_owned();
    let by_file = dir.path().join("token");
    std::fs::write(&by_file, &token).unwrap();
    let by_file = [("VLTAVA_TOKEN_FILE".to_owned(), by_file.display().to_string())];
    assert!(refusal(&run(&platform, &by_file, &["status"])).contains("insufficient_scope"));
    platform.terminate(SOON);

    // Keys, clients and secrets outlive the process, and no second first client is made.
    std::fs::remove_file(dir.path().join("keys/admin.env")).unwrap();
    let platform = Platform::start_with(dir.path(), &[], &REQUIRED).unwrap();
    assert!(!dir.path().join("keys/admin.env").exists());
    let by_token = [("VLTAVA_TOKEN".to_owned(), token.clone())];
    assert!(refusal(&run(&platform, &by_token, &["status"])).contains("insufficient_scope"));
    assert!(text(&run(&platform, &admin, &["clients", "revoke", "shop"])).contains("0 secret(s)"));
    assert!(refusal(&run(&platform, &by_token, &["status"])).contains("revoked"));
    assert!(refusal(&run(&platform, &shop, &["status"])).contains("VLTAVA_CLIENT_ID"));
    text(&run(&platform, &admin, &["clients", "delete", "shop"]));
    let log = log_of(dir.path());
    let secrets = admin.iter().chain(&shop).filter(|(name, _)| name == "VLTAVA_CLIENT_SECRET");
    for (_, secret) in secrets {
        assert!(!log.contains(&secret[12..]), "a secret is in the log");
    }
    assert!(!log.contains(&token), "a token is in the log");
    platform.terminate(SOON);
}

#[tokio::test]
async fn strangers_learn_whether_it_is_well_and_keys_are_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let environment = [REQUIRED[0], ("VLTAVA_AUTH__ALGORITHM", "ES256")];
    let platform = Platform::start_with(dir.path(), &[], &environment).unwrap();
    let http = client(SOON);
    let get = async |path: &str, token: Option<&str>| {
        let mut request = http.get(format!("{}{path}", platform.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap_or(Value::Null))
    };
    for path in ["/health", "/ready"] {
        let (status, body) = get(path, None).await;
        assert_eq!((status, &body["checks"]), (200, &json!([])), "{path}");
    }
    for path in ["/metrics", "/api/v1/status", "/", "/nothing", "/ingest/dev.demo.a.raw"] {
        assert_eq!(get(path, None).await.0, 401, "{path}");
    }
    let token = text(&run(&platform, &admin(dir.path()), &["token"])).trim().to_owned();
    assert_eq!(get("/metrics", Some(&token)).await.0, 200);
    assert!(!get("/ready", Some(&token)).await.1["checks"].as_array().unwrap().is_empty());
    assert_eq!(get("/api/v1/status?access_token=x", Some(&token)).await.0, 400);
    let rotate = async |query: &str| {
        let request = http.post(format!("{}/api/v1/keys:rotate{query}", platform.url)).bearer_auth(&token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(rotate("").await, 200);
    assert_eq!(get("/.well-known/jwks.json", None).await.1["keys"].as_array().unwrap().len(), 2);
    assert_eq!(get("/api/v1/status", Some(&token)).await.0, 200, "by the key before");
    assert_eq!(rotate("").await, 409, "two are valid");
    assert_eq!(rotate("?force=true").await, 200);
    assert_eq!(get("/api/v1/status", Some(&token)).await.0, 401, "its key is gone");
    platform.terminate(SOON);
}
