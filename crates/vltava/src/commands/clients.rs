//! `vltava clients`: machine identities, and their secrets, which are shown once.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::list::each;
use super::{answer, http};
use crate::cli::{ClientName, ClientsCommand, Json, Url};
use crate::output::{self, Rows};

fn address(url: &Url, rest: &str) -> String {
    format!("{}/api/v1/clients{rest}", url.url.trim_end_matches('/'))
}

pub(crate) async fn run(command: ClientsCommand) -> Result<()> {
    match command {
        ClientsCommand::Create { client, scopes, workspaces, topics, token_lifetime } => {
            let ClientName { name, url, json } = client;
            let mut spec = json!({ "scopes": scopes, "workspaces": workspaces, "topics": topics });
            if let Some(lifetime) = token_lifetime {
                spec["tokenLifetime"] = json!(lifetime);
            }
            let manifest = json!({
                "apiVersion": resources::API_VERSION,
                "kind": "Client",
                "metadata": { "name": name },
                "spec": spec,
            });
            let at = address(&url, &format!("/{name}"));
            let request = http(&at).await?.put(&at).header("if-none-match", "*").json(&manifest);
            let made = answer(&at, request).await;
            made.with_context(|| format!("client {name} wasn't made"))?;
            rotate(&name, None, &url, &json).await.with_context(|| {
                format!("client {name} is made, but has no secret yet: `vltava clients rotate {name}` gives it one")
            })
        }
        ClientsCommand::Rotate { client: ClientName { name, url, json }, previous_valid_seconds } => {
            rotate(&name, previous_valid_seconds, &url, &json).await
        }
        ClientsCommand::Ls { url, json } => list(&url, &json).await,
        ClientsCommand::Revoke(client) => ask(client, "revoke").await,
        ClientsCommand::Disable(client) => ask(client, "disable").await,
        ClientsCommand::Enable(client) => ask(client, "enable").await,
        ClientsCommand::Delete(ClientName { name, url, json }) => {
            let at = address(&url, &format!("/{name}"));
            let response = http(&at).await?.delete(&at).send().await.map_err(reqwest::Error::without_url)?;
            let status = response.status();
            if !status.is_success() {
                let body = response.bytes().await.map_err(reqwest::Error::without_url)?;
                anyhow::bail!("{}", super::problem(status.as_u16(), &body));
            }
            say(&json, &json!({ "client": name, "deleted": true }), &format!("{name}: deleted"))
        }
    }
}

fn say(json: &Json, value: &Value, text: &str) -> Result<()> {
    if json.json {
        return output::json(value);
    }
    output::line(format_args!("{text}"));
    Ok(())
}

async fn rotate(name: &str, previous_valid_seconds: Option<u64>, url: &Url, as_json: &Json) -> Result<()> {
    let at = address(url, &format!("/{name}:rotateSecret"));
    let request = http(&at).await?.post(&at);
    let request = match previous_valid_seconds {
        Some(seconds) => request.json(&json!({ "previousValidSeconds": seconds })),
        None => request,
    };
    let made = answer(&at, request).await?;
    let secret = made["clientSecret"].as_str().context("the answer has no secret")?;
    let shown = json!({ "clientId": name, "clientSecret": secret });
    say(as_json, &shown, &format!("VLTAVA_CLIENT_ID={name}\nVLTAVA_CLIENT_SECRET={secret}"))?;
    output::note(format_args!("the secret is shown this once"));
    Ok(())
}

async fn ask(client: ClientName, verb: &str) -> Result<()> {
    let ClientName { name, url, json } = client;
    let at = address(&url, &format!("/{name}:{verb}"));
    let resource = answer(&at, http(&at).await?.post(&at)).await?;
    let state = resource["status"]["state"].as_str().unwrap_or_default();
    let secrets = resource["status"]["secrets"].as_array().map_or(0, Vec::len);
    say(&json, &resource, &format!("{name}: {state}, {secrets} secret(s)"))
}

async fn list(url: &Url, as_json: &Json) -> Result<()> {
    let at = address(url, "");
    let mut table = Rows::new(&["client", "state", "scopes", "workspaces", "topics", "secrets"]);
    each(&http(&at).await?, &at, |one| {
        if as_json.json {
            return output::json(&one);
        }
        let texts = |at: &str| {
            let list = one.pointer(at).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        let text = |at: &str| one.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let secrets = one["status"]["secrets"].as_array().map_or(0, Vec::len);
        table.row(vec![
            text("/metadata/name"),
            text("/status/state"),
            texts("/spec/scopes"),
            texts("/spec/workspaces"),
            texts("/spec/topics"),
            secrets.to_string(),
        ]);
        Ok(())
    })
    .await?;
    if !as_json.json {
        table.print();
    }
    Ok(())
}
