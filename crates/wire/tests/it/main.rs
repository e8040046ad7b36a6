//! The codec against bytes that a hostile peer may send, and against bytes that are known.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use wire::api::*;
use wire::header::{RequestHeader, read_response, request_frame, response_frame};
use wire::{ApiKey, ErrorCode, ErrorKind, Message, Reader, Request};

fn read<M: Message>(bytes: &[u8], version: i16) -> Result<M, wire::Error> {
    M::read(&mut Reader::new(Bytes::copy_from_slice(bytes), 1 << 20), version)
}

fn written<M: Message>(message: &M, version: i16) -> Vec<u8> {
    let mut out = BytesMut::new();
    message.write(&mut out, version).unwrap();
    out.to_vec()
}

#[test]
fn metadata_requests_are_the_protocols_bytes() {
    let request = MetadataRequest {
        topics: Some(vec![metadata::MetadataRequestTopic { name: Some("ab".into()), ..Default::default() }]),
        ..Default::default()
    };
    // Version 1: INT32 count, INT16 length, bytes.
    assert_eq!(written(&request, 1), [0, 0, 0, 1, 0, 2, b'a', b'b']);
    // Version 4 adds the flag of automatic creation, whose default is true.
    assert_eq!(written(&request, 4), [0, 0, 0, 1, 0, 2, b'a', b'b', 1]);
    // Version 9 is flexible: count + 1, length + 1, tagged fields after each structure.
    assert_eq!(written(&request, 9), [2, 3, b'a', b'b', 0, 1, 0, 0, 0]);
    // Version 12: an id, and no authorized operations of the cluster any more.
    let mut expected = vec![2];
    expected.extend([0; 16]);
    expected.extend([3, b'a', b'b', 0, 1, 0, 0]);
    assert_eq!(written(&request, 12), expected);
    for version in 0..=13 {
        assert_eq!(
            read::<MetadataRequest>(&written(&request, version), version).unwrap(),
            request,
            "{version}"
        );
    }
    // All topics: null, which version 0 doesn't have.
    let all = MetadataRequest::default();
    assert_eq!(written(&all, 1), [255, 255, 255, 255]);
    let mut out = BytesMut::new();
    assert_eq!(all.write(&mut out, 0).unwrap_err().kind, ErrorKind::Null(-1));
    assert_eq!(read::<MetadataRequest>(&[255, 255, 255, 255], 0).unwrap_err().kind, ErrorKind::Null(-1));
}

#[test]
fn tagged_fields_are_written_when_set_and_skipped_when_unknown() {
    let response = ApiVersionsResponse { finalized_features_epoch: 3, ..Default::default() };
    let bytes = written(&response, 3);
    // Error code, no api keys, throttle time; one tagged field: tag 1, 8 bytes.
    assert_eq!(bytes, [0, 0, 1, 0, 0, 0, 0, 1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(read::<ApiVersionsResponse>(&bytes, 3).unwrap(), response);
    // Tag 77 of three bytes before the known one.
    let unknown = [0, 0, 1, 0, 0, 0, 0, 2, 77, 3, 9, 9, 9, 1, 8, 0, 0, 0, 0, 0, 0, 0, 3];
    // Tags may come in any order from a peer; what is unknown is skipped.
    assert_eq!(read::<ApiVersionsResponse>(&unknown, 3).unwrap(), response);
    // A tagged field that says it is longer than the message.
    let cut = [0, 0, 1, 0, 0, 0, 0, 1, 77, 100, 9];
    assert!(matches!(
        read::<ApiVersionsResponse>(&cut, 3).unwrap_err().kind,
        ErrorKind::UnexpectedEnd { .. }
    ));
}

#[test]
fn counts_are_judged_before_memory_is_taken() {
    // Four bytes that claim 2^31 - 1 topics: what made other decoders abort the process.
    let error = read::<MetadataRequest>(&[0x7f, 0xff, 0xff, 0xff], 1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Count { count: 0x7fff_ffff, remaining: 0 });
    assert_eq!(error.field, "MetadataRequest.topics");
    // The same in a flexible version.
    let error = read::<MetadataRequest>(&[0xff, 0xff, 0xff, 0xff, 0x0f], 9).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Count { .. }));
    // A count that the bytes could hold, of structures much larger in memory than in the message.
    let mut bytes = BytesMut::new();
    bytes.put_i32(1 << 20);
    bytes.put_bytes(0, 2 << 20);
    let error = read::<MetadataRequest>(&bytes, 1).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Allocation { .. }), "{error}");
    // A string longer than the message, negative lengths.
    assert!(matches!(
        read::<FindCoordinatorRequest>(&[0x7f, 0xff, b'a'], 0).unwrap_err().kind,
        ErrorKind::UnexpectedEnd { .. }
    ));
    assert_eq!(read::<FindCoordinatorRequest>(&[0xff, 0xfe], 0).unwrap_err().kind, ErrorKind::Null(-2));
    assert_eq!(read::<FindCoordinatorRequest>(&[0, 1, 0xff], 0).unwrap_err().kind, ErrorKind::Utf8);
    assert_eq!(read::<MetadataRequest>(&[], 14).unwrap_err().kind, ErrorKind::Version(14));
}

#[test]
fn nullable_structures_have_a_marker() {
    let cursor = describe_topic_partitions::Cursor { topic_name: "t".into(), partition_index: 4 };
    for cursor in [None, Some(cursor)] {
        let request = DescribeTopicPartitionsRequest { cursor, ..Default::default() };
        let bytes = written(&request, 0);
        assert_eq!(read::<DescribeTopicPartitionsRequest>(&bytes, 0).unwrap(), request);
    }
}

#[test]
fn frames_carry_their_headers() {
    fn header(frame: &Bytes) -> (RequestHeader, Reader) {
        assert_eq!(i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
        let mut reader = Reader::new(frame.slice(4..), 1 << 20);
        (RequestHeader::read(&mut reader).unwrap(), reader)
    }
    for version in 0..=4 {
        let request = HeartbeatRequest { group_id: "g".into(), generation_id: 5, ..Default::default() };
        let frame = request_frame(version, 7, "me", &request).unwrap();
        let (header, mut reader) = header(&frame);
        assert_eq!(header.api_key, ApiKey::Heartbeat);
        assert_eq!(
            (header.api_version, header.correlation_id, header.client_id.as_deref()),
            (version, 7, Some("me"))
        );
        assert_eq!(HeartbeatRequest::read(&mut reader, version).unwrap(), request);
        assert_eq!(reader.remaining(), 0);

        let response = HeartbeatResponse { error_code: ErrorCode::ILLEGAL_GENERATION, ..Default::default() };
        let frame = response_frame(version, 7, &response).unwrap();
        assert_eq!(read_response::<HeartbeatRequest>(frame.slice(4..), version, 7).unwrap(), response);
        let error = read_response::<HeartbeatRequest>(frame.slice(4..), version, 8).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Correlation { wanted: 8, got: 7 });
    }
    // The exception: an ApiVersions response has no tagged fields in its header.
    let frame = response_frame(3, 7, &ApiVersionsResponse::default()).unwrap();
    assert_eq!(frame[..8], [0, 0, 0, 12, 0, 0, 0, 7]);
    assert!(read_response::<ApiVersionsRequest>(frame.slice(4..), 3, 7).is_ok());
}

/// Every message, in every version, with its defaults: what is written is read again, to the last byte.
#[test]
fn every_version_of_every_message_round_trips() {
    fn one<R: Request + Default + PartialEq + std::fmt::Debug>()
    where
        R::Response: Default + PartialEq + std::fmt::Debug,
    {
        for version in R::VERSIONS.0..=R::VERSIONS.1 {
            let mut out = BytesMut::new();
            // A default of null isn't allowed in every version.
            if R::default().write(&mut out, version).is_ok() {
                let mut reader = Reader::new(out.freeze(), 1 << 20);
                assert_eq!(R::read(&mut reader, version).unwrap(), R::default(), "{} {version}", R::NAME);
                assert_eq!(reader.remaining(), 0, "{} {version}", R::NAME);
            }
            let mut out = BytesMut::new();
            if R::Response::default().write(&mut out, version).is_ok() {
                let mut reader = Reader::new(out.freeze(), 1 << 20);
                assert_eq!(R::Response::read(&mut reader, version).unwrap(), R::Response::default());
                assert_eq!(reader.remaining(), 0, "{} {version}", R::Response::NAME);
            }
        }
    }
    one::<ProduceRequest>();
    one::<FetchRequest>();
    one::<ListOffsetsRequest>();
    one::<MetadataRequest>();
    one::<OffsetCommitRequest>();
    one::<OffsetFetchRequest>();
    one::<FindCoordinatorRequest>();
    one::<JoinGroupRequest>();
    one::<HeartbeatRequest>();
    one::<LeaveGroupRequest>();
    one::<SyncGroupRequest>();
    one::<DescribeGroupsRequest>();
    one::<ListGroupsRequest>();
    one::<ApiVersionsRequest>();
    one::<CreateTopicsRequest>();
    one::<DeleteTopicsRequest>();
    one::<DeleteRecordsRequest>();
    one::<InitProducerIdRequest>();
    one::<OffsetForLeaderEpochRequest>();
    one::<AddPartitionsToTxnRequest>();
    one::<AddOffsetsToTxnRequest>();
    one::<EndTxnRequest>();
    one::<TxnOffsetCommitRequest>();
    one::<DescribeConfigsRequest>();
    one::<AlterConfigsRequest>();
    one::<CreatePartitionsRequest>();
    one::<DeleteGroupsRequest>();
    one::<IncrementalAlterConfigsRequest>();
    one::<OffsetDeleteRequest>();
    one::<DescribeClusterRequest>();
    one::<DescribeProducersRequest>();
    one::<DescribeTransactionsRequest>();
    one::<ListTransactionsRequest>();
    one::<DescribeTopicPartitionsRequest>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any bytes, as any request or response of any version: an answer, never a panic.
    #[test]
    fn arbitrary_bytes_never_panic(api in 0usize..ApiKey::ALL.len(), version in -1i16..20, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        probe(ApiKey::ALL[api], version, &bytes)?;
        let _ = RequestHeader::read(&mut Reader::new(Bytes::from(bytes), 1 << 16));
    }

    /// Small lengths and counts, so that decoding gets deep before it fails.
    #[test]
    fn plausible_bytes_never_panic(api in 0usize..ApiKey::ALL.len(), version in 0i16..20, bytes in proptest::collection::vec(0u8..4, 0..200)) {
        probe(ApiKey::ALL[api], version, &bytes)?;
    }
}

/// What can be read can be written, and is then read as the same.
fn probe(api: ApiKey, version: i16, bytes: &[u8]) -> Result<(), TestCaseError> {
    for probe in [ApiKey::probe, ApiKey::probe_response] {
        let read = |bytes: Bytes| probe(api, &mut Reader::new(bytes, 1 << 16), version);
        if let Ok(written) = read(Bytes::copy_from_slice(bytes)) {
            let written = written.map_err(|e| TestCaseError::fail(format!("{api:?} v{version}: {e}")))?;
            prop_assert_eq!(read(written.clone()), Ok(Ok(written)), "{:?} v{}", api, version);
        }
    }
    Ok(())
}
