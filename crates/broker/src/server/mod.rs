//! The network side: accepts connections up to a limit and serves each in a task of its own.
//!
//! Invariant: a connection's task ends when the server stops, and the server ends after the last of them.

mod connection;
pub(crate) mod memory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use connection::Refusal;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::metrics::End;
use crate::node::Node;

/// After a failed accept (no file descriptors, say) the listener rests.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Warnings about connections in one second; the rest are counted and said in the next.
const WARNINGS_PER_SECOND_MAX: u32 = 20;

/// Accepts and serves until `stop`, then waits for the connections' ends.
pub(crate) async fn run(node: Arc<Node>, listener: TcpListener, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(node.config.limits.connections_max));
    let warnings = Arc::new(Warnings::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            // Reaped as they end, so that the set holds what is alive only.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warnings.say(None, &format!("failed to accept a connection: {error}"));
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            let limit = node.config.limits.connections_max;
            node.metrics.connections_ended.get_or_create(&End { end: "refused" }).inc();
            warnings.say(Some(peer), &format!("refused: {limit} connections are open, which is the limit"));
            continue;
        };
        let (node, stop, warnings) = (node.clone(), stop.clone(), warnings.clone());
        connections.spawn(async move {
            node.metrics.connections.inc();
            let ended = connection::serve(node.clone(), stream, peer, stop).await;
            node.metrics.connections.dec();
            let end = if ended.is_ordinary() { "ordinary" } else { "failed" };
            node.metrics.connections_ended.get_or_create(&End { end }).inc();
            if ended.is_ordinary() {
                debug!(%peer, reason = %ended, "connection ended");
            } else {
                warnings.say(Some(peer), &ended.to_string());
            }
            drop(slot);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Warnings at a bounded rate: a hostile peer must not fill the disk with them.
#[derive(Debug, Default)]
struct Warnings(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    said: u32,
    withheld: u64,
}

impl Warnings {
    fn say(&self, peer: Option<SocketAddr>, reason: &str) {
        let withheld = {
            let mut window = self.0.lock();
            let now = Instant::now();
            if window.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
                window.began = Some(now);
                window.said = 0;
            }
            if window.said >= WARNINGS_PER_SECOND_MAX {
                window.withheld += 1;
                return;
            }
            window.said += 1;
            std::mem::take(&mut window.withheld)
        };
        match peer {
            Some(peer) => warn!(%peer, withheld, reason, "connection closed"),
            None => warn!(withheld, reason, "listener"),
        }
    }
}
