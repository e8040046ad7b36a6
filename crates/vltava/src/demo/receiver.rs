//! The local receiver that the demo delivers to: checks each signature, remembers each id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use runtime::{OnEnd, Shutdown};
use sha2::Sha256;

/// What came, by `webhook-id`.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<Mutex<Arrivals>>);

#[derive(Debug, Default)]
struct Arrivals {
    first: HashMap<String, Instant>,
    repeated: u64,
    refused: u64,
    first_at: Option<Instant>,
}

impl Received {
    /// Different ids.
    pub(super) fn unique(&self) -> u64 {
        self.0.lock().first.len() as u64
    }

    /// Deliveries of an id that had come before: at least once allows them, the summary reports them.
    pub(super) fn repeated(&self) -> u64 {
        self.0.lock().repeated
    }

    /// Deliveries with a signature that doesn't hold.
    pub(super) fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// When the very first came.
    pub(super) fn first_at(&self) -> Option<Instant> {
        self.0.lock().first_at
    }

    /// When each id came for the first time.
    pub(super) fn times(&self) -> HashMap<String, Instant> {
        self.0.lock().first.clone()
    }
}

/// Starts it on a free port.
pub(super) async fn start(secret: &str, shutdown: &Shutdown) -> Result<(SocketAddr, Received)> {
    let listener = runtime::bind(([127, 0, 0, 1], 0).into(), "the demo's receiver")?;
    let address = listener.local_addr()?;
    let received = Received::default();
    let key = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    let router = Router::new().route("/hooks", post(take)).with_state((received.clone(), key));
    let stop = shutdown.clone();
    shutdown.spawn("demo receiver", OnEnd::Log, runtime::http::serve(listener, router, stop));
    Ok((address, received))
}

async fn take(
    State((received, key)): State<(Received, Hmac<Sha256>)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let now = Instant::now();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp, signatures) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    let mut mac = key;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let mut state = received.0.lock();
    if id.is_empty() || !signatures.split(' ').any(|signature| signature == expected) {
        state.refused += 1;
        return StatusCode::BAD_REQUEST;
    }
    state.first_at.get_or_insert(now);
    match state.first.entry(id.to_owned()) {
        Entry::Vacant(entry) => drop(entry.insert(now)),
        Entry::Occupied(_) => state.repeated += 1,
    }
    StatusCode::NO_CONTENT
}
