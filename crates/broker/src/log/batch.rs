//! The header of a record batch v2, as far as the log needs it. A [`RawBatch`] is the proof that its header, its
//! length and its CRC hold; the records inside stay as the producer sent them (they are `wire::records`' business).
//!
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>. Base offset and leader epoch lie before the CRC's
//! range, which starts at the attributes: so the log patches both without touching the CRC.

use bytes::Bytes;

/// Bytes of a batch before its first record.
pub(super) const HEADER_BYTES: usize = 61;
/// Bytes before the part that `batch_length` counts: base offset and the length itself.
pub(super) const LENGTH_OVERHEAD_BYTES: usize = 12;

const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
const ATTRIBUTE_CONTROL: i16 = 1 << 5;

/// Producer id of a batch without one.
pub(super) const NO_PRODUCER_ID: i64 = -1;

/// Why bytes are not one whole record batch v2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header, or not as many as the header says.
    #[error("{found} bytes where the batch has {expected}")]
    Length {
        /// Bytes that there are.
        found: usize,
        /// Bytes that there must be.
        expected: usize,
    },
    /// Not the format v2.
    #[error("magic {found}, only 2 is stored")]
    Magic {
        /// The batch's magic byte.
        found: i8,
    },
    /// The CRC-32C over attributes and records doesn't hold.
    #[error("CRC {computed:#010x}, the batch says {stored:#010x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Over its bytes.
        computed: u32,
    },
    /// Record count and last offset delta don't go together.
    #[error("{count} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// In the header.
        count: i32,
        /// In the header.
        last_offset_delta: i32,
    },
    /// A producer id without epoch or sequence, or a transactional batch without a producer id.
    #[error("producer id {producer_id} with epoch {producer_epoch} and sequence {base_sequence}")]
    Producer {
        /// In the header.
        producer_id: i64,
        /// In the header.
        producer_epoch: i16,
        /// In the header.
        base_sequence: i32,
    },
}

/// The fields of a batch's header that the log acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The whole batch with its header, bytes.
    pub size: usize,
    /// Leader epoch at which it was appended.
    pub leader_epoch: i32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 of the first record.
    pub base_timestamp: i64,
    /// The greatest timestamp of its records.
    pub max_timestamp: i64,
    /// -1: none.
    pub producer_id: i64,
    /// -1: none.
    pub producer_epoch: i16,
    /// -1: none.
    pub base_sequence: i32,
    /// Records.
    pub count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl Header {
    /// Reads the header at the start of `bytes`, or None where there are fewer than [`HEADER_BYTES`], the magic is not
    /// 2 or the length is impossible. Whether the rest of the batch is there, and its CRC, aren't looked at.
    #[must_use]
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || bytes[MAGIC_AT] != 2 {
            return None;
        }
        let length = usize::try_from(i32::from_be_bytes(array(bytes, 8))).ok()?;
        let size = length + LENGTH_OVERHEAD_BYTES;
        if size < HEADER_BYTES {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size,
            leader_epoch: i32::from_be_bytes(array(bytes, LEADER_EPOCH_AT)),
            attributes: i16::from_be_bytes(array(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(array(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(array(bytes, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(array(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(array(bytes, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(array(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(array(bytes, BASE_SEQUENCE_AT)),
            count: i32::from_be_bytes(array(bytes, COUNT_AT)),
        })
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// Part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// A transaction marker, not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// All its records have the time at which the broker appended them: [`Header::max_timestamp`].
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    #[must_use]
    pub fn compression(&self) -> i16 {
        self.attributes & 0b111
    }
}

/// The sequence `delta` after `sequence`, wrapping from `i32::MAX` to 0 as Kafka's producers do.
#[must_use]
pub(super) fn sequence_after(sequence: i32, delta: i32) -> i32 {
    if sequence < 0 {
        return sequence;
    }
    let sum = i64::from(sequence) + i64::from(delta);
    let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
    i32::try_from(wrapped).unwrap_or(0)
}

/// One whole record batch whose header, length and CRC were checked.
#[derive(Debug, Clone)]
pub struct RawBatch {
    bytes: Bytes,
    header: Header,
}

impl RawBatch {
    /// Takes exactly one batch, as a producer sent it.
    ///
    /// # Errors
    /// [`BatchError`] says which part of the header doesn't hold.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Length { found: bytes.len(), expected: HEADER_BYTES });
        }
        let magic = i8::from_be_bytes([bytes[MAGIC_AT]]);
        if magic != 2 {
            return Err(BatchError::Magic { found: magic });
        }
        let Some(header) = Header::peek(&bytes) else {
            return Err(BatchError::Length { found: bytes.len(), expected: HEADER_BYTES });
        };
        if header.size != bytes.len() {
            return Err(BatchError::Length { found: bytes.len(), expected: header.size });
        }
        let stored = u32::from_be_bytes(array(&bytes, CRC_AT));
        let computed = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        if stored != computed {
            return Err(BatchError::Crc { stored, computed });
        }
        if header.count < 1 || header.last_offset_delta != header.count - 1 {
            return Err(BatchError::Count {
                count: header.count,
                last_offset_delta: header.last_offset_delta,
            });
        }
        let has_id = header.producer_id != NO_PRODUCER_ID;
        let has_sequence = header.base_sequence >= 0;
        let whole = if has_id {
            header.producer_id >= 0 && header.producer_epoch >= 0 && (has_sequence || header.is_control())
        } else {
            // Without a producer id there is no sequence, whatever the field says: aiokafka leaves 0 in it.
            !header.is_transactional()
        };
        if !whole {
            return Err(BatchError::Producer {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            });
        }
        Ok(Self { bytes, header })
    }

    /// The header, as the producer wrote it.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Sets the fields outside the CRC: the offset of the first record and the leader epoch. `batch` is a whole batch.
pub(crate) fn assign(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Gives all records of the batch the time of the append (`message.timestamp.type=LogAppendTime`): for v2 that is an
/// attribute and the maximum, so the records stay as they are, compressed or not; the CRC is new.
pub(crate) fn stamp(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) | ATTRIBUTE_LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..LAST_OFFSET_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&now_ms.to_be_bytes());
    seal(batch);
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// The control batch that ends a transaction: one record, key = version 0 and type (0 abort, 1 commit), value = version
/// 0 and the coordinator's epoch. Base offset and leader epoch are [`assign`]ed later.
pub(crate) fn marker(
    producer_id: i64,
    producer_epoch: i16,
    outcome: super::Outcome,
    coordinator_epoch: i32,
    now_ms: i64,
) -> Vec<u8> {
    let kind: i16 = match outcome {
        super::Outcome::Abort => 0,
        super::Outcome::Commit => 1,
    };
    // Lengths are zigzag varints; all of these are below 64, so each is one byte of twice its value.
    let mut record = vec![0, 0, 0, 4 << 1];
    record.extend_from_slice(&0i16.to_be_bytes());
    record.extend_from_slice(&kind.to_be_bytes());
    record.push(6 << 1);
    record.extend_from_slice(&0i16.to_be_bytes());
    record.extend_from_slice(&coordinator_epoch.to_be_bytes());
    record.push(0);

    let mut batch = vec![0; HEADER_BYTES];
    let record_bytes = u8::try_from(record.len()).expect("a marker record has 16 bytes");
    batch.push(record_bytes << 1);
    batch.extend_from_slice(&record);
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD_BYTES).expect("a marker has 78 bytes");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[MAGIC_AT] = 2;
    let attributes = ATTRIBUTE_TRANSACTIONAL | ATTRIBUTE_CONTROL;
    batch[ATTRIBUTES_AT..LAST_OFFSET_DELTA_AT].copy_from_slice(&attributes.to_be_bytes());
    batch[BASE_TIMESTAMP_AT..MAX_TIMESTAMP_AT].copy_from_slice(&now_ms.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..PRODUCER_ID_AT].copy_from_slice(&now_ms.to_be_bytes());
    batch[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&producer_id.to_be_bytes());
    batch[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&producer_epoch.to_be_bytes());
    batch[BASE_SEQUENCE_AT..COUNT_AT].copy_from_slice(&(-1i32).to_be_bytes());
    batch[COUNT_AT..HEADER_BYTES].copy_from_slice(&1i32.to_be_bytes());
    seal(&mut batch);
    batch
}

/// Whether a control batch ends its transaction with commit or abort; None where it is another kind of control batch.
pub(crate) fn marker_outcome(batch: &[u8]) -> Option<(super::Outcome, i32)> {
    // Length, attributes, timestamp delta, offset delta and key length are one byte each in a marker as written above.
    let record = batch.get(HEADER_BYTES..)?;
    let key = record.get(5..9)?;
    let outcome = match i16::from_be_bytes(array(key, 2)) {
        0 => super::Outcome::Abort,
        1 => super::Outcome::Commit,
        _ => return None,
    };
    let value = record.get(10..16)?;
    Some((outcome, i32::from_be_bytes(array(value, 2))))
}
