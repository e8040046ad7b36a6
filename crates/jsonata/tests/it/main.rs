//! Tests of the engine from outside, in one binary.

mod allocations;
mod api;
mod bounds;
mod generated;
mod host;
mod hostile;
mod reads;
mod suite;
mod syntax;
