//! The rules of change: get, list, put, delete, each with its precondition.
//!
//! Invariant: writes of this process go one after another, so that a rule over two documents (a topic has
//! one owner, a transform that is named stays) sees both as they are. What another process writes meanwhile is
//! caught for a single document by its revision, and for the rest by the reconciler, which checks again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth::{Access, Authorizer};
use connect::SinkFactory;

use jiff::Timestamp;
use kafka::ClientConfig;
use resources::{API_VERSION, Kind, Manifest, Metadata, Origin, Problems, Resource, WorkspaceSpec};
use runtime::StageStatus;
use serde_json::{Value, json};
use store::{Expected, Key, LIST_MAX, Query, Read, Store};
use tokio::sync::{Mutex, Semaphore};
use types::Uid;

use crate::admit::check;
use crate::backtest::Gate;
use crate::decide::{Decided, Wanted, is_named};
use crate::resource::{TransformFacts, VersionBody, body, facts, resource, spec, version};
use crate::seen::Seen;
use crate::{Config, Error, Rollout, Stages};

/// Attempts at a write that another process got in the way of.
const ATTEMPTS_MAX: usize = 3;

/// Levels of a merge patch.
const PATCH_DEPTH_MAX: usize = 64;

/// A diff that takes longer gets coarser.
const DIFF_TIME_MAX: Duration = Duration::from_millis(500);

/// Transforms whose tests run at once; others wait.
const TESTED_MAX: usize = 2;

/// What a write takes the resource to be: `If-Match` and `If-None-Match` of RFC 9110.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: a PUT creates or changes, whatever is there.
    None,
    /// `If-Match: *`: it exists.
    Exists,
    /// `If-None-Match: *`: it doesn't.
    Absent,
    /// `If-Match: "revision"`.
    Revision(u64),
}

impl Precondition {
    pub(crate) fn check(self, current: Option<u64>) -> Result<(), Error> {
        let holds = match self {
            Self::None => true,
            Self::Exists => current.is_some(),
            Self::Absent => current.is_none(),
            Self::Revision(revision) => current == Some(revision),
        };
        if holds { Ok(()) } else { Err(Error::Precondition { current }) }
    }
}

/// What a PUT did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It has a new revision.
    Changed,
    /// It is as it was, to the revision.
    Unchanged,
}

impl Change {
    /// As the API and the command line print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How a resource is written.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Everything is checked, and nothing written.
    pub dry_run: bool,
    /// A pipeline's version comes into force without the backtest that it requires, and the answer says so.
    pub skip_backtest: bool,
    /// Where a pipeline's versions go.
    pub rollout: Rollout,
    /// The GitOps source that owns the resource from now on; `None`: who owns it goes on to.
    pub source: Option<String>,
    /// Whose permissions bound it; `None`: the process' own.
    pub caller: Option<Access>,
}

/// The outcome of a PUT.
#[derive(Debug)]
pub struct Put {
    /// As it is now, or would be.
    pub resource: Resource,
    /// What was done, or would be.
    pub change: Change,
    /// What the caller should know, though it is no error.
    pub warnings: Vec<String>,
}

/// A part of a list.
#[derive(Debug)]
pub struct Listed {
    /// In the order of their names.
    pub items: Vec<Resource>,
    /// The name to go on after; `None`: that was all.
    pub next: Option<String>,
}

/// What the control plane works with.
pub struct Deps {
    /// Where resources are kept.
    pub store: Arc<dyn Store>,
    /// The runtimes, which plans are handed to and which are asked what they do.
    pub stages: Arc<dyn Stages>,
    /// The plugins that connectors may name, by whose rules their config is checked.
    pub sinks: Vec<Arc<dyn SinkFactory>>,
    /// For redrives.
    pub client: ClientConfig,
    /// Which is told who may come in.
    pub authorizer: Arc<Authorizer>,
}

/// The control plane's state.
pub struct Control {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: Config,
    pub(crate) seen: Seen,
    pub(crate) stages: Arc<dyn Stages>,
    pub(crate) sinks: Vec<Arc<dyn SinkFactory>>,
    pub(crate) client: ClientConfig,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) writes: Mutex<()>,
    pub(crate) tests: Semaphore,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Control {
    /// Nothing is asked of anybody yet.
    pub fn new(config: Config, deps: Deps) -> Self {
        let Deps { store, stages, sinks, client, authorizer } = deps;
        let client = client.named("control");
        Self {
            store,
            config,
            seen: Seen::default(),
            stages,
            sinks,
            client,
            authorizer,
            writes: Mutex::new(()),
            tests: Semaphore::new(TESTED_MAX),
        }
    }

    /// Which is told who may come in.
    pub fn authorizer(&self) -> &Arc<Authorizer> {
        &self.authorizer
    }

    /// Every pipeline and connector, as it is now.
    pub fn stages(&self) -> Vec<StageStatus> {
        self.seen.stages(self.stages.status())
    }

    pub(crate) fn add_seen(&self, resource: &mut Resource) {
        let stages = match resource.kind {
            Kind::Pipeline | Kind::Connector => self.stages(),
            _ => Vec::new(),
        };
        self.seen.add_to(resource, &stages);
    }

    /// The newest versions of a transform, at most `limit`.
    pub async fn versions(&self, key: &Key, limit: usize) -> Result<Vec<Value>, Error> {
        let transform = self.get(key).await?;
        let newest: TransformFacts = facts(&transform)?;
        let mut shown = Vec::new();
        for (number, body) in self.store.versions(transform.metadata.uid, limit).await? {
            if number <= newest.version {
                shown.push(show(number, &version(body)?));
            }
        }
        Ok(shown)
    }

    /// A version of a transform.
    pub async fn version(&self, key: &Key, number: u32) -> Result<Value, Error> {
        let transform = self.get(key).await?;
        let newest: TransformFacts = facts(&transform)?;
        let body = self.store.version(transform.metadata.uid, number).await?;
        match body.filter(|_| number <= newest.version) {
            Some(body) => Ok(show(number, &version(body)?)),
            None => Err(Error::NotFound { kind: Kind::Transform, name: format!("{}@{number}", key.name) }),
        }
    }

    /// What changed between two versions of a transform's expression and tests, as a unified diff. Empty: nothing.
    pub async fn version_diff(&self, key: &Key, from: u32, to: u32) -> Result<String, Error> {
        let mut sides = Vec::new();
        for number in [from, to] {
            let version = self.version(key, number).await?;
            sides.push(text(version.get("spec").unwrap_or(&Value::Null)));
        }
        let (before, after) = (&sides[0], &sides[1]);
        let diff = similar::TextDiff::configure().timeout(DIFF_TIME_MAX).diff_lines(before, after);
        let name = |number: u32| format!("{}@{number}", key.name);
        Ok(diff.unified_diff().context_radius(3).header(&name(from), &name(to)).to_string())
    }

    /// The resource as it is.
    pub async fn get(&self, key: &Key) -> Result<Resource, Error> {
        let document = self.store.get(key).await?.ok_or_else(|| not_found(key))?;
        let mut resource = resource(&document)?;
        self.add_seen(&mut resource);
        Ok(resource)
    }

    /// Resources of a kind in a workspace, by name, after `after`. Of [`Kind::Workspace`], all workspaces.
    pub async fn list(
        &self,
        workspace: Option<&str>,
        kind: Kind,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listed, Error> {
        let limit = limit.clamp(1, LIST_MAX - 1);
        // Clients are in none.
        if let Some(workspace) = workspace.filter(|_| kind != Kind::Client) {
            self.workspace(workspace).await?;
        }
        let after = after.map(|name| Key::new(workspace.unwrap_or(name), kind, name));
        let query =
            Query { workspace: workspace.map(String::from), kind: Some(kind), after, limit: limit + 1 };
        let mut documents = self.store.list(query).await?;
        let more = documents.len() > limit;
        documents.truncate(limit);
        let mut items = documents.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
        let stages = self.stages();
        items.iter_mut().for_each(|item| self.seen.add_to(item, &stages));
        let next = items.last().filter(|_| more).map(|last| last.metadata.name.clone());
        Ok(Listed { items, next })
    }

    /// Makes the resource be as the manifest says.
    pub async fn put(
        &self,
        key: &Key,
        manifest: &Value,
        precondition: Precondition,
        how: Write,
    ) -> Result<Put, Error> {
        let manifest = decode(key, manifest)?;
        let tested = self.test(&manifest.spec).await?;
        self.put_tested(key, manifest, tested, precondition, &how).await
    }

    /// What compiling a transform and running its tests finds. It takes time, and needs nothing of what is stored:
    /// no other write waits for it.
    pub(crate) async fn test(&self, spec: &resources::Spec) -> Result<Problems, Error> {
        let resources::Spec::Transform(transform) = spec else { return Ok(Problems::new()) };
        // Never closed.
        let _turn = self.tests.acquire().await.ok();
        check(transform).await
    }

    /// [`Control::put`] of what was read, and tested.
    pub(crate) async fn put_tested(
        &self,
        key: &Key,
        manifest: Manifest,
        tested: Problems,
        precondition: Precondition,
        how: &Write,
    ) -> Result<Put, Error> {
        let gate = match &manifest.spec {
            resources::Spec::Pipeline(pipeline) => {
                self.gate(&*self.store, key, pipeline, how.skip_backtest).await?
            }
            _ => Gate::Open,
        };
        let wanted = Wanted { manifest, tested, gate };
        let _one_at_a_time = self.writes.lock().await;
        let mut attempt = 1;
        loop {
            match self.put_once(key, &wanted, precondition, how).await {
                Err(Error::Store(store::Error::Conflict { .. })) if attempt < ATTEMPTS_MAX => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    /// Changes the parts of a resource that `patch` names: a merge patch (RFC 7396) over its manifest, whose
    /// `null` takes a part away. It is checked as a whole manifest is.
    pub async fn patch(
        &self,
        key: &Key,
        patch: &Value,
        precondition: Precondition,
        how: Write,
    ) -> Result<Put, Error> {
        let mut attempt = 1;
        loop {
            let document = self.store.get(key).await?.ok_or_else(|| not_found(key))?;
            precondition.check(Some(document.revision))?;
            let existing = resource(&document)?;
            let mut manifest = json!({
                "apiVersion": existing.api_version,
                "kind": existing.kind,
                "metadata": { "name": key.name, "labels": existing.metadata.labels },
                "spec": existing.spec,
            });
            merge(&mut manifest, patch, 0)?;
            // By the revision that it was merged into: whoever wrote meanwhile isn't undone.
            let merged_into = Precondition::Revision(document.revision);
            match self.put(key, &manifest, merged_into, how.clone()).await {
                Err(Error::Precondition { .. })
                    if attempt < ATTEMPTS_MAX && !matches!(precondition, Precondition::Revision(_)) =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn put_once(
        &self,
        key: &Key,
        wanted: &Wanted,
        precondition: Precondition,
        how: &Write,
    ) -> Result<Put, Error> {
        let decided = self.decide(&*self.store, key, wanted, precondition, how).await?;
        let Decided { before, mut resource, change, new_version, new_workspace, warnings, problems } =
            decided;
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        if change != Change::Unchanged && !how.dry_run {
            if new_workspace {
                self.make_workspace(&key.workspace).await?;
            }
            if let Some((number, version)) = new_version {
                // Before what names it: a crash in between leaves a version that nobody names.
                self.store.put_version(resource.metadata.uid, number, &version).await?;
            }
            let expected =
                before.map_or(Expected::Absent, |before| Expected::Revision(before.metadata.revision));
            resource.metadata.revision = self.store.put(key, expected, &body(&resource)).await?;
            if key.kind == Kind::Client {
                self.client_was_put(&resource)?;
            }
            crate::metrics::changed(key.kind.as_str(), change.as_str());
            tracing::info!(
                kind = %key.kind,
                workspace = key.workspace,
                name = key.name,
                generation = resource.metadata.generation,
                change = change.as_str(),
                source = how.source,
                "resource changed"
            );
        }
        self.add_seen(&mut resource);
        Ok(Put { resource, change, warnings })
    }

    /// Makes a workspace that a resource is put into.
    async fn make_workspace(&self, name: &str) -> Result<(), Error> {
        let key = Key::new(name, Kind::Workspace, name);
        let spec = resources::Spec::Workspace(WorkspaceSpec::default()).to_value();
        let workspace = new(&key, spec, json!({}), BTreeMap::new());
        match self.store.put(&key, Expected::Absent, &body(&workspace)).await {
            // Somebody else was quicker.
            Err(store::Error::Conflict { .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// Deletes the resource, unless others name it. A topic's records stay in the engine.
    pub async fn delete(&self, key: &Key, precondition: Precondition, dry_run: bool) -> Result<(), Error> {
        let _one_at_a_time = self.writes.lock().await;
        let Some(document) = self.store.get(key).await? else {
            precondition.check(None)?;
            return Err(not_found(key));
        };
        precondition.check(Some(document.revision))?;
        let dependants = self.dependants(key).await?;
        if !dependants.is_empty() {
            return Err(Error::InUse { kind: key.kind, name: key.name.clone(), dependants });
        }
        if dry_run {
            return Ok(());
        }
        let uid = resource(&document)?.metadata.uid;
        self.store.delete(key, document.revision).await?;
        if key.kind == Kind::Client {
            self.authorizer.remove_client(&key.name);
        }
        if key.kind == Kind::Transform {
            self.store.delete_versions(uid).await?;
        }
        crate::metrics::changed(key.kind.as_str(), "deleted");
        tracing::info!(kind = %key.kind, workspace = key.workspace, name = key.name, "resource deleted");
        Ok(())
    }

    /// What would have to go for the resource to go: what names it, and what names that, in an order in which each
    /// can be deleted; the resource itself is the last. Nothing is deleted.
    pub async fn cascade(&self, key: &Key) -> Result<Vec<Resource>, Error> {
        let root = self.get(key).await?;
        let others = match key.kind {
            Kind::Workspace | Kind::Topic | Kind::Transform => self.all(Some(&key.workspace), None).await?,
            Kind::Pipeline | Kind::Connector | Kind::Client | Kind::Redrive => Vec::new(),
        };
        let mut going: Vec<Resource> = Vec::new();
        let mut named = vec![root];
        if key.kind == Kind::Workspace {
            going.append(&mut named);
            going.extend(others.iter().filter(|other| other.kind != Kind::Workspace).cloned());
        }
        while let Some(next) = named.pop() {
            for other in &others {
                let uid = other.metadata.uid;
                let is_new = uid != next.metadata.uid
                    && going.iter().chain(&named).all(|known| known.metadata.uid != uid);
                if is_new && is_named(other, next.kind, &next.metadata.name)? {
                    named.push(other.clone());
                }
            }
            going.push(next);
        }
        // A topic that names another as its DLQ goes before it.
        going.reverse();
        going.sort_by_key(|resource| match resource.kind {
            Kind::Redrive => 0,
            Kind::Pipeline | Kind::Connector => 1,
            Kind::Transform => 2,
            Kind::Topic => 3,
            Kind::Workspace => 4,
            Kind::Client => 5,
        });
        Ok(going)
    }

    /// A workspace's rules.
    pub(crate) async fn workspace(&self, name: &str) -> Result<WorkspaceSpec, Error> {
        workspace(&*self.store, name).await
    }

    /// All resources that a query finds, whatever their number.
    pub(crate) async fn all(
        &self,
        workspace: Option<&str>,
        kind: Option<Kind>,
    ) -> Result<Vec<Resource>, Error> {
        all(&*self.store, workspace, kind).await
    }

    /// Who names a resource, at most 20 of them.
    async fn dependants(&self, key: &Key) -> Result<Vec<String>, Error> {
        const SHOWN_MAX: usize = 20;
        let mut dependants = Vec::new();
        let others = match key.kind {
            Kind::Workspace | Kind::Topic | Kind::Transform => self.all(Some(&key.workspace), None).await?,
            Kind::Pipeline | Kind::Connector | Kind::Client | Kind::Redrive => Vec::new(),
        };
        for other in others {
            let names = match key.kind {
                Kind::Workspace => other.kind != Kind::Workspace,
                kind => is_named(&other, kind, &key.name)?,
            };
            if names && dependants.len() < SHOWN_MAX {
                dependants.push(format!("{} {}", other.kind, other.metadata.name));
            }
        }
        Ok(dependants)
    }
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: &Value, depth: usize) -> Result<(), Error> {
    if depth > PATCH_DEPTH_MAX {
        return Err(Error::BadRequest(format!("the patch is nested deeper than {PATCH_DEPTH_MAX} levels")));
    }
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return Ok(()) };
    for (name, value) in patch {
        if value.is_null() {
            target.shift_remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value, depth + 1)?;
        }
    }
    Ok(())
}

/// A resource that is new.
pub(crate) fn new(key: &Key, spec: Value, status: Value, labels: BTreeMap<String, String>) -> Resource {
    let now = Timestamp::now();
    let metadata = Metadata {
        name: key.name.clone(),
        workspace: key.workspace.clone(),
        labels,
        uid: Uid::new(),
        revision: 0,
        generation: 1,
        managed_by: "api".into(),
        created_at: now,
        updated_at: now,
    };
    Resource { api_version: API_VERSION.into(), kind: key.kind, metadata, spec, status }
}

fn show(number: u32, version: &VersionBody) -> Value {
    json!({ "version": number, "hash": version.hash, "spec": version.spec })
}

/// A transform as text to compare: the expression as it is written, then what else it says.
fn text(spec: &Value) -> String {
    let mut rest = spec.clone();
    let expression = rest.as_object_mut().and_then(|rest| rest.shift_remove("expression"));
    let expression = expression.as_ref().and_then(Value::as_str).unwrap_or_default();
    let rest = serde_json::to_string_pretty(&rest).expect("a value has string keys");
    format!("{}\n{rest}\n", expression.trim_end_matches('\n'))
}

/// A workspace's rules.
pub(crate) async fn workspace(store: &dyn Read, name: &str) -> Result<WorkspaceSpec, Error> {
    let document = store.get(&Key::new(name, Kind::Workspace, name)).await?;
    let document = document.ok_or_else(|| Error::NoWorkspace(name.to_owned()))?;
    match spec(&resource(&document)?)? {
        resources::Spec::Workspace(rules) => Ok(rules),
        other => Err(Error::Conflict(format!("{name} is a {}", other.kind()))),
    }
}

/// See [`Control::all`].
pub(crate) async fn all(
    store: &dyn Read,
    workspace: Option<&str>,
    kind: Option<Kind>,
) -> Result<Vec<Resource>, Error> {
    let mut found: Vec<Resource> = Vec::new();
    let mut after = None;
    loop {
        let query = Query { workspace: workspace.map(String::from), kind, after, limit: LIST_MAX };
        let documents = store.list(query).await?;
        let complete = documents.len() < LIST_MAX;
        after = documents.last().map(|document| document.key.clone());
        for document in &documents {
            found.push(resource(document)?);
        }
        if complete {
            return Ok(found);
        }
    }
}

pub(crate) fn not_found(key: &Key) -> Error {
    match key.kind {
        Kind::Workspace => Error::NoWorkspace(key.name.clone()),
        kind => Error::NotFound { kind, name: key.name.clone() },
    }
}

/// Reads the body and checks that it is what the URL says.
fn decode(key: &Key, value: &Value) -> Result<Manifest, Error> {
    let mut problems = Problems::new();
    let mut same = |pointer: &str, what: &str, wanted: &str| {
        if let Some(given) = value.pointer(pointer).and_then(Value::as_str)
            && given != wanted
        {
            problems.add(pointer, "conflict", format!("is {given:?}, but the URL's {what} is {wanted:?}"));
        }
    };
    same("/kind", "kind", key.kind.as_str());
    same("/metadata/name", "name", &key.name);
    same("/metadata/workspace", "workspace", &key.workspace);
    match Manifest::decode(value, Origin::Api) {
        Ok(manifest) if problems.is_empty() => Ok(manifest),
        Ok(_) => Err(Error::Invalid(problems)),
        Err(others) => {
            for other in others {
                problems.add(other.pointer, &other.code, other.message);
            }
            Err(Error::Invalid(problems))
        }
    }
}
