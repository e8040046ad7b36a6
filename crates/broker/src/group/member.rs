//! One member of a classic group. Invariant: a request that waits for the group is answered exactly once,
//! by taking its sender out of the member; a newer request of the same kind sends the older one away.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::ErrorCode;

use super::journal::Position;
use super::request::{JoinResponse, SyncResponse};

/// An answer and what must be durable before it goes out.
pub(super) type Reply<T> = oneshot::Sender<(T, Option<Position>)>;

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// (name, metadata) by preference.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) join: Option<Reply<JoinResponse>>,
    pub(super) sync: Option<Reply<SyncResponse>>,
    /// Asked for its assignment in this generation.
    pub(super) synced: bool,
    /// When its session ends; `None` after a restart until the timer runs.
    pub(super) expires: Option<Instant>,
}

impl Member {
    pub(super) fn is_joining(&self) -> bool {
        self.join.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_joining() || self.sync.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        protocols_bytes(&self.protocols)
    }

    pub(super) fn wait_join(&mut self, reply: Reply<JoinResponse>, member_id: &str) {
        self.fail_join(ErrorCode::REBALANCE_IN_PROGRESS, member_id);
        self.join = Some(reply);
    }

    pub(super) fn wait_sync(&mut self, reply: Reply<SyncResponse>) {
        self.fail_sync(ErrorCode::REBALANCE_IN_PROGRESS);
        self.sync = Some(reply);
    }

    pub(super) fn fail_join(&mut self, error: ErrorCode, member_id: &str) {
        if let Some(reply) = self.join.take() {
            answer(reply, JoinResponse::failed(error, member_id), None);
        }
    }

    pub(super) fn fail_sync(&mut self, error: ErrorCode) {
        if let Some(reply) = self.sync.take() {
            answer(reply, SyncResponse::failed(error), None);
        }
    }
}

/// Bytes that a list of protocols keeps in memory and in the journal.
pub(super) fn protocols_bytes(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
}

/// Answers a waiting request. A requester that has gone away needs no answer.
pub(super) fn answer<T>(reply: Reply<T>, response: T, position: Option<Position>) {
    let _gone = reply.send((response, position));
}
