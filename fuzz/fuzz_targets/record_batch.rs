//! Records as a producer sends them: batches, and the message sets of old clients. They are read as
//! they came, and with length and checksum set right, so that mutations get behind those. Reading
//! keeps within its limit; what the protocol's side takes, the log takes too; records that are read
//! and built again are the same records.

#![no_main]

use broker::log;
use bytes::Bytes;
use libfuzzer_sys::{Corpus, fuzz_target};
use wire::records::{
    BatchBuilder, BatchHeader, Compression, Error, HEADER_BYTES, LENGTH_OVERHEAD_BYTES, RawBatch, Record,
    batches, legacy, magic,
};

/// What records may decompress to.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;
/// Old messages: offset and size, then the checksum of what follows.
const MESSAGE_BYTES_MIN: usize = 17;

fn batch(batch: &RawBatch) {
    let header = *batch.header();
    assert_eq!(header.size, batch.bytes().len());
    let records: Result<Vec<Record>, Error> = batch.records(DECOMPRESSED_BYTES_MAX);
    let valid = batch.validate(DECOMPRESSED_BYTES_MAX);
    let stored = log::RawBatch::parse(batch.bytes().clone());
    if let Ok(stored) = &stored {
        assert_eq!(
            (stored.header().size, stored.header().count, stored.header().producer_id),
            (header.size, header.record_count, header.producer_id)
        );
    }
    let Ok(records) = records else {
        assert!(valid.is_err(), "records that can't be read are valid");
        return;
    };
    let bytes: usize = records
        .iter()
        .map(|r| r.key.as_ref().map_or(0, Bytes::len) + r.value.as_ref().map_or(0, Bytes::len))
        .sum();
    assert!(bytes <= DECOMPRESSED_BYTES_MAX, "{bytes} bytes of keys and values");
    if valid.is_err() {
        return;
    }
    // The log keeps what it needs of a header more strictly in one case: a sequence without a producer.
    if header.producer_id >= 0 || (header.producer_id == -1 && header.base_sequence < 0) {
        stored.unwrap_or_else(|e| panic!("valid, but the log says: {e}: {header:?}"));
    }
    let codec = header.compression().expect("it was decompressed");
    let mut again = BatchBuilder::new(codec);
    for record in &records {
        again.push(record);
    }
    let again = again.build().expect("there are records");
    again.validate(DECOMPRESSED_BYTES_MAX).expect("what is built is valid");
    let moved = again.with_offset(header.base_offset, 0);
    let timestamps_fit =
        records.iter().all(|r| r.timestamp_ms.checked_sub(records[0].timestamp_ms).is_some());
    if timestamps_fit {
        assert_eq!(moved.records(DECOMPRESSED_BYTES_MAX), Ok(records));
    }
}

fn read(bytes: Bytes) {
    let _ = magic(&bytes);
    let _ = RawBatch::only(bytes.clone());
    let _ = log::RawBatch::parse(bytes.clone());
    for found in batches(bytes.clone()) {
        match found {
            Ok(found) => batch(&found),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(converted) = legacy::convert(&bytes, 1_500_000_000_000, DECOMPRESSED_BYTES_MAX) {
        batch(&converted);
        if converted.header().compression() == Ok(Compression::None) {
            converted.validate(DECOMPRESSED_BYTES_MAX).expect("what is converted is valid");
        }
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    read(Bytes::copy_from_slice(data));
    let mut sealed = data.to_vec();
    match magic(data) {
        Some(2) if data.len() >= HEADER_BYTES => {
            sealed[8..12].copy_from_slice(&((data.len() - LENGTH_OVERHEAD_BYTES) as i32).to_be_bytes());
            let crc = crc32c::crc32c(&sealed[21..]);
            sealed[17..21].copy_from_slice(&crc.to_be_bytes());
            assert!(BatchHeader::parse(&sealed).is_ok_and(|header| header.size == sealed.len()));
        }
        Some(0 | 1) if data.len() > MESSAGE_BYTES_MIN => {
            sealed[8..12].copy_from_slice(&((data.len() - LENGTH_OVERHEAD_BYTES) as i32).to_be_bytes());
            let crc = crc32fast::hash(&sealed[16..]);
            sealed[12..16].copy_from_slice(&crc.to_be_bytes());
        }
        _ => return Corpus::Keep,
    }
    read(Bytes::from(sealed));
    Corpus::Keep
});
