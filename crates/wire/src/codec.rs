//! Constraint: nothing that a peer sends decides how much is allocated.
//!
//! A [`Reader`] charges every string, byte field and array element to a budget before it allocates, and refuses a
//! count that the bytes which remain cannot hold. Messages are declared with `messages!`; their structure is nested
//! statically, so that decoding depth is bounded by the declarations. Tagged fields that aren't declared are skipped.
//!
//! Byte fields share the memory of the frame (`Bytes::slice`), strings are copied.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::ErrorCode;
pub(crate) use crate::declare::{check_null, default_of, in_range, messages, plain, tagged};

/// What one message may allocate beside its own frame, by default: enough for a request that names 100,000
/// partitions, and little beside the frame limit.
pub const DECODE_BYTES_MAX: usize = 64 << 20;

/// Why bytes are no message, or a message cannot be written in a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {kind}")]
pub struct Error {
    /// Where: `Struct.field`, the innermost known.
    pub field: &'static str,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The message ends before the value.
    #[error("needs {needed} bytes, {remaining} remain")]
    UnexpectedEnd {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// An array says that it has more elements than the rest of the message can hold.
    #[error("count {count} cannot fit in the {remaining} bytes that remain")]
    Count {
        /// The count that was sent.
        count: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// Decoding would allocate beyond the limit.
    #[error("decoding needs {needed} bytes of memory, {left} of the limit are left")]
    Allocation {
        /// Bytes that would be allocated next.
        needed: usize,
        /// What is left of the limit.
        left: usize,
    },
    /// A length below -1, or -1 where null isn't allowed.
    #[error("null or negative length {0} where a value is required")]
    Null(i64),
    /// A varint longer than its type.
    #[error("varint is longer than its type allows")]
    Varint,
    /// A string that is no UTF-8.
    #[error("string is not valid UTF-8")]
    Utf8,
    /// A value too long for its length field.
    #[error("length {0} does not fit its length field")]
    TooLong(usize),
    /// A version outside the declared range.
    #[error("version {0} is not supported")]
    Version(i16),
    /// An API key that isn't declared.
    #[error("unknown api key {0}")]
    ApiKey(i16),
    /// The response answers another request.
    #[error("correlation id {got} where {wanted} was expected")]
    Correlation {
        /// The id that was sent.
        wanted: i32,
        /// The id that came back.
        got: i32,
    },
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { field: "", kind }
    }
}

impl Error {
    /// Names the field, unless one further in has been named.
    #[must_use]
    pub fn at(mut self, field: &'static str) -> Self {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

/// Version and encoding of the message that a field is in.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The message's version.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

/// Reads a message under a budget. See the module's constraint.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    budget: usize,
}

impl Reader {
    /// Reads `bytes`, allocating at most `allocation_max` bytes beside them.
    #[must_use]
    pub fn new(bytes: Bytes, allocation_max: usize) -> Self {
        Self { bytes, budget: allocation_max }
    }

    /// Bytes that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Gives up the rest, unread.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.bytes
    }

    fn need(&self, needed: usize) -> Result<(), Error> {
        let remaining = self.bytes.len();
        if needed > remaining { Err(ErrorKind::UnexpectedEnd { needed, remaining }.into()) } else { Ok(()) }
    }

    fn charge(&mut self, needed: usize) -> Result<(), Error> {
        match self.budget.checked_sub(needed) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(ErrorKind::Allocation { needed, left: self.budget }.into()),
        }
    }

    /// The next `length` bytes, sharing the frame's memory.
    ///
    /// # Errors
    /// When fewer remain.
    pub fn take(&mut self, length: usize) -> Result<Bytes, Error> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    /// An unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// When it is longer, or the message ends.
    pub fn uvarint(&mut self) -> Result<u32, Error> {
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            self.need(1)?;
            let byte = self.bytes.get_u8();
            if shift == 28 && byte > 0x0f {
                return Err(ErrorKind::Varint.into());
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ErrorKind::Varint.into())
    }

    /// A length that may be null; `short` lengths are `INT16` outside flexible versions.
    fn length(&mut self, ctx: Context, short: bool) -> Result<Option<usize>, Error> {
        let length = if ctx.flexible {
            i64::from(self.uvarint()?) - 1
        } else if short {
            i64::from(i16::decode(self, ctx)?)
        } else {
            i64::from(i32::decode(self, ctx)?)
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| ErrorKind::Null(length).into()),
        }
    }

    /// Reads the section of tagged fields: `known` gets each tag with a reader's view limited to its bytes, and says
    /// whether it took it.
    pub(crate) fn tagged(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = self.uvarint()?;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let field = self.take(size)?;
            let mut inner = Reader { bytes: field, budget: self.budget };
            known(tag, &mut inner)?;
            self.budget = inner.budget;
        }
        Ok(())
    }
}

/// Writes an unsigned varint.
pub fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_length(out: &mut BytesMut, ctx: Context, short: bool, length: Option<usize>) -> Result<(), Error> {
    let too_long = || Error::from(ErrorKind::TooLong(length.unwrap_or(0)));
    if ctx.flexible {
        let value = match length {
            None => 0,
            Some(length) => u32::try_from(length).ok().and_then(|l| l.checked_add(1)).ok_or_else(too_long)?,
        };
        put_uvarint(out, value);
    } else if short {
        out.put_i16(match length {
            None => -1,
            Some(length) => i16::try_from(length).map_err(|_| too_long())?,
        });
    } else {
        out.put_i32(match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| too_long())?,
        });
    }
    Ok(())
}

/// A value that can stand in a message.
pub trait Field: Sized {
    /// The fewest bytes that it can take: what makes a count implausible.
    const SIZE_MIN: usize;

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are no such value, or the budget is spent.
    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error>;

    /// Writes it.
    ///
    /// # Errors
    /// When it is too long for its length field.
    fn encode(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error>;

    /// True for `None`: checked against the versions in which null is allowed.
    fn is_null(&self) -> bool {
        false
    }
}

/// A value with a null form on the wire; `Option<T>` is a [`Field`] then.
pub trait Nullable: Field {
    /// Reads it or null.
    ///
    /// # Errors
    /// As [`Field::decode`].
    fn decode_nullable(reader: &mut Reader, ctx: Context) -> Result<Option<Self>, Error>;

    /// Writes null.
    ///
    /// # Errors
    /// Never for the types of this crate.
    fn encode_null(out: &mut BytesMut, ctx: Context) -> Result<(), Error>;

    /// Writes what is not null, with a marker where the type needs one.
    ///
    /// # Errors
    /// As [`Field::encode`].
    fn encode_some(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        self.encode(out, ctx)
    }
}

impl<T: Nullable> Field for Option<T> {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        T::decode_nullable(reader, ctx)
    }

    fn encode(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        match self {
            Some(value) => value.encode_some(out, ctx),
            None => T::encode_null(out, ctx),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

macro_rules! numbers {
    ($($type:ty, $get:ident, $put:ident;)*) => {$(
        impl Field for $type {
            const SIZE_MIN: usize = size_of::<$type>();

            fn decode(reader: &mut Reader, _: Context) -> Result<Self, Error> {
                reader.need(Self::SIZE_MIN)?;
                Ok(reader.bytes.$get())
            }

            fn encode(&self, out: &mut BytesMut, _: Context) -> Result<(), Error> {
                out.$put(*self);
                Ok(())
            }
        }
    )*};
}

numbers! {
    i8, get_i8, put_i8;
    i16, get_i16, put_i16;
    u16, get_u16, put_u16;
    i32, get_i32, put_i32;
    u32, get_u32, put_u32;
    i64, get_i64, put_i64;
    f64, get_f64, put_f64;
}

impl Field for bool {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        Ok(i8::decode(reader, ctx)? != 0)
    }

    fn encode(&self, out: &mut BytesMut, _: Context) -> Result<(), Error> {
        out.put_i8(i8::from(*self));
        Ok(())
    }
}

impl Field for ErrorCode {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        i16::decode(reader, ctx).map(ErrorCode)
    }

    fn encode(&self, out: &mut BytesMut, _: Context) -> Result<(), Error> {
        out.put_i16(self.0);
        Ok(())
    }
}

impl Field for Uuid {
    const SIZE_MIN: usize = 16;

    fn decode(reader: &mut Reader, _: Context) -> Result<Self, Error> {
        reader.need(16)?;
        Ok(Uuid::from_u128(reader.bytes.get_u128()))
    }

    fn encode(&self, out: &mut BytesMut, _: Context) -> Result<(), Error> {
        out.put_u128(self.as_u128());
        Ok(())
    }
}

impl Field for String {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        Self::decode_nullable(reader, ctx)?.ok_or_else(|| ErrorKind::Null(-1).into())
    }

    fn encode(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, true, Some(self.len()))?;
        out.put_slice(self.as_bytes());
        Ok(())
    }
}

impl Nullable for String {
    fn decode_nullable(reader: &mut Reader, ctx: Context) -> Result<Option<Self>, Error> {
        let Some(length) = reader.length(ctx, true)? else { return Ok(None) };
        let bytes = reader.take(length)?;
        reader.charge(length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::from(ErrorKind::Utf8))?;
        Ok(Some(text.to_owned()))
    }

    fn encode_null(out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, true, None)
    }
}

impl Field for Bytes {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        Self::decode_nullable(reader, ctx)?.ok_or_else(|| ErrorKind::Null(-1).into())
    }

    fn encode(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, false, Some(self.len()))?;
        out.put_slice(self);
        Ok(())
    }
}

impl Nullable for Bytes {
    fn decode_nullable(reader: &mut Reader, ctx: Context) -> Result<Option<Self>, Error> {
        let Some(length) = reader.length(ctx, false)? else { return Ok(None) };
        reader.take(length).map(Some)
    }

    fn encode_null(out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, false, None)
    }
}

impl<T: Field> Field for Vec<T> {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader, ctx: Context) -> Result<Self, Error> {
        Self::decode_nullable(reader, ctx)?.ok_or_else(|| ErrorKind::Null(-1).into())
    }

    fn encode(&self, out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, false, Some(self.len()))?;
        self.iter().try_for_each(|item| item.encode(out, ctx))
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn decode_nullable(reader: &mut Reader, ctx: Context) -> Result<Option<Self>, Error> {
        let Some(count) = reader.length(ctx, false)? else { return Ok(None) };
        let remaining = reader.remaining();
        if count > remaining / T::SIZE_MIN {
            return Err(ErrorKind::Count { count, remaining }.into());
        }
        reader.charge(count.saturating_mul(size_of::<T>()))?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::decode(reader, ctx)?);
        }
        Ok(Some(items))
    }

    fn encode_null(out: &mut BytesMut, ctx: Context) -> Result<(), Error> {
        put_length(out, ctx, false, None)
    }
}

/// A request or response body.
pub trait Message: Sized {
    /// Its name in the protocol.
    const NAME: &'static str;
    /// The API it belongs to.
    const API_KEY: i16;
    /// The first and last version that is declared.
    const VERSIONS: (i16, i16);
    /// The first version with compact lengths and tagged fields; `i16::MAX` when none has.
    const FLEXIBLE_FROM: i16;

    /// Reads the body in `version`. Bytes after the message are left in the reader: they are not an error.
    ///
    /// # Errors
    /// When the version isn't declared, the bytes are no such message, or it needs more memory than allowed.
    fn read(reader: &mut Reader, version: i16) -> Result<Self, Error>;

    /// Writes the body in `version`. Fields that the version doesn't have are left out.
    ///
    /// # Errors
    /// When the version isn't declared, or a value doesn't fit in it.
    fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), Error>;

    /// Version and encoding, checked against what is declared.
    ///
    /// # Errors
    /// When the version isn't declared.
    fn context(version: i16) -> Result<Context, Error> {
        let (first, last) = Self::VERSIONS;
        if version < first || version > last {
            return Err(Error::from(ErrorKind::Version(version)).at(Self::NAME));
        }
        Ok(Context { version, flexible: version >= Self::FLEXIBLE_FROM })
    }
}

/// A request, tied to the response that answers it.
pub trait Request: Message {
    /// Its answer.
    type Response: Message;
}

/// Writes the section of tagged fields, lowest tag first as KIP-482 demands.
pub(crate) fn put_tagged(out: &mut BytesMut, mut fields: Vec<(u32, BytesMut)>) {
    fields.sort_by_key(|(tag, _)| *tag);
    put_uvarint(out, fields.len() as u32);
    for (tag, field) in fields {
        put_uvarint(out, tag);
        put_uvarint(out, field.len() as u32);
        out.put_slice(&field);
    }
}
