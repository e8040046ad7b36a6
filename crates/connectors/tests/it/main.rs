//! The HTTP sink in the connector runtime, on the embedded broker, against a receiver that
//! misbehaves to order. What is asserted of other keys is asserted by counts.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bench;
mod delivery;
mod faults;
mod line;
