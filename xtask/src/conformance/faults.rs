//! Faults of a real engine and of a receiver, for as long as they last in life.

use anyhow::{Context as _, Result};

use super::cargo_test;
use crate::engine::{Kafka, free_port};

pub(crate) fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (port, advertised) = (free_port()?, free_port()?);
    let node = Kafka::prepare(dir.path(), port, advertised)?;
    let words = std::iter::once(node.get_program()).chain(node.get_args());
    let words: Option<Vec<&str>> = words.map(|word| word.to_str()).collect();
    let command = serde_json::to_string(&words.context("a path that isn't UTF-8")?)?;
    let [address, advertised] = [port, advertised].map(|port| format!("127.0.0.1:{port}"));
    let environment = [
        ("VLTAVA_TEST_NODE_COMMAND", command.as_str()),
        ("VLTAVA_TEST_NODE_ADDRESS", address.as_str()),
        ("VLTAVA_TEST_NODE_ADVERTISED", advertised.as_str()),
    ];
    cargo_test("faults of Apache Kafka", &["--ignored", "engine_faults::long_"], &environment)?;
    cargo_test("faults of a receiver", &["--ignored", "line::long_"], &[])
}
