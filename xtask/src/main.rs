//! The project's chores: real engines for tests, conformance runs.
//!
//! Invariant: everything a run needs is provisioned here, from package registries, into a cache
//! outside the clone (`VLTAVA_ENGINES`, default `~/.cache/vltava-engines`). What can't be had is a
//! failure, never a skip.

mod bench;
mod conformance;
mod direction;
mod engine;
mod fuzz;
mod packages;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = "Example: cargo xtask conformance engines")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs end-to-end cases on real engines and with real clients; a missing one is a failure.
    Conformance {
        #[command(subcommand)]
        suite: conformance::Suite,
    },
    /// Measures beside baselines in the same run; prints a table, writes `$CARGO_TARGET_DIR/bench/NAME.json`.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Gets and starts engines by hand.
    Engine {
        #[command(subcommand)]
        action: engine::Action,
    },
    /// Fuzzes parsers with cargo-fuzz; a finding is a failure.
    Fuzz(fuzz::Fuzz),
    /// Checks that crates depend downward only (also a test).
    Direction,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Conformance { suite } => conformance::run(&suite),
        Command::Bench { bench } => bench::run(&bench),
        Command::Engine { action } => engine::run(&action),
        Command::Fuzz(fuzz) => fuzz::run(&fuzz),
        Command::Direction => direction::check(),
    }
}
