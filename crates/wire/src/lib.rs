//! Kafka's protocol made safe. Constraint: no count, size or compression ratio that a peer sends makes this crate
//! allocate beyond a limit its caller named, and no bytes make it panic.
//!
//! - [`codec`]: reading and writing of messages under a budget;
//! - [`api`]: the messages, one file an API;
//! - [`header`]: requests and responses with their headers, as frames;
//! - [`frame`]: length prefixes under a limit;
//! - [`records`]: record batches, their compression, and the message sets of old clients;
//! - [`ErrorCode`].
//!
//! No I/O: sockets and time are the callers'.

pub mod api;
pub mod codec;
mod declare;
mod error_code;
pub mod frame;
pub mod header;
pub mod records;

pub use api::ApiKey;
pub use codec::{Error, ErrorKind, Message, Reader, Request};
pub use error_code::ErrorCode;
