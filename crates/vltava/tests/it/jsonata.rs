//! `vltava jsonata` as scripts see it: records in, results and errors out, exit statuses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::process::binary;

fn jsonata(arguments: &[&str]) -> Command {
    let mut command = binary();
    command
        .arg("jsonata")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it with `input` on standard input.
fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = jsonata(arguments).spawn().unwrap();
    // One that ends before it has read everything is no surprise here.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Exit status, standard output, standard error.
fn said(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let output = run(arguments, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn at(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn each_record_has_its_result_or_its_error() {
    let lines = b"{\"a\":1}\n{\"a\":\"x\"}\n\n{\"a\":\n{\"b\":0}\n{\"a\":12345678901234567890.50}\n";
    let (status, out, err) = said(&["eval", "-e", "{'got': a > 0 ? a : a}.got"], lines);
    assert_eq!(status, 1);
    // Digits are kept; undefined prints nothing.
    assert_eq!(out, "1\n12345678901234567890.50\n");
    assert!(err.contains("error: standard input:2: T2009 at line 1, column 11"), "{err}");
    assert!(err.contains("1 | {'got': a > 0 ? a : a}.got\n  |           ^"), "{err}");
    assert!(err.contains("error: standard input:4:6: invalid JSON: "), "{err}");
    assert!(err.ends_with("2 of 5 record(s) failed\n"), "{err}");

    let (status, out, err) =
        said(&["eval", "-e", "$number(a)", "--fail-fast"], b"{\"a\":1}\n{\"a\":\"x\"}\n{\"a\":3}\n");
    assert_eq!((status, &*out), (1, "1\n"));
    assert!(err.contains(":2: D3030"), "{err}");

    let (status, out, err) = said(&["eval", "-e", "a", "--show-undefined"], b"{}\n{\"a\":null}\n");
    assert_eq!((status, &*out, &*err), (0, "undefined\nnull\n", ""));
}

#[test]
fn inputs_are_lines_or_one_document() {
    let dir = tempfile::tempdir().unwrap();
    let document = at(dir.path(), "order.json", "{\n  \"a\": [1,\n 2]\n}\n");
    let lines = at(dir.path(), "lines.ndjson", "{\"a\": 3}\n{\"a\": 4}\n");
    let expression = at(dir.path(), "sum.jsonata", "$sum(a)\n");
    assert_eq!(
        said(&["eval", &expression, &document, &lines, "-"], b"{\"a\":5}"),
        (0, "3\n3\n4\n5\n".into(), String::new())
    );

    let broken = at(dir.path(), "broken.json", "{\n  \"a\": 1,\n}\n");
    let (status, out, err) = said(&["eval", "-e", "a", &broken, "/no/such/file", &lines], b"");
    assert_eq!((status, &*out), (1, "3\n4\n"));
    assert!(err.contains("broken.json:3:1: invalid JSON"), "{err}");
    assert!(err.contains("/no/such/file: No such file"), "{err}");

    let (status, out, _) = said(&["eval", "-e", "a", "--lines", &document], b"");
    assert_eq!((status, &*out), (1, ""));

    let (_, out, _) = said(&["eval", "--pretty", "-e", "{'b': a, 'c': {}}", &document], b"");
    assert_eq!(out, "{\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": {}\n}\n");
}

#[test]
fn variables_budgets_and_no_input() {
    let dir = tempfile::tempdir().unwrap();
    let file = at(dir.path(), "bindings.json", "{\"n\": 1.10, \"who\": {\"name\": \"ada\"}}");
    for bindings in [&*file, "{\"n\": 1.10, \"who\": {\"name\": \"ada\"}}"] {
        let (status, out, err) = said(&["eval", "-n", "-e", "[$n, $who.name]", "--bindings", bindings], b"");
        assert_eq!((status, &*out, &*err), (0, "[1.10,\"ada\"]\n", ""));
    }
    let (status, out, err) = said(
        &["eval", "-n", "-e", "$sum([1..100000])", "--budget", "steps=1000", "--budget", "depth=50"],
        b"",
    );
    assert_eq!((status, &*out), (1, ""));
    assert!(err.contains("D1901: the budget `steps` of 1000"), "{err}");

    // Usage errors are 2, others 1; nothing on standard output.
    let empty = at(dir.path(), "empty.yaml", "");
    for (arguments, status, says) in [
        (&["eval"][..], 2, "there is no expression"),
        (&["eval", "-n", "-e", "1", "x"], 2, "takes no inputs"),
        (&["eval", "-e", "1", "--nope"], 2, "--nope"),
        (&["check"], 2, "<FILE>"),
        (&["eval", "-e", "1 +"], 1, "-e: S0207 at line 1"),
        (&["eval", "-e", "1", "--budget", "time=1"], 1, "\"time\""),
        (&["eval", "-e", "1", "--bindings", "[1]"], 1, "--bindings [1]"),
        (&["eval", "-e", "1", "--bindings", "{1}"], 1, "--bindings: give a JSON object"),
        (&["eval", "/no/such.jsonata"], 1, "/no/such.jsonata"),
        (&["eval", &empty], 1, "has no transform"),
        (&["check", "/no/such.jsonata"], 1, "/no/such.jsonata"),
        (&["test", "/no/such/folder"], 1, "/no/such/folder"),
    ] {
        let (found, out, err) = said(arguments, b"{}");
        assert_eq!((found, &*out), (status, ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {says:?} isn't in {err}");
    }
}

#[test]
fn results_come_as_records_do() {
    let mut child = jsonata(&["eval", "-e", "a + 1"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut results = BufReader::new(child.stdout.take().unwrap());
    // The next record is sent only after the result of the one before.
    for n in 0..3 {
        writeln!(input, "{{\"a\":{n}}}").unwrap();
        let mut result = String::new();
        results.read_line(&mut result).unwrap();
        assert_eq!(result, format!("{}\n", n + 1));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// The most memory that a process had, in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    let mut child = jsonata(&["eval", "-e", "$count(list) = 3"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut results = BufReader::new(child.stdout.take().unwrap()).lines();
    let pad = "x".repeat(10_000);
    let line = format!("{{\"list\":[1,2,3],\"pad\":\"{pad}\"}}\n");
    let chunk = line.repeat(100);
    let mut peaks = Vec::new();
    // 10 MB, then 100 MB.
    for chunks in [10, 100] {
        for _ in 0..chunks {
            input.write_all(chunk.as_bytes()).unwrap();
            for _ in 0..100 {
                assert_eq!(results.next().unwrap().unwrap(), "true");
            }
        }
        peaks.push(peak_bytes(child.id()));
    }
    // A line that is too long is passed over without being held.
    input.write_all(b"\"").unwrap();
    for _ in 0..60 {
        input.write_all(&[b'y'; 1 << 20]).unwrap();
    }
    input.write_all(b"\"\n{\"list\":[1,2,3]}\n").unwrap();
    assert_eq!(results.next().unwrap().unwrap(), "true");
    peaks.push(peak_bytes(child.id()));
    drop(input);
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("standard input:11001: longer than 16777216 bytes"), "{errors}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(peaks[1] < peaks[0] + (8 << 20), "{peaks:?}");
    // The limit, doubled by a vector's growth.
    assert!(peaks[2] < peaks[1] + (48 << 20), "{peaks:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = jsonata(&["eval", "-e", "$"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    drop(child.stdout.take());
    // It ends when it writes; until then it reads.
    while input.write_all(b"{\"a\":1}\n").is_ok() {}
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn check_names_errors_fields_and_variables() {
    let dir = tempfile::tempdir().unwrap();
    let good = at(dir.path(), "good.jsonata", "order.items[price > $limit].name & $uppercase(`net kind`)");
    let whole = at(dir.path(), "whole.jsonata", "$string($)");
    let bad = at(dir.path(), "bad.jsonata", "{\n  'a': $x(1 2),\n  'b': [1 +]\n}\n");
    let (status, out, err) = said(&["check", "-v", &good, &whole, &bad], b"");
    assert_eq!(status, 1);
    let fields = "`net kind`, order.items.name, order.items.price";
    assert_eq!(
        out,
        format!(
            "{good}: ok\n  reads: {fields}\n  variables: $limit\n{whole}: ok\n  reads: anything\n  variables: nothing\n"
        )
    );
    // All of them, each with its line.
    assert!(err.contains(&format!("error: {bad}: S0202 at line 2, column 13 ")), "{err}");
    assert!(err.contains("2 |   'a': $x(1 2),\n  |             ^\n"), "{err}");
    assert!(err.contains(&format!("error: {bad}: S0211 at line 3, column 12 ")), "{err}");

    let (_, out, err) = said(&["check", "--json", &good, &bad, "-"], b"1 +\n");
    assert_eq!(err, "");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["variables"], json!(["limit"]));
    assert_eq!(
        lines[0]["reads"],
        json!([["net kind"], ["order", "items", "name"], ["order", "items", "price"]])
    );
    assert_eq!(
        (&lines[1]["ok"], &lines[1]["errors"][0]["line"], &lines[1]["errors"][1]["line"]),
        (&json!(false), &json!(2), &json!(3))
    );
    // At the end of the text, not behind its line end.
    let error = &lines[2]["errors"][0];
    assert_eq!(
        (&lines[2]["place"], &error["code"], &error["line"]),
        (&json!("-"), &json!("S0207"), &json!(1))
    );
}

const FLOW: &str = r#"apiVersion: vltava/v1
kind: Transform
metadata: { name: totals, workspace: demo }
spec:
  expression: |
    { "id": id, "total": $sum(items.price), "at": $fromMillis($timestamp) }
  tests:
    - name: sums prices
      input: { "id": 7, "items": [{ "price": 1.5 }, { "price": 2 }] }
      expected: { "id": 7, "total": 3.5, "at": "1970-01-01T00:00:00.000Z" }
---
apiVersion: vltava/v1
kind: Pipeline
metadata: { name: p, workspace: demo }
spec:
  sources: [{ topic: dev.demo.a }]
  steps: [{ name: s, transform: totals }]
  target: { topic: dev.demo.b, key: "$string(id" }
"#;

#[test]
fn manifests_are_checked_evaluated_and_tested() {
    let dir = tempfile::tempdir().unwrap();
    let flow = at(dir.path(), "flow.yaml", FLOW);
    let (status, out, err) = said(&["check", &flow], b"");
    assert_eq!((status, out), (1, format!("{flow}:6 Transform totals: ok\n")));
    assert!(err.starts_with(&format!("error: {flow}:18 Pipeline p target.key: S0203")), "{err}");

    let alone = at(dir.path(), "alone.yaml", FLOW.split("---").next().unwrap());
    let (status, out, _) = said(&["eval", &alone, "--bindings", "{\"timestamp\": 0}"], b"{\"id\":1}");
    assert_eq!((status, &*out), (0, "{\"id\":1,\"at\":\"1970-01-01T00:00:00.000Z\"}\n"));

    let tests = dir.path().join("tests");
    std::fs::create_dir_all(tests.join("deeper")).unwrap();
    std::fs::write(tests.join("flow.yaml"), FLOW).unwrap();
    let path = tests.to_str().unwrap();
    assert_eq!(
        said(&["test", path], b""),
        (0, "ok   totals: sums prices\n1 passed, 0 failed\n".into(), String::new())
    );

    let wrong = FLOW
        .replace("name: totals", "name: wrong")
        .replace("\"total\": 3.5", "\"total\": 4")
        .replace("\"id\": 7, \"items\"", "\"id\": \"7\", \"items\"")
        .replace("key: \"$string(id\"", "key: id")
        .replace("name: p,", "name: q,");
    std::fs::write(tests.join("deeper/wrong.yaml"), wrong).unwrap();
    let (status, out, _) = said(&["test", path], b"");
    assert_eq!(status, 1);
    let diff = "       {\n     -   \"id\": 7,\n     +   \"id\": \"7\",\n     -   \"total\": 4,\n     +   \"total\": 3.5,\n         \"at\": \"1970-01-01T00:00:00.000Z\",\n       }\n";
    assert!(out.contains("FAIL wrong: sums prices\n     at ") && out.contains(diff), "{out}");
    assert!(out.ends_with("1 passed, 1 failed\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours where nobody looks");

    let (status, out, _) = said(&["test", path, "--json"], b"");
    assert_eq!(status, 1);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = lines.iter().find(|line| line["passed"] == false).unwrap();
    assert_eq!((&failed["transform"], &failed["found"]["total"]), (&json!("wrong"), &json!(3.5)));
    assert_eq!(lines.last().unwrap(), &json!({"passed": 1, "failed": 1}));

    assert_eq!(said(&["test", path, "--filter", "totals"], b"").0, 0);
    let (status, _, err) = said(&["test", path, "--filter", "zzz"], b"");
    assert_eq!(status, 1);
    assert!(err.contains("no test cases that match \"zzz\""), "{err}");
}

#[test]
fn a_case_that_gives_no_result_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let failing =
        FLOW.replace("$sum(items.price)", "$sum(items.name)").replace("\"price\": 2 ", "\"name\": \"x\" ");
    at(dir.path(), "flow.yaml", &failing);
    let (status, out, _) = said(&["test", dir.path().to_str().unwrap()], b"");
    assert_eq!(status, 1);
    assert!(out.contains("FAIL totals: sums prices\n     at "), "{out}");
    assert!(out.contains("T0412 at line 1") && out.contains("^"), "{out}");
    assert!(out.contains("flow.yaml:8"), "{out}");
}
