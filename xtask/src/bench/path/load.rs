//! Senders: prebuilt HTTP requests over keep-alive connections, on one thread of this process, so that what they
//! cost is none of the server's.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Connections that send at once.
pub(super) const CONNECTIONS: usize = 64;
/// An answer that isn't there by then never comes.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What was sent and how long answers took.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// From the moment that a request was due, in microseconds, ascending.
    latencies: Vec<u32>,
    pub(super) took: Duration,
}

impl Sent {
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    pub(super) fn per_second(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64()
    }

    /// In milliseconds.
    pub(super) fn quantile_ms(&self, q: f64) -> f64 {
        quantile_ms(&self.latencies, q)
    }
}

/// Of ascending microseconds, in milliseconds.
pub(super) fn quantile_ms(ascending: &[u32], q: f64) -> f64 {
    match ascending.len() {
        0 => f64::NAN,
        n => f64::from(ascending[((n - 1) as f64 * q) as usize]) / 1000.0,
    }
}

/// How fast.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Each connection sends again when it has its answer, for so long.
    Closed(Duration),
    /// The same, so many in all.
    Times(usize),
    /// So many a second for so long; an answer that is late delays no other request while a connection is free.
    PerSecond(u32, Duration),
}

/// Sends `request(n)` for n from 0 on; every answer must be a 202.
pub(super) fn send(to: SocketAddr, pace: Pace, request: impl Fn(usize) -> Vec<u8> + 'static) -> Result<Sent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let mut sent = local.block_on(&runtime, async move {
        let request = Rc::new(request);
        let next = Rc::new(Cell::new(0));
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(to).await.with_context(|| format!("{to} doesn't answer"))?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let begun = Instant::now();
        let senders: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                tokio::task::spawn_local(connection(stream, begun, pace, next.clone(), request.clone()))
            })
            .collect();
        let mut all = Sent::default();
        for sender in senders {
            all.latencies.extend(sender.await??);
        }
        all.took = begun.elapsed();
        Ok::<_, anyhow::Error>(all)
    })?;
    sent.latencies.sort_unstable();
    Ok(sent)
}

async fn connection(
    mut stream: TcpStream,
    begun: Instant,
    pace: Pace,
    next: Rc<Cell<usize>>,
    request: Rc<impl Fn(usize) -> Vec<u8>>,
) -> Result<Vec<u32>> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    loop {
        let number = next.get();
        let from = match pace {
            Pace::Closed(lasts) if begun.elapsed() >= lasts => return Ok(latencies),
            Pace::Times(count) if number >= count => return Ok(latencies),
            Pace::Closed(_) | Pace::Times(_) => {
                next.set(number + 1);
                Instant::now()
            }
            Pace::PerSecond(rate, lasts) => {
                let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
                if due >= lasts {
                    return Ok(latencies);
                }
                next.set(number + 1);
                let due = begun + due;
                if Instant::now() < due {
                    tokio::time::sleep_until(due).await;
                    // The timer's own lateness isn't the server's.
                    Instant::now()
                } else {
                    due
                }
            }
        };
        stream.write_all(&request(number)).await?;
        answer.clear();
        let read = async {
            while !is_whole(&answer) {
                ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended before its answer");
            }
            Ok(())
        };
        tokio::time::timeout(ANSWER_MAX, read).await.context("no answer in time")??;
        if !answer.starts_with(b"HTTP/1.1 202") {
            bail!("not accepted: {}", String::from_utf8_lossy(&answer));
        }
        latencies.push(u32::try_from(from.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// Whether head and body are there.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = find(answer, b"\r\n\r\n") else { return false };
    answer.len() >= head + 4 + content_length(&answer[..head])
}

/// What the head of a message says of its body; none where it says nothing.
pub(super) fn content_length(head: &[u8]) -> usize {
    head.split(|b| *b == b'\n')
        .filter_map(|line| line.split_at_checked(15))
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length:"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

/// Where `needle` begins.
pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

/// A POST of JSON to ingest.
pub(super) fn post(topic: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let key = key.map(|key| format!("x-entity-key: {key}\r\n")).unwrap_or_default();
    format!(
        "POST /ingest/{topic} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench/1\r\naccept: */*\r\n\
         content-type: application/json\r\nx-github-event: push\r\n{key}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An event of about so many bytes, as a webhook's sender writes it: members of several kinds, most of the bytes in
/// strings. `head` are its first members.
pub(super) fn event(head: &str, bytes: usize) -> String {
    let mut body = format!("{{{head},\"items\":[");
    while body.len() + 200 < bytes {
        body.push_str(
            "{\"id\":1296269,\"node_id\":\"MDEwOlJlcG9zaXRvcnkxMjk2MjY5\",\"private\":false,\"score\":1.5,\
             \"url\":\"https://api.example.com/repos/octo/hello-world\",\"none\":null},",
        );
    }
    body.push_str("0],\"text\":\"");
    while body.len() + 2 < bytes {
        body.push('x');
    }
    body.push_str("\"}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        assert!(!is_whole(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{"));
        assert!(is_whole(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nx: y\r\n\r\n{}"));
        assert!(is_whole(b"HTTP/1.1 202 Accepted\r\n\r\n"));
    }

    #[test]
    fn an_event_is_json_of_about_its_size() {
        for bytes in [1024, 10_240] {
            let event = event("\"n\":1", bytes);
            assert!(serde_json::from_str::<serde_json::Value>(&event).is_ok(), "{event}");
            assert!(event.len().abs_diff(bytes) < 32, "{}", event.len());
        }
    }
}
