//! The processes that are measured, and what the kernel says of them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::engine::report;

/// Ticks a second of `/proc/PID/stat`: Linux' `USER_HZ`, the same on every architecture that it is built for here.
const TICKS_PER_SECOND: f64 = 100.0;
/// A process that was asked to end gets this long.
const END_MAX: Duration = Duration::from_secs(30);

/// A child and the first line that it printed; it ends with this value.
pub(super) struct Process {
    child: Child,
    pub(super) said: String,
}

impl Process {
    /// Starts it and waits for its first line; its standard error goes to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("{} can't be made", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("{command:?} can't be started"))?;
        let stdout = child.stdout.take().context("its output was asked for")?;
        let mut process = Self { child, said: String::new() };
        BufReader::new(stdout).read_line(&mut process.said)?;
        if process.said.is_empty() {
            let log = fs::read_to_string(log).unwrap_or_default();
            anyhow::bail!("{command:?} ended before it was ready:\n{log}");
        }
        Ok(process)
    }

    /// User and system time so far, in seconds; its children's are not in it.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // After the name, which may hold spaces: state is field 3, utime 14, stime 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).context("no such field");
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// A number of `/proc/PID/status`: `VmHWM` and `VmRSS` in KiB, `Threads`.
    pub(super) fn status(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("the kernel doesn't say {name}"))
    }

    /// The most memory that it held, in MiB.
    pub(super) fn peak_mib(&self) -> Result<f64> {
        Ok(self.status("VmHWM")? / 1024.0)
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; where it doesn't heed the request it is killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + END_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                report("a measured process didn't end in time and is killed");
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The binaries that are measured, as they are shipped.
pub(super) struct Binaries {
    pub(super) vltava: PathBuf,
    pub(super) only_checks: PathBuf,
    pub(super) rate: PathBuf,
}

impl Binaries {
    /// Where they are, built before.
    pub(super) fn find(build: bool) -> Result<Self> {
        if build {
            report("building what is measured, with --release ...");
            cargo_build(&["-p", "vltava"])?;
            cargo_build(&["-p", "ingest", "--example", "only_checks", "-p", "kafka", "--example", "rate"])?;
        }
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let release = target.join("release");
        Ok(Self {
            vltava: release.join("vltava"),
            only_checks: release.join("examples/only_checks"),
            rate: release.join("examples/rate"),
        })
    }
}

fn cargo_build(what: &[&str]) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a program that it runs makes build scripts of dependencies run again.
    for (name, _) in
        std::env::vars().filter(|(n, _)| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    let status = cargo.args(["build", "--release"]).args(what).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "cargo build --release {} failed: {status}", what.join(" "));
    Ok(())
}
