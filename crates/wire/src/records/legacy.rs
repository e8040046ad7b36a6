//! Message sets of magic 0 and 1, which old producers send: converted up to one batch, never stored.
//!
//! Constraint: a compressed message holds messages, which may not be compressed again: depth is 1.
//!
//! Not done: LZ4 in magic 0, whose frames have a wrong header checksum (KAFKA-3160): refused as broken.

use bytes::Buf;

use super::{BatchBuilder, Compression, Error, RawBatch};

/// Offset and size.
const ENTRY_BYTES: usize = 12;
/// CRC, magic, attributes, key and value length: the least a message has.
const MESSAGE_BYTES_MIN: usize = 14;
/// Bit 3 of a message's attributes: the timestamp is the broker's.
const TIMESTAMP_TYPE: i8 = 0x08;

/// One batch of the records in a message set, compressed as the first message was. Magic 0 has no timestamps: the
/// records get `now_ms`.
///
/// # Errors
/// When the set is broken, empty, or its records are more than `limit` bytes.
pub fn convert(set: &[u8], now_ms: i64, limit: usize) -> Result<RawBatch, Error> {
    let mut compression = None;
    let mut builder = BatchBuilder::new(Compression::None);
    let mut left = limit;
    walk(set, now_ms, &mut left, limit, &mut compression, 0, &mut builder)?;
    builder.set_compression(compression.unwrap_or_default());
    builder.build()
}

fn walk(
    mut set: &[u8],
    now_ms: i64,
    left: &mut usize,
    limit: usize,
    outer: &mut Option<Compression>,
    depth: u8,
    builder: &mut BatchBuilder,
) -> Result<(), Error> {
    while !set.is_empty() {
        let index = builder.len();
        let bad = |reason| Error::Record { index, reason };
        if set.len() < ENTRY_BYTES + MESSAGE_BYTES_MIN {
            return Err(Error::Truncated { needed: ENTRY_BYTES + MESSAGE_BYTES_MIN, remaining: set.len() });
        }
        set.advance(8);
        let length = set.get_i32();
        let size = usize::try_from(length).map_err(|_| Error::Length(length))?;
        if size < MESSAGE_BYTES_MIN {
            return Err(Error::Length(length));
        }
        if size > set.len() {
            return Err(Error::Truncated { needed: size, remaining: set.len() });
        }
        let (mut message, rest) = set.split_at(size);
        set = rest;
        *left = left.checked_sub(size).ok_or(Error::TooLarge { limit })?;

        let got = message.get_u32();
        let computed = crc32fast::hash(message);
        if got != computed {
            return Err(Error::Crc { got, computed });
        }
        let magic = message.get_i8();
        let attributes = message.get_i8();
        let timestamp_ms = match magic {
            0 => now_ms,
            1 if message.len() < 16 => return Err(bad("is cut off")),
            1 => match message.get_i64() {
                // -1 says that there is none; a broker's time from a producer means nothing.
                -1 => now_ms,
                _ if attributes & TIMESTAMP_TYPE != 0 => now_ms,
                timestamp_ms => timestamp_ms,
            },
            other => return Err(Error::Magic(other)),
        };
        let key = sized(&mut message).ok_or_else(|| bad("key is cut off"))?;
        let value = sized(&mut message).ok_or_else(|| bad("value is cut off"))?;
        match Compression::from_attributes(i16::from(attributes))? {
            Compression::None => builder.push_parts(timestamp_ms, key, value, std::iter::empty()),
            _ if depth > 0 => return Err(bad("is compressed inside a compressed message")),
            codec => {
                outer.get_or_insert(codec);
                let inner =
                    codec.decompress(value.ok_or_else(|| bad("is compressed without a value"))?, *left)?;
                walk(&inner, now_ms, left, limit, outer, depth + 1, builder)?;
            }
        }
    }
    Ok(())
}

fn sized<'a>(message: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    if message.len() < 4 {
        return None;
    }
    let length = message.get_i32();
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
    *message = rest;
    Some(Some(bytes))
}
