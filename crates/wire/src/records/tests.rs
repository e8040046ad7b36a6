use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn record(value: &[u8]) -> Record {
    Record {
        offset: 0,
        timestamp_ms: 1_700_000_000_000,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::copy_from_slice(value)),
        headers: vec![
            (Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))),
            (Bytes::from_static(b"a"), None),
            (Bytes::from_static(b""), Some(Bytes::new())),
        ],
    }
}

fn batch(codec: Compression, records: &[Record]) -> RawBatch {
    let mut builder = BatchBuilder::new(codec).producer(7, 3, 40);
    records.iter().for_each(|record| builder.push(record));
    builder.build().unwrap()
}

fn compressed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    super::compression::Compressor::default().compress(codec, bytes, Vec::new()).unwrap()
}

/// A batch as another implementation writes it: one record, key absent, value `hi`, taken apart by hand from KIP-98.
#[test]
fn bytes_are_kip_98s() {
    let mut after_crc = BytesMut::new();
    after_crc.put_i16(0); // attributes
    after_crc.put_i32(0); // last offset delta
    after_crc.put_i64(1000);
    after_crc.put_i64(1000);
    after_crc.put_i64(-1);
    after_crc.put_i16(-1);
    after_crc.put_i32(-1);
    after_crc.put_i32(1);
    // Length 8 (zigzag 16): attributes, timestamp delta 0, offset delta 0, key -1, value length 2, "hi", no headers.
    after_crc.put_slice(&[16, 0, 0, 0, 1, 4, b'h', b'i', 0]);
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32(4 + 1 + 4 + after_crc.len() as i32);
    bytes.put_i32(-1);
    bytes.put_i8(2);
    bytes.put_u32(crc32c::crc32c(&after_crc));
    bytes.put_slice(&after_crc);

    let read = RawBatch::only(bytes.clone().freeze()).unwrap();
    read.validate(LIMIT).unwrap();
    let expected = Record { timestamp_ms: 1000, value: Some(Bytes::from_static(b"hi")), ..Record::default() };
    assert_eq!(read.records(LIMIT).unwrap(), std::slice::from_ref(&expected));
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&expected);
    assert_eq!(builder.build().unwrap().into_bytes(), bytes.freeze());
}

#[test]
fn round_trips_in_every_codec() {
    let records: Vec<Record> = (0..100)
        .map(|i| Record { offset: i, ..record(format!("value {i} value value value").as_bytes()) })
        .collect();
    for codec in CODECS {
        let batch = batch(codec, &records);
        batch.validate(LIMIT).unwrap();
        assert_eq!(batch.header().compression(), Ok(codec));
        assert_eq!(batch.records(LIMIT).unwrap(), records);
        assert_eq!(batch.header().last_sequence(), 139);
        let moved = batch.with_offset(1000, 5);
        let moved = RawBatch::only(moved.into_bytes()).unwrap();
        assert_eq!((moved.header().base_offset, moved.header().leader_epoch), (1000, 5));
        assert_eq!(moved.records(LIMIT).unwrap()[99].offset, 1099);
        let stamped = RawBatch::only(batch.with_log_append_time(42).into_bytes()).unwrap();
        assert!(stamped.records(LIMIT).unwrap().iter().all(|record| record.timestamp_ms == 42));
    }
}

#[test]
fn decompression_ends_at_the_limit() {
    // 64 MiB of zeros are a few KiB in most codecs.
    let bomb = record(&vec![0; 64 << 20]);
    for codec in CODECS.into_iter().skip(1) {
        let batch = batch(codec, std::slice::from_ref(&bomb));
        let error = batch.validate(LIMIT).unwrap_err();
        match codec {
            // A block is judged by its announced length, before it is decompressed.
            Compression::Snappy => {
                assert!(matches!(error, Error::Decompress { .. } | Error::TooLarge { .. }), "{error}")
            }
            _ => assert_eq!(error, Error::TooLarge { limit: LIMIT }, "{codec:?}"),
        }
        batch.validate(65 << 20).unwrap();
    }
}

#[test]
fn a_length_that_lies_is_not_allocated() {
    // A record that says it is 2 GiB long, in every codec.
    let mut lie = BytesMut::new();
    lie.put_slice(&[0xfe, 0xff, 0xff, 0xff, 0x0f]);
    lie.put_slice(&[0; 16]);
    for codec in CODECS {
        let mut batch =
            BytesMut::from(&batch(Compression::None, &[record(b"x")]).into_bytes()[..HEADER_BYTES]);
        batch[21..23].copy_from_slice(&codec.attributes().to_be_bytes());
        batch.put_slice(&compressed(codec, &lie));
        let length = (batch.len() - LENGTH_OVERHEAD_BYTES) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RawBatch::only(batch.freeze()).unwrap();
        assert!(matches!(batch.validate(LIMIT), Err(Error::Record { index: 0, .. })), "{codec:?}");
    }
}

#[test]
fn what_the_header_says_must_hold() {
    let good = batch(Compression::None, &[record(b"a"), record(b"b")]).into_bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = BytesMut::from(&good[..]);
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&changed[CRC_FROM..]);
        changed[17..21].copy_from_slice(&crc.to_be_bytes());
        RawBatch::only(changed.freeze()).and_then(|batch| batch.validate(LIMIT)).unwrap_err()
    };
    assert_eq!(
        with(57, &3i32.to_be_bytes()),
        Error::Header("last offset delta differs from the record count")
    );
    assert_eq!(with(57, &0i32.to_be_bytes()), Error::Header("no records"));
    assert_eq!(with(57, &(-1i32).to_be_bytes()), Error::Header("no records"));
    assert_eq!(with(51, &(-1i16).to_be_bytes()), Error::Header("a producer id without epoch or sequence"));
    assert_eq!(with(21, &7i16.to_be_bytes()), Error::Compression(7));
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    assert!(matches!(RawBatch::only(flipped.freeze()), Err(Error::Crc { .. })));
    assert!(matches!(RawBatch::only(good.slice(..80)), Err(Error::Truncated { .. })));
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(add_sequence(i32::MAX, 1), 0);
    assert_eq!(add_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(add_sequence(5, 3), 8);
}

#[test]
fn markers_read_back() {
    for marker in [Marker::Commit, Marker::Abort] {
        let batch = control_batch(marker, 9, 1, 4, 1000);
        batch.validate(LIMIT).unwrap();
        assert!(batch.header().is_control() && batch.header().is_transactional());
        let records = batch.records(LIMIT).unwrap();
        assert_eq!(Marker::from_key(records[0].key.as_ref().unwrap()), Some(marker));
    }
}

fn message(magic: i8, attributes: i8, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i8(magic);
    body.put_i8(attributes);
    if magic == 1 {
        body.put_i64(timestamp);
    }
    for part in [key, value] {
        body.put_i32(part.map_or(-1, |part| part.len() as i32));
        body.put_slice(part.unwrap_or_default());
    }
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(4 + body.len() as i32);
    out.put_u32(crc32fast::hash(&body));
    out.put_slice(&body);
    out.to_vec()
}

#[test]
fn message_sets_become_batches() {
    for magic in [0, 1] {
        let mut set = message(magic, 0, 5, Some(b"k"), Some(b"v"));
        set.extend(message(magic, 0, 6, None, None));
        let batch = legacy::convert(&set, 99, LIMIT).unwrap();
        batch.validate(LIMIT).unwrap();
        let records = batch.records(LIMIT).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(records[1].value, None);
        assert_eq!(records[0].timestamp_ms, if magic == 0 { 99 } else { 5 });

        // Compressed: one message whose value is a set. Gzip here; snappy with xerial framing as Java sends it.
        for (number, codec) in [(1, Compression::Gzip), (2, Compression::Snappy)] {
            let inner = compressed(codec, &set);
            let wrapped = message(magic, number, 5, None, Some(&inner));
            let batch = legacy::convert(&wrapped, 99, LIMIT).unwrap();
            assert_eq!(batch.header().compression(), Ok(codec));
            assert_eq!(batch.records(LIMIT).unwrap(), records);
            // Compressed twice is refused.
            let twice = message(magic, number, 5, None, Some(&compressed(codec, &wrapped)));
            assert!(legacy::convert(&twice, 99, LIMIT).is_err());
        }
    }
    let mut broken = message(1, 0, 5, None, Some(b"v"));
    *broken.last_mut().unwrap() ^= 1;
    assert!(matches!(legacy::convert(&broken, 0, LIMIT), Err(Error::Crc { .. })));
    assert!(legacy::convert(&[], 0, LIMIT).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_records_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), attributes in 0i16..8, count in -2i32..5) {
        let mut bytes = BytesMut::from(&batch(Compression::None, &[record(b"x")]).into_bytes()[..HEADER_BYTES]);
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.put_slice(&tail);
        let length = (bytes.len() - LENGTH_OVERHEAD_BYTES) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let batch = RawBatch::only(bytes.freeze()).unwrap();
        let _ = batch.validate(LIMIT);
        let _ = batch.records(LIMIT);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for batch in batches(Bytes::from(bytes.clone())) {
            let _ = batch.map(|batch| batch.validate(LIMIT));
        }
        let _ = legacy::convert(&bytes, 0, LIMIT);
    }

    #[test]
    fn records_round_trip(
        parts in proptest::collection::vec(
            (any::<u32>(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))),
            1..20,
        ),
        codec in 0usize..5,
    ) {
        let records: Vec<Record> = parts.into_iter().enumerate().map(|(i, (timestamp, key, value))| Record {
            offset: i as i64,
            timestamp_ms: i64::from(timestamp),
            key: key.map(Bytes::from),
            value: value.map(Bytes::from),
            headers: Vec::new(),
        }).collect();
        let batch = batch(CODECS[codec], &records);
        batch.validate(LIMIT).unwrap();
        prop_assert_eq!(batch.records(LIMIT).unwrap(), records);
    }
}

proptest! {
    /// What one builder makes after another batch is what a new one makes, whatever was there before, failed or was taken back.
    #[test]
    fn builders_are_as_new_after_each_batch(
        rounds in prop::collection::vec((prop::collection::vec((any::<Option<Vec<u8>>>(), any::<i64>()), 0..20), any::<bool>(), 0..3000usize), 1..6),
        codec in prop::sample::select(&CODECS[..]),
    ) {
        let mut builder = BatchBuilder::new(codec).compressed_only_if_smaller();
        for (sequence, (records, recycled, padding)) in (0..).zip(rounds) {
            let mut fresh = BatchBuilder::new(codec).compressed_only_if_smaller().producer(9, 1, sequence);
            builder.set_producer(9, 1, sequence);
            for (key, timestamp_ms) in records {
                let value = Some(vec![b'x'; padding].into());
                let record = Record { key: key.map(Bytes::from), value, timestamp_ms, ..record(b"") };
                builder.push(&record);
                fresh.push(&record);
            }
            prop_assert_eq!(builder.size(), fresh.size());
            let (ours, wanted) = (builder.build_next(), fresh.build());
            prop_assert_eq!(ours.as_ref().map(RawBatch::bytes), wanted.as_ref().map(RawBatch::bytes));
            if let Ok(made) = ours {
                // With its checksum, which building doesn't look at again.
                let read = RawBatch::only(made.bytes().clone()).unwrap();
                prop_assert_eq!(read.header(), made.header());
                drop(read);
                made.validate(LIMIT).unwrap();
                if recycled {
                    builder.recycle(made.into_bytes());
                }
            }
            prop_assert!(builder.is_empty());
        }
    }
}
