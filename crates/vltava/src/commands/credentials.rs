//! What the command line shows to be let in: a token, or a client's secret, from which it gets one.
//!
//! Invariant: neither is ever an argument, where other processes see it, nor in an error.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;

use super::problem;

/// The token itself.
const TOKEN: &str = "VLTAVA_TOKEN";
/// A file that holds the token.
const TOKEN_FILE: &str = "VLTAVA_TOKEN_FILE";
/// A client, with its secret.
const CLIENT_ID: &str = "VLTAVA_CLIENT_ID";
const CLIENT_SECRET: &str = "VLTAVA_CLIENT_SECRET";

/// In bytes: a longer file is no token.
const TOKEN_FILE_BYTES_MAX: u64 = 16 << 10;

/// What the environment says.
enum Given {
    Nothing,
    Token { token: String, from: String },
    Client { id: String, secret: String },
}

fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is no text"),
    }
}

fn given() -> Result<Given> {
    let [token, file, id, secret] = [TOKEN, TOKEN_FILE, CLIENT_ID, CLIENT_SECRET].map(variable);
    Ok(match (token?, file?, id?, secret?) {
        (None, None, None, None) => Given::Nothing,
        (Some(token), None, None, None) => Given::Token { token, from: TOKEN.into() },
        (None, Some(path), None, None) => {
            let from = format!("{TOKEN_FILE}={path}");
            let mut token = String::new();
            let file = std::fs::File::open(&path).with_context(|| format!("{from} can't be opened"))?;
            let read = file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut token);
            read.with_context(|| format!("{from} can't be read"))?;
            Given::Token { token, from }
        }
        (None, None, Some(id), Some(secret)) => Given::Client { id, secret },
        (None, None, Some(_), None) => bail!("{CLIENT_ID} is set without {CLIENT_SECRET}"),
        (None, None, None, Some(_)) => bail!("{CLIENT_SECRET} is set without {CLIENT_ID}"),
        _ => bail!(
            "set one of {TOKEN}, {TOKEN_FILE}, or {CLIENT_ID} with {CLIENT_SECRET}: more than one is set"
        ),
    })
}

/// The HTTP client for requests to an address of the platform. Addresses are the user's own: no proxy gets in between.
pub(crate) async fn http(address: &str) -> Result<reqwest::Client> {
    match token(address).await? {
        Some(token) => http_as(&token),
        None => http_local(),
    }
}

/// The HTTP client that shows nothing, for a platform that asks for nothing.
pub(crate) fn http_local() -> Result<reqwest::Client> {
    plain(HeaderMap::new())
}

/// The HTTP client that shows this token.
pub(crate) fn http_as(token: &str) -> Result<reqwest::Client> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| anyhow::anyhow!("the token has characters that no token has"))?;
    value.set_sensitive(true);
    plain(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn plain(headers: HeaderMap) -> Result<reqwest::Client> {
    // Installed by an earlier call in this process: the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().default_headers(headers);
    client.build().context("the HTTP client can't be built")
}

/// The token that the environment has, or that its client gets at the address; `None`: it has none.
pub(crate) async fn token(address: &str) -> Result<Option<String>> {
    match given()? {
        Given::Nothing => Ok(None),
        Given::Token { token, from } => {
            let token = token.trim().to_owned();
            ensure!(!token.is_empty(), "{from} holds no token");
            Ok(Some(token))
        }
        Given::Client { id, secret } => fetch(address, &id, &secret).await.map(Some),
    }
}

async fn fetch(address: &str, id: &str, secret: &str) -> Result<String> {
    let url = reqwest::Url::parse(address).ok().and_then(|url| url.join("/oauth/token").ok());
    let url = url.with_context(|| format!("{address:?} is no URL"))?;
    let form = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
    let form: String = form
        .iter()
        .map(|(name, value)| format!("{name}={}", auth::http::form_encoded(value)))
        .collect::<Vec<_>>()
        .join("&");
    let request = http_local()?.post(url.clone());
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let response = request.send().await.map_err(|error| {
        anyhow::Error::new(error.without_url())
            .context(format!("{url} can't be reached; is `vltava up` running there? --url says where it is"))
    })?;
    let status = response.status();
    let body = response.bytes().await.with_context(|| format!("{url} broke off its answer"))?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    match answer["access_token"].as_str() {
        Some(token) if status.is_success() => Ok(token.to_owned()),
        _ => match answer["error_description"].as_str() {
            Some(why) => bail!("client {id} ({CLIENT_ID}) got no token: {why} [{status}]"),
            None => bail!("client {id} ({CLIENT_ID}) got no token: {}", problem(status.as_u16(), &body)),
        },
    }
}

/// `vltava token`: prints a token, for other programs.
pub(crate) async fn print(url: &str) -> Result<()> {
    let token = token(url).await?.with_context(|| {
        format!("there is nothing to get a token with: set {CLIENT_ID} and {CLIENT_SECRET}")
    })?;
    crate::output::line(format_args!("{token}"));
    Ok(())
}
