//! Tasks with a name, an owner and an end.
//!
//! A [`Shutdown`] is a scope: it owns the tasks that are spawned in it and in the scopes below it.
//! Its states: open → requested (once, with the first reason; a deadline starts) → drained, or past
//! its deadline. A request goes down to the scopes below, never up. Invariants: a task's end is logged unless
//! it was asked for; a panic in a task ends that task, not the process, and counts as a failure; a
//! drain returns by the deadline whatever the tasks do.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// A scope of tasks. Cheap to clone; clones are the same scope.
#[derive(Clone)]
pub struct Shutdown(Arc<Scope>);

struct Scope {
    name: String,
    grace: Duration,
    token: CancellationToken,
    /// Set once, by the first request.
    requested: Mutex<Option<(String, Instant)>>,
    /// Of this scope and of those below it.
    tasks: Mutex<BTreeMap<u64, Entry>>,
    /// Something in `tasks` or the deadline changed.
    changed: Notify,
    parent: Option<Shutdown>,
}

struct Entry {
    name: Arc<str>,
    /// None for what only holds a guard (a thread).
    abort: Option<AbortHandle>,
}

/// What the end of a task means to its scope, when no stop was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnd {
    /// It has an end of its own: a success isn't logged, a failure is; the scope goes on.
    Expected,
    /// It should have run on: its end is logged as an error; the scope goes on without it.
    Log,
    /// The scope can't go on without it: its end is logged and requests the scope's stop.
    StopOwner,
}

/// How a task ended: `()`, or a `Result` whose error says why.
pub trait Outcome {
    /// `Err` with the reason, the chain of sources included, if it failed.
    fn failure(self) -> Result<(), String>;
}

impl Outcome for () {
    fn failure(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> Outcome for Result<(), E> {
    fn failure(self) -> Result<(), String> {
        self.map_err(|error| chain(&*error.into()))
    }
}

/// An error with all its sources, outermost first.
pub fn chain(error: &(dyn std::error::Error + '_)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Names of the tasks that were still running when the deadline passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still running at the deadline: {}", .0.join(", "))]
pub struct Unfinished(pub Vec<String>);

/// Keeps a name in the scope's list of what is running; for threads and other work that no task carries.
#[derive(Debug)]
pub struct Guard {
    scope: Shutdown,
    key: u64,
}

/// A task that was spawned. Dropping it changes nothing: the scope owns the task.
#[derive(Debug)]
pub struct Task {
    handle: tokio::task::JoinHandle<()>,
}

impl Task {
    /// Waits for the end.
    pub async fn ended(self) {
        // An aborted task has ended too; a panic was caught and logged inside.
        drop(self.handle.await);
    }

    /// Stops it at its next await point, without a log line.
    pub fn abort(&self) {
        self.handle.abort();
    }
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Shutdown {
    /// A scope of its own. `grace` is how long its tasks may take to end, from the request on.
    pub fn new(grace: Duration) -> Self {
        Self::make("process".into(), grace, CancellationToken::new(), None)
    }

    /// A scope below this one: stopped when this one is, or alone. Its tasks count as this one's too.
    pub fn child(&self, name: impl Into<String>) -> Self {
        Self::make(name.into(), self.0.grace, self.0.token.child_token(), Some(self.clone()))
    }

    fn make(name: String, grace: Duration, token: CancellationToken, parent: Option<Self>) -> Self {
        Self(Arc::new(Scope {
            name,
            grace,
            token,
            requested: Mutex::new(None),
            tasks: Mutex::default(),
            changed: Notify::new(),
            parent,
        }))
    }

    /// Requests the stop. Only the first call counts; its reason is logged.
    pub fn begin(&self, reason: &str) {
        let mut requested = self.0.requested.lock();
        if requested.is_some() {
            return;
        }
        *requested = Some((reason.to_owned(), Instant::now() + self.0.grace));
        drop(requested);
        info!(scope = %self.0.name, reason, grace_ms = self.0.grace.as_millis() as u64, "stopping");
        self.0.token.cancel();
        self.0.changed.notify_waiters();
    }

    /// Moves the deadline to now: whoever drains stops waiting.
    pub fn expire(&self) {
        self.begin("expired");
        if let Some((_, deadline)) = &mut *self.0.requested.lock() {
            *deadline = Instant::now();
        }
        self.0.changed.notify_waiters();
    }

    /// Whether a stop was requested, here or above.
    pub fn is_requested(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Waits until a stop is requested, here or above.
    pub async fn requested(&self) {
        self.0.token.cancelled().await;
    }

    /// As [`Shutdown::requested`], as a future that can be kept.
    pub fn requested_owned(&self) -> tokio_util::sync::WaitForCancellationFutureOwned {
        self.0.token.clone().cancelled_owned()
    }

    /// For what takes a token.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Why the stop was requested, and until when tasks may run. `None` before.
    pub fn request(&self) -> Option<(String, Instant)> {
        let own = self.0.requested.lock().clone();
        let above = self.0.parent.as_ref().and_then(Shutdown::request);
        match (own, above) {
            // A parent's deadline bounds its children's.
            (Some((reason, own)), Some((_, above))) => Some((reason, own.min(above))),
            (own, above) => own.or(above),
        }
    }

    /// Until when tasks may run: the deadline, or, before a stop was requested, the grace from now.
    pub fn deadline(&self) -> Instant {
        self.request().map_or_else(|| Instant::now() + self.0.grace, |(_, deadline)| deadline)
    }

    /// Spawns a task that this scope owns. The future should end soon after [`Shutdown::requested`].
    pub fn spawn<F>(&self, name: impl Into<String>, on_end: OnEnd, future: F) -> Task
    where
        F: Future + Send + 'static,
        F::Output: Outcome + Send,
    {
        let name: Arc<str> = name.into().into();
        let guard = self.register(name.clone(), None);
        let key = guard.key;
        let scope = self.clone();
        let handle = tokio::spawn(async move {
            let outcome = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(outcome) => outcome.failure(),
                Err(panic) => Err(format!("panicked: {}", panic_text(&*panic))),
            };
            scope.ended(&name, on_end, outcome);
            drop(guard);
        });
        self.with_scopes(|scope| {
            if let Some(entry) = scope.tasks.lock().get_mut(&key) {
                entry.abort = Some(handle.abort_handle());
            }
        });
        Task { handle }
    }

    /// Registers running work that isn't a task, until the guard is dropped.
    pub fn track(&self, name: impl Into<String>) -> Guard {
        self.register(name.into().into(), None)
    }

    /// Names of what runs in this scope and below, in the order in which it started.
    pub fn running(&self) -> Vec<String> {
        self.0.tasks.lock().values().map(|entry| entry.name.to_string()).collect()
    }

    /// Waits for a request, and then until everything has ended or the deadline has passed. Past the
    /// deadline the names of what still runs are logged, and tasks are aborted.
    pub async fn drain(&self) -> Result<(), Unfinished> {
        self.requested().await;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.0.tasks.lock().is_empty() {
                return Ok(());
            }
            let deadline = self.deadline();
            if Instant::now() >= deadline {
                break;
            }
            // The deadline of a scope above may move unseen: look again now and then.
            let look_again = deadline.min(Instant::now() + Duration::from_millis(250));
            drop(tokio::time::timeout_at(look_again, changed).await);
        }
        let names = self.running();
        for entry in self.0.tasks.lock().values() {
            if let Some(abort) = &entry.abort {
                abort.abort();
            }
        }
        error!(scope = %self.0.name, tasks = names.join(", "), "deadline passed, tasks still running are abandoned");
        Err(Unfinished(names))
    }

    /// Requests the stop at SIGTERM or SIGINT; a second signal moves the deadline to now.
    pub fn stop_at_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let scope = self.clone();
        // Outside of the scope's list: it must outlive the drain, and ends with the process.
        tokio::spawn(async move {
            let mut asked = false;
            loop {
                let name = tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                };
                if asked {
                    warn!(signal = name, "second signal: not waiting any longer");
                    scope.expire();
                } else {
                    scope.begin(name);
                    asked = true;
                }
            }
        });
        Ok(())
    }

    fn ended(&self, name: &str, on_end: OnEnd, outcome: Result<(), String>) {
        let scope = &self.0.name;
        match (outcome, self.is_requested(), on_end) {
            (Ok(()), true, _) | (Ok(()), _, OnEnd::Expected) => {}
            (Err(reason), true, _) => warn!(%scope, task = name, reason, "task failed while stopping"),
            (Err(reason), false, OnEnd::Expected | OnEnd::Log) => {
                error!(%scope, task = name, reason, "task failed");
            }
            (Ok(()), false, OnEnd::Log) => error!(%scope, task = name, "task ended unexpectedly"),
            (outcome, false, OnEnd::StopOwner) => {
                let reason = outcome.err().unwrap_or_else(|| "ended without an error".into());
                error!(%scope, task = name, reason, "task that must run ended");
                self.begin(&format!("task {name} ended: {reason}"));
            }
        }
    }

    fn register(&self, name: Arc<str>, abort: Option<AbortHandle>) -> Guard {
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        self.with_scopes(|scope| {
            scope.tasks.lock().insert(key, Entry { name: name.clone(), abort: abort.clone() });
        });
        Guard { scope: self.clone(), key }
    }

    /// This scope and all above it.
    fn with_scopes(&self, mut f: impl FnMut(&Scope)) {
        let mut scope = Some(self);
        while let Some(current) = scope {
            f(&current.0);
            scope = current.0.parent.as_ref();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.scope.with_scopes(|scope| {
            scope.tasks.lock().remove(&self.key);
            scope.changed.notify_waiters();
        });
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("name", &self.0.name)
            .field("requested", &self.is_requested())
            .finish_non_exhaustive()
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_tasks_of_all_scopes_below() {
        let root = Shutdown::new(Duration::from_secs(10));
        let child = root.child("child");
        let stop = child.clone();
        child.spawn("worker", OnEnd::Log, async move {
            stop.requested().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        assert_eq!(root.running(), ["worker"]);
        let begun = Instant::now();
        root.begin("test");
        assert_eq!(root.drain().await, Ok(()));
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert!(child.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_names_are_given_and_tasks_aborted() {
        let root = Shutdown::new(Duration::from_secs(2));
        let task = root.spawn("stuck", OnEnd::Log, std::future::pending::<()>());
        let guard = root.track("a thread");
        root.begin("test");
        let begun = Instant::now();
        assert_eq!(root.drain().await, Err(Unfinished(vec!["stuck".into(), "a thread".into()])));
        assert_eq!(begun.elapsed().as_secs(), 2);
        task.ended().await;
        drop(guard);
        assert_eq!(root.drain().await, Ok(()));
    }

    #[tokio::test]
    async fn a_child_stops_alone() {
        let root = Shutdown::new(Duration::from_secs(2));
        let child = root.child("child");
        child.begin("no longer wanted");
        assert!(child.is_requested() && !root.is_requested());
        assert_eq!(child.drain().await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_must_run_brings_its_owner_down_with_its_reason() {
        let root = Shutdown::new(Duration::from_secs(2));
        root.spawn("loop", OnEnd::StopOwner, async { Err::<(), _>("the disk is full") });
        root.drain().await.unwrap();
        assert_eq!(root.request().unwrap().0, "task loop ended: the disk is full");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_task_alone() {
        let name = std::hint::black_box("boom");
        let root = Shutdown::new(Duration::from_secs(2));
        root.spawn("noisy", OnEnd::Log, async move { assert!(name.is_empty(), "boom") }).ended().await;
        assert!(!root.is_requested());
        root.spawn("needed", OnEnd::StopOwner, async move { assert!(name.is_empty(), "boom {}", 1) })
            .ended()
            .await;
        assert_eq!(root.request().unwrap().0, "task needed ended: panicked: boom 1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_moves_nothing_but_expiry_does() {
        let root = Shutdown::new(Duration::from_secs(60));
        root.spawn("stuck", OnEnd::Log, std::future::pending::<()>());
        root.begin("first");
        root.begin("second");
        assert_eq!(root.request().unwrap().0, "first");
        let begun = Instant::now();
        let drain = tokio::spawn({
            let root = root.clone();
            async move { root.drain().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        root.expire();
        assert!(drain.await.unwrap().is_err());
        assert_eq!(begun.elapsed().as_secs(), 1);
    }
}
