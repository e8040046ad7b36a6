//! The broker's settings. Every limit of the network side is here, under a name; the log's are in [`crate::log::Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::log::Flush;

/// Settings of a [`crate::Broker`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` that clients are told to connect to. `None`: the address that a client connected to.
    pub advertised: Option<String>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// What "written" means. See [`Flush`].
    pub flush: Flush,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`: for topics that don't say how many they want.
    pub partitions_default: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Duration,
    /// `transaction.max.timeout.ms`.
    pub transaction_timeout_max: Duration,
    /// See [`Limits`].
    pub limits: Limits,
    /// The log's own settings; its `flush` is overridden by [`Config::flush`].
    pub log: crate::log::Config,
}

impl Config {
    /// The defaults, in `data_dir`, on a free port of the loopback interface.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertised: None,
            data_dir: data_dir.into(),
            flush: Flush::Sync,
            auto_create_topics: false,
            partitions_default: 1,
            group_initial_rebalance_delay: Duration::ZERO,
            transaction_timeout_max: Duration::from_secs(900),
            limits: Limits::default(),
            log: crate::log::Config::default(),
        }
    }
}

/// What clients may make the broker hold. Over a limit, a connection waits, or is closed with a logged reason.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A Produce request, bytes.
    pub produce_frame_bytes_max: usize,
    /// Any other request, bytes: none carries records.
    pub other_frame_bytes_max: usize,
    /// Connections, all together. One more is closed at once.
    pub connections_max: usize,
    /// Requests of one connection that are read and not yet answered.
    pub in_flight_requests_max: usize,
    /// Bytes of requests of one connection that are read and not yet answered; at least one request may pass.
    pub in_flight_bytes_max: usize,
    /// Memory for requests of all connections, bytes: frames, and what decoding them may allocate.
    pub request_memory_bytes: usize,
    /// Of that, set apart for requests up to 64 KiB, so that large ones can't starve heartbeats.
    pub small_request_memory_bytes: usize,
    /// Memory for fetched records and other answers above 64 KiB, of all connections, bytes.
    pub fetch_memory_bytes: usize,
    /// One Fetch response's records, bytes, whatever the client asks for (but a first batch larger than it is sent).
    pub fetch_bytes_max: usize,
    /// A long poll waits no longer, whatever the client asks for.
    pub fetch_wait_max: Duration,
    /// A frame that has begun must go on within this time, and a response must be taken within it.
    pub stall_max: Duration,
    /// A connection without requests is closed (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// Partitions, all together.
    pub partitions_max: usize,
    /// What the records of one batch may decompress to while they are validated, bytes.
    pub decompressed_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            produce_frame_bytes_max: 64 * MIB,
            other_frame_bytes_max: 4 * MIB,
            connections_max: 2048,
            in_flight_requests_max: 64,
            in_flight_bytes_max: 128 * MIB,
            request_memory_bytes: 256 * MIB,
            small_request_memory_bytes: 64 * MIB,
            fetch_memory_bytes: 256 * MIB,
            fetch_bytes_max: 32 * MIB,
            fetch_wait_max: Duration::from_secs(60),
            stall_max: Duration::from_secs(30),
            idle_max: Duration::from_secs(600),
            partitions_max: 20_000,
            decompressed_bytes_max: 64 * MIB,
        }
    }
}
