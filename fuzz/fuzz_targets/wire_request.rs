//! A frame as a client sends it, without its length: API key, version, correlation id, client id,
//! body. A key or version that isn't declared counts as one that is, so that mutations reach all of
//! them. The body is read as that request and as its response; what is read can be written, and what
//! was written is read again as the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use wire::header::RequestHeader;
use wire::{ApiKey, Error, Reader};

/// What decoding may allocate; far more than inputs of this size need.
const ALLOCATION_BYTES_MAX: usize = 4 << 20;
/// Key, version, correlation id.
const HEADER_BYTES: usize = 8;

type Probe = fn(ApiKey, &mut Reader, i16) -> Result<Result<Bytes, Error>, Error>;

fn reader(bytes: Bytes) -> Reader {
    Reader::new(bytes, ALLOCATION_BYTES_MAX)
}

fn probe(probe: Probe, api: ApiKey, version: i16, body: Bytes) {
    let Ok(written) = probe(api, &mut reader(body), version) else { return };
    let written = written.unwrap_or_else(|e| panic!("{} v{version} was read, but: {e}", api.name()));
    let mut rest = reader(written.clone());
    let again = probe(api, &mut rest, version);
    assert_eq!(rest.remaining(), 0, "{} v{version}", api.name());
    assert_eq!(again, Ok(Ok(written)), "{} v{version}", api.name());
}

/// One of `count`, whatever the bytes say.
fn pick(bytes: [u8; 2], count: usize) -> usize {
    usize::from(u16::from_be_bytes(bytes)) % count
}

fuzz_target!(|data: &[u8]| -> Corpus {
    if data.len() < HEADER_BYTES {
        return Corpus::Reject;
    }
    let key = [data[0], data[1]];
    let api = ApiKey::try_from(i16::from_be_bytes(key))
        .unwrap_or_else(|_| ApiKey::ALL[pick(key, ApiKey::ALL.len())]);
    let version = [data[2], data[3]];
    let (first, last) = api.versions();
    let version = Some(i16::from_be_bytes(version))
        .filter(|version| (first..=last).contains(version))
        .unwrap_or_else(|| first + pick(version, usize::from((last - first + 1) as u16)) as i16);

    // As it came, and with the key and version that count.
    let _ = RequestHeader::read(&mut reader(Bytes::copy_from_slice(data)));
    let mut frame = data.to_vec();
    frame[..2].copy_from_slice(&(api as i16).to_be_bytes());
    frame[2..4].copy_from_slice(&version.to_be_bytes());
    let mut request = reader(Bytes::from(frame));
    if let Ok(header) = RequestHeader::read(&mut request) {
        assert_eq!((header.api_key, header.api_version), (api, version));
        probe(ApiKey::probe, api, version, request.into_rest());
    }
    probe(ApiKey::probe_response, api, version, Bytes::copy_from_slice(&data[HEADER_BYTES..]));
    Corpus::Keep
});
