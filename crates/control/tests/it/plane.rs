//! A control plane for one test, and requests to it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use control::{Config, Control, Deps, NoStages, Stages};
use http::{HeaderMap, Request, Response, StatusCode};
use kafka::ClientConfig;
use serde_json::{Value, json};
use store::{Sqlite, Store};
use tempfile::TempDir;
use tower::ServiceExt;

pub(crate) struct Plane {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) control: Arc<Control>,
    router: Router,
    /// Whose requests say themselves who calls.
    pub(crate) bare: Router,
    _folder: TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// The pointers of all problems, in order.
    #[track_caller]
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let problems = self.body["problems"].as_array().unwrap_or_else(|| panic!("{}", self.body));
        problems.iter().map(|problem| problem["pointer"].as_str().unwrap()).collect()
    }
}

impl Plane {
    pub(crate) async fn new() -> Self {
        Self::with(Config::default(), Arc::new(NoStages)).await
    }

    pub(crate) async fn with(config: Config, stages: Arc<dyn Stages>) -> Self {
        // Nobody listens there.
        Self::on("127.0.0.1:9", config, stages).await
    }

    pub(crate) async fn on(bootstrap: &str, config: Config, stages: Arc<dyn Stages>) -> Self {
        Self::over(bootstrap, config, stages, |store| store).await
    }

    /// `wrap`: what stands between the control plane and its store.
    pub(crate) async fn over(
        bootstrap: &str,
        config: Config,
        stages: Arc<dyn Stages>,
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder.path().join("store.db")).await.unwrap());
        let store = wrap(store);
        let deps = Deps {
            store: Arc::clone(&store),
            stages,
            sinks: vec![Arc::new(connectors::http::Factory)],
            client: ClientConfig::new(bootstrap, "test"),
            authorizer: Arc::new(testkit::authorizer()),
        };
        let control = Arc::new(Control::new(config, deps));
        let bare = control::router(Arc::clone(&control));
        // As a listener on loopback lets a local program in.
        let router = bare.clone().layer(axum::Extension(auth::Access::local()));
        Self { store, router, bare, control, _folder: folder }
    }

    /// With a workspace `demo`.
    pub(crate) async fn demo() -> Self {
        let plane = Self::new().await;
        plane.put("", &workspace("demo")).await.is(201);
        plane
    }

    /// The answer as it comes.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(format!("/api/v1{path}")).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(format!("/api/v1{path}")).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// `verb`: plan or apply.
    pub(crate) async fn send_set(&self, verb: &str, set: &Value) -> Answer {
        self.post(&format!(":{verb}"), set).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(format!("/api/v1{path}")).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn put_at(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = Request::put(format!("/api/v1{path}")).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Puts a manifest where it says that it belongs; `query` begins with `?` or is empty.
    pub(crate) async fn put(&self, query: &str, manifest: &Value) -> Answer {
        self.put_at(&format!("{}{query}", path(manifest)), &[], manifest).await
    }
}

/// Where a manifest belongs.
pub(crate) fn path(manifest: &Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let name = text("/metadata/name");
    match text("/kind").as_str() {
        "Workspace" => format!("/workspaces/{name}"),
        "Client" => format!("/clients/{name}"),
        kind => format!("/workspaces/{}/{}s/{name}", text("/metadata/workspace"), kind.to_lowercase()),
    }
}

fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": kind, "metadata": {"name": name, "workspace": "demo"}, "spec": spec})
}

pub(crate) fn workspace(name: &str) -> Value {
    json!({"apiVersion": "vltava/v1", "kind": "Workspace", "metadata": {"name": name}})
}

pub(crate) fn topic(name: &str, spec: Value) -> Value {
    manifest("Topic", name, spec)
}

pub(crate) fn transform(name: &str, expression: &str) -> Value {
    manifest("Transform", name, json!({ "expression": expression }))
}

pub(crate) fn pipeline(name: &str, source: &str, transform: &str, target: &str) -> Value {
    let steps = json!([{"name": "only", "transform": transform}]);
    manifest(
        "Pipeline",
        name,
        json!({"sources": [{"topic": source}], "steps": steps, "target": {"topic": target}}),
    )
}

pub(crate) fn connector(name: &str, topic: &str, config: Value) -> Value {
    manifest("Connector", name, json!({"plugin": "http-sink", "topics": [topic], "config": config}))
}
