//! Fuzzing with cargo-fuzz. The targets are in `fuzz/`, a package outside of the workspace, with seeds
//! of the project's own writing; corpora, builds and findings are kept in the cache, outside the clone.
//!
//! A finding fails the run. cargo-fuzz needs unstable flags of the compiler, which the toolchain of the
//! project takes with `RUSTC_BOOTSTRAP=1`; nothing else is built that way.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::engine::{cache, report};

const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// Bytes of one input: what takes more to break something is rare.
const INPUT_BYTES_MAX: u32 = 4096;
/// Seconds that one input may take before it counts as a hang.
const HANG_SECONDS: u32 = 25;
/// What one process may hold, and what one allocation may take, in MiB.
const MEMORY_MIB_MAX: u32 = 2048;
const ALLOCATION_MIB_MAX: u32 = 64;
/// Lines of output that are shown of a finding.
const FINDING_LINES: usize = 60;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// One target; all of them where absent.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Runs the target on this input only, to see a finding again.
    #[arg(long, value_name = "FILE", requires = "target")]
    reproduce: Option<PathBuf>,
}

pub(crate) fn run(fuzz: &Fuzz) -> Result<()> {
    let root = root()?;
    let known = targets(&root)?;
    let wanted = match &fuzz.target {
        None => known,
        Some(target) if known.contains(target) => vec![target.clone()],
        Some(target) => bail!("there is no target {target:?}; there are {}", known.join(", ")),
    };
    let cargo_fuzz = cargo_fuzz()?;
    let mut findings = Vec::new();
    for target in &wanted {
        let binary = build(&cargo_fuzz, &root, target)?;
        if let Some(input) = &fuzz.reproduce {
            let status = Command::new(binary).arg(input).status()?;
            ensure!(status.success(), "{} still breaks {target}", input.display());
            report(&format!("{target}: {} breaks nothing any more", input.display()));
            return Ok(());
        }
        match hunt(&binary, &root, target, fuzz.seconds)? {
            Outcome::Nothing(summary) => report(&summary),
            Outcome::Finding(summary) => {
                report(&summary);
                findings.push(target.as_str());
            }
        }
    }
    ensure!(findings.is_empty(), "findings in {}", findings.join(", "));
    Ok(())
}

/// The package: asked at run time, since a clone may run what another clone built.
fn root() -> Result<PathBuf> {
    let xtask =
        std::env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR: run it by `cargo xtask`")?;
    Ok(Path::new(&xtask).parent().context("the clone's folder")?.join("fuzz"))
}

/// The names of the targets: a file each.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join("fuzz_targets"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// The cargo-fuzz of this version, installed on the first call.
fn cargo_fuzz() -> Result<PathBuf> {
    let home = cache()?.join(format!("cargo-fuzz-{CARGO_FUZZ_VERSION}"));
    let binary = home.join("bin/cargo-fuzz");
    if !binary.exists() {
        report(&format!("installing cargo-fuzz {CARGO_FUZZ_VERSION} ..."));
        let status = Command::new("cargo")
            .args(["install", "cargo-fuzz", "--locked", "--quiet", "--version", CARGO_FUZZ_VERSION, "--root"])
            .arg(&home)
            .status()?;
        ensure!(status.success(), "cargo install cargo-fuzz failed: {status}");
    }
    Ok(binary)
}

/// Builds a target with coverage, the address sanitizer and debug assertions; gives the binary.
fn build(cargo_fuzz: &Path, root: &Path, target: &str) -> Result<PathBuf> {
    let built = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir).join("fuzz"),
        None => cache()?.join("fuzz/target"),
    };
    report(&format!("{target}: building ..."));
    let status = Command::new(cargo_fuzz)
        .args(["fuzz", "build", "--fuzz-dir"])
        .arg(root)
        .arg(target)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &built)
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "{target} can't be built: {status}");
    let rustc = Command::new("rustc").arg("-vV").output()?;
    let says = String::from_utf8(rustc.stdout)?;
    let host = says.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(built.join(host).join("release").join(target))
}

enum Outcome {
    Nothing(String),
    Finding(String),
}

/// Fuzzes one target, from the seeds and from what earlier runs found worth keeping.
fn hunt(binary: &Path, root: &Path, target: &str, seconds: u32) -> Result<Outcome> {
    let home = cache()?.join("fuzz");
    let corpus = home.join("corpus").join(target);
    let artifacts = home.join("artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    for seed in fs::read_dir(root.join("seeds").join(target))? {
        let seed = seed?;
        let name = seed.file_name();
        fs::copy(seed.path(), corpus.join(format!("seed-{}", name.to_string_lossy())))?;
    }
    let mut command = Command::new(binary);
    command.arg(&corpus).args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-timeout={HANG_SECONDS}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"),
        format!("-artifact_prefix={}/", artifacts.display()),
        "-print_final_stats=1".into(),
    ]);
    // Targets of one family share their words: `jsonata_eval` takes `jsonata.dict`.
    let family = target.split('_').next().unwrap_or(target);
    let dictionary = root.join("dictionaries").join(format!("{family}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    report(&format!("{target}: fuzzing for {seconds} s ..."));
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = Said::default();
    for line in BufReader::new(child.stderr.take().context("standard error")?).split(b'\n') {
        said.line(&String::from_utf8_lossy(&line?));
    }
    let status = child.wait()?;
    let Said { executions, edges, corpus, artifact, last } = said;
    let summary = format!(
        "{target}: {executions} executions in {} s, {edges} edges covered, {corpus} inputs kept",
        begun.elapsed().as_secs()
    );
    if status.success() && artifact.is_none() {
        ensure!(executions > 0, "{target} ran nothing");
        return Ok(Outcome::Nothing(format!("{summary}, no finding")));
    }
    last.iter().for_each(|line| report(line));
    let how = match artifact {
        Some(path) => format!("see it again: cargo xtask fuzz {target} --reproduce {path}"),
        None => format!("the process ended with {status}"),
    };
    Ok(Outcome::Finding(format!("{summary}, A FINDING; {how}")))
}

/// What libFuzzer says on its way.
#[derive(Default)]
struct Said {
    executions: u64,
    edges: u64,
    corpus: u64,
    artifact: Option<String>,
    last: VecDeque<String>,
}

impl Said {
    fn line(&mut self, line: &str) {
        let word_after = |name: &str| {
            let rest = line.split_once(name)?.1;
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        if line.starts_with('#') {
            // `#14148 REDUCE cov: 13105 ft: 30933 corp: 521/49Kb ...`
            self.executions = word_after("#").unwrap_or(self.executions);
            self.edges = word_after("cov:").unwrap_or(self.edges);
            self.corpus = word_after("corp:").unwrap_or(self.corpus);
            return;
        }
        self.executions = word_after("stat::number_of_executed_units:").unwrap_or(self.executions);
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.artifact = Some(path.to_owned());
        }
        if self.last.len() == FINDING_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_is_understood() {
        let mut said = Said::default();
        said.line("INFO: Seed: 42");
        said.line("#14148\tREDUCE cov: 13105 ft: 30933 corp: 521/49Kb lim: 792 exec/s: 744 rss: 356Mb L: 220/792 MS: 2");
        assert_eq!((said.executions, said.edges, said.corpus), (14148, 13105, 521));
        said.line("artifact_prefix='/x/'; Test unit written to /x/crash-1");
        said.line("stat::number_of_executed_units: 14200");
        assert_eq!((said.executions, said.artifact.as_deref()), (14200, Some("/x/crash-1")));
        assert_eq!(said.last.len(), 3);
    }

    #[test]
    fn every_target_is_declared_and_has_seeds() {
        let root = root().unwrap();
        let declared = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let targets = targets(&root).unwrap();
        assert_eq!(declared.matches("[[bin]]").count(), targets.len());
        for target in targets {
            assert!(declared.contains(&format!("name = \"{target}\"")), "{target}");
            let seeds = fs::read_dir(root.join("seeds").join(&target)).unwrap().count();
            assert!(seeds >= 10, "{target} has {seeds} seeds");
        }
    }
}
