//! The listener: accepts within limits, applies the conventions to each request, drains at a stop.

use std::convert::Infallible;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;
use tracing::{debug, error, info, warn};
use types::RequestId;

use super::body::TimedBody;
use super::{Gate, LocalOnly, Peer, Problem};
use crate::Shutdown;

const X_REQUEST_ID: HeaderName = HeaderName::from_static(types::names::REQUEST_ID);

/// After an accept that failed for want of files or memory: time for something to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an extractor's plain-text refusal may be long, to become a problem's detail.
const PLAIN_DETAIL_BYTES_MAX: usize = 4096;

/// What hyper buffers of a connection, at least; a header limit above it raises it.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Limits of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; those beyond get a 503.
    pub connections_max: usize,
    /// From when a connection may send a request until its headers are whole: bounds slow senders
    /// and idle connections alike.
    pub header_read_timeout: Duration,
    /// Request line and headers together, in bytes. Beyond, and beyond 100 headers (hyper's default,
    /// whose array costs no allocation): 431.
    pub header_bytes_max: usize,
    /// From the first wait for a body until it is whole. Beyond: 408.
    pub body_read_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            header_read_timeout: Duration::from_secs(30),
            header_bytes_max: 32 * 1024,
            body_read_timeout: Duration::from_secs(30),
        }
    }
}

/// One listener's settings.
#[derive(Clone)]
pub struct Server {
    what: String,
    limits: Limits,
    gate: Arc<dyn Gate>,
}

impl Server {
    /// `what` names the listener in logs.
    pub fn new(what: impl Into<String>, limits: Limits) -> Self {
        Self { what: what.into(), limits, gate: Arc::new(LocalOnly) }
    }

    /// Who may come in; [`LocalOnly`] where nobody says.
    #[must_use]
    pub fn gate(self, gate: Arc<dyn Gate>) -> Self {
        Self { gate, ..self }
    }

    /// Serves until a stop is requested; then takes no new connection, lets requests in flight
    /// finish, and returns when all have, or at the deadline, when what is left is closed.
    pub async fn serve(self, listener: TcpListener, router: Router, shutdown: Shutdown) {
        let what = &self.what;
        if let Ok(addr) = listener.local_addr() {
            info!(listener = what, %addr, "listening");
        }
        let shared = Arc::new(Shared { limits: self.limits.clone(), gate: self.gate, router });
        let mut connections = JoinSet::new();
        let refusal = too_many_connections();
        let stop = shutdown.requested_owned();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() >= self.limits.connections_max => {
                        warn!(listener = what, connections_max = self.limits.connections_max, "too many connections");
                        // Best effort, without waiting: the connection's request was never read.
                        let _ = stream.try_write(&refusal);
                    }
                    Ok((stream, peer)) => {
                        let peer = Peer(peer.ip().to_canonical());
                        connections.spawn(connection(shared.clone(), stream, peer, shutdown.clone()));
                    }
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => {
                        error!(listener = what, %error, "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_end(what, ended),
                () = &mut stop => break,
            }
        }
        drop(listener);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                log_end(what, ended);
            }
        };
        if tokio::time::timeout_at(shutdown.deadline(), drained).await.is_err() {
            warn!(
                listener = what,
                connections = connections.len(),
                "deadline passed, connections are closed"
            );
        }
    }
}

/// Serves with default limits; see [`Server::serve`].
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) {
    Server::new("http", Limits::default()).serve(listener, router, shutdown).await;
}

struct Shared {
    limits: Limits,
    gate: Arc<dyn Gate>,
    router: Router,
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: Peer, shutdown: Shutdown) {
    // Answers are small: waiting to fill a segment would only add latency. A failure costs no more than that.
    let _ = stream.set_nodelay(true);
    let stop = shutdown.clone();
    let service = service_fn(|request| {
        let shared = shared.clone();
        let stop = stop.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request, peer, stop).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_read_timeout)
        .max_header_size(shared.limits.header_bytes_max)
        .max_buf_size(shared.limits.header_bytes_max.max(BUFFER_BYTES_MAX))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // The peer's doing: a reset, a half-sent request, a timeout of its own making.
        debug!(error = &error as &(dyn std::error::Error + 'static), "connection ended early");
    }
}

/// The conventions, around the router.
async fn answer(shared: &Shared, request: Request<Incoming>, peer: Peer, stop: Shutdown) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| RequestId::from_caller(value).ok())
        .unwrap_or_else(RequestId::new);
    let (mut head, body) = request.into_parts();
    head.extensions.insert(peer);
    let mut response = match shared.gate.admit(&mut head) {
        Err(problem) => {
            debug!(request_id = %id, code = problem.code(), "request refused");
            // What is still being sent is read, so that the sender gets to see the answer.
            super::discard(&head.headers, Body::new(TimedBody::new(body, shared.limits.body_read_timeout)))
                .await;
            problem.into_response()
        }
        Ok(()) => {
            let body = Body::new(TimedBody::new(body, shared.limits.body_read_timeout));
            let mut request = Request::from_parts(head, body);
            request.extensions_mut().insert(id.clone());
            // An answer that goes on and on ends by it.
            request.extensions_mut().insert(stop);
            match AssertUnwindSafe(shared.router.clone().oneshot(request)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(panic) => {
                    error!(request_id = %id, reason = crate::shutdown::panic_text(&*panic), "a handler panicked");
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal")
                        .detail("the request failed because of an error in the server, which is in its log")
                        .into_response()
                }
            }
        }
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = as_problem(response, &id).await;
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(id.to_bytes()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// Puts the request's id into a problem, and makes one of what the router or an extractor refused.
async fn as_problem(response: Response, id: &RequestId) -> Response {
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<Arc<Problem>>() {
        Some(problem) => Arc::unwrap_or_clone(problem),
        None => {
            let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            let plain = content_type.is_none_or(|media| media.starts_with(b"text/plain"));
            if !plain {
                return Response::from_parts(parts, body);
            }
            let detail = Limited::new(body, PLAIN_DETAIL_BYTES_MAX).collect().await.ok();
            let detail = detail.map(|d| String::from_utf8_lossy(&d.to_bytes()).into_owned());
            of_status(parts.status, detail.filter(|detail| !detail.is_empty()))
        }
    };
    let body = problem.request_id(id).document();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(parts, Body::from(body))
}

fn of_status(status: StatusCode, detail: Option<String>) -> Problem {
    let (code, default) = match status {
        StatusCode::NOT_FOUND => ("not_found", "nothing is served at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", "see the Allow header for the methods of this path")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("media_type_not_supported", "the body's media type isn't supported")
        }
        status if status.is_server_error() => {
            ("internal", "the request failed because of an error in the server")
        }
        _ => ("request_invalid", "the request is invalid"),
    };
    Problem::new(status, code).detail(detail.unwrap_or_else(|| default.to_owned()))
}

/// What a connection over the limit gets instead of an answer to its request.
fn too_many_connections() -> Vec<u8> {
    let body = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections")
        .detail("the listener has as many connections as it may: try again")
        .document();
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn log_end(what: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(listener = what, "a connection's task panicked");
    }
}

#[cfg(test)]
mod tests;
