//! franz-go's own integration tests, of its Go module as it is published.
//!
//! Invariant: a test that fails or is skipped is named in [`NOT_PASSED`] with its reason, else it is a failure; and so is one
//! that is named there and passes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::engine::{cache, report};

const MODULE: &str = "github.com/twmb/franz-go";
const VERSION: &str = "v1.22.2";
/// Its tests of groups and transactions, by the module's own records: chains of groups with members that come and go.
pub(super) const NAMED: &str = "franz-go";
/// All of its client's tests.
pub(super) const WHOLE: &str = "franz-go-suite";
const NAMED_TESTS: &str = "TestGroupETL|TestTxnEtl|TestGroupSimple";
/// The whole suite takes about a minute; this ends one that hangs, with Go's own report of where.
const TIMEOUT: &str = "9m";

/// Tests, or all below a test, that don't pass here, and why.
const NOT_PASSED: &[(&str, &str)] = &[
    ("TestSCRAMAuth", "no SASL: the test is skipped without credentials, as on Apache Kafka without them"),
    ("TestSCRAMAuthBadCredentials", "no SASL, as before"),
    (
        "TestIssueProduceBrokerTooOldFailsRecords",
        "Produce is served from version 0, so there is no client too old",
    ),
    ("TestConsumeRegex", "offsets are entries of the log: there is no topic __consumer_offsets"),
    ("Test848RegexBrokerResolves", "as before"),
    ("TestConsumeRegexShareSkipsInternal", "no share groups (KIP-932)"),
    ("TestShareGroup", "no share groups"),
    ("TestShareGroupETL", "no share groups"),
    ("TestShareGroupAckOnClose", "no share groups"),
    ("TestShareGroupOffsetsAdmin", "no share groups"),
];

/// Runs one of the two; what is wrong with it.
pub(super) fn run(suite: &str, bootstrap: &str) -> Result<Vec<String>> {
    let package = package()?;
    let filter = if suite == NAMED { NAMED_TESTS } else { "." };
    report(&format!("{suite} {VERSION}: go test ./pkg/kgo/ -run '{filter}'"));
    let output = Command::new(package.join("kgo.test"))
        .args(["-test.v", "-test.timeout", TIMEOUT, "-test.run", filter])
        .current_dir(&package)
        .env("KGO_SEEDS", bootstrap)
        .env("KGO_TEST_RF", "1")
        .env("KGO_TEST_STABLE_FETCH", "true")
        .env("KGO_TEST_RECORDS", "50000")
        .env("KGO_LOG_LEVEL", "none")
        .stdin(Stdio::null())
        .output()
        .context("franz-go's tests can't be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let results = results(&text);
    let count = |wanted: &str| results.values().filter(|result| **result == wanted).count();
    let (passed, failed, skipped) = (count("PASS"), count("FAIL"), count("SKIP"));
    report(&format!("{suite} {VERSION}: {passed} passed, {failed} failed, {skipped} skipped"));
    let known = |name: &str| {
        let root = name.split('/').next().unwrap_or(name);
        NOT_PASSED.iter().find(|(test, _)| *test == name || *test == root)
    };
    let mut problems = Vec::new();
    for (name, result) in &results {
        match (known(name), *result) {
            (None, "PASS") => {}
            (Some((_, why)), "PASS") => problems.push(format!("{suite} {name} passes, but is listed: {why}")),
            (Some((_, why)), result) => report(&format!("  {result} {name}: {why}")),
            (None, result) => problems.push(format!("{suite} {name}: {result}")),
        }
    }
    if passed == 0 {
        problems.push(format!("{suite}: no test passed ({})", output.status));
    }
    if !problems.is_empty() {
        report(&text);
        report(&String::from_utf8_lossy(&output.stderr));
    }
    Ok(problems)
}

/// Test to PASS, FAIL or SKIP, subtests too. One that began and was never ended has failed.
fn results(text: &str) -> BTreeMap<&str, &str> {
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== RUN ") {
            found.entry(name.trim()).or_insert("FAIL");
        } else if let Some((result, rest)) =
            line.trim_start().strip_prefix("--- ").and_then(|l| l.split_once(": "))
            && let Some(name) = rest.split(' ').next()
        {
            found.insert(name, result);
        }
    }
    found
}

/// The package's directory with its tests built: a copy of the module, as the module cache is read-only.
fn package() -> Result<PathBuf> {
    let home = cache()?.join(format!("franz-go-{VERSION}"));
    let package = home.join("pkg/kgo");
    if package.join("kgo.test").is_file() {
        return Ok(package);
    }
    report(&format!("getting {MODULE} {VERSION} ..."));
    let hint = "go (1.26 or later) is needed for franz-go; see https://go.dev/dl";
    let module = format!("{MODULE}@{VERSION}");
    let got = Command::new("go")
        .args(["mod", "download", "-json", &module])
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .context(hint)?;
    let said: serde_json::Value = serde_json::from_slice(&got.stdout).unwrap_or_default();
    let from = said["Dir"].as_str().with_context(|| format!("go could not get {module}: {said}"))?;
    let part = home.with_extension(format!("part.{}", std::process::id()));
    copy(Path::new(from), &part)?;
    let status = Command::new("go")
        .args(["test", "-c", "-o", "pkg/kgo/kgo.test", "./pkg/kgo/"])
        .current_dir(&part)
        .stdin(Stdio::null())
        .status()
        .context(hint)?;
    ensure!(status.success(), "go could not build the tests of {module}: {status}");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(&part, &home)?;
    Ok(package)
}

/// Contents without modes: what is read-only there can be written here.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::results;

    #[test]
    fn what_never_ended_has_failed() {
        let text = "=== RUN   TestA\n=== RUN   TestA/b\n    --- PASS: TestA/b (0.1s)\n=== RUN   TestC\n--- PASS: TestA (0.2s)\n";
        let found = results(text);
        assert_eq!(found["TestA"], "PASS");
        assert_eq!(found["TestA/b"], "PASS");
        assert_eq!(found["TestC"], "FAIL");
    }
}
