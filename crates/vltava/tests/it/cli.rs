//! The command line as scripts see it: what goes where, and with which exit status.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Platform, binary, log_of};

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn usage_errors_are_2_and_other_errors_1_on_standard_error() {
    for (arguments, status, says) in [
        (&["no-such-command"][..], 2, "no-such-command"),
        (&["tail"], 2, "<TOPIC>"),
        (&["topics", "create", "a b", "--kafka-bootstrap", "127.0.0.1:1"], 1, "\"a b\""),
        (&["topics", "create", "__x", "--kafka-bootstrap", "127.0.0.1:1"], 1, "reserved"),
        (&["status", "--url", "http://127.0.0.1:1"], 1, "vltava up"),
        (&["apply", "-f", "/no/such/folder"], 1, "/no/such/folder"),
        (&["plan", "-f", "/no/such/folder"], 1, "/no/such/folder"),
        (&["plan", "-f", ".", "--prune"], 2, "--source"),
        (&["config", "check", "--http", "nowhere"], 1, "http.listen = \"nowhere\" (--http)"),
        (&["config", "check", "--config", "/no/such/file.toml"], 1, "/no/such/file.toml"),
        (&["up", "--http", "0.0.0.0:0", "--data-dir", "/tmp/never-made"], 1, "auth.mode"),
        (&["up", "--broker", "0.0.0.0:0", "--data-dir", "/tmp/never-made"], 1, "broker.listen"),
        (&["demo", "--count", "many"], 1, "--count \"many\""),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {says:?} isn't in {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: errors belong on standard error");
    }
}

#[test]
fn results_are_json_on_demand() {
    let version: Value = serde_json::from_slice(&run(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["name"], "vltava");
    let settings: Value = serde_json::from_slice(&run(&["config", "check", "--json"]).stdout).unwrap();
    assert_eq!(settings["http.listen"], "127.0.0.1:8080");
}

#[test]
fn a_data_directory_has_one_process_and_a_port_one_listener() {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(dir.path(), &[]);
    let second =
        run(&["up", "--http", "off", "--broker", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use by process"), "{}", stderr(&second));

    let other = tempfile::tempdir().unwrap();
    let address = platform.url.trim_start_matches("http://");
    let second = run(&[
        "up",
        "--http",
        address,
        "--broker",
        "127.0.0.1:0",
        "--data-dir",
        other.path().to_str().unwrap(),
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains(address) && stderr(&second).contains("in use"), "{}", stderr(&second));
    assert!(platform.terminate(Duration::from_secs(30)).success(), "{}", log_of(dir.path()));
}

#[test]
fn topics_are_made_sent_to_read_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(dir.path(), &[]);
    let kafka = |arguments: &[&str]| {
        let output = binary().args(arguments).args(["--kafka-bootstrap", &platform.kafka]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let name = format!("cli-{}", uuid::Uuid::new_v4().simple());
    kafka(&["topics", "create", &name, "--partitions", "3", "--config", "retention.ms=86400000"]);
    assert!(kafka(&["topics", "ls"]).contains(&name));
    let described: Value = serde_json::from_str(&kafka(&["topics", "describe", &name, "--json"])).unwrap();
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(described["config"]["retention.ms"], "86400000");

    let events = dir.path().join("events.ndjson");
    std::fs::write(&events, "{\"a\":1}\n\n{\"a\":2}\n{\"a\":3}\n").unwrap();
    let sent =
        run(&["send", &name, events.to_str().unwrap(), "--key", "k", "--url", &platform.url, "--json"]);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let lines = kafka(&["tail", &name, "--from", "earliest", "--no-follow", "--json"]);
    let values: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["value"]["a"].clone())
        .collect();
    assert_eq!(values, [1, 2, 3]);

    std::fs::write(&events, "{\"a\":4}\n{\"a\":\n").unwrap();
    let sent = run(&["send", &name, events.to_str().unwrap(), "--url", &platform.url]);
    assert_eq!(sent.status.code(), Some(1));
    assert!(stderr(&sent).contains("line 2"), "{}", stderr(&sent));

    let unsure =
        binary().args(["topics", "delete", &name, "--kafka-bootstrap", &platform.kafka]).output().unwrap();
    assert_eq!(unsure.status.code(), Some(1));
    kafka(&["topics", "delete", &name, "--yes"]);
    assert!(!kafka(&["topics", "ls"]).contains(&name));
}
