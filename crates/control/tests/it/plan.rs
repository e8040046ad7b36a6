//! Sets of manifests: planned, applied, owned, pruned.

use std::sync::Arc;

use control::{Config, NoStages};
use parking_lot::Mutex;
use resources::Kind;
use serde_json::{Value, json};
use store::{Document, Expected, Key, Pending, Query, Read, Store};
use tokio::sync::watch;
use types::{InstallationId, Uid};

use crate::plane::{Answer, Plane, connector, path, pipeline, topic, transform, workspace};

const RAW: &str = "dev.demo.github.raw";
const ENRICHED: &str = "dev.demo.github.enriched";

/// A flow, what is named behind what names it.
fn flow(expression: &str) -> Vec<Value> {
    vec![
        connector("out", ENRICHED, json!({"http.url": "https://hooks.example/"})),
        pipeline("p", RAW, "t", ENRICHED),
        transform("t", expression),
        topic(ENRICHED, json!({})),
        topic(RAW, json!({"partitions": 3})),
        workspace("demo"),
    ]
}

fn asked(manifests: &[Value]) -> Value {
    json!({ "manifests": manifests, "source": "team" })
}

fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
    body[name] = value.into();
    body
}

async fn plan(plane: &Plane, body: &Value) -> Value {
    plane.post(":plan", body).await.is(200).body
}

async fn apply(plane: &Plane, body: &Value) -> Value {
    plane.post(":apply", body).await.is(200).body
}

/// `action Kind name`, or `outcome Kind name`, of all but what stays as it is.
#[track_caller]
fn told(answer: &Value) -> Vec<String> {
    let list = answer.get("changes").or(answer.get("results")).and_then(Value::as_array);
    let text = |one: &Value, name: &str| one[name].as_str().unwrap_or("?").to_owned();
    let all = list.unwrap_or_else(|| panic!("{answer}")).iter().map(|one| {
        let did = one.get("action").or(one.get("outcome")).and_then(Value::as_str).unwrap();
        format!("{did} {} {}", text(one, "kind"), text(one, "name"))
    });
    all.filter(|one| !one.starts_with("unchanged")).collect()
}

fn one<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let list = answer.get("changes").or(answer.get("results")).and_then(Value::as_array).unwrap();
    list.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

/// Codes of problems or warnings, with names.
fn codes(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap_or_else(|| panic!("{list}")).iter();
    all.map(|one| format!("{} {}", one["code"].as_str().unwrap(), one["name"].as_str().unwrap_or("")))
        .map(|text| text.trim().to_owned())
        .collect()
}

async fn managed_by(plane: &Plane, manifest: &Value) -> String {
    let body = plane.get(&path(manifest)).await.is(200).body;
    body["metadata"]["managedBy"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_plan_writes_nothing_and_an_apply_does_what_it_said_once() {
    let plane = Plane::new().await;
    let set = asked(&flow("a"));
    let planned = plan(&plane, &set).await;
    let all = [
        "create Workspace demo",
        "create Topic dev.demo.github.enriched",
        "create Topic dev.demo.github.raw",
        "create Transform t",
        "create Pipeline p",
        "create Connector out",
    ];
    assert_eq!(told(&planned), all);
    assert_eq!((&planned["problems"], &planned["orphans"]), (&json!([]), &json!([])));
    assert_eq!(planned["summary"]["create"], 6);
    assert_eq!(one(&planned, "p")["index"], 1);
    let fields = one(&planned, RAW)["fields"].as_array().unwrap();
    assert!(fields.contains(&json!({"pointer": "/spec/partitions", "new": 3})), "{fields:?}");
    assert!(fields.contains(&json!({"pointer": "/metadata/managedBy", "new": "team"})), "{fields:?}");
    assert_eq!(plane.store.sequence().await.unwrap(), 0);

    let applied = apply(&plane, &set).await;
    assert_eq!(told(&applied), all.map(|one| one.replace("create", "created")));
    assert_eq!((&applied["complete"], &applied["summary"]["created"]), (&json!(true), &json!(6)));
    assert_eq!(managed_by(&plane, &flow("a")[1]).await, "team");
    let sequence = plane.store.sequence().await.unwrap();

    let again = apply(&plane, &set).await;
    assert_eq!(told(&again), Vec::<String>::new());
    assert_eq!((&again["complete"], &again["summary"]["unchanged"]), (&json!(true), &json!(6)));
    assert_eq!(plan(&plane, &set).await["summary"]["unchanged"], 6);
    assert_eq!(plane.store.sequence().await.unwrap(), sequence, "nothing was written");
}

#[tokio::test]
async fn a_change_is_shown_with_old_and_new_and_what_it_entails() {
    let plane = Plane::new().await;
    apply(&plane, &asked(&flow("a"))).await;
    let mut changed = flow("b");
    changed[1]["spec"]["sources"] = json!([{"topic": RAW}, {"topic": "dev.demo.more.raw", "from": "latest"}]);
    changed[4]["spec"] = json!({"partitions": 4});
    let planned = plan(&plane, &asked(&changed)).await;
    assert_eq!(
        told(&planned),
        ["update Topic dev.demo.github.raw", "update Transform t", "update Pipeline p"]
    );
    assert_eq!(
        one(&planned, "t")["fields"],
        json!([{"pointer": "/spec/expression", "old": "a", "new": "b"}])
    );
    let fields = one(&planned, "p")["fields"].as_array().unwrap();
    assert_eq!(fields[0]["pointer"], "/spec/sources");
    // The version that will be is known before it is.
    assert_eq!(fields[1], json!({"pointer": "/spec/steps/0/version", "old": 1, "new": 2}));
    assert_eq!(codes(&one(&planned, "p")["warnings"]), ["offsets"]);
    assert_eq!(codes(&one(&planned, RAW)["warnings"]), ["moves_keys"]);
    apply(&plane, &asked(&changed)).await;
    assert_eq!(plane.get(&path(&changed[1])).await.body["spec"]["steps"][0]["version"], 2);
    assert_eq!(told(&plan(&plane, &asked(&changed)).await), Vec::<String>::new());
}

#[tokio::test]
async fn all_problems_of_all_manifests_are_reported_and_nothing_is_written() {
    let plane = Plane::new().await;
    let mut wrong = flow("a +");
    wrong[2]["spec"]["tests"] = json!([]);
    wrong[0]["spec"]["plugin"] = json!("smoke-signals");
    wrong[4]["spec"] = json!({"partitions": 0, "colour": "red"});
    wrong.push(topic("outlandish", json!({})));
    wrong.push(wrong[3].clone());
    wrong.push(json!("no manifest"));
    let planned = plan(&plane, &asked(&wrong)).await;
    let mut found: Vec<String> = planned["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!("{} {} {}", one["index"], one["pointer"].as_str().unwrap(), one["code"].as_str().unwrap())
        })
        .collect();
    found.sort();
    let expected = [
        "0 /spec/plugin not_found",
        "2 /spec/expression expression_invalid",
        "4 /spec/colour unknown_field",
        "4 /spec/partitions invalid_value",
        "6 /metadata/name naming_policy",
        "7 /metadata/name duplicate",
        "8  wrong_type",
    ];
    assert_eq!(found, expected, "{planned:#}");
    let refused = plane.post(":apply", &asked(&wrong)).await.is(422);
    assert_eq!(refused.body["code"], "invalid_manifests");
    assert_eq!(refused.body["problems"].as_array().unwrap().len(), expected.len());
    assert_eq!(plane.store.sequence().await.unwrap(), 0);

    // A failing test case stands in the way as it does of a PUT.
    let mut tested = flow("a");
    tested[2]["spec"]["tests"] = json!([{"name": "one", "input": {"a": 1}, "expected": 2}]);
    let refused = plane.post(":apply", &asked(&tested)).await.is(422);
    assert_eq!(codes(&refused.body["problems"]), ["test_failed t"]);
}

#[tokio::test]
async fn requests_that_say_nothing_are_refused() {
    let plane = Plane::new().await;
    let detail = |answer: Answer| answer.body["detail"].as_str().unwrap().to_owned();
    for source in ["api", "console", "", "a b"] {
        let body = json!({"manifests": [], "source": source});
        let why = detail(plane.post(":plan", &body).await.is(400));
        assert!(why.contains(&format!("source {source:?}")), "{why}");
        plane.post(":apply", &body).await.is(400);
    }
    for body in [json!({}), json!([]), json!({"manifests": []}), with(asked(&[]), "prun", true)] {
        plane.post(":plan", &body).await.is(400);
    }
    let many = asked(&vec![json!(0); resources::MANIFESTS_MAX + 1]);
    assert!(detail(plane.post(":plan", &many).await.is(400)).contains("10000"));
    assert_eq!(told(&apply(&plane, &asked(&[])).await), Vec::<String>::new());
}

#[tokio::test]
async fn what_another_source_owns_is_left_alone_until_it_is_taken() {
    let plane = Plane::new().await;
    apply(&plane, &asked(&flow("a"))).await;
    let theirs = with(asked(&flow("b")[2..5]), "source", "others");
    let planned = plan(&plane, &theirs).await;
    assert_eq!(codes(&planned["problems"]).len(), 3);
    assert!(planned["problems"][0]["message"].as_str().unwrap().contains("source team"), "{planned}");
    let refused = plane.post(":apply", &theirs).await.is(409);
    assert_eq!(refused.body["code"], "owned");
    assert_eq!(managed_by(&plane, &flow("a")[2]).await, "team");

    let taking = with(theirs, "takeOwnership", true);
    let planned = plan(&plane, &taking).await;
    let owner = json!({"pointer": "/metadata/managedBy", "old": "team", "new": "others"});
    assert_eq!(one(&planned, RAW)["fields"], json!([owner]));
    assert_eq!(apply(&plane, &taking).await["summary"]["changed"], 3);
    assert_eq!(managed_by(&plane, &flow("a")[2]).await, "others");
    // A change of the owner alone is no new generation.
    assert_eq!(plane.get(&path(&flow("a")[4])).await.body["metadata"]["generation"], 1);
    assert_eq!(told(&apply(&plane, &taking).await), Vec::<String>::new());

    // What people made by hand is nobody's, and who names it in a set gets it.
    let hand = topic("dev.demo.by.hand", json!({}));
    plane.put("", &hand).await.is(201);
    let planned = plan(&plane, &asked(std::slice::from_ref(&hand))).await;
    assert_eq!(told(&planned), ["update Topic dev.demo.by.hand"]);
    apply(&plane, &asked(std::slice::from_ref(&hand))).await;
    assert_eq!(managed_by(&plane, &hand).await, "team");
    // People may still change it; they are told, and the next plan shows it.
    let by_hand = topic("dev.demo.by.hand", json!({"partitions": 20}));
    let put = plane.put("", &by_hand).await.is(200);
    assert!(put.header("x-vltava-warning").contains("source team"), "{put:?}");
    assert_eq!(managed_by(&plane, &hand).await, "team");
}

#[tokio::test]
async fn only_orphans_of_the_source_are_pruned_and_only_when_asked() {
    let plane = Plane::new().await;
    apply(&plane, &asked(&flow("a"))).await;
    let other = topic("dev.demo.theirs.raw", json!({}));
    apply(&plane, &with(asked(std::slice::from_ref(&other)), "source", "others")).await;
    let hand = topic("dev.demo.by.hand", json!({}));
    plane.put("", &hand).await.is(201);

    let left = &flow("a")[3..];
    let planned = plan(&plane, &asked(left)).await;
    assert_eq!(told(&planned), Vec::<String>::new());
    let orphans: Vec<_> = planned["orphans"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(orphans, ["out", "p", "t"]);
    assert_eq!(apply(&plane, &asked(left)).await["orphans"], planned["orphans"]);
    plane.get(&path(&flow("a")[0])).await.is(200);

    let pruning = with(asked(left), "prune", true);
    let planned = plan(&plane, &pruning).await;
    assert_eq!(told(&planned), ["delete Connector out", "delete Pipeline p", "delete Transform t"]);
    assert_eq!(codes(&one(&planned, "p")["warnings"]), ["offsets"]);
    let applied = apply(&plane, &pruning).await;
    assert_eq!(told(&applied), ["deleted Connector out", "deleted Pipeline p", "deleted Transform t"]);
    plane.get(&path(&flow("a")[1])).await.is(404);
    assert_eq!(told(&apply(&plane, &pruning).await), Vec::<String>::new());
    plane.get(&path(&other)).await.is(200);
    plane.get(&path(&hand)).await.is(200);
}

#[tokio::test]
async fn what_others_name_is_not_pruned() {
    let plane = Plane::new().await;
    apply(&plane, &asked(&flow("a"))).await;
    plane.put("", &pipeline("mine", RAW, "t", "dev.demo.mine.out")).await.is(201);
    let pruning = with(asked(&[]), "prune", true);
    let planned = plan(&plane, &pruning).await;
    assert_eq!(
        codes(&planned["problems"]),
        ["in_use demo", "in_use dev.demo.github.raw", "in_use t"].map(String::from)
    );
    assert!(planned["problems"][1]["message"].as_str().unwrap().contains("Pipeline mine"), "{planned}");
    assert_eq!(plane.post(":apply", &pruning).await.is(422).body["code"], "invalid_manifests");
    plane.get(&path(&flow("a")[0])).await.is(200);

    // Without it all can go, what names before what is named.
    plane.delete("/workspaces/demo/pipelines/mine").await.is(204);
    let mut chain = flow("a");
    chain.push(topic("dev.demo.letters", json!({"partitions": 1})));
    chain[4]["spec"] = json!({"partitions": 3, "deadLetter": "dev.demo.letters"});
    let chain: Vec<Value> = chain
        .into_iter()
        .map(|mut one| {
            if one["kind"] == "Workspace" {
                one["spec"] = json!({"topicNaming": "any"});
            }
            one
        })
        .collect();
    apply(&plane, &asked(&chain)).await;
    let gone = told(&apply(&plane, &pruning).await);
    assert_eq!(gone.len(), 7);
    let at = |name: &str| gone.iter().position(|one| one.ends_with(name)).unwrap();
    assert!(at("out") < at(ENRICHED) && at(" p") < at(" t") && at(RAW) < at("dev.demo.letters"), "{gone:?}");
    assert_eq!(gone.last().unwrap(), "deleted Workspace demo");
}

#[tokio::test]
async fn renames_are_seen_where_there_is_no_doubt() {
    let plane = Plane::new().await;
    let mut set = flow("a");
    apply(&plane, &asked(&set)).await;
    set[1]["metadata"]["name"] = json!("better");
    assert_eq!(told(&plan(&plane, &asked(&set)).await), ["create Pipeline better"]);
    let pruning = with(asked(&set), "prune", true);
    let planned = plan(&plane, &pruning).await;
    assert_eq!(told(&planned), ["rename Pipeline better"]);
    assert_eq!(one(&planned, "better")["from"], "p");
    assert_eq!(codes(&one(&planned, "better")["warnings"]), ["offsets"]);
    assert_eq!(told(&apply(&plane, &pruning).await), ["renamed Pipeline better"]);
    plane.get("/workspaces/demo/pipelines/p").await.is(404);
    plane.get("/workspaces/demo/pipelines/better").await.is(200);
    assert_eq!(told(&apply(&plane, &pruning).await), Vec::<String>::new());

    // Two of the same spec: which one it was nobody can say.
    let mut set = set[2..].to_vec();
    set.push(pipeline("one", RAW, "t", ENRICHED));
    set.push(pipeline("two", RAW, "t", ENRICHED));
    let planned = plan(&plane, &with(asked(&set), "prune", true)).await;
    let pipelines: Vec<_> = told(&planned).into_iter().filter(|one| one.contains("Pipeline")).collect();
    assert_eq!(pipelines, ["create Pipeline one", "create Pipeline two", "delete Pipeline better"]);
}

/// A store in which somebody else writes just before a certain write.
struct Meddled {
    inner: Arc<dyn Store>,
    /// Before this one is put, that one is changed, once.
    before: Key,
    change: Mutex<Option<Key>>,
}

impl Read for Meddled {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Document>> {
        self.inner.get(key)
    }
    fn list(&self, query: Query) -> Pending<'_, Vec<Document>> {
        self.inner.list(query)
    }
    fn version(&self, owner: Uid, number: u32) -> Pending<'_, Option<Value>> {
        self.inner.version(owner, number)
    }
    fn versions(&self, owner: Uid, limit: usize) -> Pending<'_, Vec<(u32, Value)>> {
        self.inner.versions(owner, limit)
    }
}

impl Store for Meddled {
    fn installation(&self) -> InstallationId {
        self.inner.installation()
    }
    fn put<'a>(&'a self, key: &'a Key, expected: Expected, body: &'a Value) -> Pending<'a, u64> {
        Box::pin(async move {
            let change = self.change.lock().take_if(|_| *key == self.before);
            if let Some(other) = change
                && let Some(mut document) = self.inner.get(&other).await?
            {
                document.body["metadata"]["labels"] = json!({"by": "somebody"});
                self.inner.put(&other, Expected::Revision(document.revision), &document.body).await?;
            }
            self.inner.put(key, expected, body).await
        })
    }
    fn delete<'a>(&'a self, key: &'a Key, revision: u64) -> Pending<'a, ()> {
        self.inner.delete(key, revision)
    }
    fn put_version<'a>(&'a self, owner: Uid, number: u32, body: &'a Value) -> Pending<'a, ()> {
        self.inner.put_version(owner, number, body)
    }
    fn delete_versions(&self, owner: Uid) -> Pending<'_, ()> {
        self.inner.delete_versions(owner)
    }
    fn sequence(&self) -> Pending<'_, u64> {
        self.inner.sequence()
    }
    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.watch()
    }
    fn close(&self) -> Pending<'_, ()> {
        self.inner.close()
    }
}

#[tokio::test]
async fn a_change_between_plan_and_write_is_a_conflict_of_that_resource() {
    let meddled = |inner| -> Arc<dyn Store> {
        let change = Mutex::new(None);
        Arc::new(Meddled { inner, before: Key::new("demo", Kind::Topic, RAW), change })
    };
    let plane = Plane::over("127.0.0.1:9", Config::default(), Arc::new(NoStages), meddled).await;
    apply(&plane, &asked(&flow("a"))).await;
    // The meddler of the next plane stands over the same store.
    let inner = Arc::clone(&plane.store);
    let meddled = |_| -> Arc<dyn Store> {
        let change = Mutex::new(Some(Key::new("demo", Kind::Transform, "t")));
        Arc::new(Meddled { inner, before: Key::new("demo", Kind::Topic, RAW), change })
    };
    let second = Plane::over("127.0.0.1:9", Config::default(), Arc::new(NoStages), meddled).await;

    let mut changed = flow("b");
    changed[4]["spec"] = json!({"partitions": 4});
    changed.remove(0);
    let set = with(asked(&changed), "prune", true);
    let partial = second.post(":apply", &set).await.is(207).body;
    let all = [
        "changed Topic dev.demo.github.raw",
        "failed Transform t",
        "skipped Pipeline p",
        "skipped Connector out",
    ];
    assert_eq!(told(&partial), all);
    assert_eq!(partial["complete"], false);
    let error = &one(&partial, "t")["error"];
    assert_eq!((&error["status"], &error["code"]), (&json!(409), &json!("conflict")));
    assert!(
        one(&partial, "p")["error"]["detail"].as_str().unwrap().contains("names Transform t"),
        "{partial}"
    );
    assert!(one(&partial, "out")["error"]["detail"].as_str().unwrap().contains("nothing is deleted"));
    let labels = second.get(&path(&flow("a")[2])).await.body["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"by": "somebody"}), "what somebody wrote stays");

    // Applying again does the rest.
    let rest = ["changed Transform t", "changed Pipeline p", "deleted Connector out"];
    assert_eq!(told(&apply(&second, &set).await), rest);
    assert_eq!(told(&apply(&second, &set).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_version_that_may_not_run_is_said_before() {
    let plane = Plane::new().await;
    let mut set = flow("a");
    set[1]["spec"]["rollout"] = json!({"require": {"backtest": {}}});
    apply(&plane, &asked(&set)).await;
    set[2]["spec"]["expression"] = json!("b");
    let planned = plan(&plane, &asked(&set)).await;
    assert_eq!(codes(&one(&planned, "p")["warnings"]), ["backtest_required"]);
    // This process runs no pipelines, so that it can't be tried.
    let planned = plan(&plane, &with(asked(&set), "backtests", true)).await;
    assert_eq!(codes(&one(&planned, "p")["warnings"]), ["backtest_refused"]);
    let partial = plane.post(":apply", &asked(&set)).await.is(207).body;
    assert_eq!(told(&partial), ["changed Transform t", "failed Pipeline p"]);
    let skipping = with(asked(&set), "skipBacktest", true);
    assert_eq!(told(&apply(&plane, &skipping).await), ["changed Pipeline p"]);

    plane.post("/workspaces/demo/pipelines/p:rollBack", &json!({"reason": "sums"})).await.is(200);
    let planned = plan(&plane, &skipping).await;
    assert_eq!(codes(&planned["problems"]), ["conflict p"]);
    assert!(planned["problems"][0]["message"].as_str().unwrap().contains("t@2 was rolled back"), "{planned}");
    let retried = with(skipping, "retryRollout", true);
    assert_eq!(told(&apply(&plane, &retried).await), ["changed Pipeline p"]);
}

/// Not a benchmark: it must not be quadratic in what is there.
#[tokio::test]
async fn a_large_set_is_planned_and_applied() {
    let plane = Plane::new().await;
    let mut set = Vec::new();
    for i in 0..40 {
        let name = |variant: &str| format!("dev.demo.s{i}.{variant}");
        set.push(topic(&name("raw"), json!({})));
        set.push(topic(&name("out"), json!({})));
        set.push(transform(&format!("t{i}"), &format!("a + {i}")));
        set.push(pipeline(&format!("p{i}"), &name("raw"), &format!("t{i}"), &name("out")));
    }
    assert_eq!(apply(&plane, &asked(&set)).await["summary"]["created"], 160);
    assert_eq!(plan(&plane, &asked(&set)).await["summary"]["unchanged"], 160);
    let all_gone = with(asked(&[]), "prune", true);
    assert_eq!(apply(&plane, &all_gone).await["summary"]["deleted"], 160);
}
