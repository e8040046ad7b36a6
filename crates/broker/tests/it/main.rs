//! The broker over real sockets: with a client of our own codec, which can say what no good client would, and with
//! librdkafka, which is what most clients are.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod clients;
mod durability;
mod groups;
mod hostile;
mod records;
mod support;
mod topics;
mod transactions;
