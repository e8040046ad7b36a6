//! One file a subcommand. A command that talks to the engine takes `--kafka-bootstrap`, one that
//! needs the process takes `--url`; none of them opens the store.

pub(crate) mod backtest;
pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod dlq;
pub(crate) mod gitops;
pub(crate) mod jsonata;
pub(crate) mod list;
pub(crate) mod send;
pub(crate) mod stages;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod topics;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub(crate) use self::credentials::{http, http_as, http_local};

/// The answer's JSON, or the problem document as an error that a person can act on.
pub(crate) async fn answer(url: &str, request: reqwest::RequestBuilder) -> Result<Value> {
    let response = request.send().await.map_err(|error| {
        let hint =
            if error.is_connect() { "; is `vltava up` running there? --url says where it is" } else { "" };
        anyhow::Error::new(error.without_url()).context(format!("{url} can't be reached{hint}"))
    })?;
    let status = response.status();
    let body = response.bytes().await.with_context(|| format!("{url} broke off its answer"))?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .with_context(|| format!("{url} answered {status} with no JSON"));
    }
    bail!("{}", problem(status.as_u16(), &body))
}

/// One problem a line, as the server says them.
pub(crate) fn problem(status: u16, body: &[u8]) -> String {
    let Ok(Value::Object(problem)) = serde_json::from_slice(body) else {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        return format!("the answer was {status}: {text}");
    };
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let mut message = text("detail").or(text("title")).unwrap_or("no detail").to_owned();
    if let Some(code) = text("code") {
        message = format!("{message} [{status} {code}]");
    }
    for one in
        problem.get("problems").or(problem.get("errors")).and_then(Value::as_array).into_iter().flatten()
    {
        let part = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = [part("field"), part("pointer")].concat();
        let what = [part("message"), part("detail")].concat();
        message.push_str(&format!("\n  {place}: {what}"));
    }
    message
}
