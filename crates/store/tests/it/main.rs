//! The suite over every backend, and what only files can show.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

mod sqlite;
mod suite;
