//! A receiver of deliveries on a thread of its own: counts, answers after a while, refuses what is marked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::load::{content_length, find};

/// A body that has this is answered 500.
pub(super) const REFUSED: &str = "\"refuse\":true";
/// How a body names its event, for [`Receiver::arrivals`].
const NUMBER: &[u8] = b"\"n\":";

/// Counts of what came.
#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    refused: AtomicU64,
    /// By the event's number, of its first arrival; kept where wanted.
    arrivals: Option<Mutex<Vec<Option<Instant>>>>,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Receiver {
    /// Answers 202 after `latency`; notes the arrivals of events below `numbered`.
    pub(super) fn start(latency: Duration, numbered: usize) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let arrivals = (numbered > 0).then(|| Mutex::new(vec![None; numbered]));
        let counts = Arc::new(Counts { arrivals, ..Counts::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn({
            let counts = counts.clone();
            move || {
                runtime.block_on(async {
                    let Ok(listener) = TcpListener::from_std(listener) else { return };
                    let accept = async {
                        while let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(serve(stream, latency, counts.clone()));
                        }
                    };
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Ok(Self { address, counts, stop: Some(stop) })
    }

    /// Events that were answered 202.
    pub(super) fn taken(&self) -> u64 {
        self.counts.taken.load(Ordering::Relaxed)
    }

    /// Tries that were answered 500.
    pub(super) fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// By number, when an event came first.
    pub(super) fn arrivals(&self) -> Vec<Option<Instant>> {
        self.counts.arrivals.as_ref().map(|a| a.lock().clone()).unwrap_or_default()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Its thread may have ended already.
            let _ = stop.send(());
        }
    }
}

async fn serve(mut stream: TcpStream, latency: Duration, counts: Arc<Counts>) {
    // Answers are small.
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let whole = find(&buffer, b"\r\n\r\n")
            .map(|head| (head + 4, head + 4 + content_length(&buffer[..head])))
            .filter(|(_, end)| buffer.len() >= *end);
        let Some((body, end)) = whole else {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let refused = find(&buffer[body..end.min(body + 200)], REFUSED.as_bytes()).is_some();
        if let Some(arrivals) = &counts.arrivals
            && let Some(number) = number(&buffer[body..end])
            && let Some(slot) = arrivals.lock().get_mut(number)
        {
            slot.get_or_insert_with(Instant::now);
        }
        buffer.drain(..end);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let answer: &[u8] = if refused {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
        } else {
            counts.taken.fetch_add(1, Ordering::Relaxed);
            b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn number(body: &[u8]) -> Option<usize> {
    let rest = &body[find(body, NUMBER)? + NUMBER.len()..];
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_number_is_found_wherever_it_stands() {
        assert_eq!(number(br#"{"a":1,"n":42,"b":2}"#), Some(42));
        assert_eq!(number(br#"{"a":1}"#), None);
    }
}
