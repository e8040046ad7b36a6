//! The main path at work: ingest, pipeline, delivery, on the embedded broker and on Apache Kafka, beside what others
//! need for the same.
//!
//! Every case has a fresh process on a fresh directory. The load and the receiver are this process, so that what
//! they cost isn't counted. CPU time is robust where the machine has other work, latencies and rates aren't: the
//! load average is printed with them.

mod baselines;
mod cases;
mod load;
mod platform;
mod process;
mod receiver;

use std::fs;

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::baselines::Baselines;
use self::cases::Bed;
use self::process::Binaries;
use super::publish;
use crate::engine::{Kafka, free_port, report};

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A third of the time for each case: for trying.
    #[arg(long)]
    quick: bool,
    /// The engine under it.
    #[arg(long, value_enum, default_value_t = Engine::Both)]
    engine: Engine,
    /// Only cases with one of these in their names, e.g. "ingest,idle".
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Without Fastify and the server that only checks.
    #[arg(long)]
    no_baselines: bool,
    /// Measures what `$CARGO_TARGET_DIR/release` has, and builds nothing.
    #[arg(long)]
    built: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    Embedded,
    Kafka,
    Both,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::find(!options.built)?;
    let dir = tempfile::tempdir()?;
    let kafka = match options.engine {
        Engine::Embedded => None,
        Engine::Kafka | Engine::Both => Some(Kafka::start(&dir.path().join("kafka"), free_port()?)?),
    };
    let bootstrap = kafka.as_ref().map(Kafka::bootstrap);
    load_average("before");
    let mut bed = Bed::new(&binaries, options.quick, options.only.clone());
    let baselines = match options.no_baselines {
        true => Baselines::default(),
        false => Baselines::measure(&mut bed, dir.path(), bootstrap.as_deref())?,
    };
    if options.engine != Engine::Kafka {
        bed.engine("embedded", None, &baselines)?;
    }
    if let Some(bootstrap) = &bootstrap {
        bed.engine("Kafka", Some(bootstrap), &baselines)?;
    }
    load_average("after");
    publish("path", &bed.figures)?;
    Ok(())
}

/// How busy the machine is beside what is measured.
fn load_average(when: &str) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report(&format!("load average {when}: {} on {cores} cores", load.trim()));
}
