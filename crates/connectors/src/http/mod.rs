//! `http-sink`: one POST a record, signed by Standard Webhooks.
//!
//! Only a 2xx answer is success. What a failure means for the record, for the destination and for
//! the next try stands in [`status`]; where a request may go stands in [`addresses`]. Redirects
//! aren't followed (a 3xx is a failure), proxies of the environment aren't used, and no message holds
//! a URL, a header's value or a body.
//!
//! Keys: `http.url`, `http.signing.secret` (one or more, separated by spaces, for rotation; absent:
//! not signed), `http.timeout.ms` (30,000), `http.in.flight.max` (64), `http.addresses.allow` (CIDRs,
//! separated by commas), `http.header.NAME` (sent with each request).

pub mod addresses;
mod request;
pub mod signature;
pub mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connect::config::Reader;
use connect::kafka::ConsumedRecord;
use connect::{ConfigProblem, Reason, Retry, Scope, Secret, Sink, SinkFactory, WriteError};
use futures::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};

use addresses::{Allowed, GuardedResolver, Refused};
use signature::Signer;

/// The plugin's name in `Connector.spec.plugin`.
pub const PLUGIN: &str = "http-sink";

/// Longer than this no connection attempt takes, whatever the request's own limit is.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// An idle connection is given up after this long: many receivers close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer's body this much is read, so that its connection can be used again; beyond, it is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const HEADER_PREFIX: &str = "http.header.";
const KEYS: [&str; 6] = [
    "http.url",
    "http.signing.secret",
    "http.timeout.ms",
    "http.in.flight.max",
    "http.addresses.allow",
    HEADER_PREFIX,
];

/// Makes HTTP sinks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Factory;

impl SinkFactory for Factory {
    fn plugin(&self) -> &'static str {
        PLUGIN
    }

    fn keys(&self) -> &'static [&'static str] {
        &KEYS
    }

    fn create(&self, config: &BTreeMap<String, Secret>) -> Result<Arc<dyn Sink>, Vec<ConfigProblem>> {
        let mut reader = Reader { config, problems: Vec::new() };
        let allowed = allowed(&mut reader);
        let url = url(&mut reader, &allowed);
        let signer = signer(&mut reader);
        let headers = headers(&mut reader);
        let timeout = Duration::from_millis(reader.number("http.timeout.ms", 30_000, 1..=600_000));
        let in_flight_max = reader.number("http.in.flight.max", 64_usize, 1..=1_024);
        let (Some(url), true) = (url, reader.problems.is_empty()) else { return Err(reader.problems) };
        // The process may have installed a provider already: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("vltava/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(GuardedResolver::new(allowed)))
            .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX))
            .timeout(timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(in_flight_max)
            .default_headers(headers)
            .build()
            .map_err(|error| {
                let message = format!("the HTTP client can't be built: {}", describe(error));
                vec![ConfigProblem { key: "http.url".into(), message }]
            })?;
        let host = url.host_str().unwrap_or_default();
        let authority = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        Ok(Arc::new(HttpSink { client, url, authority, signer, in_flight_max }))
    }
}

fn allowed(reader: &mut Reader<'_>) -> Allowed {
    let text = reader.config.get("http.addresses.allow").map_or("", Secret::expose);
    Allowed::parse(text).unwrap_or_else(|message| {
        reader.problem("http.addresses.allow", message);
        Allowed::default()
    })
}

fn url(reader: &mut Reader<'_>, allowed: &Allowed) -> Option<Url> {
    let text = reader.required("http.url")?;
    // The text itself may hold a secret in its query: it isn't repeated.
    let problem = match Url::parse(text) {
        Err(error) => format!("isn't a URL: {error}"),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("scheme {:?} isn't supported; use http or https", url.scheme())
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "holds credentials; give them as http.header.authorization".into()
        }
        Ok(url) => match addresses::literal(&url).filter(|address| !allowed.allows(*address)) {
            Some(address) => Refused(address).to_string(),
            None => return Some(url),
        },
    };
    reader.problem("http.url", problem);
    None
}

fn signer(reader: &mut Reader<'_>) -> Option<Signer> {
    let secrets =
        reader.config.get("http.signing.secret").map(Secret::expose).filter(|s| !s.trim().is_empty())?;
    match Signer::parse(secrets) {
        Ok(signer) => Some(signer),
        Err(message) => {
            reader.problem("http.signing.secret", message);
            None
        }
    }
}

fn headers(reader: &mut Reader<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let config = reader.config;
    for (key, value) in config.iter().filter(|(key, _)| key.starts_with(HEADER_PREFIX)) {
        let name = HeaderName::from_bytes(&key.as_bytes()[HEADER_PREFIX.len()..]);
        let value = HeaderValue::from_str(value.expose());
        match (name, value) {
            (Ok(name), _) if request::OWN_HEADERS.contains(&name.as_str()) => {
                reader.problem(key, format!("{name} is written by the connector"));
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => reader.problem(key, "isn't an HTTP header's name".into()),
            (_, Err(_)) => reader.problem(key, "its value can't stand in an HTTP header".into()),
        }
    }
    headers
}

struct HttpSink {
    client: Client,
    url: Url,
    /// `host:port`, for messages: a URL's path and query may hold secrets.
    authority: String,
    signer: Option<Signer>,
    in_flight_max: usize,
}

impl Sink for HttpSink {
    fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    fn write<'a>(
        &'a self,
        record: &'a ConsumedRecord,
        _attempt: u32,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            let headers = request::headers(record, self.signer.as_ref(), jiff::Timestamp::now());
            let body = record.value.clone().unwrap_or_default();
            let sent = self.client.post(self.url.clone()).headers(headers).body(body).send().await;
            let answer = sent.map_err(|error| failed_to_send(&self.authority, error))?;
            let verdict = status::judge(answer.status(), answer.headers(), jiff::Timestamp::now());
            drain(answer).await;
            verdict
        })
    }
}

/// Reads what little there is of the answer, so that the connection goes back to the pool. What it
/// says, and whether it ends well, changes nothing: the status has decided.
async fn drain(mut answer: reqwest::Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = answer.chunk().await {
        let Some(rest) = left.checked_sub(chunk.len()) else { return };
        left = rest;
    }
}

fn failed_to_send(authority: &str, error: reqwest::Error) -> WriteError {
    let (reason, scope) = if error.is_connect() {
        // DNS, TCP and TLS alike: no record can be at fault.
        (Reason::HttpConnection, Scope::Destination)
    } else if error.is_timeout() {
        (Reason::HttpTimeout, Scope::Record)
    } else {
        // Cut in the middle: it may be this record that the receiver dies of.
        (Reason::HttpConnection, Scope::Record)
    };
    let what = if error.is_connect() { "no connection" } else { "the request failed" };
    let message = format!("{authority}: {what}: {}", describe(error));
    WriteError { reason, scope, retry: Retry::Backoff, message }
}

/// Layers of the client's errors that say nothing by themselves.
const GENERIC: [&str; 3] = ["error sending request", "client error", "tcp connect error"];

/// The chain of causes in one line, without the URL.
fn describe(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut message = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !GENERIC.iter().any(|generic| text.starts_with(generic)) && !message.contains(&text) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&text);
        }
        cause = error.source();
    }
    if timed_out && !message.contains("timed out") {
        message.push_str(": timed out");
    }
    message
}
