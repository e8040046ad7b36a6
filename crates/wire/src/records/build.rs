//! Making batches. Invariant: what is built here passes [`RawBatch::validate`].

use bytes::Bytes;

use super::compression::Compressor;
use super::{
    BatchHeader, CONTROL, CRC_FROM, Compression, Error, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, LOG_APPEND_TIME,
    Marker, RawBatch, Record, TRANSACTIONAL,
};

/// Buffers of batches that are over, which a builder keeps for later ones.
const SPARES_MAX: usize = 16;
/// And their bytes together. What is beyond it goes back to the allocator.
const SPARE_BYTES_MAX: usize = 2 << 20;

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varlong`] takes.
fn varlong_bytes(value: i64) -> usize {
    let value = ((value << 1) ^ (value >> 63)) as u64;
    // Seven bits a byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn put_sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// How many bytes [`put_sized`] takes.
fn sized_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or_else(|| varlong_bytes(-1), |bytes| varlong_bytes(bytes.len() as i64) + bytes.len())
}

/// Collects records into a batch. Offsets count from 0; whoever appends the batch sets its base offset.
///
/// One builder can make one batch after another ([`BatchBuilder::build_next`]); its memory is used again then.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    only_if_smaller: bool,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
    control: bool,
    log_append_time: bool,
    /// The batch without compression: room for its header, and the records. Empty before the first one.
    plain: Vec<u8>,
    compressor: Compressor,
    spares: Vec<Vec<u8>>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            only_if_smaller: false,
            producer: None,
            transactional: false,
            control: false,
            log_append_time: false,
            plain: Vec::new(),
            compressor: Compressor::default(),
            spares: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: -1,
        }
    }

    /// Idempotence: producer id, epoch and the first record's sequence number.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// As [`BatchBuilder::producer`].
    pub fn set_producer(&mut self, id: i64, epoch: i16, base_sequence: i32) {
        self.producer = Some((id, epoch, base_sequence));
    }

    /// Records that compression makes no smaller stay as they are. Who counted their bytes has counted right.
    #[must_use]
    pub fn compressed_only_if_smaller(mut self) -> Self {
        self.only_if_smaller = true;
        self
    }

    /// Part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.transactional = true;
        self
    }

    /// Timestamps are the broker's.
    #[must_use]
    pub fn log_append_time(mut self) -> Self {
        self.log_append_time = true;
        self
    }

    /// Makes room for so many bytes of records, so that they aren't moved while they grow.
    pub fn reserve(&mut self, bytes: usize) {
        self.begin();
        self.plain.reserve(bytes);
    }

    pub(super) fn set_compression(&mut self, compression: Compression) {
        self.compression = compression;
    }

    /// How many records are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True without records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch as it stands, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        self.plain.len().max(HEADER_BYTES)
    }

    /// Adds a record; its `offset` is not looked at.
    pub fn push(&mut self, record: &Record) {
        self.push_parts(
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())),
        );
    }

    /// Adds a record from its parts.
    pub fn push_parts<'a>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) {
        self.begin();
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.saturating_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let count = headers.len() as i64;
        // The length stands before what it measures.
        let size = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(offset_delta)
            + sized_bytes(key)
            + sized_bytes(value)
            + varlong_bytes(count)
            + headers.clone().map(|(key, value)| sized_bytes(Some(key)) + sized_bytes(value)).sum::<usize>();
        let out = &mut self.plain;
        put_varlong(out, size as i64);
        let from = out.len();
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, offset_delta);
        put_sized(out, key);
        put_sized(out, value);
        put_varlong(out, count);
        for (key, value) in headers {
            put_sized(out, Some(key));
            put_sized(out, value);
        }
        debug_assert_eq!(out.len() - from, size, "the record's length");
        self.count += 1;
    }

    /// Room for the header.
    fn begin(&mut self) {
        if self.plain.is_empty() {
            self.plain.resize(HEADER_BYTES, 0);
        }
    }

    /// The batch, at base offset 0.
    ///
    /// # Errors
    /// When there are no records, the batch is over 2 GiB, or compression fails.
    pub fn build(mut self) -> Result<RawBatch, Error> {
        self.build_next()
    }

    /// The batch, at base offset 0. What is pushed then goes into the next one, of the same settings.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`]; the records are gone then, too.
    pub fn build_next(&mut self) -> Result<RawBatch, Error> {
        if self.count == 0 {
            return Err(Error::Header("no records"));
        }
        let made = self.made();
        if self.plain.capacity() > SPARE_BYTES_MAX {
            self.plain = Vec::new();
        }
        self.plain.clear();
        self.count = 0;
        self.max_timestamp = -1;
        made
    }

    fn made(&mut self) -> Result<RawBatch, Error> {
        let mut out = match self.compression {
            Compression::None => Vec::new(),
            codec => {
                let mut out = self.spares.pop().unwrap_or_default();
                out.resize(HEADER_BYTES, 0);
                self.compressor.compress(codec, &self.plain[HEADER_BYTES..], out)?
            }
        };
        let is_plain = out.is_empty() || self.only_if_smaller && out.len() >= self.plain.len();
        let compression = if is_plain { Compression::None } else { self.compression };
        if is_plain {
            let spare = if out.is_empty() { self.spares.pop().unwrap_or_default() } else { out };
            out = std::mem::replace(&mut self.plain, spare);
        }
        let length = i32::try_from(out.len() - LENGTH_OVERHEAD_BYTES)
            .map_err(|_| Error::TooLarge { limit: i32::MAX as usize })?;
        let header = self.header(compression, length);
        out[..HEADER_BYTES].copy_from_slice(&header);
        let crc = crc32c::crc32c(&out[CRC_FROM..]);
        out[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        Ok(RawBatch { header: BatchHeader::parse(&out)?, bytes: Bytes::from(out) })
    }

    /// With a CRC of 0.
    fn header(&self, compression: Compression, length: i32) -> [u8; HEADER_BYTES] {
        let mut attributes = compression.attributes();
        for (set, bit) in [
            (self.log_append_time, LOG_APPEND_TIME),
            (self.transactional, TRANSACTIONAL),
            (self.control, CONTROL),
        ] {
            if set {
                attributes |= bit;
            }
        }
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, -1));
        let mut header = [0; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            header[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&0i64.to_be_bytes());
        put(&length.to_be_bytes());
        put(&(-1i32).to_be_bytes());
        put(&[2]);
        put(&0u32.to_be_bytes());
        put(&attributes.to_be_bytes());
        put(&(self.count - 1).to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&producer_id.to_be_bytes());
        put(&producer_epoch.to_be_bytes());
        put(&base_sequence.to_be_bytes());
        put(&self.count.to_be_bytes());
        header
    }

    /// Takes a batch's memory back for later ones, where nobody else reads it any more.
    pub fn recycle(&mut self, batch: Bytes) {
        let Ok(mut bytes) = batch.try_into_mut() else { return };
        bytes.clear();
        let bytes = Vec::from(bytes);
        let kept: usize = self.spares.iter().map(Vec::capacity).sum();
        if self.spares.len() < SPARES_MAX && kept + bytes.capacity() <= SPARE_BYTES_MAX {
            self.spares.push(bytes);
        }
    }
}

/// The batch that ends a producer's transaction in a partition.
#[must_use]
pub fn control_batch(
    marker: Marker,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp_ms: i64,
) -> RawBatch {
    let mut builder =
        BatchBuilder::new(Compression::None).producer(producer_id, producer_epoch, -1).transactional();
    builder.control = true;
    let kind: i16 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut key = [0u8; 4];
    key[2..].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0u8; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    builder.push_parts(timestamp_ms, Some(&key), Some(&value), std::iter::empty());
    builder.build().expect("one record without compression is a batch")
}
