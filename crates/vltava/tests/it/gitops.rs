//! `vltava plan`, `apply`, `export` and `drift` as scripts and people see them.

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

#[test]
fn what_exists_is_exported_and_plans_to_no_change() {
    let stand = Stand::start();
    let workspace = &stand.workspace;
    stand.write(
        "more.yaml",
        &format!(
            "apiVersion: vltava/v1\nkind: Workspace\nmetadata: {{ name: {workspace}, labels: {{ team: a }} }}\n---\n\
             apiVersion: vltava/v1\nkind: Connector\nmetadata: {{ name: out, workspace: {workspace} }}\nspec:\n  \
             plugin: http-sink\n  topics: [dev.{workspace}.n.out]\n  config: {{ http.url: 'https://hooks.example/', \
             http.signing.secret: '${{env:HOOK}}' }}\n"
        ),
    );
    let mine = ["--source", "acme/flows"];
    stand.run("apply", &mine, 0);
    let out = stand.folder.with_file_name("exported");
    let done = |output: Output| text(&output.stdout);
    assert_eq!(done(stand.run_on(&out, "export", &mine, 0)), "exported: 6 written, 0 unchanged\n");
    assert_eq!(done(stand.run_on(&out, "export", &mine, 0)), "exported: 0 written, 6 unchanged\n");
    let planned = stand.run_on(&out, "plan", &[&mine[..], &["--prune", "--exit-code"]].concat(), 0);
    assert_eq!(done(planned), "plan: 6 unchanged\n");

    let read = |name: &str| std::fs::read_to_string(out.join(workspace).join(name)).unwrap();
    assert!(
        read("transforms/shape.yaml").ends_with("spec:\n  expression: |\n    {\n      \"n\": n\n    }\n")
    );
    assert!(read("connectors/out.yaml").contains("http.signing.secret: \"${env:HOOK}\"\n"));
    assert!(!read("pipelines/numbers.yaml").contains("version:"), "the newest is what an absent one means");
    assert!(read("workspace.yaml").contains("team: a"));

    // What stands in the way of a file that others wrote is said, and nothing is written.
    std::fs::write(out.join(workspace).join("workspace.yaml"), "# mine\n").unwrap();
    let err = text(&stand.run_on(&out, "export", &mine, 1).stderr);
    assert!(err.contains("workspace.yaml") && err.contains("--force"), "{err}");
    stand.run_on(&out, "export", &["--force"], 0);
    let topics =
        done(stand.run_on(Path::new("-"), "export", &["--kind", "topics", "--workspace", workspace], 0));
    assert_eq!(topics.matches("kind: Topic\n").count(), 2, "{topics}");
    assert_eq!(topics.matches("---\n").count(), 1, "{topics}");
    // An older version that a pipeline runs stays written.
    stand.write("shape.yaml", &stand.transform("shape", "n + 1"));
    std::fs::remove_file(stand.folder.join("pipeline.json")).unwrap();
    stand.run("apply", &mine, 0);
    stand.run_on(&out, "export", &mine, 0);
    assert!(read("pipelines/numbers.yaml").contains("version: 1\n"), "{}", read("pipelines/numbers.yaml"));
    stand.run_on(&out, "plan", &[&mine[..], &["--exit-code"]].concat(), 0);
    stand.run_on(&out, "export", &["--workspace", "nobody"], 1);
    stand.run_on(&out, "export", &["--kind", "redrive"], 2);
}

#[test]
fn a_topic_that_is_changed_by_kafkas_protocol_is_drift() {
    let stand = Stand::start();
    stand.run("apply", &[], 0);
    let workspace = &stand.workspace;
    let drift = |extra: &[&str], status: i32| {
        let output = binary().args(["drift", "--url", &stand.platform.url]).args(extra).output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
        out
    };
    let none = "no drift: topics in the engine are as their resources say\n";
    assert_eq!(drift(&["--exit-code", "--workspace", workspace], 0), none);
    let name = types::TopicName::new(&format!("dev.{workspace}.n.raw")).unwrap();
    let change = async {
        let client = kafka::ClientConfig::new(&stand.platform.kafka, "somebody");
        let admin = kafka::Admin::new(&client).unwrap();
        admin.alter_config(&name, &[("retention.ms".into(), Some("5000".into()))]).await.unwrap();
        admin.create_partitions(&name, 5).await.unwrap();
    };
    tokio::runtime::Runtime::new().unwrap().block_on(change);
    // The reconciler looks every ten seconds.
    let begun = std::time::Instant::now();
    while drift(&["--workspace", workspace], 0) == none {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "never seen");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let shown = drift(&["--exit-code", "--workspace", workspace], 2);
    assert!(shown.contains("the engine has 5 partitions, the spec says 3"), "{shown}");
    assert!(shown.contains("retention.ms is set in the engine, but not in the spec"), "{shown}");
    let answer: Value = serde_json::from_str(&drift(&["--json"], 0)).unwrap();
    let kinds: Vec<&Value> =
        answer["items"][0]["drift"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["differs", "unmanaged"]);
    // Nothing that a folder says is other than it was.
    stand.run("plan", &["--exit-code"], 0);
}

/// Of the large folder.
const TOPICS: usize = 500;
const PIPELINES: usize = 200;
/// What is promised on a machine of one's own is 10 s and 1 s; tests share theirs.
const APPLIED_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);
const PLANNED_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

#[test]
fn a_large_folder_is_applied_and_planned_again_in_time() {
    let stand = Stand::start();
    let workspace = &stand.workspace;
    let topic = |i: usize| format!("dev.{workspace}.s{i}.raw");
    let manifest = |kind: &str, name: &str, spec: Value| {
        serde_json::json!({
            "apiVersion": "vltava/v1", "kind": kind, "metadata": {"name": name, "workspace": workspace}, "spec": spec,
        })
    };
    let mut set: Vec<Value> =
        (0..TOPICS).map(|i| manifest("Topic", &topic(i), serde_json::json!({"partitions": 1}))).collect();
    for i in 0..PIPELINES {
        let name = format!("p{i}");
        let steps = serde_json::json!([{"name": "s", "transform": name}]);
        set.push(manifest("Transform", &name, serde_json::json!({"expression": "{\"n\": n}"})));
        let spec = serde_json::json!({
            "sources": [{"topic": topic(i)}], "steps": steps, "target": {"topic": topic(i + PIPELINES)},
        });
        set.push(manifest("Pipeline", &name, spec));
    }
    let file = stand.folder.with_file_name("large.json");
    std::fs::write(&file, Value::Array(set).to_string()).unwrap();
    let begun = std::time::Instant::now();
    let applied = text(&stand.run_on(&file, "apply", &[], 0).stdout);
    let applied_in = begun.elapsed();
    assert!(applied.ends_with(&format!("applied: {} created\n", TOPICS + 2 * PIPELINES)), "{applied}");
    let begun = std::time::Instant::now();
    stand.run_on(&file, "plan", &["--exit-code"], 0);
    let planned_in = begun.elapsed();
    assert!(
        applied_in < APPLIED_WITHIN && planned_in < PLANNED_WITHIN,
        "applied in {applied_in:?}, planned in {planned_in:?}"
    );
}
