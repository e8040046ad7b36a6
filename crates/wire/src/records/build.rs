//! Making batches. Invariant: what is built here passes [`RawBatch::validate`].

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    CONTROL, CRC_FROM, Compression, Error, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, LOG_APPEND_TIME, Marker,
    RawBatch, Record, TRANSACTIONAL,
};

fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_sized(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
    }
}

/// Collects records into a batch. Offsets count from 0; whoever appends the batch sets its base offset.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    only_if_smaller: bool,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
    control: bool,
    log_append_time: bool,
    records: BytesMut,
    scratch: BytesMut,
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
            records: BytesMut::new(),
            scratch: BytesMut::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: -1,
        }
    }

    /// Idempotence: producer id, epoch and the first record's sequence number.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = Some((id, epoch, base_sequence));
        self
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
        self.records.reserve(bytes);
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
        HEADER_BYTES + self.records.len()
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
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let body = &mut self.scratch;
        body.clear();
        body.put_i8(0);
        put_varlong(body, timestamp_ms.saturating_sub(self.base_timestamp));
        put_varlong(body, i64::from(self.count));
        put_sized(body, key);
        put_sized(body, value);
        put_varlong(body, headers.len() as i64);
        for (key, value) in headers {
            put_sized(body, Some(key));
            put_sized(body, value);
        }
        put_varlong(&mut self.records, self.scratch.len() as i64);
        self.records.put_slice(&self.scratch);
        self.count += 1;
    }

    /// The batch, at base offset 0.
    ///
    /// # Errors
    /// When there are no records, the batch is over 2 GiB, or compression fails.
    pub fn build(self) -> Result<RawBatch, Error> {
        if self.count == 0 {
            return Err(Error::Header("no records"));
        }
        let plain = self.records.freeze();
        let (compression, records) = match self.compression {
            Compression::None => (Compression::None, plain),
            codec => match codec.compress(&plain)? {
                made if self.only_if_smaller && made.len() >= plain.len() => (Compression::None, plain),
                made => (codec, Bytes::from(made)),
            },
        };
        let size = HEADER_BYTES + records.len();
        let length = i32::try_from(size - LENGTH_OVERHEAD_BYTES)
            .map_err(|_| Error::TooLarge { limit: i32::MAX as usize })?;
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
        let mut out = BytesMut::with_capacity(size);
        out.put_i64(0);
        out.put_i32(length);
        out.put_i32(-1);
        out.put_i8(2);
        out.put_u32(0);
        out.put_i16(attributes);
        out.put_i32(self.count - 1);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(producer_id);
        out.put_i16(producer_epoch);
        out.put_i32(base_sequence);
        out.put_i32(self.count);
        out.put_slice(&records);
        let crc = crc32c::crc32c(&out[CRC_FROM..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        RawBatch::take(&mut out.freeze())
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
