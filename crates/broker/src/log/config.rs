//! The log's settings, and a partition's. Every limit of the log is here or a named constant beside its use.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::Error;

/// What "written" means for the high watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flush {
    /// A group of frames is synced before its waiters hear of it: survives power loss.
    #[default]
    Sync,
    /// A group is handed to the operating system: survives the process's death, not the machine's. Synced in the background.
    Os,
}

/// Milliseconds since 1970, from a clock that a test can replace.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock of the caller's.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Now, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}

/// Settings of a [`super::Log`].
#[derive(Debug, Clone)]
pub struct Config {
    /// See [`Flush`].
    pub flush: Flush,
    /// The write-ahead log's size at which a checkpoint is made, bytes: bounds start-up. At twice this size appends wait.
    pub wal_bytes_max: u64,
    /// A write-ahead log file is closed at this size, bytes.
    pub wal_file_bytes: u64,
    /// Frames waiting to be written, bytes: above it appends are refused as [`super::AppendError::Busy`].
    pub queue_bytes_max: usize,
    /// Frames written and synced as one group, bytes (a single larger frame is a group of its own).
    pub group_bytes_max: usize,
    /// One frame, bytes: an EndTxn with its markers, or a batch.
    pub frame_bytes_max: usize,
    /// Segment files held open, over all partitions.
    pub files_open_max: usize,
    /// A producer id without an open transaction is forgotten by a partition after this long without a batch, ms.
    pub producer_id_expiry_ms: i64,
    /// A checkpoint is made this often where there was any write.
    pub checkpoint_interval: Duration,
    /// Retention, rolling by time and expiry of producer ids run this often.
    pub retention_interval: Duration,
    /// With false, checkpoints and retention run only when they are called for; tests use it to be deterministic.
    pub background: bool,
    /// Timestamps, retention and expiry.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            flush: Flush::Sync,
            wal_bytes_max: 128 << 20,
            wal_file_bytes: 16 << 20,
            queue_bytes_max: 64 * MIB,
            group_bytes_max: 8 * MIB,
            frame_bytes_max: 128 * MIB,
            files_open_max: 512,
            producer_id_expiry_ms: 24 * 60 * 60 * 1000,
            checkpoint_interval: Duration::from_secs(60),
            retention_interval: Duration::from_secs(30),
            background: true,
            clock: Clock::default(),
        }
    }
}

impl Config {
    /// # Errors
    /// The first field that is out of its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let least = |field, value: u64, least: u64, rule| {
            if value < least { Err(Error::Config { field, value: value.to_string(), rule }) } else { Ok(()) }
        };
        least("wal_file_bytes", self.wal_file_bytes, 4096, "it must be at least 4096 bytes")?;
        least(
            "wal_bytes_max",
            self.wal_bytes_max,
            self.wal_file_bytes,
            "it must be at least wal_file_bytes",
        )?;
        least("queue_bytes_max", self.queue_bytes_max as u64, 4096, "it must be at least 4096 bytes")?;
        least("group_bytes_max", self.group_bytes_max as u64, 4096, "it must be at least 4096 bytes")?;
        least("frame_bytes_max", self.frame_bytes_max as u64, 4096, "it must be at least 4096 bytes")?;
        least("files_open_max", self.files_open_max as u64, 4, "it must be at least 4")?;
        if self.frame_bytes_max > MAX_FRAME_BYTES {
            let value = self.frame_bytes_max.to_string();
            return Err(Error::Config { field: "frame_bytes_max", value, rule: "it must be at most 1 GiB" });
        }
        Ok(())
    }
}

/// No frame is larger, whatever the settings: what a damaged length can make recovery read.
pub(crate) const MAX_FRAME_BYTES: usize = 1 << 30;

/// `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at the append.
    LogAppendTime,
}

/// What the log must know of a topic's configuration. Compression is the protocol layer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionConfig {
    /// `retention.ms`; None: no limit by age (also for `cleanup.policy=compact`).
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, of each partition; None: no limit by size.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.message.bytes`, of a batch with its header.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; None: no limit.
    pub timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`; None: no limit.
    pub timestamp_after_max_ms: Option<i64>,
}

impl Default for PartitionConfig {
    /// Apache Kafka 4's defaults, but segments of 256 MiB: one process with many small topics is the usual case here.
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * 24 * 60 * 60 * 1000),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: Some(60 * 60 * 1000),
        }
    }
}
