//! An HTTP/1.1 receiver that misbehaves to order. Written on bare TCP, because no well-behaved
//! server library lets a test reset a connection in the middle of an answer.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A request's head may be this long, in bytes: what is longer isn't what a test sends.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A request's body, likewise.
const BODY_BYTES_MAX: usize = 32 << 20;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// In the order of arrival, over all connections.
    pub number: u64,
    /// When its body was whole.
    pub at: Instant,
    /// The request line's path.
    pub path: String,
    /// Names in lower case; of a name that stood twice, the last.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// What was answered.
    pub reply: Reply,
}

impl Delivery {
    /// A header, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status without a body.
    Status(u16),
    /// A status with headers.
    With(u16, Vec<(&'static str, String)>),
    /// The answer, after a while.
    Slow(Duration, Box<Reply>),
    /// Never an answer; the connection stays open.
    Hang,
    /// A connection reset after the first half of the answer.
    Reset,
    /// The end of the connection without an answer.
    Close,
}

impl Reply {
    /// Whether it says that the delivery is taken.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Status(status) | Self::With(status, _) => (200..300).contains(status),
            Self::Slow(_, then) => then.is_taken(),
            Self::Hang | Self::Reset | Self::Close => false,
        }
    }
}

type Script = Arc<dyn Fn(&Delivery) -> Reply + Send + Sync>;

/// A running receiver; ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    deliveries: Mutex<Vec<Delivery>>,
    script: Mutex<Script>,
    count: watch::Sender<usize>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface and answers as `script` says: it is asked for
    /// each request, with [`Delivery::reply`] not yet set.
    pub async fn start(script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    /// The same, at an address.
    pub async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            deliveries: Mutex::default(),
            script: Mutex::new(Arc::new(script)),
            count: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // A connection that breaks is what tests are about: its end is nothing to report.
                connections.spawn(async move { drop(serve(stream, &state).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers otherwise from now on.
    pub fn script(&self, script: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) {
        *self.state.script.lock() = Arc::new(script);
    }

    /// Everything that came, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.deliveries.lock().clone()
    }

    /// Waits until `done` says so of what came; `false` where that isn't so in time.
    pub fn wait(
        &self,
        within: Duration,
        done: impl Fn(&[Delivery]) -> bool + Send + Sync + 'static,
    ) -> impl Future<Output = bool> + Send + 'static {
        let state = Arc::clone(&self.state);
        let mut count = self.state.count.subscribe();
        async move {
            let wait = async {
                while !done(&state.deliveries.lock()) {
                    if count.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::time::timeout(within, wait).await.is_ok()
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(mut delivery) = read_request(&mut stream).await? {
        let script = Arc::clone(&*state.script.lock());
        let reply = {
            let mut deliveries = state.deliveries.lock();
            delivery.number = deliveries.len() as u64;
            delivery.reply = script(&delivery);
            let reply = delivery.reply.clone();
            deliveries.push(delivery);
            reply
        };
        state.count.send_modify(|count| *count += 1);
        if !answer(stream.get_mut(), reply).await? {
            return Ok(());
        }
    }
    Ok(())
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Delivery>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        stream.read_until(b'\n', &mut head).await?;
        if head.len() == before {
            return Ok(None);
        }
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(bad("the head is too long"));
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(|| bad("no request line"))?;
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize =
        headers.get("content-length").map_or(Ok(0), |l| l.parse()).map_err(|_| bad("content-length"))?;
    if length > BODY_BYTES_MAX {
        return Err(bad("the body is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Delivery {
        number: 0,
        at: Instant::now(),
        path: path.to_owned(),
        headers,
        body: body.into(),
        reply: Reply::Status(0),
    }))
}

/// Whether the connection goes on.
async fn answer(stream: &mut TcpStream, mut reply: Reply) -> io::Result<bool> {
    while let Reply::Slow(wait, then) = reply {
        tokio::time::sleep(wait).await;
        reply = *then;
    }
    let (status, headers) = match reply {
        Reply::Status(status) => (status, Vec::new()),
        Reply::With(status, headers) => (status, headers),
        Reply::Hang => std::future::pending().await,
        Reply::Close => return Ok(false),
        Reply::Reset => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            stream.flush().await?;
            // No time to linger: the close is a reset.
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Reply::Slow(..) => return Err(bad("unwrapped above")),
    };
    let mut head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    Ok(true)
}
