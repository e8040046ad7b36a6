//! The task that knows which topics there are and who leads their partitions, releases what waits for another try, and gives up
//! what took too long. One a producer; it starts the brokers' tasks, and ends with the producer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use types::TopicName;
use wire::ErrorCode;
use wire::api::MetadataResponse;

use super::lanes::Found;
use super::{Shared, worker};
use crate::{Error, Result};

/// While something waits, what is over is looked for this often.
const TICK: Duration = Duration::from_millis(100);
/// The engine isn't asked for its topics more often.
const ASK_MIN: Duration = Duration::from_millis(100);
/// And as often at least, while there are any (`metadata.max.age.ms`).
const ASK_MAX: Duration = Duration::from_secs(60);

pub(super) async fn run(shared: Arc<Shared>, mut gone: watch::Receiver<()>) {
    let owner = gone.clone();
    tokio::select! {
        // Only ever an error: the producer was dropped.
        _ = gone.changed() => {}
        () = coordinate(&shared, &owner) => {}
    }
    tracing::debug!(client = shared.client_id, "the producer's coordinator ends: the producer was dropped");
}

async fn coordinate(shared: &Arc<Shared>, gone: &watch::Receiver<()>) {
    let mut asked: Option<Instant> = None;
    let mut asking: Option<std::pin::Pin<Box<dyn Future<Output = Result<MetadataResponse>> + Send>>> = None;
    loop {
        let now = Instant::now();
        give_up(shared, now);
        let (due, wants, waiting) = {
            let mut lanes = shared.lanes.lock();
            (lanes.release(now), lanes.wants_metadata(), lanes.records() > 0)
        };
        let ask_at = match asked {
            None if wants => Some(now),
            None => None,
            Some(at) => Some(at + if wants { ASK_MIN } else { ASK_MAX }),
        };
        if asking.is_none() && ask_at.is_some_and(|at| at <= now) {
            let topics = shared.lanes.lock().askable(now);
            if topics.is_empty() {
                asked = None;
            } else {
                let admin = shared.admin.clone();
                asking = Some(Box::pin(async move { admin.metadata("look for topics", Some(topics)).await }));
            }
        }
        let wake = [due, waiting.then(|| now + TICK), ask_at.filter(|_| asking.is_none())];
        let wake = wake.into_iter().flatten().min().unwrap_or(now + ASK_MAX);
        tokio::select! {
            answer = async { asking.as_mut().expect("the branch's condition").await }, if asking.is_some() => {
                asking = None;
                asked = Some(Instant::now());
                match answer {
                    Ok(answer) => apply(shared, gone, &answer),
                    Err(error) => shared.voice.failure(&error),
                }
            }
            () = tokio::time::sleep_until(wake.into()) => {}
            () = shared.look.notified() => {}
        }
    }
}

/// Tells records whose time is over.
fn give_up(shared: &Shared, now: Instant) {
    let Some(limit) = now.checked_sub(shared.delivery_timeout) else { return };
    let expired = shared.lanes.lock().expired(limit);
    if expired.is_empty() {
        return;
    }
    for (topic, pending, uncertain) in expired {
        let error = Error::timeout(format!("produce to {topic}"), shared.delivery_timeout);
        let more = if uncertain { "it may be stored" } else { "" };
        pending.failed(shared.voice.explain(error.because(more)));
    }
    shared.settled();
}

fn apply(shared: &Arc<Shared>, gone: &watch::Receiver<()>, answer: &MetadataResponse) {
    let now = Instant::now();
    let brokers = answer.brokers.iter().map(|b| (b.node_id, format!("{}:{}", b.host, b.port)));
    let new = shared.lanes.lock().set_brokers(brokers);
    for (id, wake) in new {
        drop(tokio::spawn(worker::run(shared.clone(), id, wake, gone.clone())));
    }
    for topic in &answer.topics {
        let Some(name) = topic.name.as_deref().and_then(|name| TopicName::new(name).ok()) else { continue };
        let what = || format!("produce to {name}");
        match topic.error_code {
            ErrorCode::NONE => {
                let leaders: HashMap<_, _> = topic
                    .partitions
                    .iter()
                    .filter(|p| p.leader_id >= 0)
                    .map(|p| (p.partition_index, p.leader_id))
                    .collect();
                let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                let leaders = (0..partitions).map(|partition| leaders.get(&partition).copied()).collect();
                let found = Found { id: topic.topic_id, leaders };
                let refused = shared.lanes.lock().found(&name, &found);
                for (pending, error) in refused {
                    shared.fail(vec![pending], || error);
                }
            }
            code @ ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let given_up = shared.lanes.lock().missing(&name, false, now);
                shared.fail(given_up, || crate::admin::refused(&what(), code, None));
            }
            // "Not now": it is asked again while something waits.
            ErrorCode::LEADER_NOT_AVAILABLE | ErrorCode::UNKNOWN_SERVER_ERROR => {}
            code => {
                let refused = shared.lanes.lock().missing(&name, true, now);
                shared.fail(refused, || crate::admin::refused(&what(), code, None));
            }
        }
    }
}
