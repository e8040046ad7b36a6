//! Foreign clients on the embedded broker, over TCP: each does what `xtask/clients/` says and checks what came of it.
//!
//! Invariant: every client answers for every check of [`CHECKS`]; only what [`CLIENTS`] says a client lacks may be absent. A
//! client that can't be had, a check that isn't said and a check that fails are all failures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::franz_go;
use crate::engine::{free_port, kafka_jars, report};
use crate::packages;

/// Scripts of the clients.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
/// How long the broker may take until it answers.
const READY_MAX: Duration = Duration::from_secs(30);

/// What each client is put through; what they do is in `clients/python/checks.py`.
const CHECKS: [&str; 13] = [
    "create",
    "codecs",
    "records",
    "idempotent",
    "transactions",
    "transactional_offsets",
    "group",
    "rebalance",
    "consumer_protocol",
    "timestamps",
    "describe",
    "delete_group",
    "delete",
];

/// A client whose script says for itself how each check went.
struct Client {
    name: &'static str,
    /// Checks that its calls can't do.
    lacks: &'static [&'static str],
    script: fn() -> Result<Command>,
}

const CLIENTS: [Client; 6] = [
    Client {
        name: "kcat",
        lacks: &["create", "transactions", "transactional_offsets", "consumer_protocol", "delete_group"],
        script: || python("kcat.py", &kafka_python()?),
    },
    Client {
        name: "kafka-python",
        lacks: &["consumer_protocol"],
        script: || python("kafka_python.py", &kafka_python()?),
    },
    Client {
        name: "confluent-kafka",
        lacks: &[],
        script: || {
            let site = packages::python("clients-confluent-kafka", &["confluent-kafka==2.16.1"])?;
            python("confluent.py", &site)
        },
    },
    Client {
        name: "aiokafka",
        lacks: &["consumer_protocol", "delete_group"],
        script: || {
            let packages = ["aiokafka==0.14.0", "cramjam==2.14.0"];
            python("aio.py", &packages::python("clients-aiokafka", &packages)?)
        },
    },
    Client {
        name: "kafkajs",
        lacks: &["consumer_protocol"],
        script: || {
            let packages = ["kafkajs@2.2.4", "kafkajs-snappy@1.1.0", "lz4js@0.2.0", "zstd-codec@0.1.5"];
            let modules = packages::npm("clients-kafkajs", &packages)?.join("node_modules");
            let mut node = Command::new("node");
            node.arg(Path::new(SCRIPTS).join("kafkajs/checks.js"))
                .env("NODE_PATH", modules)
                .env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
            Ok(node)
        },
    },
    Client {
        name: "java",
        lacks: &[],
        script: || {
            let classpath = format!("{}/*", kafka_jars()?.display());
            let mut tools = python("java_tools.py", Path::new(""))?;
            tools.env("KAFKA_CLASSPATH", classpath);
            Ok(tools)
        },
    },
];

/// Which clients, and where.
#[derive(Args)]
pub(crate) struct Selection {
    /// Only these: kcat, kafka-python, confluent-kafka, aiokafka, kafkajs, java, franz-go (its groups and transactions),
    /// franz-go-suite (all of it). All unless said.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// On a broker that runs already, as HOST:PORT: Apache Kafka, to check the checks.
    #[arg(long)]
    bootstrap: Option<String>,
}

impl Selection {
    /// One client.
    pub(crate) fn only(name: &str) -> Self {
        Self { only: vec![name.to_owned()], bootstrap: None }
    }
}

/// How a client's checks went.
struct Outcome {
    client: &'static str,
    version: String,
    /// What it said of each check: `ok`, `absent ...`, `FAILED ...`.
    said: BTreeMap<String, String>,
    took: Duration,
    problems: Vec<String>,
}

pub(crate) fn run(selection: &Selection) -> Result<()> {
    let suites = [franz_go::NAMED, franz_go::WHOLE];
    let known = |name: &str| suites.contains(&name) || CLIENTS.iter().any(|client| client.name == name);
    if let Some(unknown) = selection.only.iter().find(|name| !known(name)) {
        bail!("there is no client '{unknown}'; see --help");
    }
    let wanted = |name: &str| selection.only.is_empty() || selection.only.iter().any(|only| only == name);
    let mut broker = None;
    let bootstrap = match &selection.bootstrap {
        Some(bootstrap) => bootstrap.clone(),
        None => broker.insert(Broker::start()?).bootstrap.clone(),
    };
    let mut outcomes = Vec::new();
    for client in CLIENTS.iter().filter(|client| wanted(client.name)) {
        outcomes.push(client.run(&bootstrap)?);
    }
    print(&outcomes);
    let mut problems: Vec<String> = outcomes.into_iter().flat_map(|outcome| outcome.problems).collect();
    for suite in suites.into_iter().filter(|suite| wanted(suite)) {
        problems.extend(franz_go::run(suite, &bootstrap)?);
    }
    if let Some(broker) = &mut broker {
        // It ends only when it is told to.
        if let Some(status) = broker.child.try_wait()? {
            problems.push(format!("the broker ended with {status} meanwhile"));
        }
    }
    ensure!(problems.is_empty(), "foreign clients:\n  {}", problems.join("\n  "));
    Ok(())
}

impl Client {
    fn run(&self, bootstrap: &str) -> Result<Outcome> {
        let Self { name, lacks, script } = self;
        report(&format!("{name}: {} checks", CHECKS.len()));
        let mut command = script()?;
        let began = Instant::now();
        let output = command
            .arg(bootstrap)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{name} can't be started: {}", command.get_program().display()))?;
        let took = began.elapsed();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut said = BTreeMap::new();
        let mut version = "unknown".to_owned();
        for line in stdout.lines() {
            if let Some(found) = line.strip_prefix("version ") {
                found.clone_into(&mut version);
            } else if let Some((check, what)) = line.strip_prefix("check ").and_then(|l| l.split_once(' ')) {
                said.insert(check.to_owned(), what.to_owned());
            }
        }
        let mut problems: Vec<String> = CHECKS
            .iter()
            .filter_map(|check| match said.get(*check).map(String::as_str) {
                Some("ok") => None,
                Some(absent) if absent.starts_with("absent") && lacks.contains(check) => None,
                Some(other) => Some(format!("{name} {check}: {other}")),
                None => Some(format!("{name} {check}: not said")),
            })
            .collect();
        if !output.status.success() && problems.is_empty() {
            problems.push(format!("{name} ended with {}", output.status));
        }
        if !problems.is_empty() {
            report(&String::from_utf8_lossy(&output.stderr));
        }
        Ok(Outcome { client: name, version, said, took, problems })
    }
}

/// Client by check, and how many of them are ok.
fn print(outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        return;
    }
    let width = CHECKS.iter().map(|check| check.len()).max().unwrap_or_default();
    let mut head = format!("{:width$}", "");
    for Outcome { client, .. } in outcomes {
        head.push_str(&format!("  {client:>15}"));
    }
    report(&head);
    for check in CHECKS {
        let mut line = format!("{check:width$}");
        for Outcome { said, .. } in outcomes {
            let word = said.get(check).map_or("MISSING", |said| said.split(' ').next().unwrap_or_default());
            line.push_str(&format!("  {word:>15}"));
        }
        report(&line);
    }
    for Outcome { client, version, said, took, .. } in outcomes {
        let ok = said.values().filter(|said| *said == "ok").count();
        let absent = said.values().filter(|said| said.starts_with("absent")).count();
        let all = CHECKS.len();
        report(&format!(
            "{client} {version}: {ok} of {all} checks ok, {absent} it has no call for; {:.0} s",
            took.as_secs_f64()
        ));
    }
}

fn python(script: &str, site: &Path) -> Result<Command> {
    let scripts = Path::new(SCRIPTS).join("python");
    let mut python = Command::new("python3");
    let path = std::env::join_paths([scripts.as_path(), site])?;
    // -B: nothing is written beside the scripts.
    python.arg("-B").arg(scripts.join(script)).env("PYTHONPATH", path);
    Ok(python)
}

/// With the codecs that it takes from others.
fn kafka_python() -> Result<PathBuf> {
    let packages = [
        "kafka-python==3.0.12",
        "cramjam==2.14.0",
        "lz4==4.4.5",
        "python-snappy==0.7.3",
        "zstandard==0.25.0",
    ];
    packages::python("clients-kafka-python", &packages)
}

/// The embedded broker alone, in a process of its own; killed when dropped.
struct Broker {
    child: Child,
    bootstrap: String,
    _dir: tempfile::TempDir,
}

impl Broker {
    fn start() -> Result<Self> {
        let program = super::build_example("standalone")?;
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let bootstrap = format!("127.0.0.1:{port}");
        let child = Command::new(&program)
            .arg(dir.path().join("data"))
            .arg(&bootstrap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} can't be started", program.display()))?;
        let mut broker = Self { child, bootstrap, _dir: dir };
        let deadline = Instant::now() + READY_MAX;
        while std::net::TcpStream::connect(&broker.bootstrap).is_err() {
            if let Some(status) = broker.child.try_wait()? {
                bail!("the broker ended with {status} while starting");
            }
            ensure!(Instant::now() < deadline, "the broker didn't open its port within {READY_MAX:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already; either way it's over after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
