//! Events that come in while the process is killed: what was answered 202, and what isn't known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::process::client;

/// A request that has no answer by then was cut off by a kill.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// After what isn't a 202, until the next event.
const PAUSE: Duration = Duration::from_millis(20);

/// Senders, each of which sends the events of its own keys one after another, each event under an id of its own: what
/// isn't answered 202 isn't sent again.
pub(crate) struct Load {
    /// `http://host:port` of who takes them now.
    pub(crate) url: Arc<Mutex<String>>,
    /// Ids that were answered 202.
    pub(crate) answered: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) senders: u64,
    pub(crate) keys_a_sender: u64,
    /// Between two events of a sender.
    pub(crate) every: Duration,
}

impl Load {
    pub(crate) fn start(url: &str, topic: &str, shape: Shape) -> Self {
        let url = Arc::new(Mutex::new(url.to_owned()));
        let answered = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let senders = (0..shape.senders)
            .map(|sender| {
                let (url, answered, stop, topic) =
                    (Arc::clone(&url), Arc::clone(&answered), Arc::clone(&stop), topic.to_owned());
                tokio::spawn(async move { send(sender, shape, &url, &topic, &answered, &stop).await })
            })
            .collect();
        Self { url, answered, stop, senders }
    }

    /// Ends it; what was answered 202.
    pub(crate) async fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        self.answered.lock().clone()
    }
}

async fn send(
    sender: u64,
    shape: Shape,
    url: &Mutex<String>,
    topic: &str,
    answered: &Mutex<BTreeSet<String>>,
    stop: &AtomicBool,
) {
    let client = client(REQUEST_MAX);
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let event = Event { id: format!("s{sender}-{number}"), n: number, seq: number / shape.keys_a_sender };
        let key = format!("s{sender}k{}", number % shape.keys_a_sender);
        let url = url.lock().clone();
        match event.post(&client, &url, topic, &key, "").await {
            Posted::Stored => drop(answered.lock().insert(event.id)),
            Posted::Unknown => tokio::time::sleep(PAUSE).await,
        }
        tokio::time::sleep(shape.every).await;
    }
}

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    /// A multiple of [`crate::flow::FAILS_EVERY`] fails the flow's first expression.
    pub(crate) n: u64,
    pub(crate) seq: u64,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    Stored,
    Unknown,
}

impl Event {
    pub(crate) async fn post(
        &self,
        client: &reqwest::Client,
        url: &str,
        topic: &str,
        key: &str,
        pad: &str,
    ) -> Posted {
        let Self { id, n, seq } = self;
        let response = client
            .post(format!("{url}/ingest/{topic}"))
            .header("content-type", "application/json")
            .header("idempotency-key", id)
            .header("x-entity-key", key)
            .body(format!("{{\"n\": {n}, \"key\": \"{key}\", \"seq\": {seq}, \"pad\": \"{pad}\"}}"))
            .send()
            .await;
        match response {
            Ok(response) if response.status() == 202 => Posted::Stored,
            Ok(response) => {
                // 404 while the table of topics is not there yet, 429 and 503 while the engine is away.
                assert!(matches!(response.status().as_u16(), 404 | 429 | 503), "{}", response.status());
                Posted::Unknown
            }
            Err(_) => Posted::Unknown,
        }
    }
}
