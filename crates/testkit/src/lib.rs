//! What tests of several crates share. Only ever a dev-dependency.
//!
//! Invariant: nothing here decides whether a test passes; it plays the other side (a receiver and a proxy that
//! misbehave to order) and keeps what happened, for the test to judge.

mod caller;
mod proxy;
mod receiver;

pub use caller::{authorizer, caller};
pub use proxy::{Direction, Proxy};
pub use receiver::{Delivery, Receiver, Reply};
