//! Requests and responses with their headers. Invariant: the header's version follows from API and version alone, with
//! the protocol's one exception: an ApiVersions response never has tagged fields in its header.

use bytes::{Bytes, BytesMut};

use crate::api::ApiKey;
use crate::codec::{
    Context, DECODE_BYTES_MAX, Error, ErrorKind, Field, Message, Reader, Request, put_uvarint,
};

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api_key: ApiKey,
    /// In which version; not yet judged, except that it picked the header's own encoding.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
}

const FIXED: Context = Context { version: 0, flexible: false };

impl RequestHeader {
    /// Reads the header and leaves the reader at the body.
    ///
    /// # Errors
    /// When the API key is unknown or the bytes are no header.
    pub fn read(reader: &mut Reader) -> Result<Self, Error> {
        let at = |e: Error| e.at("request header");
        let key = i16::decode(reader, FIXED).map_err(at)?;
        let api_version = i16::decode(reader, FIXED).map_err(at)?;
        let correlation_id = i32::decode(reader, FIXED).map_err(at)?;
        let api_key = ApiKey::try_from(key)?;
        let client_id = Option::<String>::decode(reader, FIXED).map_err(at)?;
        // An ApiVersions request of a version from the future has a header that this build can't know; what follows
        // the client id isn't read then, because the answer needs no more than the correlation id.
        if api_version >= api_key.flexible_from() && api_version <= api_key.versions().1 {
            reader.tagged(|_, _| Ok(())).map_err(at)?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }
}

/// A request as a frame, with its length prefix.
///
/// # Errors
/// When the version isn't declared or a value doesn't fit.
pub fn request_frame<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    request: &R,
) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(256);
    write_request_frame(&mut out, version, correlation_id, client_id, request)?;
    Ok(out.freeze())
}

/// As [`request_frame`], in the place of what `out` has.
///
/// # Errors
/// As [`request_frame`]; what is in `out` then is no frame.
pub fn write_request_frame<R: Request>(
    out: &mut BytesMut,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    request: &R,
) -> Result<(), Error> {
    out.clear();
    0i32.encode(out, FIXED)?;
    R::API_KEY.encode(out, FIXED)?;
    version.encode(out, FIXED)?;
    correlation_id.encode(out, FIXED)?;
    client_id.to_owned().encode(out, FIXED)?;
    if version >= R::FLEXIBLE_FROM {
        put_uvarint(out, 0);
    }
    request.write(out, version)?;
    seal(out)
}

/// Reads the response to a request of `version` from a frame (without its prefix).
///
/// # Errors
/// When it answers another request, or the bytes are no such response.
pub fn read_response<R: Request>(
    frame: Bytes,
    version: i16,
    correlation_id: i32,
) -> Result<R::Response, Error> {
    let mut reader = Reader::new(frame, DECODE_BYTES_MAX);
    let got = i32::decode(&mut reader, FIXED)?;
    if got != correlation_id {
        return Err(Error::from(ErrorKind::Correlation { wanted: correlation_id, got }).at("response header"));
    }
    if version >= R::FLEXIBLE_FROM && R::API_KEY != ApiKey::ApiVersions as i16 {
        reader.tagged(|_, _| Ok(()))?;
    }
    R::Response::read(&mut reader, version)
}

/// A response as a frame, with its length prefix.
///
/// # Errors
/// When the version isn't declared or a value doesn't fit.
pub fn response_frame<M: Message>(version: i16, correlation_id: i32, response: &M) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(256);
    0i32.encode(&mut out, FIXED)?;
    correlation_id.encode(&mut out, FIXED)?;
    if version >= M::FLEXIBLE_FROM && M::API_KEY != ApiKey::ApiVersions as i16 {
        put_uvarint(&mut out, 0);
    }
    response.write(&mut out, version)?;
    seal(&mut out)?;
    Ok(out.freeze())
}

fn seal(out: &mut BytesMut) -> Result<(), Error> {
    let length = out.len() - 4;
    let prefix = i32::try_from(length).map_err(|_| Error::from(ErrorKind::TooLong(length)).at("frame"))?;
    out[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(())
}
