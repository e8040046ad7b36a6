//! The end-to-end suite on real engines, real clients on the embedded broker, and the expression
//! engine beside the one that defines the language.

mod clients;
mod faults;
mod franz_go;
mod jsonata;
mod kills;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::engine::{Kafka, free_port, report};

/// What is run against what.
#[derive(Subcommand)]
pub(crate) enum Suite {
    /// The main path's tests and the demo, on one Apache Kafka node.
    Engines,
    /// Clients of other makers on the embedded broker: a table of client and check.
    Clients(clients::Selection),
    /// The same with kcat alone.
    Kcat,
    /// The JSONata engine beside npm jsonata: values, error codes, positions and tokens.
    Jsonata(jsonata::Options),
    /// Deaths: at random moments, at every named point, and of one of two instances. Seeds are printed.
    Kills(kills::Kills),
    /// An Apache Kafka that is stopped, started again, and cut off by a proxy; a receiver that is away.
    Faults,
}

pub(crate) fn run(suite: &Suite) -> Result<()> {
    match suite {
        Suite::Engines => engines(),
        Suite::Clients(selection) => clients::run(selection),
        Suite::Kcat => clients::run(&clients::Selection::only("kcat")),
        Suite::Jsonata(options) => jsonata::run(options),
        Suite::Kills(kills) => kills::run(kills),
        Suite::Faults => faults::run(),
    }
}

/// The same tests that run on the embedded broker in `cargo test`, told to use this engine.
fn engines() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kafka = Kafka::start(dir.path(), free_port()?)?;
    let bootstrap = kafka.bootstrap();
    report(&format!("Apache Kafka at {bootstrap}"));
    cargo_test("the main path on Apache Kafka", &["path::"], &[("VLTAVA_TEST_BOOTSTRAP", &bootstrap)])
}

/// Runs integration tests with a filter. That no test ran is a failure: the filter is wrong then.
fn cargo_test(what: &str, filter: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    report(&format!("running {what}"));
    let output = cargo()
        // The whole workspace's, for the same set of features as `cargo test --workspace`: no other crate has such tests.
        .args(["test", "--workspace", "--test", "it", "--", "--nocapture", "--test-threads=1"])
        .args(filter)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    report(&text);
    ensure!(output.status.success(), "{what} failed: {}", output.status);
    let ran: usize = text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    ensure!(ran > 0, "{what}: no test ran");
    Ok(())
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a program that it runs makes build scripts of dependencies run again.
    for (name, _) in
        std::env::vars().filter(|(n, _)| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    cargo
}

/// Builds an example of the workspace with the features of `cargo test --workspace`, and says where it is.
fn build_example(name: &str) -> Result<PathBuf> {
    report(&format!("building {name}"));
    let output = cargo()
        .args(["build", "--workspace", "--message-format=json-render-diagnostics", "--example", name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be started")?;
    ensure!(output.status.success(), "{name} can't be built: {}", output.status);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo didn't say where {name} is"))
}
