//! Record batches (magic 2). Invariant: a [`RawBatch`] has a header that fits its bytes and a CRC that was checked, so
//! that what holds one needs no further check before it is stored or sent on.
//!
//! Batches pass through as they came: base offset and leader epoch lie outside the CRC and are patched when a batch is
//! written; nothing else is. Decompression is streamed and bounded.
//!
//! Layout (KIP-98): base offset i64, length i32 of what follows, leader epoch i32, magic i8, CRC-32C u32 of what
//! follows, attributes i16, last offset delta i32, base and max timestamp i64, producer id i64, producer epoch i16, base
//! sequence i32, record count i32, records.

mod build;
mod compression;
pub mod legacy;
mod record;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};

pub use build::{BatchBuilder, control_batch};
pub use compression::Compression;
pub use record::{Marker, Record, RecordView};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts.
pub const LENGTH_OVERHEAD_BYTES: usize = 12;
/// Where the magic byte lies, in batches and in message sets alike.
const MAGIC_AT: usize = 16;
/// Where what the CRC covers begins.
const CRC_FROM: usize = 21;
/// What the records of one batch may decompress to, unless a caller says otherwise.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Why bytes are no record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before the batch does.
    #[error("record batch of {needed} bytes, {remaining} are there")]
    Truncated {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes that are there.
        remaining: usize,
    },
    /// A length that cannot hold a batch.
    #[error("record batch length {0} is too small")]
    Length(i32),
    /// Another format than was expected.
    #[error("record format (magic) {0} is not supported here")]
    Magic(i8),
    /// The checksum differs.
    #[error("checksum {got:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// What the batch says.
        got: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A compression that Kafka doesn't define.
    #[error("unknown compression {0}")]
    Compression(i16),
    /// The compressed bytes are broken.
    #[error("broken {codec} data: {reason}")]
    Decompress {
        /// Which codec.
        codec: &'static str,
        /// What it says.
        reason: String,
    },
    /// The records are larger than allowed.
    #[error("records decompress to more than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The records are not what the header says, or are no records.
    #[error("invalid record {index}: {reason}")]
    Record {
        /// Its place in the batch.
        index: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The header's fields contradict each other.
    #[error("invalid batch header: {0}")]
    Header(&'static str),
}

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the batch, all of it (the length field + 12).
    pub size: usize,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes on.
    pub crc: u32,
    /// Compression (bits 0-2), timestamp type (3), transactional (4), control (5).
    pub attributes: i16,
    /// Offset of the last record, from the base offset.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 that the records' timestamps count from.
    pub base_timestamp: i64,
    /// The largest timestamp of the records.
    pub max_timestamp: i64,
    /// Who produced it, -1 without idempotence.
    pub producer_id: i64,
    /// In which epoch, -1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 without idempotence.
    pub base_sequence: i32,
    /// How many records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header. Judges the length and the magic, not the CRC: for scans that check it separately.
    ///
    /// # Errors
    /// When `bytes` has fewer than 61 bytes, or what they say can't be a batch.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() < HEADER_BYTES {
            return Err(Error::Truncated { needed: HEADER_BYTES, remaining: bytes.len() });
        }
        let magic = bytes[MAGIC_AT] as i8;
        if magic != 2 {
            return Err(Error::Magic(magic));
        }
        let base_offset = bytes.get_i64();
        let length = bytes.get_i32();
        let size = usize::try_from(length).map_err(|_| Error::Length(length))? + LENGTH_OVERHEAD_BYTES;
        if size < HEADER_BYTES {
            return Err(Error::Length(length));
        }
        let leader_epoch = bytes.get_i32();
        bytes.advance(1);
        Ok(Self {
            base_offset,
            size,
            leader_epoch,
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        })
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Which codec.
    ///
    /// # Errors
    /// When Kafka defines none of that number.
    pub fn compression(&self) -> Result<Compression, Error> {
        Compression::from_attributes(self.attributes)
    }

    /// True when timestamps are the broker's.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// True when it belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// True for the markers that end a transaction.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// True when producer id, epoch and sequence are set.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// The last record's sequence number: it wraps from the largest `INT32` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence + delta` as producers count: after the largest `INT32` comes 0.
#[must_use]
pub fn add_sequence(sequence: i32, delta: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(delta);
    if sum > i64::from(i32::MAX) { (sum - i64::from(i32::MAX) - 1) as i32 } else { sum as i32 }
}

/// A batch whose header fits its bytes and whose CRC is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// Takes the first batch off `bytes`.
    ///
    /// # Errors
    /// When the bytes don't begin with a whole batch whose CRC is right.
    pub fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        let header = BatchHeader::parse(bytes)?;
        if header.size > bytes.len() {
            return Err(Error::Truncated { needed: header.size, remaining: bytes.len() });
        }
        let computed = crc32c::crc32c(&bytes[CRC_FROM..header.size]);
        if computed != header.crc {
            return Err(Error::Crc { got: header.crc, computed });
        }
        Ok(Self { header, bytes: bytes.split_to(header.size) })
    }

    /// The only batch in `bytes`.
    ///
    /// # Errors
    /// As [`RawBatch::take`], and when more follows.
    pub fn only(mut bytes: Bytes) -> Result<Self, Error> {
        let batch = Self::take(&mut bytes)?;
        if bytes.is_empty() { Ok(batch) } else { Err(Error::Header("more than one batch for a partition")) }
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives up the bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The batch with the offset and leader epoch that its partition's leader gave it. The CRC doesn't cover them.
    #[must_use]
    pub fn with_offset(&self, base_offset: i64, leader_epoch: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        let header = BatchHeader { base_offset, leader_epoch, ..self.header };
        Self { header, bytes: bytes.freeze() }
    }

    /// The batch with the broker's time for all of its records (`message.timestamp.type=LogAppendTime`), and a new CRC.
    #[must_use]
    pub fn with_log_append_time(&self, now_ms: i64) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        let attributes = self.header.attributes | LOG_APPEND_TIME;
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[35..43].copy_from_slice(&now_ms.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Self {
            header: BatchHeader { attributes, max_timestamp: now_ms, crc, ..self.header },
            bytes: bytes.freeze(),
        }
    }

    /// Visits the records, decompressing at most `limit` bytes; `visit` may end it early by an error of its own.
    ///
    /// # Errors
    /// When the records are broken, too large, or fewer or more than the header says.
    pub fn visit<E: From<Error>>(
        &self,
        limit: usize,
        visit: impl FnMut(RecordView<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        record::visit(&self.header, &self.bytes[HEADER_BYTES..], limit, visit)
    }

    /// The records, decompressed to at most `limit` bytes.
    ///
    /// # Errors
    /// As [`RawBatch::visit`].
    pub fn records(&self, limit: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        self.visit(limit, |view| {
            records.push(view.to_record());
            Ok::<(), Error>(())
        })?;
        Ok(records)
    }

    /// Judges what a producer sent: header fields that agree, records that can be read, as many as the header says, with
    /// consecutive offsets. Reads all records, so that no reader meets a broken one later.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self, limit: usize) -> Result<(), Error> {
        let h = &self.header;
        if h.record_count <= 0 {
            return Err(Error::Header("no records"));
        }
        if h.last_offset_delta != h.record_count - 1 {
            return Err(Error::Header("last offset delta differs from the record count"));
        }
        if h.producer_id >= 0 && (h.producer_epoch < 0 || (h.base_sequence < 0 && !h.is_control())) {
            return Err(Error::Header("a producer id without epoch or sequence"));
        }
        if h.is_transactional() && h.producer_id < 0 {
            return Err(Error::Header("transactional without a producer id"));
        }
        let mut next = 0i64;
        self.visit(limit, |view| {
            if view.offset_delta != next {
                return Err(Error::Record {
                    index: next as usize,
                    reason: "offset delta is not consecutive",
                });
            }
            next += 1;
            Ok(())
        })
    }
}

/// The batches in `bytes`, one after another. A batch that is cut off at the end ends it silently: that is how a fetch
/// response ends.
pub fn batches(mut bytes: Bytes) -> impl Iterator<Item = Result<RawBatch, Error>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended || bytes.len() < HEADER_BYTES {
            return None;
        }
        match RawBatch::take(&mut bytes) {
            Err(Error::Truncated { .. }) => None,
            Err(error) => {
                ended = true;
                Some(Err(error))
            }
            Ok(batch) => Some(Ok(batch)),
        }
    })
}

/// The format of the first batch or message in `bytes`: 0 or 1 (message set), 2 (batch); `None` when they are too short.
#[must_use]
pub fn magic(bytes: &[u8]) -> Option<i8> {
    bytes.get(MAGIC_AT).map(|byte| *byte as i8)
}
