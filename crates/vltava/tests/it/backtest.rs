//! `vltava backtest` as CI has it: what it prints, and with which exit status it ends.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::process::{Platform, binary, client, log_of};

/// A pipeline with twelve records: every third has no number, which fails.
struct Numbers {
    platform: Platform,
    workspace: String,
    dir: tempfile::TempDir,
}

fn manifest(workspace: &str, expression: &str) -> String {
    format!(
        "apiVersion: vltava/v1\nkind: Transform\nmetadata: {{ name: double, workspace: {workspace} }}\nspec:\n  \
         expression: |\n    {expression}\n"
    )
}

impl Numbers {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let platform = Platform::start(dir.path(), &[]);
        let workspace = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]);
        let flow = dir.path().join("flow");
        std::fs::create_dir(&flow).unwrap();
        let (raw, out) = (format!("dev.{workspace}.n.raw"), format!("dev.{workspace}.n.enriched"));
        let rest = format!(
            "apiVersion: vltava/v1\nkind: Topic\nmetadata: {{ name: {raw}, workspace: {workspace} }}\nspec: {{ partitions: 3 }}\n---\n\
             apiVersion: vltava/v1\nkind: Pipeline\nmetadata: {{ name: numbers, workspace: {workspace} }}\nspec:\n  \
             sources: [{{ topic: {raw} }}]\n  steps: [{{ name: times, transform: double }}]\n  target: {{ topic: {out} }}\n"
        );
        std::fs::write(flow.join("rest.yaml"), rest).unwrap();
        std::fs::write(flow.join("double.yaml"), manifest(&workspace, "{ \"n\": n, \"twice\": n * 2 }"))
            .unwrap();
        let numbers = Self { platform, workspace, dir };
        numbers.vltava(&["apply", "-f", flow.to_str().unwrap()], 0);
        let event = |n: u32| {
            if n.is_multiple_of(3) { format!("{{\"n\":\"{n}\"}}\n") } else { format!("{{\"n\":{n}}}\n") }
        };
        let events = numbers.file("events.ndjson", &(0..12).map(event).collect::<String>());
        numbers.vltava(&["send", &raw, &events], 0);
        numbers
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn vltava(&self, arguments: &[&str], status: i32) -> Output {
        let output = binary().args(arguments).args(["--url", &self.platform.url]).output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}:\n{out}\n{err}\n{}",
            log_of(self.dir.path())
        );
        output
    }

    fn backtest(&self, arguments: &[&str], status: i32) -> (String, String) {
        let name = format!("{}/numbers", self.workspace);
        let output = self.vltava(&[&["backtest", &name], arguments].concat(), status);
        (text(&output.stdout), text(&output.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_exit_status_says_whether_a_candidate_changes_or_fails_more_than_it_may() {
    let on = Numbers::start();
    let mended =
        on.file("mended.yaml", &manifest(&on.workspace, "{ \"twice\": $number(n) * 2.0, \"n\": n }"));
    let (out, _) = on.backtest(&["--transform", &mended], 0);
    for line in ["same 8", "changed 0", "fixed failures 4", "compared 12 record(s)", "ok:"] {
        assert!(
            out.split_whitespace().collect::<Vec<_>>().join(" ").contains(line),
            "{line:?} isn't in\n{out}"
        );
    }
    assert!(out.contains("fixed failure  dev.") && out.contains("T2001"), "{out}");

    let three = on.file("three.jsonata", "{ \"n\": n, \"twice\": n * 3, \"new\": true }");
    let (out, _) = on.backtest(&["--transform", &three], 1);
    assert!(out.contains("-   \"twice\": ") && out.contains("+   \"new\": true,"), "{out}");
    assert!(out.contains("not ok: 8 record(s) changed; 0 may (--max-changed)"), "{out}");
    on.backtest(&["--transform", &three, "--max-changed", "8"], 0);
    on.backtest(&["--transform", &three, "--max-changed", "50%"], 1);
    on.backtest(&["--transform", &three, "--where", "n = '3'"], 0);

    let fails = on.file("fails.jsonata", "n > 5 ? $error('too much') : { \"n\": n, \"twice\": n * 2 }");
    let (out, _) = on.backtest(&["--transform", &fails, "--json"], 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["counts"]["same"], &report["counts"]["newFailures"]),
        (&4.into(), &4.into()),
        "{report}"
    );
    assert_eq!((&report["verdict"]["holds"], &report["verdict"]["failed"]), (&false.into(), &4.into()));
    on.backtest(&["--transform", &fails, "--max-failed", "4", "--json"], 0);
    on.backtest(&["--transform", &fails, "--where", "n > 1000"], 1);

    // Nothing of all that is the pipeline's doing.
    let (out, _) = on.backtest(&["--version", "1"], 0);
    assert!(out.contains("double@1 beside double@1"), "{out}");
}

#[test]
fn what_is_wrong_is_said_on_standard_error() {
    let on = Numbers::start();
    let broken = on.file("broken.jsonata", "{ \"n\": n");
    let (out, err) = on.backtest(&["--transform", &broken], 1);
    assert!(out.is_empty() && err.contains("broken.jsonata: S0203") && err.contains('^'), "{out}{err}");
    let other = on.file("other.yaml", &manifest(&on.workspace, "n").replace("double", "triple"));
    let (_, err) = on.backtest(&["--transform", &other], 1);
    assert!(
        err.contains("no step of pipeline numbers uses transform \"triple\"") && err.contains("times"),
        "{err}"
    );
    on.backtest(&["--transform", &other, "--step", "times", "--max-changed", "100%"], 0);
    let good = on.file("good.jsonata", "n");
    let (_, err) =
        on.backtest(&["--transform", &good, "--where", "n >", "--since", "soon", "--samples", "21"], 1);
    for place in ["/where: S0207", "/since: \"soon\"", "/samples: is 21"] {
        assert!(err.contains(place), "{place:?} isn't in {err}");
    }
    on.backtest(&[], 2);
    on.backtest(&["--transform", &good, "--max-failed", "few"], 2);
    let (_, err) = on.backtest(&["--transform", on.dir.path().join("flow/rest.yaml").to_str().unwrap()], 1);
    assert!(err.contains("has no transform"), "{err}");
}

#[test]
fn a_process_that_stops_waits_for_no_backtest() {
    let on = Numbers::start();
    let address =
        format!("{}/api/v1/workspaces/{}/pipelines/numbers:backtest", on.platform.url, on.workspace);
    // A good part of a second a record.
    let body = serde_json::json!({ "expression": "$count([1..1500000].($ * 2)) > 0 ? n" });
    let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = threads.block_on(async {
        let request = client(Duration::from_secs(30)).post(&address).json(&body);
        let mut response = request.send().await.unwrap();
        let mut answer = response.chunk().await.unwrap().unwrap().to_vec();
        on.platform.ask_to_stop();
        let asked = Instant::now();
        while let Some(more) = response.chunk().await.unwrap() {
            answer.extend_from_slice(&more);
        }
        let answer = text(&answer);
        let last: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
        assert!(last["error"]["detail"].as_str().unwrap().contains("the process stops"), "{answer}");
        asked
    });
    assert!(on.platform.terminate(Duration::from_secs(30)).success(), "{}", log_of(on.dir.path()));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}
