//! The compact encoding of journal entries and snapshots. Invariant: a reader never allocates more than the
//! bytes that remain could hold, and every value is read back as it was written, so a damaged or foreign
//! entry is an error with a position and not a panic.
//!
//! Unsigned numbers are LEB128, signed ones zigzag LEB128, strings and byte strings carry their length.

use bytes::Bytes;
use uuid::Uuid;

use super::journal::PartitionId;

/// Why an entry or snapshot can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The bytes end inside a value.
    #[error("ends inside {what} at byte {at}")]
    Truncated {
        /// The value that was being read.
        what: &'static str,
        /// Offset in the entry.
        at: usize,
    },
    /// A value is out of its range.
    #[error("{what} at byte {at} is invalid")]
    Invalid {
        /// The value that was being read.
        what: &'static str,
        /// Offset in the entry.
        at: usize,
    },
    /// The entry was written by a newer version of this program.
    #[error("{what} has format version {found}, this build reads up to {max}")]
    Version {
        /// What was being read.
        what: &'static str,
        /// The version that stands there.
        found: u8,
        /// The newest version that is understood.
        max: u8,
    },
    /// The kind of entry isn't known.
    #[error("unknown kind {found} of {what}")]
    Kind {
        /// What was being read.
        what: &'static str,
        /// The kind that stands there.
        found: u8,
    },
}

/// Appends values to a byte string.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer::default()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.unsigned(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn optional_string(&mut self, value: Option<&str>) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            self.string(value);
        }
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn partition(&mut self, value: PartitionId) {
        let PartitionId { topic, partition } = value;
        self.uuid(topic);
        self.signed(i64::from(partition));
    }

    /// A count, then each element by `write`.
    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Writer, T),
    ) {
        self.unsigned(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// Reads values off a byte string.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// An error about the value that ends here.
    pub(crate) fn invalid(&self, what: &'static str) -> Error {
        Error::Invalid { what, at: self.at }
    }

    fn take(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        if rest.len() < len {
            return Err(Error::Truncated { what, at: self.at });
        }
        self.at += len;
        Ok(&rest[..len])
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(self.take(what, 1)?[0])
    }

    pub(crate) fn bool(&mut self, what: &'static str) -> Result<bool, Error> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.invalid(what)),
        }
    }

    pub(crate) fn unsigned(&mut self, what: &'static str) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(self.invalid(what));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.invalid(what))
    }

    pub(crate) fn signed(&mut self, what: &'static str) -> Result<i64, Error> {
        let raw = self.unsigned(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, Error> {
        i32::try_from(self.signed(what)?).map_err(|_| self.invalid(what))
    }

    pub(crate) fn i16(&mut self, what: &'static str) -> Result<i16, Error> {
        i16::try_from(self.signed(what)?).map_err(|_| self.invalid(what))
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Error> {
        let len = self.unsigned(what)?;
        let len = usize::try_from(len).map_err(|_| self.invalid(what))?;
        self.take(what, len)
    }

    pub(crate) fn owned_bytes(&mut self, what: &'static str) -> Result<Bytes, Error> {
        self.bytes(what).map(Bytes::copy_from_slice)
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, Error> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.invalid(what))
    }

    pub(crate) fn optional_string(&mut self, what: &'static str) -> Result<Option<String>, Error> {
        if self.bool(what)? { self.string(what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn uuid(&mut self, what: &'static str) -> Result<Uuid, Error> {
        let bytes = self.take(what, 16)?;
        Uuid::from_slice(bytes).map_err(|_| self.invalid(what))
    }

    pub(crate) fn partition(&mut self) -> Result<PartitionId, Error> {
        Ok(PartitionId { topic: self.uuid("topic id")?, partition: self.i32("partition")? })
    }

    /// A list written by [`Writer::list`]; every element takes at least one byte, so the count is bounded.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let count = self.unsigned(what)?;
        let rest = self.bytes.len() - self.at;
        let count = usize::try_from(count).ok().filter(|count| *count <= rest);
        let count = count.ok_or_else(|| self.invalid(what))?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

/// Refuses versions that this build doesn't know.
pub(crate) fn check_version(r: &mut Reader<'_>, what: &'static str, max: u8) -> Result<(), Error> {
    let found = r.u8(what)?;
    if found == 0 || found > max {
        return Err(Error::Version { what, found, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_strings_come_back(u in any::<u64>(), i in any::<i64>(), s in ".*", o in proptest::option::of(".*")) {
            let mut w = Writer::new();
            w.unsigned(u);
            w.signed(i);
            w.string(&s);
            w.optional_string(o.as_deref());
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.unsigned("u").unwrap(), u);
            prop_assert_eq!(r.signed("i").unwrap(), i);
            prop_assert_eq!(r.string("s").unwrap(), s);
            prop_assert_eq!(r.optional_string("o").unwrap(), o);
            prop_assert!(r.is_empty());
        }

        #[test]
        fn any_bytes_are_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut r = Reader::new(&bytes);
            let _ = r.list("list", |r| r.string("s"));
            let _ = r.partition();
            let _ = r.unsigned("u");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let mut w = Writer::new();
        w.unsigned(u64::from(u32::MAX));
        let bytes = w.finish();
        let error = Reader::new(&bytes).list("members", |r| r.u8("m")).unwrap_err();
        assert!(matches!(error, Error::Invalid { what: "members", .. }));
    }
}
