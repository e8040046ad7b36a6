//! The exactly-once loop against an engine: the embedded broker, or, with `VLTAVA_TEST_BOOTSTRAP=host:port`, an
//! Apache Kafka. Nothing here knows which.

#![expect(clippy::unwrap_used, reason = "a test that can't go on panics, and the panic says where")]

mod engine;
mod failures;
mod records;
mod rig;
mod steps;
mod versions;
