//! A frame of the write-ahead log: atomic, because its CRC covers all of its ops.
//!
//! ```text
//! frame:  payload bytes u32 | CRC-32C of payload u32 | position u64 | CRC-32C of these 16 bytes u32 | payload
//! payload: ops, each  kind u8 | body bytes u32 | body
//!   1 append      topic 16 bytes | partition i32 | one record batch, offsets assigned (a marker is a control batch)
//!   2 entry       machine u8 | bytes
//!   3 create      topic | count i32 | configuration
//!   4 configure   topic | configuration
//!   5 drop        topic
//!   6 start       topic | partition i32 | log start offset i64
//! ```
//!
//! Positions count up by one without a gap, over all files: so a stale frame can't be taken for a new one.

use std::ops::Range;

use uuid::Uuid;

use super::codec::{Put, Reader};
use super::config::PartitionConfig;

/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER_BYTES: usize = 20;

const APPEND: u8 = 1;
const ENTRY: u8 = 2;
const CREATE: u8 = 3;
const CONFIGURE: u8 = 4;
const DROP: u8 = 5;
const START: u8 = 6;

/// A frame in the making; the header's place is kept free.
#[derive(Debug)]
pub(super) struct FrameBuf(Vec<u8>);

impl FrameBuf {
    pub(super) fn with_capacity(payload_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + payload_bytes + 64);
        bytes.resize(FRAME_HEADER_BYTES, 0);
        Self(bytes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == FRAME_HEADER_BYTES
    }

    fn op(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(kind);
        let at = self.0.len();
        self.0.put_u32(0);
        body(&mut self.0);
        // A frame is limited to 1 GiB before it is queued; a body that is longer is cut off there, not here.
        let length = u32::try_from(self.0.len() - at - 4).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Adds a batch; where it lies in the buffer.
    pub(super) fn append(&mut self, topic_id: Uuid, partition: i32, batch: &[u8]) -> Range<usize> {
        self.op(APPEND, |out| {
            out.put_uuid(topic_id);
            out.put_i32(partition);
            out.extend_from_slice(batch);
        });
        self.0.len() - batch.len()..self.0.len()
    }

    pub(super) fn entry(&mut self, machine: u8, bytes: &[u8]) {
        self.op(ENTRY, |out| {
            out.put_u8(machine);
            out.extend_from_slice(bytes);
        });
    }

    pub(super) fn create(&mut self, topic_id: Uuid, count: i32, config: &PartitionConfig) {
        self.op(CREATE, |out| {
            out.put_uuid(topic_id);
            out.put_i32(count);
            out.put_config(config);
        });
    }

    pub(super) fn configure(&mut self, topic_id: Uuid, config: &PartitionConfig) {
        self.op(CONFIGURE, |out| {
            out.put_uuid(topic_id);
            out.put_config(config);
        });
    }

    pub(super) fn drop_topic(&mut self, topic_id: Uuid) {
        self.op(DROP, |out| out.put_uuid(topic_id));
    }

    pub(super) fn start(&mut self, topic_id: Uuid, partition: i32, offset: i64) {
        self.op(START, |out| {
            out.put_uuid(topic_id);
            out.put_i32(partition);
            out.put_i64(offset);
        });
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }

    pub(super) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.0[range]
    }

    /// Fills in length and CRC of the payload: the costly part, done by who appends.
    pub(super) fn seal(&mut self) {
        let length = u32::try_from(self.0.len() - FRAME_HEADER_BYTES).unwrap_or(u32::MAX);
        let crc = crc32c::crc32c(&self.0[FRAME_HEADER_BYTES..]);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0[4..8].copy_from_slice(&crc.to_be_bytes());
    }

    /// Fills in the position: done by who writes, on a sealed frame.
    pub(super) fn place(mut self, position: u64) -> Vec<u8> {
        self.0[8..16].copy_from_slice(&position.to_be_bytes());
        let crc = crc32c::crc32c(&self.0[..16]);
        self.0[16..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        self.0
    }
}

/// One op of a frame that was read.
#[derive(Debug, PartialEq)]
pub(super) enum Op<'a> {
    Append { topic_id: Uuid, partition: i32, batch: &'a [u8] },
    Entry { machine: u8, bytes: &'a [u8] },
    Create { topic_id: Uuid, count: i32, config: PartitionConfig },
    Configure { topic_id: Uuid, config: PartitionConfig },
    Drop { topic_id: Uuid },
    Start { topic_id: Uuid, partition: i32, offset: i64 },
}

/// A frame's header whose own CRC held.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) payload_bytes: usize,
    pub(super) payload_crc: u32,
    pub(super) position: u64,
}

impl FrameHeader {
    /// None: these aren't the first bytes of a frame.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(..16)?;
        let mut reader = Reader::new(bytes);
        let payload_bytes = usize::try_from(reader.u32()?).ok()?;
        let payload_crc = reader.u32()?;
        let position = reader.u64()?;
        (reader.u32()? == crc32c::crc32c(covered)).then_some(Self { payload_bytes, payload_crc, position })
    }
}

/// The ops of a payload whose CRC held; None where one of them isn't known or not whole.
pub(super) fn ops(payload: &[u8]) -> Option<Vec<Op<'_>>> {
    let mut reader = Reader::new(payload);
    let mut ops = Vec::new();
    while !reader.rest().is_empty() {
        let kind = reader.u8()?;
        let length = usize::try_from(reader.u32()?).ok()?;
        let mut body = Reader::new(reader.take(length)?);
        ops.push(match kind {
            APPEND => Op::Append { topic_id: body.uuid()?, partition: body.i32()?, batch: body.rest() },
            ENTRY => Op::Entry { machine: body.u8()?, bytes: body.rest() },
            CREATE => Op::Create { topic_id: body.uuid()?, count: body.i32()?, config: body.config()? },
            CONFIGURE => Op::Configure { topic_id: body.uuid()?, config: body.config()? },
            DROP => Op::Drop { topic_id: body.uuid()? },
            START => Op::Start { topic_id: body.uuid()?, partition: body.i32()?, offset: body.i64()? },
            _ => return None,
        });
    }
    Some(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back() {
        let topic_id = Uuid::from_u128(7);
        let config = PartitionConfig { retention_ms: None, segment_bytes: 5, ..PartitionConfig::default() };
        let mut frame = FrameBuf::with_capacity(10);
        assert!(frame.is_empty());
        let range = frame.append(topic_id, 3, b"batch");
        assert_eq!(frame.bytes(range), b"batch");
        frame.entry(9, b"entry");
        frame.create(topic_id, 4, &config);
        frame.configure(topic_id, &config);
        frame.drop_topic(topic_id);
        frame.start(topic_id, 1, 77);
        frame.seal();
        let bytes = frame.place(42);
        let header = FrameHeader::read(&bytes).unwrap();
        assert_eq!(header.position, 42);
        let payload = &bytes[FRAME_HEADER_BYTES..];
        assert_eq!(header.payload_bytes, payload.len());
        assert_eq!(header.payload_crc, crc32c::crc32c(payload));
        let expected = vec![
            Op::Append { topic_id, partition: 3, batch: b"batch" },
            Op::Entry { machine: 9, bytes: b"entry" },
            Op::Create { topic_id, count: 4, config: config.clone() },
            Op::Configure { topic_id, config },
            Op::Drop { topic_id },
            Op::Start { topic_id, partition: 1, offset: 77 },
        ];
        assert_eq!(ops(payload).unwrap(), expected);
        for at in 0..16 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(FrameHeader::read(&damaged).is_none(), "byte {at}");
        }
    }
}
