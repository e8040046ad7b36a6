//! Records inside a batch. Invariant: a record's parts lie inside its announced length, and its length inside what is
//! there; header order and duplicate header keys are kept.

use bytes::Bytes;

use super::{BatchHeader, Error};

/// A record, borrowed from the batch while it is visited.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Offset from the batch's base offset.
    pub offset_delta: i64,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970: the record's own, or the broker's when the batch says so.
    pub timestamp_ms: i64,
    /// Key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// Value, `None` for null.
    pub value: Option<&'a [u8]>,
    /// Headers, still encoded: their count was judged.
    headers: &'a [u8],
    header_count: usize,
}

impl<'a> RecordView<'a> {
    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut rest = self.headers;
        (0..self.header_count).map_while(move |_| {
            let key = sized(&mut rest)?.ok()??;
            let value = sized(&mut rest)?.ok()?;
            Some((key, value))
        })
    }

    /// A copy that outlives the batch.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(Bytes::copy_from_slice),
            value: self.value.map(Bytes::copy_from_slice),
            headers: self
                .headers()
                .map(|(key, value)| (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice)))
                .collect(),
        }
    }
}

/// A record of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, `None` for null.
    pub key: Option<Bytes>,
    /// Value, `None` for null.
    pub value: Option<Bytes>,
    /// Headers, in order, duplicates kept.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
}

impl Marker {
    /// Reads a control record's key: version i16, type i16. `None` for types of the future, which readers skip.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        match key.get(2..4)? {
            [0, 0] => Some(Self::Abort),
            [0, 1] => Some(Self::Commit),
            _ => None,
        }
    }
}

/// A zigzag varint of at most 64 bits off the front.
fn varlong(rest: &mut &[u8]) -> Option<i64> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

pub(super) fn varint(rest: &mut &[u8]) -> Option<i32> {
    i32::try_from(varlong(rest)?).ok()
}

/// Bytes with a length before them: `None` when they are cut off, `Ok(None)` for null.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<Result<Option<&'a [u8]>, ()>> {
    let length = varint(rest)?;
    if length == -1 {
        return Some(Ok(None));
    }
    let Ok(length) = usize::try_from(length) else { return Some(Err(())) };
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(Ok(Some(bytes)))
}

/// Parses one record's body (what its length counts).
fn parse<'a>(header: &BatchHeader, index: usize, body: &'a [u8]) -> Result<RecordView<'a>, Error> {
    let bad = |reason| Error::Record { index, reason };
    let (_attributes, mut rest) = body.split_first().ok_or_else(|| bad("is empty"))?;
    let timestamp_delta = varlong(&mut rest).ok_or_else(|| bad("timestamp is cut off"))?;
    let offset_delta = varint(&mut rest).ok_or_else(|| bad("offset is cut off"))?;
    let mut part = |what| match sized(&mut rest) {
        Some(Ok(part)) => Ok(part),
        _ => Err(bad(what)),
    };
    let key = part("key is cut off or has a negative length")?;
    let value = part("value is cut off or has a negative length")?;
    let count = varint(&mut rest).ok_or_else(|| bad("header count is cut off"))?;
    let header_count = usize::try_from(count).map_err(|_| bad("header count is negative"))?;
    // A header takes two bytes at least.
    if header_count > rest.len() / 2 {
        return Err(bad("header count is larger than the record"));
    }
    let headers = rest;
    for _ in 0..header_count {
        match sized(&mut rest) {
            Some(Ok(Some(_))) => {}
            _ => return Err(bad("header key is null or cut off")),
        }
        match sized(&mut rest) {
            Some(Ok(_)) => {}
            _ => return Err(bad("header value is cut off or has a negative length")),
        }
    }
    if !rest.is_empty() {
        return Err(bad("has bytes after its headers"));
    }
    let timestamp_ms = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.saturating_add(timestamp_delta)
    };
    Ok(RecordView {
        offset_delta: i64::from(offset_delta),
        offset: header.base_offset.saturating_add(i64::from(offset_delta)),
        timestamp_ms,
        key,
        value,
        headers,
        header_count,
    })
}

pub(super) fn visit<E: From<Error>>(
    header: &BatchHeader,
    bytes: &[u8],
    limit: usize,
    mut visit: impl FnMut(RecordView<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let count =
        usize::try_from(header.record_count).map_err(|_| Error::Header("record count is negative"))?;
    match header.compression()?.reader(bytes, limit)? {
        None => {
            let mut rest = bytes;
            for index in 0..count {
                let body = match sized(&mut rest) {
                    Some(Ok(Some(body))) => body,
                    _ => {
                        return Err(
                            Error::Record { index, reason: "is cut off or has a negative length" }.into()
                        );
                    }
                };
                visit(parse(header, index, body)?)?;
            }
            if !rest.is_empty() {
                return Err(Error::Header("bytes after the last record").into());
            }
        }
        Some(mut reader) => {
            let mut body = Vec::new();
            for index in 0..count {
                let mut prefix = [0u8; 5];
                let mut used = 0;
                loop {
                    let byte = reader.byte()?.ok_or(Error::Record { index, reason: "is missing" })?;
                    prefix[used] = byte;
                    used += 1;
                    if byte & 0x80 == 0 {
                        break;
                    }
                    if used == prefix.len() {
                        return Err(Error::Record { index, reason: "length is no varint" }.into());
                    }
                }
                let length = varint(&mut &prefix[..used])
                    .and_then(|length| usize::try_from(length).ok())
                    .ok_or(Error::Record { index, reason: "length is no varint or negative" })?;
                body.clear();
                reader.read_up_to(length, &mut body)?;
                if body.len() < length {
                    return Err(Error::Record { index, reason: "is cut off" }.into());
                }
                visit(parse(header, index, &body)?)?;
            }
            if reader.byte()?.is_some() {
                return Err(Error::Header("bytes after the last record").into());
            }
        }
    }
    Ok(())
}
