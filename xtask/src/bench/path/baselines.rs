//! The same load on others: the same HTTP stack that only checks, and Fastify with KafkaJS.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::cases::{Bed, ingest_request};
use super::load::{self, Pace};
use super::platform::{Platform, topic};
use super::process::Process;
use crate::engine::report;
use crate::packages;

/// Exact versions.
const PACKAGES: [&str; 2] = ["fastify@5.12.8", "kafkajs@2.2.4"];
const SERVER: &str = include_str!("../../../baselines/fastify/server.mjs");

/// What one server reached with bodies of one size.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    pub(super) name: &'static str,
    pub(super) bytes: usize,
    pub(super) per_second: f64,
    pub(super) cpu_seconds: f64,
    pub(super) p99_ms: f64,
    pub(super) peak_mib: f64,
}

#[derive(Debug, Default)]
pub(super) struct Baselines(Vec<Reached>);

impl Baselines {
    /// Of those for bodies of this size, by a figure.
    pub(super) fn of(&self, bytes: usize, figure: impl Fn(&Reached) -> f64) -> Vec<(&'static str, f64)> {
        self.0.iter().filter(|r| r.bytes == bytes).map(|r| (r.name, figure(r))).collect()
    }

    /// Fastify needs Apache Kafka, and is measured where it runs.
    pub(super) fn measure(bed: &mut Bed<'_>, dir: &Path, kafka: Option<&str>) -> Result<Self> {
        let mut all = Self::default();
        if !bed.wants("ingest") {
            return Ok(all);
        }
        for bytes in super::cases::BODIES {
            let mut server = Command::new(&bed.binaries.only_checks);
            all.0.push(reach(bed, "only checks", &mut server, dir, bytes, "any")?);
        }
        let Some(kafka) = kafka else { return Ok(all) };
        let modules = packages::npm("baseline-fastify", &PACKAGES)?;
        std::fs::write(modules.join("server.mjs"), SERVER)?;
        for bytes in super::cases::BODIES {
            let name = bed.stream("fastify");
            {
                let platform = Platform::start(&bed.binaries.vltava, Some(kafka))?;
                platform.apply(&topic(&name))?;
                platform.await_topic(&name)?;
            }
            let mut server = Command::new("node");
            server.env("NODE_ENV", "production").env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
            server.arg(modules.join("server.mjs")).args([kafka, &name]);
            all.0.push(reach(bed, "Fastify+KafkaJS", &mut server, dir, bytes, &name)?);
        }
        Ok(all)
    }
}

fn reach(
    bed: &Bed<'_>,
    name: &'static str,
    server: &mut Command,
    dir: &Path,
    bytes: usize,
    topic: &str,
) -> Result<Reached> {
    let process = Process::start(server, &dir.join("baseline.log"))?;
    let port: u16 = process.said.trim().parse().context("a server says its port")?;
    let to = ([127, 0, 0, 1], port).into();
    load::send(to, Pace::Closed(bed.warm_up()), ingest_request(topic, bytes))?;
    let before = process.cpu_seconds()?;
    let sent = load::send(to, Pace::Closed(bed.lasts()), ingest_request(topic, bytes))?;
    let cpu = process.cpu_seconds()? - before;
    let reached = Reached {
        name,
        bytes,
        per_second: sent.per_second(),
        cpu_seconds: cpu * 100_000.0 / sent.count() as f64,
        p99_ms: sent.quantile_ms(0.99),
        peak_mib: process.peak_mib()?,
    };
    report(&format!("{reached:?}"));
    Ok(reached)
}
