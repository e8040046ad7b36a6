//! Addresses to listen on. Nothing but loopback where callers aren't authenticated: whoever reaches such a
//! listener may do everything.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they're accepted.
const BACKLOG: u32 = 1024;

/// Where a listener listens, as settings say it: `127.0.0.1:8080`, `localhost:0` (any free port),
/// `[::1]:8080`, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Not at all.
    Off,
    /// Port 0 takes any free one.
    At(SocketAddr),
}

/// A text that says no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address to listen on: give HOST:PORT (port 0 for any free one), or \"off\"")]
pub struct ListenError(String);

impl Listen {
    /// The address, unless it is off.
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(addr) => Some(addr),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;
    fn from_str(text: &str) -> Result<Self, ListenError> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let error = || ListenError(text.chars().take(256).collect());
        if let Ok(addr) = text.parse() {
            return Ok(Self::At(addr));
        }
        // Only this one name: anything else would make start-up depend on a resolver.
        let port = text.strip_prefix("localhost:").ok_or_else(error)?;
        let port: u16 = port.parse().map_err(|_| error())?;
        let addr = ("localhost", port).to_socket_addrs().ok().and_then(|mut found| {
            let all: Vec<_> = found.by_ref().collect();
            all.iter().find(|a| a.is_ipv4()).or(all.first()).copied()
        });
        addr.map(Self::At).ok_or_else(error)
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;
    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(addr) => fmt::Display::fmt(addr, f),
        }
    }
}

/// Why a listener couldn't start. Names what wanted to listen, and where.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error(
        "{what} can't listen on {addr}: the address is in use; stop what listens there, or choose another port \
         (0 takes any free one)"
    )]
    InUse {
        /// What wanted to listen.
        what: String,
        /// Where.
        addr: SocketAddr,
    },
    /// Not a loopback address.
    #[error(
        "{what} won't listen on {addr}: where callers aren't authenticated only loopback addresses \
         (127.0.0.1, [::1]) are allowed"
    )]
    NotLoopback {
        /// What wanted to listen.
        what: String,
        /// Where.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("{what} can't listen on {addr}")]
    Failed {
        /// What wanted to listen.
        what: String,
        /// Where.
        addr: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
}

/// Whether an address can be reached from this machine alone.
pub fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// Binds and listens, on loopback only. `what` names the listener to people, e.g. `"the HTTP API"`. Needs a Tokio
/// runtime around it.
pub fn bind(addr: SocketAddr, what: &str) -> Result<TcpListener, BindError> {
    if !is_loopback(addr) {
        return Err(BindError::NotLoopback { what: what.into(), addr });
    }
    bind_anywhere(addr, what)
}

/// As [`bind`], on any address: for a listener whose gate lets nobody in that isn't authenticated.
pub fn bind_anywhere(addr: SocketAddr, what: &str) -> Result<TcpListener, BindError> {
    listen(addr).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { what: what.into(), addr },
        _ => BindError::Failed { what: what.into(), addr, source },
    })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the process before to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        for (text, expected) in [
            ("off", Listen::Off),
            ("OFF", Listen::Off),
            ("127.0.0.1:0", Listen::At("127.0.0.1:0".parse().unwrap())),
            ("[::1]:8080", Listen::At("[::1]:8080".parse().unwrap())),
            ("localhost:81", Listen::At("127.0.0.1:81".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap(), expected, "{text}");
        }
        for bad in ["", "8080", "127.0.0.1", "127.0.0.1:99999", "example.com:80", "localhost:", "localhost:x"]
        {
            let error = bad.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "the first").unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr, "the HTTP API").unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("the HTTP API") && text.contains(&addr.to_string()) && text.contains("in use"));
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        for addr in ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "[::ffff:10.0.0.1]:0"] {
            let error = bind(addr.parse().unwrap(), "x").unwrap_err();
            assert!(matches!(error, BindError::NotLoopback { .. }), "{addr}: {error}");
        }
        assert!(bind("127.9.9.9:0".parse().unwrap(), "x").is_ok());
    }
}
