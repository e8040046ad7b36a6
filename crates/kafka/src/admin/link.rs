//! One connection to one broker: requests in turn, answers bounded.
//!
//! A connection whose answer didn't come whole (error, timeout, caller gone) is dropped, never used again: its next
//! bytes would answer another question.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::api::{ApiVersionsRequest, ApiVersionsResponse};
use wire::{ErrorCode, Request, frame, header};

use crate::{Error, Kind, Result};

/// The largest answer that is read. Metadata of 100,000 partitions is about a tenth of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes before an answer that say how long it is.
const PREFIX_BYTES: usize = 4;
/// Room for what comes in one read.
const READ_BYTES: usize = 4 << 10;
/// The largest request whose memory is kept for the next one.
const OUTGOING_BYTES_KEPT: usize = 2 << 20;
/// How long a TCP connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// ApiVersions from which a broker is told who asks; older brokers answer it with their own version 0.
const API_VERSIONS: i16 = 3;

pub(crate) struct Link {
    stream: TcpStream,
    address: String,
    client_id: String,
    versions: HashMap<i16, (i16, i16)>,
    correlation_id: i32,
    /// What came with the last answer's beginning and isn't taken yet.
    incoming: BytesMut,
    /// The last request. Its memory is used again.
    outgoing: BytesMut,
}

impl Link {
    pub(crate) async fn open(address: &str, client_id: &str) -> Result<Self> {
        let unreachable =
            |why: String| Error::new(Kind::Unreachable, format!("connect to {address}"), why).at(address);
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable(format!("no connection within {} ms", CONNECT.as_millis())))?
            .map_err(|e| unreachable(e.to_string()))?;
        // Small requests wait for no others. A failure costs latency only.
        let _ = stream.set_nodelay(true);
        let mut link = Self {
            stream,
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            versions: HashMap::new(),
            correlation_id: 0,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        };
        link.agree().await?;
        Ok(link)
    }

    /// Learns what the broker speaks.
    async fn agree(&mut self) -> Result<()> {
        let request = ApiVersionsRequest {
            client_software_name: "vltava".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let frame = self.exchange(&request, API_VERSIONS).await?;
        // An older broker answers with UNSUPPORTED_VERSION in version 0, whatever was asked (KIP-511).
        let refused = frame.get(4..6).map(|b| i16::from_be_bytes([b[0], b[1]])) == Some(35);
        let answer: ApiVersionsResponse = if refused {
            let frame = self.exchange(&ApiVersionsRequest::default(), 0).await?;
            self.read::<ApiVersionsRequest>(frame, 0)?
        } else {
            self.read::<ApiVersionsRequest>(frame, API_VERSIONS)?
        };
        if !answer.error_code.is_ok() {
            return Err(super::refused("ApiVersions", answer.error_code, None).at(&self.address));
        }
        self.versions =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    /// Asks in the highest version that both sides and the caller (`version_max`) know. Returns it with the answer.
    pub(crate) async fn ask<R: Request>(&mut self, request: &R, version_max: i16) -> Result<R::Response> {
        let (min, max) = R::VERSIONS;
        let theirs = self.versions.get(&R::API_KEY).copied();
        let version = theirs.map(|(_, last)| last.min(max).min(version_max));
        let version = version.filter(|v| *v >= min && theirs.is_some_and(|(first, _)| *v >= first));
        let Some(version) = version else {
            let spoken = theirs.map_or("doesn't speak it".to_owned(), |(a, b)| format!("speaks {a} to {b}"));
            let why = format!("this client knows {min} to {}, the engine {spoken}", max.min(version_max));
            return Err(Error::new(Kind::Protocol, R::NAME, why).at(&self.address));
        };
        let frame = self.exchange(request, version).await?;
        self.read::<R>(frame, version)
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let Self { outgoing, correlation_id, client_id, .. } = self;
        header::write_request_frame(outgoing, version, *correlation_id, client_id, request)
            .map_err(|e| Error::new(Kind::Protocol, R::NAME, e.to_string()).at(&self.address))?;
        let address = self.address.clone();
        let lost = |e: std::io::Error| {
            Error::new(Kind::Unreachable, R::NAME, format!("connection to {address} lost: {e}"))
        };
        self.stream.write_all(&self.outgoing).await.map_err(lost)?;
        if self.outgoing.capacity() > OUTGOING_BYTES_KEPT {
            self.outgoing = BytesMut::new();
        }
        let incoming = &mut self.incoming;
        while incoming.len() < PREFIX_BYTES {
            incoming.reserve(READ_BYTES);
            if self.stream.read_buf(incoming).await.map_err(lost)? == 0 {
                return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let prefix = [incoming[0], incoming[1], incoming[2], incoming[3]];
        let size = frame::size(prefix, ANSWER_BYTES_MAX)
            .map_err(|e| Error::new(Kind::Protocol, R::NAME, e.to_string()).at(&self.address))?;
        incoming.advance(PREFIX_BYTES);
        // Grows with what comes, not with what was announced. The engine sends nothing that it wasn't asked for.
        while incoming.len() < size {
            incoming.reserve(READ_BYTES.min(size));
            if self.stream.read_buf(incoming).await.map_err(lost)? == 0 {
                return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(incoming.split_to(size).freeze())
    }

    /// Whether the peer has closed the connection while nothing was asked.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0];
        // There is nothing to read: whatever isn't "nothing yet" is an end.
        !matches!(self.stream.try_read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn read<R: Request>(&self, frame: Bytes, version: i16) -> Result<R::Response> {
        header::read_response::<R>(frame, version, self.correlation_id)
            .map_err(|e| Error::new(Kind::Protocol, R::NAME, e.to_string()).at(&self.address))
    }
}

/// The error that an engine's code stands for.
pub(super) fn kind_of(code: ErrorCode) -> Kind {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => Kind::UnknownTopic,
        ErrorCode::TOPIC_ALREADY_EXISTS => Kind::TopicExists,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Kind::TooLarge,
        ErrorCode::REQUEST_TIMED_OUT => Kind::Timeout,
        ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::NETWORK_EXCEPTION => Kind::Unreachable,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => Kind::NotAuthorized,
        ErrorCode::INVALID_CONFIG
        | ErrorCode::INVALID_PARTITIONS
        | ErrorCode::INVALID_REPLICATION_FACTOR
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::POLICY_VIOLATION => Kind::Config,
        _ => Kind::Other,
    }
}
