//! Settings and limits of transactions. Invariant: everything that a client can make grow is bounded here.

use std::time::Duration;

/// Settings of the transaction coordinator; the defaults are Kafka's unless a field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `transaction.max.timeout.ms`: a producer that asks for more is refused.
    pub timeout_max: Duration,
    /// `transactional.id.expiration.ms`: ids that aren't used for this long are forgotten.
    pub id_expiration: Duration,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_check_interval: Duration,
    /// Transactional ids of the broker. A limit of this broker.
    pub ids_max: usize,
    /// Partitions of one transaction: its end is one frame with a marker for each. A limit of this broker.
    pub partitions_max: usize,
    /// Groups whose offsets are in one transaction: each adds up to `group::Config::pending_bytes_max` to the frame
    /// that ends it. A limit of this broker.
    pub groups_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            timeout_max: Duration::from_secs(15 * 60),
            id_expiration: Duration::from_secs(7 * 24 * 3600),
            expiration_check_interval: Duration::from_secs(3600),
            ids_max: 100_000,
            partitions_max: 10_000,
            groups_max: 10,
        }
    }
}
