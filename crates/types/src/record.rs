//! A record as producers give it: without a place in a log.

use bytes::Bytes;

use crate::Headers;

/// A record's position in its partition, from 0.
pub type Offset = i64;

/// A partition's number in its topic, from 0.
pub type Partition = i32;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type TimestampMs = i64;

/// Key, value, headers and timestamp. A value of `None` is a tombstone; an empty one is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Decides the partition, and the order among records that share it.
    pub key: Option<Bytes>,
    /// The payload.
    pub value: Option<Bytes>,
    /// In order, duplicates kept.
    pub headers: Headers,
    /// `None`: the producer's clock at send.
    pub timestamp: Option<TimestampMs>,
}

impl Record {
    /// What the record weighs in memory and, roughly, on the wire: key, value, header names and values, in bytes.
    pub fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.payload_bytes()
    }
}
