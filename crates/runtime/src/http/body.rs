//! Reading a request's body within bounds: of its size, of the time that its sender takes, and of the
//! memory that all bodies together hold.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::Problem;

/// Memory is accounted for in units of this many bytes.
const UNIT_BYTES: usize = 1024;

/// What is read and thrown away of a body that is refused, so that its sender, who may still be
/// sending, gets to read the answer instead of a reset connection.
const DISCARD_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long that may take.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// Bounds for one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// The largest body that is read, in bytes.
    pub bytes_max: usize,
}

/// The memory that all bodies of a listener may hold together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    /// `bytes_max` for all bodies together, rounded up to whole KiB.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes_max.div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS))))
    }

    /// Bytes that are free, in whole KiB.
    pub fn free_bytes(&self) -> usize {
        self.0.available_permits() * UNIT_BYTES
    }

    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), BodyError> {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(have);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| BodyError::NoMemory)?;
        let more = self.0.clone().try_acquire_many_owned(missing).map_err(|_| BodyError::NoMemory)?;
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }
}

/// A body that was read whole. Its share of the [`BodyMemory`] is free again when it is dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// The bytes as they came.
    pub bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

/// Why a body couldn't be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the limit.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
        /// Its announced size, where there is one.
        announced: Option<u64>,
    },
    /// It didn't arrive in time.
    #[error("the body didn't arrive within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// All bodies together hold as much memory as they may.
    #[error("too many bodies are being read")]
    NoMemory,
    /// The connection ended before the body did, or the body's framing is wrong.
    #[error("the body is incomplete")]
    Broken(#[source] axum::Error),
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let detail = error.to_string();
        match error {
            BodyError::TooLarge { announced, .. } => {
                let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
                let problem = problem.field("body").detail(detail);
                match announced {
                    Some(announced) => problem.value(announced),
                    None => problem,
                }
            }
            BodyError::TooSlow(_) => {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout").field("body").detail(detail)
            }
            BodyError::NoMemory => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded")
                .detail("too many request bodies are being read: try again")
                .retry_after(1),
            BodyError::Broken(_) => {
                Problem::new(StatusCode::BAD_REQUEST, "body_incomplete").field("body").detail(detail)
            }
        }
    }
}

/// Reads a whole body. The time it may take is the listener's (`Limits::body_read_timeout`). A body
/// that is announced as too large isn't read, and is refused before a client that asks first (`Expect`) sends it.
pub async fn read_body(
    headers: &HeaderMap,
    mut body: Body,
    limits: BodyLimits,
    memory: &BodyMemory,
) -> Result<HeldBody, BodyError> {
    let bytes_max = limits.bytes_max;
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        discard(headers, body).await;
        return Err(BodyError::TooLarge { bytes_max, announced });
    }
    let mut held = None;
    if let Some(bytes) = announced {
        memory.hold(&mut held, usize::try_from(bytes).unwrap_or(usize::MAX))?;
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        let bytes = first.as_ref().map_or(0, Bytes::len) + all.len() + data.len();
        if bytes > bytes_max {
            drop((first, all));
            discard(headers, body).await;
            return Err(BodyError::TooLarge { bytes_max, announced });
        }
        memory.hold(&mut held, bytes)?;
        match first.take() {
            // The usual body comes in one piece, and isn't copied.
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(begin) => {
                all.reserve(announced.map_or(begin.len() + data.len(), |n| n as usize));
                all.extend_from_slice(&begin);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(HeldBody { bytes: first.unwrap_or_else(|| all.freeze()), _held: held })
}

/// Reads and throws away what a client is still sending of a body that is refused, within bounds.
pub async fn discard(headers: &HeaderMap, mut body: Body) {
    // Who waits for 100 Continue hasn't sent anything; polling the body would tell it to.
    if headers.contains_key(header::EXPECT) || body.is_end_stream() {
        return;
    }
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Out of time or not, the answer is sent next.
    drop(tokio::time::timeout(DISCARD_TIME_MAX, read).await);
}

fn broken(error: axum::Error) -> BodyError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = source {
        if let Some(late) = current.downcast_ref::<Late>() {
            return BodyError::TooSlow(late.0);
        }
        source = current.source();
    }
    BodyError::Broken(error)
}

/// The body didn't arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body didn't arrive within {} s", .0.as_secs())]
struct Late(Duration);

/// A body whose sender has a bounded time for all of it, from the first wait on.
pub(super) struct TimedBody {
    inner: Incoming,
    timeout: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, timeout: Duration) -> Self {
        Self { inner, timeout, late: None }
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let timeout = self.timeout;
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = self.late.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(late.as_mut().poll(context));
        Poll::Ready(Some(Err(Late(timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> =
            chunks.iter().map(|c| Ok::<_, std::io::Error>(Bytes::from_static(c.as_bytes()))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    async fn read(body: Body, bytes_max: usize, memory: &BodyMemory) -> Result<HeldBody, BodyError> {
        read_body(&HeaderMap::new(), body, BodyLimits { bytes_max }, memory).await
    }

    #[tokio::test]
    async fn pieces_are_put_together_up_to_the_limit() {
        let memory = BodyMemory::new(1 << 20);
        for (pieces, text) in [(&[][..], ""), (&["a"], "a"), (&["a", "b"], "ab"), (&["a", "b", "cd"], "abcd")]
        {
            assert_eq!(read(chunks(pieces), 4, &memory).await.unwrap().bytes, text);
        }
        let error = read(chunks(&["abc", "de"]), 4, &memory).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { bytes_max: 4, announced: None }));
        let error = read(Body::from("abcde"), 4, &memory).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { bytes_max: 4, announced: Some(5) }));
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_back() {
        let memory = BodyMemory::new(2 * UNIT_BYTES);
        let first = read(Body::from(vec![b'x'; UNIT_BYTES]), 1 << 20, &memory).await.unwrap();
        let second = read(chunks(&["y"]), 1 << 20, &memory).await.unwrap();
        assert_eq!(memory.free_bytes(), 0);
        let error = read(Body::from("z"), 1 << 20, &memory).await.unwrap_err();
        assert!(matches!(error, BodyError::NoMemory));
        drop((first, second));
        assert_eq!(memory.free_bytes(), 2 * UNIT_BYTES);
    }
}
