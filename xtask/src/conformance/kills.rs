//! Kills: what `cargo test` does a few times, often.

use anyhow::Result;
use clap::Args;

use super::cargo_test;

/// How often, and from which seed.
#[derive(Args)]
pub(crate) struct Kills {
    /// Random kills of the whole process, in one run.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Kills of one of two instances that share a flow.
    #[arg(long, default_value_t = 50)]
    shared: u32,
    /// At how many passes of each kill point the process dies.
    #[arg(long, default_value_t = 3)]
    passes: u32,
    /// Of an earlier run, to run it again as far as the operating system allows.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(kills: &Kills) -> Result<()> {
    let Kills { rounds, shared, passes, seed } = kills;
    let seed = seed.map(|seed| ("VLTAVA_TEST_SEED", seed.to_string()));
    let suites = [
        ("deaths at kill points", "points::long_", "VLTAVA_TEST_PASSES", passes),
        ("random kills", "kill::long_", "VLTAVA_TEST_ROUNDS", rounds),
        ("kills of one of two instances", "instances::long_", "VLTAVA_TEST_ROUNDS", shared),
    ];
    for (what, filter, name, count) in suites {
        let count = count.to_string();
        let mut environment = vec![(name, count.as_str())];
        environment.extend(seed.as_ref().map(|(name, seed)| (*name, seed.as_str())));
        cargo_test(what, &["--ignored", filter], &environment)?;
    }
    Ok(())
}
