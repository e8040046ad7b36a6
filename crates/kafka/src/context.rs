//! What librdkafka says on its own account: its log lines and connection errors.
//!
//! While the engine is away, librdkafka reports the same failure for each try of each broker of each client. So all
//! clients of one [`ClientConfig`](crate::ClientConfig) together warn of their connections once per [`QUIET`], with the
//! number of warnings that were held back; each client warns of other things as seldom. All go out at debug.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{ClientConfig, Error};

/// The least time between two warnings.
const QUIET: Duration = Duration::from_secs(10);
/// How long a connection error explains later timeouts.
const FRESH: Duration = Duration::from_secs(30);

/// Says when a warning may go out.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Mutex<Option<Instant>>,
    held_back: AtomicU64,
}

impl Quiet {
    /// `Some`: now, with how many were held back.
    fn ask(&self) -> Option<u64> {
        let mut last = self.last.lock();
        if last.is_some_and(|at| at.elapsed() < QUIET) {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(Instant::now());
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

/// Shared by a client's context and its owner.
#[derive(Debug)]
pub(crate) struct Voice {
    /// Names the client in the logs.
    client: String,
    address: String,
    /// For what is wrong with connections.
    connections: Arc<Quiet>,
    /// For the rest.
    own: Quiet,
    last_failure: Mutex<Option<(Instant, String)>>,
    fatal: Mutex<Option<String>>,
    /// Its owner has let go: that the engine went away too is no news any more.
    closing: AtomicBool,
}

impl Voice {
    pub(crate) fn new(client: &ClientConfig) -> Self {
        Self {
            client: client.client_id.clone(),
            address: client.bootstrap.clone(),
            connections: client.quiet.clone(),
            own: Quiet::default(),
            last_failure: Mutex::new(None),
            fatal: Mutex::new(None),
            closing: AtomicBool::new(false),
        }
    }

    /// From now on nothing is warned of.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// An error's text with the address, and with what the connection said last.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = error.at(&self.address);
        if let Some(why) = self.fatal.lock().as_deref() {
            return error.because(why);
        }
        if !error.is_unavailable() {
            return error;
        }
        match &*self.last_failure.lock() {
            Some((at, why)) if at.elapsed() < FRESH => error.because(why),
            _ => error,
        }
    }

    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let (client, address) = (&self.client, &self.address);
        // librdkafka prefixes "[thrd:...]: ": of use to its authors only.
        let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                // Connection failures come as errors too, by the other callback.
                let is_connection = matches!(facility, "FAIL" | "REQTMOUT" | "METADATAUPDATE");
                self.warn(is_connection, facility, message);
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(client, address, facility, "{message}");
            }
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::Fatal) {
            *self.fatal.lock() = Some(reason.to_owned());
        }
        crate::metrics::client_error(code);
        // It follows the reason, and explains nothing.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            let (client, address) = (&self.client, &self.address);
            tracing::debug!(client, address, "{reason}");
            return;
        }
        *self.last_failure.lock() = Some((Instant::now(), reason.to_owned()));
        let is_connection = code.is_some_and(|code| Error::from_code("", code).is_unavailable());
        self.warn(is_connection, "ERROR", reason);
    }

    /// A failure of a client that isn't librdkafka's.
    pub(crate) fn failure(&self, error: &Error) {
        crate::metrics::failure(error.kind());
        let reason = error.to_string();
        self.warn(error.is_unavailable(), "ERROR", &reason);
        *self.last_failure.lock() = Some((Instant::now(), reason));
    }

    fn warn(&self, is_connection: bool, facility: &str, message: &str) {
        let (client, address) = (&self.client, &self.address);
        let quiet = if is_connection { &self.connections } else { &self.own };
        let may_warn = !self.closing.load(Ordering::Relaxed);
        match may_warn.then(|| quiet.ask()).flatten() {
            Some(held_back) => tracing::warn!(client, address, facility, held_back, "{message}"),
            None => tracing::debug!(client, address, facility, "{message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_explained_by_the_connection() {
        let client = ClientConfig::new("h:1", "c");
        let (voice, other) = (Voice::new(&client), Voice::new(&client.named("2")));
        voice.error(
            &KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        );
        voice.error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let error = voice.explain(Error::from_code("produce", RDKafkaErrorCode::MessageTimedOut));
        assert!(error.to_string().contains("Connection refused"), "{error}");
        // Another client of the same engine has nothing to add for now; of another thing it has.
        other.error(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "refused");
        assert_eq!(client.quiet.held_back.load(Ordering::Relaxed), 1);
        assert_eq!(other.own.ask(), Some(0));
    }
}
