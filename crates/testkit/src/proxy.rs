//! A TCP proxy that misbehaves to order: delays, swallows, cuts, half-closes.
//!
//! What is on its way is bounded: a direction of a connection holds one chunk, and the rest stays with its sender. So a
//! swallowed or delayed direction looks to its sender as a slow network does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a direction of a connection holds, in bytes.
const CHUNK_BYTES: usize = 16 << 10;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From those who connect to the proxy.
    Requests,
    /// Back to them.
    Answers,
}

/// What happens to bytes that go one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Way {
    /// Each chunk is passed on that much later.
    delay: Duration,
    /// Nothing is passed on, and nothing is closed.
    holds: bool,
    /// Connections opened before this count have this direction ended.
    ended_before: u64,
    /// Of connections opened before this count nothing is passed on any more, and nothing closed.
    abandoned_before: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Orders {
    target: Option<SocketAddr>,
    ways: [Way; 2],
    /// Connections opened before this count are reset.
    cut_before: u64,
    /// New connections are reset.
    refuses: bool,
}

/// A running proxy; ends, with its connections, when dropped.
pub struct Proxy {
    address: SocketAddr,
    orders: Arc<watch::Sender<Orders>>,
    opened: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback interface; until [`Proxy::forward`] says where to, connections are reset.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// The same, at an address.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let orders = Orders { target: None, ways: [Way::default(); 2], cut_before: 0, refuses: false };
        let orders = Arc::new(watch::Sender::new(orders));
        let opened = Arc::new(watch::Sender::new(0));
        let (heard, counted) = (Arc::clone(&orders), Arc::clone(&opened));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let mut number = 0;
                counted.send_modify(|count| {
                    number = *count;
                    *count += 1;
                });
                connections.spawn(serve(client, number, heard.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, orders, opened, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections since the start.
    pub fn opened(&self) -> u64 {
        *self.opened.borrow()
    }

    /// New connections go to `target`.
    pub fn forward(&self, target: SocketAddr) {
        self.orders.send_modify(|orders| orders.target = Some(target));
    }

    /// Passes each chunk that goes this way on after a while.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.orders.send_modify(|orders| orders.ways[direction as usize].delay = by);
    }

    /// Passes nothing on that goes this way, and closes nothing, or goes on with it.
    pub fn hold(&self, direction: Direction, holds: bool) {
        self.orders.send_modify(|orders| orders.ways[direction as usize].holds = holds);
    }

    /// Resets every connection that there is.
    pub fn cut(&self) {
        let opened = self.opened();
        self.orders.send_modify(|orders| orders.cut_before = opened);
    }

    /// Resets new connections, or lets them come again.
    pub fn refuse(&self, refuses: bool) {
        self.orders.send_modify(|orders| orders.refuses = refuses);
    }

    /// Passes nothing more on for any connection that there is, in either direction, and doesn't close it: half-open, as
    /// after a machine on the way was switched off. New ones are none of it.
    pub fn abandon(&self) {
        let opened = self.opened();
        self.orders
            .send_modify(|orders| orders.ways.iter_mut().for_each(|way| way.abandoned_before = opened));
    }

    /// Ends this direction of every connection that there is; the other one goes on.
    pub fn half_close(&self, direction: Direction) {
        let opened = self.opened();
        self.orders.send_modify(|orders| orders.ways[direction as usize].ended_before = opened);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The end of a connection is what it's about: errors say no more.
async fn serve(mut client: TcpStream, number: u64, mut orders: watch::Receiver<Orders>) {
    let now = *orders.borrow_and_update();
    let server = match now.target.filter(|_| !now.refuses) {
        Some(target) => TcpStream::connect(target).await,
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let passed = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, number, Direction::Requests, orders.clone());
        let down = pump(from_server, to_client, number, Direction::Answers, orders.clone());
        let cut = async {
            if orders.wait_for(|orders| orders.cut_before > number).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            passed = async { tokio::try_join!(up, down) } => passed.is_ok(),
            () = cut => false,
        }
    };
    if !passed {
        // No time to linger: the close is a reset.
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
}

/// Passes one direction on until it ends; an error ends both.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    number: u64,
    direction: Direction,
    mut orders: watch::Receiver<Orders>,
) -> io::Result<()> {
    let way = |orders: &Orders| orders.ways[direction as usize];
    let mut told = orders.clone();
    let ended = async move {
        if told.wait_for(|orders| way(orders).ended_before > number).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let passing = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = from.read(&mut chunk).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            let delay = way(&orders.borrow()).delay;
            tokio::time::sleep(delay).await;
            let passes = |orders: &Orders| !way(orders).holds && way(orders).abandoned_before <= number;
            if orders.wait_for(passes).await.is_err() {
                return Ok(());
            }
            to.write_all(&chunk[..read]).await?;
        }
    };
    tokio::select! {
        passed = passing => passed?,
        () = ended => {}
    }
    to.shutdown().await?;
    // What still comes this way is taken and dropped: the sender may not know that nobody hears it.
    let mut rest = vec![0; CHUNK_BYTES];
    while from.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends everything back that comes.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn through(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn it_passes_on_delays_holds_and_cuts() {
        let proxy = Proxy::start().await.unwrap();
        proxy.forward(echo().await);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(through(&mut stream, b"one").await.unwrap(), b"one");

        proxy.delay(Direction::Answers, Duration::from_millis(80));
        let begun = std::time::Instant::now();
        assert_eq!(through(&mut stream, b"two").await.unwrap(), b"two");
        assert!(begun.elapsed() >= Duration::from_millis(80));
        proxy.delay(Direction::Answers, Duration::ZERO);

        proxy.hold(Direction::Requests, true);
        stream.write_all(b"three").await.unwrap();
        let mut back = [0; 5];
        let held = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut back)).await;
        assert!(held.is_err(), "nothing comes back while it is held");
        proxy.hold(Direction::Requests, false);
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"three");

        proxy.cut();
        let error = stream.read_exact(&mut back).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(through(&mut stream, b"four").await.unwrap(), b"four", "a cut is over at once");
        proxy.refuse(true);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        through(&mut refused, b"five").await.unwrap_err();
        assert_eq!(through(&mut stream, b"six").await.unwrap(), b"six", "what was there goes on");
        assert_eq!(proxy.opened(), 3);
    }

    #[tokio::test]
    async fn a_half_closed_direction_ends_and_the_other_goes_on() {
        let proxy = Proxy::start().await.unwrap();
        proxy.forward(echo().await);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(through(&mut stream, b"one").await.unwrap(), b"one");
        proxy.half_close(Direction::Answers);
        let mut back = [0; 3];
        assert_eq!(stream.read(&mut back).await.unwrap(), 0, "the answers' end");
        stream.write_all(b"two").await.unwrap();
    }
}
