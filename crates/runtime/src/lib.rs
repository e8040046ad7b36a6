//! What every long-running part of Vltava shares: how tasks start and stop, how the process logs,
//! counts and says whether it is ready, and the conventions of its HTTP listeners.
//!
//! Invariants:
//! - A background task has a name and an owner ([`Shutdown`]); how it ended is logged, and at a stop
//!   it is waited for until a deadline, past which its name is logged.
//! - Nothing listens on an address that isn't loopback ([`bind`]) unless callers are authenticated there, and every HTTP
//!   request passes the listener's gate ([`http::Gate`]) and the limits ([`http::Limits`]) before a handler sees it.
//! - Every HTTP error is a problem document ([`http::Problem`]) that carries the request's id.
//!
//! It must not know topics, resources, or the Kafka protocol.

pub mod health;
pub mod http;
pub mod kill_points;
mod listen;
pub mod metrics;
pub mod shutdown;
mod status;
pub mod telemetry;

pub use health::{Check, Health};
pub use listen::{BindError, Listen, ListenError, bind, bind_anywhere, is_loopback};
pub use metrics::Metrics;
pub use shutdown::{OnEnd, Shutdown};
pub use status::{StageState, StageStatus};
