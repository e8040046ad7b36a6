//! The few shapes of which the log's own files are made: big-endian integers, and byte strings with a length before
//! them. A [`Reader`] never reads past its bytes and never allocates from a count that it hasn't held against them.

use uuid::Uuid;

use super::config::{PartitionConfig, TimestampType};

/// Writes fields at the end of a buffer.
pub(super) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_i16(&mut self, value: i16);
    fn put_u32(&mut self, value: u32);
    fn put_i32(&mut self, value: i32);
    fn put_u64(&mut self, value: u64);
    fn put_i64(&mut self, value: i64);
    fn put_uuid(&mut self, value: Uuid);
    /// A count of what follows.
    fn put_count(&mut self, value: usize);
    /// Length and bytes.
    fn put_bytes(&mut self, value: &[u8]);
    /// Presence and value.
    fn put_option(&mut self, value: Option<i64>);
    fn put_config(&mut self, config: &PartitionConfig);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_i16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn put_uuid(&mut self, value: Uuid) {
        self.extend_from_slice(value.as_bytes());
    }
    fn put_count(&mut self, value: usize) {
        self.put_u64(value as u64);
    }
    fn put_bytes(&mut self, value: &[u8]) {
        self.put_count(value.len());
        self.extend_from_slice(value);
    }
    fn put_option(&mut self, value: Option<i64>) {
        self.put_u8(u8::from(value.is_some()));
        self.put_i64(value.unwrap_or(0));
    }
    fn put_config(&mut self, config: &PartitionConfig) {
        let PartitionConfig {
            retention_ms,
            retention_bytes,
            segment_bytes,
            segment_ms,
            index_interval_bytes,
            max_message_bytes,
            timestamp_type,
            timestamp_before_max_ms,
            timestamp_after_max_ms,
        } = config;
        // A u64 above i64::MAX is 292 million years, or more bytes than a disk has: the same as that maximum.
        let clamp = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.put_option(retention_ms.map(clamp));
        self.put_option(retention_bytes.map(clamp));
        self.put_u64(*segment_bytes);
        self.put_u64(*segment_ms);
        self.put_u32(*index_interval_bytes);
        self.put_count(*max_message_bytes);
        self.put_u8(match timestamp_type {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => 1,
        });
        self.put_option(*timestamp_before_max_ms);
        self.put_option(*timestamp_after_max_ms);
    }
}

/// Reads fields from the front; None at the first that isn't there whole.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(bytes)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(super) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    /// A count of elements that take at least `least_bytes` each: more than can be left is no count.
    pub(super) fn count(&mut self, least_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.u64()?).ok()?;
        (count <= self.0.len() / least_bytes.max(1)).then_some(count)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.count(1)?;
        self.take(length)
    }

    pub(super) fn option(&mut self) -> Option<Option<i64>> {
        let present = self.u8()?;
        let value = self.i64()?;
        match present {
            0 => Some(None),
            1 => Some(Some(value)),
            _ => None,
        }
    }

    pub(super) fn config(&mut self) -> Option<PartitionConfig> {
        let unsigned = |value: Option<i64>| match value {
            None => Some(None),
            Some(value) => u64::try_from(value).ok().map(Some),
        };
        Some(PartitionConfig {
            retention_ms: unsigned(self.option()?)?,
            retention_bytes: unsigned(self.option()?)?,
            segment_bytes: self.u64()?,
            segment_ms: self.u64()?,
            index_interval_bytes: self.u32()?,
            max_message_bytes: usize::try_from(self.u64()?).ok()?,
            timestamp_type: match self.u8()? {
                0 => TimestampType::CreateTime,
                1 => TimestampType::LogAppendTime,
                _ => return None,
            },
            timestamp_before_max_ms: self.option()?,
            timestamp_after_max_ms: self.option()?,
        })
    }
}
