//! `vltava plan` and `apply` as scripts and people see them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::process::{Platform, binary};

/// A platform and a folder of manifests in a workspace of its own.
struct Stand {
    platform: Platform,
    workspace: String,
    folder: PathBuf,
    _dir: TempDir,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Stand {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let platform = Platform::start(dir.path(), &[]);
        let workspace = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]);
        let folder = dir.path().join("flows");
        std::fs::create_dir_all(folder.join("deep/er")).unwrap();
        let stand = Self { platform, workspace, folder, _dir: dir };
        stand.write("deep/er/topics.yaml", &stand.topics(3));
        stand.write("shape.yaml", &stand.transform("shape", "{\n  \"n\": n\n}"));
        stand.write("pipeline.json", &stand.pipeline("numbers"));
        stand
    }

    fn topics(&self, partitions: u32) -> String {
        let Self { workspace, .. } = self;
        format!(
            "apiVersion: vltava/v1\nkind: Topic\nmetadata: {{ name: dev.{workspace}.n.raw, workspace: {workspace} }}\n\
             spec: {{ partitions: {partitions} }}\n---\n\
             apiVersion: vltava/v1\nkind: Topic\nmetadata: {{ name: dev.{workspace}.n.out, workspace: {workspace} }}\n"
        )
    }

    fn transform(&self, name: &str, expression: &str) -> String {
        let expression = expression.replace('\n', "\n    ");
        format!(
            "apiVersion: vltava/v1\nkind: Transform\nmetadata: {{ name: {name}, workspace: {} }}\nspec:\n  \
             expression: |\n    {expression}\n",
            self.workspace
        )
    }

    fn pipeline(&self, name: &str) -> String {
        let Self { workspace, .. } = self;
        serde_json::json!({
            "apiVersion": "vltava/v1", "kind": "Pipeline", "metadata": {"name": name, "workspace": workspace},
            "spec": {
                "sources": [{"topic": format!("dev.{workspace}.n.raw")}],
                "steps": [{"name": "s", "transform": "shape"}],
                "target": {"topic": format!("dev.{workspace}.n.out")},
            },
        })
        .to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn run(&self, verb: &str, extra: &[&str], status: i32) -> Output {
        self.run_on(&self.folder, verb, extra, status)
    }

    fn run_on(&self, path: &Path, verb: &str, extra: &[&str], status: i32) -> Output {
        let mut command = binary();
        command.args([verb, "-f"]).arg(path).args(["--url", &self.platform.url]).args(extra);
        let output = command.output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{verb} {extra:?}\n{out}\n{err}");
        output
    }
}

#[test]
fn a_folder_is_planned_applied_and_planned_to_nothing() {
    let stand = Stand::start();
    let workspace = &stand.workspace;
    let planned = stand.run("plan", &["--exit-code"], 2);
    let shown = text(&planned.stdout);
    let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        format!("create  Topic {workspace}/dev.{workspace}.n.raw"),
        format!("create  Topic {workspace}/dev.{workspace}.n.out"),
        format!("create  Transform {workspace}/shape"),
        format!("create  Pipeline {workspace}/numbers"),
        "plan: 4 to create".to_owned(),
    ];
    assert_eq!(lines, expected);
    stand.run("plan", &[], 0);
    let dry = stand.run("apply", &["--dry-run"], 0);
    assert!(text(&dry.stdout).ends_with("plan: 4 to create\n"));

    let applied = stand.run("apply", &[], 0);
    assert!(text(&applied.stdout).ends_with("applied: 4 created\n"), "{}", text(&applied.stdout));
    assert_eq!(text(&stand.run("apply", &[], 0).stdout), "applied: 4 unchanged\n");
    assert_eq!(text(&stand.run("plan", &["--exit-code"], 0).stdout), "plan: 4 unchanged\n");

    stand.write("shape.yaml", &stand.transform("shape", "{\n  \"n\": n + 1\n}"));
    let planned = text(&stand.run("plan", &["--exit-code"], 2).stdout);
    let diff = "          /spec/expression\n             {\n            -  \"n\": n\n            +  \"n\": n + 1\n             }\n";
    assert!(planned.contains(diff), "{planned}");
    assert!(planned.contains("          /spec/steps/0/version  1 -> 2\n"), "{planned}");
    assert!(!planned.contains('\u{1b}'), "{planned}");
    assert!(planned.ends_with("plan: 2 to update, 2 unchanged\n"), "{planned}");
    let answer: Value = serde_json::from_slice(&stand.run("plan", &["--json"], 0).stdout).unwrap();
    assert_eq!(answer["summary"]["update"], 2);
    let answer: Value = serde_json::from_slice(&stand.run("apply", &["--json"], 0).stdout).unwrap();
    assert_eq!((&answer["complete"], &answer["summary"]["changed"]), (&true.into(), &2.into()));
}

#[test]
fn problems_of_the_server_stand_where_they_are_in_the_files() {
    let stand = Stand::start();
    stand.write("shape.yaml", &stand.transform("shape", "{\n  \"n\":\n}"));
    stand.write("more.yaml", &stand.topics(4).replace(".n.", ".n"));
    for (verb, extra) in [("plan", &[][..]), ("plan", &["--exit-code", "--json"]), ("apply", &[])] {
        let err = text(&stand.run(verb, extra, 1).stderr);
        assert!(err.contains("3 problem(s), nothing was applied"), "{err}");
        assert!(err.contains("shape.yaml:6: Transform shape: /spec/expression: "), "{err}");
        assert!(err.contains("more.yaml:3: Topic "), "{err}");
    }
    // What needs no server is said without one, and before it is asked.
    stand.write("shape.yaml", "kind: Transform\n");
    let nowhere = binary()
        .args(["plan", "--url", "http://127.0.0.1:1", "-f", stand.folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("shape.yaml:1: /apiVersion: "), "{}", text(&nowhere.stderr));
}

#[test]
fn sources_own_what_they_apply_and_prune_what_they_left() {
    let stand = Stand::start();
    let workspace = &stand.workspace;
    stand.run("apply", &["--source", "acme/flows"], 0);
    let err = text(&stand.run("apply", &["--source", "others"], 1).stderr);
    assert!(
        err.contains("is owned by source acme/flows") && err.contains("pipeline.json: Pipeline"),
        "{err}"
    );
    assert!(text(&stand.run("apply", &[], 1).stderr).contains("acme/flows"));
    // Every folder has the default source: it prunes nothing.
    assert!(text(&stand.run("apply", &["--prune"], 2).stderr).contains("--source"));

    std::fs::remove_file(stand.folder.join("pipeline.json")).unwrap();
    let mine = ["--source", "acme/flows"];
    let left = stand.run("plan", &[&mine[..], &["--exit-code"]].concat(), 0);
    assert!(text(&left.stderr).contains(&format!("Pipeline {workspace}/numbers")), "{}", text(&left.stderr));
    let pruning = [&mine[..], &["--prune"]].concat();
    let planned = text(&stand.run("plan", &pruning, 0).stdout);
    assert!(planned.contains(&format!("delete  Pipeline {workspace}/numbers\n")), "{planned}");
    assert!(planned.contains("warning: made again, it begins anew"), "{planned}");
    assert!(text(&stand.run("apply", &pruning, 0).stdout).ends_with("applied: 1 deleted, 3 unchanged\n"));

    let taking = stand.run("apply", &["--source", "others", "--take-ownership"], 0);
    assert!(text(&taking.stdout).ends_with("applied: 3 changed\n"), "{}", text(&taking.stdout));
    assert!(text(&stand.run("apply", &mine, 1).stderr).contains("owned by source others"));
}

#[test]
fn a_set_comes_by_standard_input_too() {
    let stand = Stand::start();
    let all = format!("{}---\n{}", stand.topics(3), stand.transform("shape", "n"));
    let mut command = binary();
    command.args(["apply", "-f", "-", "--url", &stand.platform.url]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).ends_with("applied: 3 created\n"), "{}", text(&output.stdout));
    // Nothing there: a mistake, not an empty set.
    let nothing = stand.run_on(Path::new("-"), "plan", &[], 1);
    assert!(text(&nothing.stderr).contains("(standard input): no manifests"), "{}", text(&nothing.stderr));
}
