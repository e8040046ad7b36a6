//! One connection. Invariants: answers leave in the order of their requests; what is read and not yet answered is bounded
//! in number and bytes; whatever a peer sends or doesn't send ends, at worst, its own connection, with a reason.
//!
//! A request is begun only after the one before it has taken effect. Produce has taken effect when its batches are
//! appended, and is answered when they are durable: so a client can have many in flight. The reader begins requests, the
//! writer awaits and sends their answers; both are parts of one task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use wire::{ApiKey, Reader, frame, header::RequestHeader};

use super::memory::{Exhausted, Reservation};
use crate::metrics::Api;
use crate::node::Node;
use crate::protocol::{self, Call, Reply};

/// A frame's first bytes that are allocated before more than the prefix has come.
const FIRST_READ_BYTES: usize = 1 << 20;
/// Memory is paid for in steps of this many bytes of a frame.
const PAY_STEP_BYTES: usize = 256 << 10;
/// An answer above this is paid for like fetched records.
const LARGE_REPLY_BYTES: usize = 64 << 10;
/// API key, version and correlation id: the least that a request has.
const REQUEST_BYTES_MIN: usize = 8;
/// While others wait for the memory of answers, a peer that takes nothing of its own is let go after this time.
const SHORT_STALL_MAX: Duration = Duration::from_secs(1);
/// On stop, answers that are on their way get this long.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Why a request closes its connection: the protocol has no answer for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not a request, or not one in a version that is served.
    #[error("malformed request: {0}")]
    Malformed(#[from] wire::Error),
    /// A produce request that wants no answer has failed: closing is how its client hears of it.
    #[error("produce request without acknowledgement failed: {0}")]
    Unacknowledged(String),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it between requests.
    #[error("closed by the peer")]
    ByPeer,
    /// The broker stops.
    #[error("the broker stops")]
    Stop,
    /// Nothing was asked for long.
    #[error("idle for {0:?}")]
    Idle(Duration),
    /// The peer stopped in the middle of a request or of taking an answer.
    #[error("no progress for {0:?} while {1}")]
    Stalled(Duration, &'static str),
    /// The socket failed.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    /// The frame's length is refused.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// The frame is too short for any request.
    #[error("a request of {0} bytes, {REQUEST_BYTES_MIN} are the least")]
    Short(usize),
    /// The request is refused in a way that the protocol has no answer for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// All memory for requests is taken.
    #[error(transparent)]
    Memory(#[from] Exhausted),
}

impl Ended {
    /// True when nobody did anything wrong.
    pub(super) fn is_ordinary(&self) -> bool {
        match self {
            Self::ByPeer | Self::Stop | Self::Idle(_) => true,
            Self::Io(_, error) => matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::ConnectionAborted
            ),
            _ => false,
        }
    }
}

/// An answer on its way, and what its request has paid for.
struct Pending {
    reply: Reply,
    _memory: Reservation,
    _in_flight: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    node: Arc<Node>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
) -> Ended {
    let limits = &node.config.limits;
    // Answers are written whole; waiting to fill a packet only adds latency. A socket that refuses the option works.
    let _ = stream.set_nodelay(true);
    let local = match stream.local_addr() {
        Ok(local) => local,
        Err(error) => return Ended::Io("local address", error),
    };
    let (read, write) = stream.into_split();
    let (replies, pending) = mpsc::channel(limits.in_flight_requests_max.max(1));
    let reader = read_requests(&node, read, peer, local, replies);
    let writer = write_replies(&node, write, pending);
    tokio::pin!(writer);
    let ended = tokio::select! {
        ended = reader => ended,
        ended = &mut writer => return ended,
        () = stop.cancelled() => Ended::Stop,
    };
    match ended {
        // The reader is gone and with it the sender: the writer ends when the queue is empty.
        Ended::Stop | Ended::Refused(_) | Ended::Frame(_) => {
            // Too slow to take its last answers: the connection ends anyway.
            let _ = tokio::time::timeout(DRAIN_MAX, writer).await;
            ended
        }
        ended => ended,
    }
}

async fn read_requests(
    node: &Arc<Node>,
    mut read: OwnedReadHalf,
    peer: SocketAddr,
    local: SocketAddr,
    replies: mpsc::Sender<Pending>,
) -> Ended {
    let bytes_max = node.config.limits.in_flight_bytes_max.div_ceil(1024).clamp(1, Semaphore::MAX_PERMITS);
    let in_flight = Arc::new(Semaphore::new(bytes_max));
    // One large answer at a time: a peer that takes none holds the memory of one.
    let large = Arc::new(Semaphore::new(1));
    loop {
        match read_request(node, &mut read, peer, local, &in_flight, bytes_max, &large).await {
            Ok(Some(pending)) => {
                if replies.send(pending).await.is_err() {
                    return Ended::ByPeer;
                }
            }
            Ok(None) => {}
            Err(ended) => return ended,
        }
    }
}

async fn read_exact(read: &mut OwnedReadHalf, buffer: &mut [u8], wait: Duration) -> Result<(), Ended> {
    match tokio::time::timeout(wait, read.read_exact(buffer)).await {
        Err(_) => Err(Ended::Stalled(wait, "reading a request")),
        Ok(Err(error)) => Err(Ended::Io("reading a request", error)),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Reads one request and begins it. `None` when it wants no answer.
async fn read_request(
    node: &Arc<Node>,
    read: &mut OwnedReadHalf,
    peer: SocketAddr,
    local: SocketAddr,
    in_flight: &Arc<Semaphore>,
    in_flight_units: usize,
    large: &Arc<Semaphore>,
) -> Result<Option<Pending>, Ended> {
    let limits = &node.config.limits;
    let mut prefix = [0u8; 4];
    let first = match tokio::time::timeout(limits.idle_max, read.read(&mut prefix)).await {
        Err(_) => return Err(Ended::Idle(limits.idle_max)),
        Ok(Err(error)) => return Err(Ended::Io("reading a request", error)),
        Ok(Ok(0)) => return Err(Ended::ByPeer),
        Ok(Ok(first)) => first,
    };
    read_exact(read, &mut prefix[first..], limits.stall_max).await?;
    let size = frame::size(prefix, limits.produce_frame_bytes_max)?;
    if size < REQUEST_BYTES_MIN {
        return Err(Ended::Short(size));
    }
    let mut key = [0u8; 2];
    read_exact(read, &mut key, limits.stall_max).await?;
    let produces = i16::from_be_bytes(key) == ApiKey::Produce as i16;
    if !produces {
        frame::size(prefix, limits.other_frame_bytes_max)?;
    }
    // What decoding may allocate beside the frame: record bytes are not copied, other fields are, into larger structs.
    let allowance = if produces { size / 8 } else { size.saturating_mul(8) }.saturating_add(16 << 10);
    let mut memory = node.memory.begin(size.saturating_add(allowance), limits.stall_max).await?;
    let units = size.div_ceil(1024).min(in_flight_units);
    let in_flight = in_flight
        .clone()
        .acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX))
        .await
        .map_err(|_| Ended::ByPeer)?;

    let mut bytes = BytesMut::with_capacity(size.min(FIRST_READ_BYTES));
    bytes.extend_from_slice(&key);
    while bytes.len() < size {
        let step = (size - bytes.len()).min(PAY_STEP_BYTES);
        let cost = bytes.len() + step + if bytes.len() + step == size { allowance } else { 0 };
        memory.pay_up_to(cost, limits.stall_max).await?;
        if bytes.capacity() - bytes.len() < step {
            bytes.reserve(size - bytes.len());
        }
        let from = bytes.len();
        bytes.resize(from + step, 0);
        read_exact(read, &mut bytes[from..], limits.stall_max).await?;
    }

    let mut reader = Reader::new(bytes.freeze(), allowance);
    let header = RequestHeader::read(&mut reader).map_err(Refusal::Malformed)?;
    node.metrics.received.inc_by(size as u64);
    node.metrics.requests.get_or_create(&Api { api: header.api_key.name() }).inc();
    let call = Call {
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.unwrap_or_default(),
        peer,
        local,
    };
    let reply = protocol::begin(node, header.api_key, call, reader).await?;
    let mut held_large = None;
    let reply = match reply {
        // A large answer to a small request (all topics, say): the reader waits here until there is memory for it, so
        // that requests in a row from a peer that takes no answers don't pile them up.
        Reply::Now(frame) if frame.len() > LARGE_REPLY_BYTES => {
            held_large = Some(large.clone().acquire_owned().await.map_err(|_| Ended::ByPeer)?);
            let held = node.fetch_memory.reserve(frame.len()).await;
            Reply::Later(futures::future::ready(Ok((frame, held))).boxed())
        }
        reply => reply,
    };
    Ok(match reply {
        Reply::None => None,
        reply => Some(Pending { reply, _memory: memory, _in_flight: in_flight, _large: held_large }),
    })
}

async fn write_replies(
    node: &Node,
    mut write: OwnedWriteHalf,
    mut pending: mpsc::Receiver<Pending>,
) -> Ended {
    let stall_max = node.config.limits.stall_max;
    while let Some(Pending { reply, _memory, _in_flight, _large }) = pending.recv().await {
        let (frame, held) = match reply {
            Reply::None => continue,
            Reply::Now(frame) => (frame, None),
            Reply::Later(later) => match later.await {
                Ok(ready) => ready,
                Err(error) => return Ended::Refused(Refusal::Malformed(error)),
            },
        };
        // Who holds memory that others wait for gets less patience: a few peers that take nothing must not stop the others.
        let may_wait = || held.is_none() || !node.fetch_memory.is_short();
        if let Err(ended) = write_all(&mut write, &frame, stall_max, may_wait).await {
            return ended;
        }
    }
    Ended::ByPeer
}

/// Writes a frame as long as the peer takes some of it within `stall_max`, or within [`SHORT_STALL_MAX`] once it may not wait.
async fn write_all(
    write: &mut OwnedWriteHalf,
    frame: &Bytes,
    stall_max: Duration,
    may_wait: impl Fn() -> bool,
) -> Result<(), Ended> {
    let (mut written, mut taken) = (0, Instant::now());
    while written < frame.len() {
        let slice = SHORT_STALL_MAX.min(stall_max.saturating_sub(taken.elapsed()));
        match tokio::time::timeout(slice, write.write(&frame[written..])).await {
            Err(_) if taken.elapsed() < stall_max && may_wait() => {}
            Err(_) => return Err(Ended::Stalled(taken.elapsed(), "writing an answer")),
            Ok(Err(error)) => return Err(Ended::Io("writing an answer", error)),
            Ok(Ok(0)) => return Err(Ended::ByPeer),
            Ok(Ok(count)) => {
                written += count;
                taken = Instant::now();
            }
        }
    }
    Ok(())
}
