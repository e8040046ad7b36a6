//! A broker in the process of a test, on a port of its own. Compiled always, because other crates' tests use it; nothing
//! of the product does.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::Shutdown;

use crate::log::Flush;
use crate::{Broker, Config, Error, Handle};

/// What a test's broker gets to end in good order.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the broker until it is dropped: it stops in good order then.
#[derive(Debug)]
pub struct Guard {
    handle: Handle,
    stop: Shutdown,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Guard {
    /// The broker's handle.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.handle.bootstrap()
    }

    /// Stops the broker and waits for its end.
    ///
    /// # Errors
    /// As [`Broker::run`].
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.stop.begin("the test is over");
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            // The thread's panic has been printed already.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the broker of a test ended badly");
        }
    }
}

/// Starts a broker in `dir`, with `Flush::Os`: tests that are about durability say `Flush::Sync` by [`start_with`].
///
/// # Errors
/// As [`Broker::open`].
pub fn start(dir: &Path) -> Result<(SocketAddr, Guard), Error> {
    start_with(Config { flush: Flush::Os, ..Config::new(dir) })
}

/// Starts a broker as configured, on a runtime of its own: it serves whatever the test's own runtime does.
///
/// # Errors
/// As [`Broker::open`].
pub fn start_with(config: Config) -> Result<(SocketAddr, Guard), Error> {
    let broker = Broker::open(config)?;
    Ok(run(broker))
}

/// Runs a broker on a runtime of its own.
///
/// # Panics
/// When the operating system gives no thread.
#[must_use]
pub fn run(broker: Broker) -> (SocketAddr, Guard) {
    let handle = broker.handle();
    let stop = Shutdown::new(GRACE);
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("test-broker".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a test's machine has threads to give");
            runtime.block_on(broker.run(stopped))
        })
        .expect("a test's machine has threads to give");
    (handle.addr(), Guard { handle, stop, thread: Some(thread) })
}
