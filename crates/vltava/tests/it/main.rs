//! The binary as its users have it: started as a process, spoken to by HTTP and by Kafka's protocol,
//! killed. `VLTAVA_TEST_BOOTSTRAP` runs the tests of `path` on an Apache Kafka in place of the
//! embedded broker: nothing else differs.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "seeds and figures of a run are its result")]

mod access;
mod backtest;
mod checker;
mod cli;
mod docs;
mod engine_faults;
mod flow;
mod gitops;
mod instances;
mod jsonata;
mod kill;
mod load;
mod path;
mod points;
mod process;
#[cfg(target_os = "linux")]
mod repl;
mod slow;
