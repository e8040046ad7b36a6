//! Settings and limits of consumer groups. Invariant: everything that a client can make grow is bounded here.

use std::time::Duration;

/// Settings of the group coordinator; the defaults are Kafka's unless a field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more
    /// members. 0 here (Kafka: 3 s): a group starts at once.
    pub initial_rebalance_delay: Duration,
    /// `group.consumer.session.timeout.ms`: how long a member of the consumer protocol may be silent.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`: how often such a member is to speak. 1 s here (Kafka: 5 s): members learn of a
    /// new epoch by their next heartbeat, and there is no crowd of them on one node.
    pub consumer_heartbeat_interval: Duration,
    /// `group.max.size`: members of one group (Kafka: no limit).
    pub members_max: usize,
    /// Groups of the broker. A limit of this broker.
    pub groups_max: usize,
    /// Offsets of one group, those of open transactions included. A limit of this broker.
    pub offsets_max: usize,
    /// Offsets of one group in one open transaction, with their metadata: its end is one frame of the log. A limit
    /// of this broker.
    pub pending_bytes_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// Metadata of all members, and their assignments, of one group. A limit of this broker; it bounds the
    /// size of a journal entry.
    pub group_bytes_max: usize,
    /// `offsets.retention.minutes`: offsets of a group without members are kept this long.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::ZERO,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(1),
            members_max: 1_000,
            groups_max: 10_000,
            offsets_max: 100_000,
            pending_bytes_max: 8 << 20,
            offset_metadata_bytes_max: 4_096,
            group_bytes_max: 8 << 20,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            retention_check_interval: Duration::from_secs(600),
        }
    }
}
