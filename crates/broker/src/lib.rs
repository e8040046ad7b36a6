//! The embedded broker: the part of Kafka that Vltava needs, in one process, on one durable log.
//!
//! Invariant: what is acknowledged or shown to a client is durable (see [`log`]).
//!
//! [`Broker::open`] or [`Broker::build`] recovers and binds, and spawns nothing of the network side; [`Broker::run`] serves
//! until it is told to stop; a [`Handle`] is what others hold meanwhile. Who must not know: this crate knows no Kafka
//! client, no pipelines, no control plane.

pub mod catalog;
mod config;
pub mod group;
mod identity;
pub mod log;
mod metrics;
mod node;
mod protocol;
mod server;
pub mod testing;
pub mod txn;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use config::{Config, Limits};
pub use identity::Error as DataDirError;

use catalog::Catalog;
use group::Groups;
use identity::{Identity, Lock};
use log::{Disk, Log, Machine, OsDisk};
use node::Node;
use server::memory::{FetchMemory, Memory};
use txn::Transactions;

/// Connections get this long to end when the broker stops; then it stops without them.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Why a broker can't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] identity::Error),
    /// The log can't be opened or closed.
    #[error("the log of the broker failed")]
    Log(#[from] log::Error),
    /// The address can't be listened on.
    #[error("failed to listen on {address} (broker.listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A setting that can't be.
    #[error("{field} is {value}: {rule}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        rule: &'static str,
    },
}

/// A broker that has recovered and listens, and doesn't serve yet.
pub struct Broker {
    node: Arc<Node>,
    listener: TcpListener,
    addr: SocketAddr,
    lock: Option<Lock>,
}

/// What others hold of a running broker.
#[derive(Clone)]
pub struct Handle {
    addr: SocketAddr,
    node: Arc<Node>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Handle {
    /// Where the broker listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `bootstrap.servers` for a client on this machine.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        match &self.node.advertised {
            Some((host, port)) => format!("{host}:{port}"),
            None => self.addr.to_string(),
        }
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.node.cluster_id
    }

    /// Registers what the broker counts; once a registry.
    pub fn register(&self, metrics: &runtime::Metrics) {
        self.node.metrics.register(metrics);
    }

    /// Why the broker takes no writes, if it doesn't.
    #[must_use]
    pub fn failure(&self) -> Option<log::Error> {
        self.node.log.failure()
    }

    /// What reading records failed with lately, if it did.
    #[must_use]
    pub fn read_failure(&self) -> Option<log::Error> {
        self.node.log.read_failure()
    }
}

/// `host:port`, where an IPv6 host stands in brackets.
fn advertised(text: &str) -> Result<(String, u16), Error> {
    let bad = |rule| Error::Config { field: "broker.advertised", value: text.to_owned(), rule };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("it must be host:port"))?;
    let port = port.parse().map_err(|_| bad("its port must be a number from 0 to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(bad("its host is missing"));
    }
    Ok((host.to_owned(), port))
}

impl Broker {
    /// Takes the data directory for this process, recovers what is in it, and binds the listener. Blocking.
    ///
    /// # Errors
    /// The directory is in use, damaged or newer; the address is taken; a setting can't be.
    pub fn open(config: Config) -> Result<Self, Error> {
        let lock = Lock::take(&config.data_dir)?;
        Self::start(config, Arc::new(OsDisk), Some(lock))
    }

    /// The same on a disk of the caller's, without keeping other processes out: for tests.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn build(config: Config, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        Self::start(config, disk, None)
    }

    fn start(mut config: Config, disk: Arc<dyn Disk>, lock: Option<Lock>) -> Result<Self, Error> {
        let began = std::time::Instant::now();
        let advertised = config.advertised.as_deref().map(advertised).transpose()?;
        let identity = Identity::open(&disk, &config.data_dir)?;
        config.log.flush = config.flush;

        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;

        let catalog = Arc::new(Catalog::new(config.limits.partitions_max));
        let groups = Groups::new(
            group::Config {
                initial_rebalance_delay: config.group_initial_rebalance_delay,
                ..group::Config::default()
            },
            group::Clock::System,
        );
        let transactions = Transactions::new(
            txn::Config { timeout_max: config.transaction_timeout_max, ..txn::Config::default() },
            group::Clock::System,
            groups.clone(),
        );
        let machines: Vec<Arc<dyn Machine>> = vec![catalog.clone(), groups.clone(), transactions.clone()];
        let log = Log::open(disk, &config.data_dir.join("log"), config.log.clone(), machines)?;
        catalog.attach(&log);
        groups.attach(group::LogJournal::new(log.clone()));
        transactions.attach(group::LogJournal::new(log.clone()));
        info!(
            %addr,
            topics = catalog.topics().iter().count(),
            leader_epoch = log.leader_epoch(),
            took_ms = began.elapsed().as_millis() as u64,
            "broker recovered"
        );
        let limits = &config.limits;
        let node = Arc::new(Node {
            metrics: metrics::Metrics::default(),
            memory: Memory::new(limits.request_memory_bytes, limits.small_request_memory_bytes),
            fetch_memory: FetchMemory::new(limits.fetch_memory_bytes),
            cluster_id: identity.cluster_id,
            log,
            catalog,
            groups,
            transactions,
            stop: CancellationToken::new(),
            advertised,
            config,
        });
        Ok(Self { node, listener, addr, lock })
    }

    /// What others hold while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { addr: self.addr, node: self.node.clone() }
    }

    /// Serves until `shutdown` is requested, then ends its connections and closes the log.
    ///
    /// # Errors
    /// The listener can't be used, or the log can't be closed.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        let Self { node, listener, addr, lock } = self;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|source| Error::Listen { address: addr, source })?;
        let stop = shutdown.token();
        let ended = stop.child_token();
        let timers = {
            let node = node.clone();
            tokio::spawn(async move {
                tokio::join!(node.groups.run(node.stop.clone()), node.transactions.run(node.stop.clone()));
            })
        };
        let mut server = tokio::spawn(server::run(node.clone(), listener, ended));
        let early = tokio::select! {
            () = stop.cancelled() => None,
            early = &mut server => Some(early),
        };
        node.stop.cancel();
        match early {
            Some(Err(error)) => error!(%error, "the broker's listener ended"),
            Some(Ok(())) => {}
            None => {
                if tokio::time::timeout(STOP_MAX, &mut server).await.is_err() {
                    error!(after = ?STOP_MAX, "connections did not end; the broker stops without them");
                    server.abort();
                }
            }
        }
        if let Err(error) = timers.await {
            error!(%error, "the timers of groups and transactions ended badly");
        }
        let log = node.log.clone();
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        drop(lock);
        match closed {
            Ok(closed) => Ok(closed?),
            Err(error) => {
                error!(%error, "closing the log was interrupted");
                Err(Error::Log(log::Error::Closed))
            }
        }
    }
}
