//! Apache Kafka for tests: its jars from Maven Central, one KRaft node in a directory of its own.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

/// As in `engines/kafka/pom.xml`.
const KAFKA_VERSION: &str = "4.3.1";
const KAFKA_POM: &str = include_str!("../engines/kafka/pom.xml");
/// A KRaft cluster id: 16 bytes in base64url.
const CLUSTER_ID: &str = "dmx0YXZhLXRlc3QtMDAwMQ";
/// How long a node may take until it answers.
const READY_MAX: Duration = Duration::from_secs(90);

/// What can be done with engines by hand.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Gets what an engine needs into the cache.
    Install,
    /// Starts one Apache Kafka node until Ctrl-C.
    Kafka {
        /// Its port on 127.0.0.1; the next free one above is the controller's.
        #[arg(long, default_value_t = 19092)]
        port: u16,
        /// Its directory; a temporary one unless said.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Install => {
            kafka_jars().map(|jars| report(&format!("Apache Kafka {KAFKA_VERSION}: {}", jars.display())))
        }
        Action::Kafka { port, dir } => {
            let temporary = tempfile::tempdir()?;
            let dir = dir.as_deref().unwrap_or(temporary.path());
            let mut node = Kafka::start(dir, *port)?;
            report(&format!("bootstrap {}, Ctrl-C ends it", node.bootstrap()));
            let status = node.child.wait()?;
            ensure!(status.success(), "Apache Kafka ended with {status}; see {}", dir.join("log").display());
            Ok(())
        }
    }
}

/// Progress for people, on standard error: standard output is for results.
pub(crate) fn report(line: &str) {
    // Nobody reads it any more: nothing to do about that.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Where what was provisioned is kept: outside any clone.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("VLTAVA_ENGINES") {
        return Ok(dir.into());
    }
    let home = std::env::var_os("HOME").context("neither VLTAVA_ENGINES nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/vltava-engines"))
}

/// The directory of the jars, filled on the first call. A copy that was cut off never gets that name.
pub(crate) fn kafka_jars() -> Result<PathBuf> {
    let home = cache()?.join(format!("kafka-{KAFKA_VERSION}"));
    let jars = home.join("jars");
    if jars.is_dir() {
        return Ok(jars);
    }
    report(&format!("getting Apache Kafka {KAFKA_VERSION} ..."));
    fs::create_dir_all(&home)?;
    let part = home.join(format!("jars.part.{}", std::process::id()));
    let pom = home.join("pom.xml");
    fs::write(&pom, KAFKA_POM)?;
    let status = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", part.display()))
        .stdin(Stdio::null())
        .status()
        .context("mvn (Maven) and a JDK of release 17 or later are needed for Apache Kafka; on Debian: apt-get install maven")?;
    ensure!(status.success(), "mvn could not get Apache Kafka {KAFKA_VERSION}: {status}");
    fs::rename(&part, &jars)?;
    Ok(jars)
}

/// One node, killed when dropped.
pub(crate) struct Kafka {
    child: Child,
    port: u16,
}

impl Kafka {
    /// Formats the directory on the first start and waits until the node takes connections.
    pub(crate) fn start(dir: &Path, port: u16) -> Result<Self> {
        let mut command = Self::prepare(dir, port, port)?;
        let log = fs::File::options().append(true).open(dir.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("java can't be started")?;
        let mut node = Self { child, port };
        node.await_ready(dir)?;
        Ok(node)
    }

    /// Formats the directory on the first call; what starts a node that listens on `port` and sends its clients to
    /// `advertised`, both on 127.0.0.1.
    pub(crate) fn prepare(dir: &Path, port: u16, advertised: u16) -> Result<Command> {
        let jars = kafka_jars()?;
        let classpath = format!("{}/*", jars.display());
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let properties = dir.join("server.properties");
        let controller = free_port()?;
        fs::write(&properties, settings(&dir, port, advertised, controller))?;
        let log4j = dir.join("log4j2.yaml");
        fs::write(&log4j, LOG4J)?;
        let log = fs::File::create(dir.join("log"))?;
        if !dir.join("data/meta.properties").exists() {
            let status = Command::new("java")
                .args(["-cp", &classpath, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
                .arg(&properties)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?)
                .status()
                .context("java can't be started")?;
            ensure!(status.success(), "formatting failed: {status}; see {}", dir.join("log").display());
        }
        let mut command = Command::new("java");
        command
            .args(["-Xms256m", "-Xmx512m", "-XX:+UseG1GC"])
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .args(["-cp", &classpath, "kafka.Kafka"])
            .arg(&properties);
        Ok(command)
    }

    fn await_ready(&mut self, dir: &Path) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("Apache Kafka ended with {status} while starting:\n{log}");
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        bail!("Apache Kafka didn't open port {} within {READY_MAX:?}", self.port)
    }

    /// `host:port`.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have ended already; either way it's over after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn settings(dir: &Path, port: u16, advertised: u16, controller: u16) -> String {
    [
        "process.roles=broker,controller".into(),
        "node.id=1".into(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
        "controller.listener.names=CONTROLLER".into(),
        "inter.broker.listener.name=PLAINTEXT".into(),
        format!("log.dirs={}", dir.join("data").display()),
        "num.partitions=12".into(),
        "default.replication.factor=1".into(),
        "min.insync.replicas=1".into(),
        "auto.create.topics.enable=false".into(),
        "offsets.topic.replication.factor=1".into(),
        "offsets.topic.num.partitions=4".into(),
        "transaction.state.log.replication.factor=1".into(),
        "transaction.state.log.min.isr=1".into(),
        "transaction.state.log.num.partitions=4".into(),
        "share.coordinator.state.topic.replication.factor=1".into(),
        "share.coordinator.state.topic.min.isr=1".into(),
        "group.initial.rebalance.delay.ms=0".into(),
        String::new(),
    ]
    .join("\n")
}

const LOG4J: &str = "\
Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: \"%d %p %m (%c)%n\"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        - ref: STDOUT
";
