//! Dead letters on an engine: written, read, given back once.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails where it stands")]

mod browse;
mod desk;
mod redrive;
