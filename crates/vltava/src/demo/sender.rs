//! Sends events through `POST /ingest/{topic}` at a rate, and remembers which ids were answered 202.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use reqwest::header::RETRY_AFTER;
use tokio::task::JoinSet;
use types::EventId;

use super::events::Event;
use crate::commands::problem;

/// Requests at once.
const PARALLEL: usize = 32;
/// Events that are due are started this often.
const TICK: Duration = Duration::from_millis(5);
/// How often an event is tried where the platform is busy.
const TRIES_MAX: u32 = 100;

/// What was answered 202, by event id: when it was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    ids: Arc<Mutex<HashMap<String, Instant>>>,
    count: Arc<AtomicU64>,
}

impl Sent {
    /// How many were answered 202 so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// All of them.
    pub(super) fn ids(&self) -> HashMap<String, Instant> {
        self.ids.lock().clone()
    }
}

/// Sends `count` events, cycling through `events`, each under an id of its own. `rate` is events a
/// second; 0: as fast as they are taken.
pub(super) async fn send(
    url: String,
    events: Arc<Vec<Event>>,
    count: u64,
    rate: u32,
    sent: Sent,
) -> Result<()> {
    let client = crate::commands::http_local()?;
    let begun = Instant::now();
    let mut requests = JoinSet::new();
    let mut next = 0;
    while next < count {
        let due = match rate {
            0 => count,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of events")]
            rate => (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1,
        };
        while next < due.min(count) {
            while requests.len() >= PARALLEL {
                if let Some(outcome) = requests.join_next().await {
                    outcome??;
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "an index into a vector")]
            let event = events[(next % events.len() as u64) as usize].clone();
            requests.spawn(post(client.clone(), url.clone(), event, sent.clone()));
            next += 1;
        }
        tokio::time::sleep(TICK).await;
    }
    while let Some(outcome) = requests.join_next().await {
        outcome??;
    }
    Ok(())
}

async fn post(client: reqwest::Client, url: String, event: Event, sent: Sent) -> Result<()> {
    let id = EventId::new().to_string();
    let begun = Instant::now();
    for _ in 0..TRIES_MAX {
        let request = client
            .post(&url)
            .header("content-type", "application/json")
            .header("idempotency-key", &id)
            .header("x-github-event", &event.kind)
            .header("x-entity-key", &event.key)
            .body(event.body.clone());
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            sent.ids.lock().insert(id, begun);
            sent.count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if status.as_u16() != 429 {
            bail!("an event was refused: {}", problem(status.as_u16(), &response.bytes().await?));
        }
        let wait =
            response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(1);
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    bail!("an event was refused as too many {TRIES_MAX} times")
}
