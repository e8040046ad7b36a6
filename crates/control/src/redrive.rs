//! Redrives: runs that give dead letters back to the stage that failed them.
//!
//! A **run** is a Redrive resource. Its spec says what is meant; its plan, made once when it is begun, fixes the
//! offsets at which it ends; what is done already says Kafka alone, in the settlements. So a run that was cut is
//! taken up from its plan, and gives no letter back twice.
//!
//! States: Planned (waits for its turn: one run at a time a DLQ), Running, Done, Failed. To delete one is to
//! cancel it; what it settled stays settled.
//!
//! Not here yet: pausing a run, a repair expression, the groups that read the topic of a `redriveTo`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deadletter::{Action, Dlq, Ended, Plan, Progress, Redrive, Resolve, Selection, Stage};
use jiff::Timestamp;
use resources::{Kind, Resource};
use runtime::{OnEnd, Shutdown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Expected, Key};
use tokio_util::sync::CancellationToken;
use types::{Naming, StageKind, TopicName, Uid};

use crate::admit::owner;
use crate::control::new;
use crate::reconcile::World;
use crate::resource::{body, facts, resource};
use crate::{Control, Error};

/// Runs at a time, each on a DLQ of its own.
const RUNNING_MAX: usize = 4;

/// Runs that wait or run; more are refused.
const UNFINISHED_MAX: usize = 100;

/// Runs that are over and remembered, in all workspaces; the oldest are forgotten.
const FINISHED_MAX: usize = 1_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    /// The DLQ.
    pub(crate) topic: TopicName,
    /// What is done.
    pub(crate) action: Action,
    /// What is meant.
    pub(crate) selection: Selection,
    /// Letters a second; `None`: as fast as it goes.
    pub(crate) rate: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Planned,
    Running,
    Done,
    Failed,
}

/// What is stored of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    plan: Plan,
    /// Of a run that is over; while it runs, it is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

/// Where letters of a workspace's stages go back to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routes(BTreeMap<(&'static str, String), (TopicName, BTreeSet<TopicName>)>);

impl Routes {
    /// Of the stages that are there now.
    pub(crate) fn of(world: &World, env: &str, workspace: &str) -> Self {
        let naming = Naming { env, workspace };
        let mut routes = BTreeMap::new();
        for (kind, name, sources) in world.stages_of(workspace) {
            let Ok(retry) = naming.retry(kind, name) else { continue };
            let dlqs = sources.iter().filter_map(|source| world.dlq(&naming, source).ok()).collect();
            routes.insert((kind.as_str(), name.to_owned()), (retry, dlqs));
        }
        Self(routes)
    }

    /// A letter's stage must be of this workspace, and the DLQ that it lies in must be the stage's: a record's
    /// headers alone send nothing anywhere.
    fn resolve(self, workspace: String, dlq: TopicName) -> Resolve {
        Arc::new(move |stage: &Stage| {
            let (kind, of, name) = match stage {
                Stage::Pipeline { workspace, name, .. } => (StageKind::Pipeline, workspace, name),
                Stage::Connector { workspace, name } => (StageKind::Connector, workspace, name),
                Stage::Job { workspace, name } => (StageKind::Job, workspace, name),
                Stage::Ingest { .. } => return None,
            };
            let (retry, dlqs) = self.0.get(&(kind.as_str(), name.clone()))?;
            (*of == workspace && dlqs.contains(&dlq)).then(|| retry.clone())
        })
    }
}

fn engine(error: &deadletter::Error) -> Error {
    match error {
        deadletter::Error::MissingTopic { topic, .. } => {
            Error::NotFound { kind: Kind::Topic, name: topic.to_string() }
        }
        deadletter::Error::Invalid(detail) => Error::BadRequest(detail.clone()),
        other => {
            Error::Engine { action: "read dead letters".into(), detail: runtime::shutdown::chain(other) }
        }
    }
}

impl Control {
    /// A DLQ that the workspace may look into.
    pub(crate) async fn dlq(&self, workspace: &str, topic: &TopicName) -> Result<Dlq, Error> {
        self.workspace(workspace).await?;
        self.own(workspace, topic).await?;
        Dlq::new(&self.client, topic.clone()).map_err(|error| engine(&error))
    }

    /// A foreign topic is answered as one that isn't there.
    async fn own(&self, workspace: &str, topic: &TopicName) -> Result<(), Error> {
        let missing = || Error::NotFound { kind: Kind::Topic, name: topic.to_string() };
        if topic.is_reserved() {
            return Err(missing());
        }
        match owner(&*self.store, &self.config.env, topic).await? {
            Some(owner) if owner != workspace => Err(missing()),
            _ => Ok(()),
        }
    }

    /// What lies in a DLQ, by stage and reason.
    pub(crate) async fn letters_by_stage(
        &self,
        workspace: &str,
        topic: &TopicName,
        selection: &Selection,
    ) -> Result<deadletter::Summary, Error> {
        let dlq = self.dlq(workspace, topic).await?;
        dlq.summary(selection).await.map_err(|error| engine(&error))
    }

    /// The latest letters of a DLQ.
    pub(crate) async fn letters(
        &self,
        workspace: &str,
        topic: &TopicName,
        selection: &Selection,
        with_settled: bool,
    ) -> Result<deadletter::Listing, Error> {
        let dlq = self.dlq(workspace, topic).await?;
        dlq.list(selection, with_settled).await.map_err(|error| engine(&error))
    }

    /// One letter.
    pub(crate) async fn letter(
        &self,
        workspace: &str,
        id: &deadletter::LetterId,
    ) -> Result<(deadletter::Letter, bool), Error> {
        let dlq = self.dlq(workspace, &id.tp.topic).await?;
        let found = dlq.show(id).await.map_err(|error| engine(&error))?;
        found.ok_or_else(|| Error::NotFound { kind: Kind::Topic, name: format!("letter {id}") })
    }

    /// Plans a run, and begins it unless `dry_run`: the plan and, if it was begun, the run's name.
    pub(crate) async fn redrive(
        &self,
        workspace: &str,
        spec: Spec,
        dry_run: bool,
    ) -> Result<(Plan, Option<String>), Error> {
        let dlq = self.dlq(workspace, &spec.topic).await?;
        if spec.rate == Some(0) {
            return Err(Error::BadRequest("rate can't be 0; leave it out for no limit".into()));
        }
        if let Action::RedriveTo { topic } = &spec.action {
            self.own(workspace, topic).await?;
            if *topic == spec.topic {
                return Err(Error::BadRequest(format!("{topic} can't be redriven to itself")));
            }
        }
        let all = self.all(None, None).await?;
        let unfinished = all.iter().filter(|resource| {
            resource.kind == Kind::Redrive && facts::<Facts>(resource).is_ok_and(|facts| !facts.is_over())
        });
        if !dry_run && unfinished.count() >= UNFINISHED_MAX {
            let why = format!("{UNFINISHED_MAX} redrives wait or run: delete some, or wait for their end");
            return Err(Error::Conflict(why));
        }
        let world = World::of(all)?;
        let resolve =
            Routes::of(&world, &self.config.env, workspace).resolve(workspace.into(), spec.topic.clone());
        // In the order of their beginning.
        let name = Uid::new().to_string();
        let plan = dlq
            .plan(&name, spec.action.clone(), spec.selection.clone(), &resolve)
            .await
            .map_err(|error| engine(&error))?;
        if dry_run {
            return Ok((plan, None));
        }
        let facts =
            Facts { state: State::Planned, reason: None, plan: plan.clone(), progress: None, ended_at: None };
        let key = Key::new(workspace, Kind::Redrive, &name);
        let run = new(&key, json!(spec), json!(facts), BTreeMap::new());
        self.store.put(&key, Expected::Absent, &body(&run)).await?;
        tracing::info!(workspace, run = name, dlq = %spec.topic, letters = plan.routable, "redrive planned");
        Ok((plan, Some(name)))
    }

    /// Writes how a run ended, unless it was deleted meanwhile.
    async fn end(&self, key: &Key, outcome: Result<(), String>, progress: Value) -> Result<(), Error> {
        let Some(document) = self.store.get(key).await? else { return Ok(()) };
        let mut run = resource(&document)?;
        let mut facts: Facts = facts(&run)?;
        let now = Timestamp::now();
        facts.state = if outcome.is_ok() { State::Done } else { State::Failed };
        facts.reason = outcome.err();
        facts.progress = Some(progress);
        facts.ended_at = Some(now);
        run.metadata.updated_at = now;
        run.status = json!(facts);
        match self.store.put(key, Expected::Revision(document.revision), &body(&run)).await {
            // Deleted between the two: nobody asks for it any more.
            Err(store::Error::Conflict { current: None }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

impl Facts {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed)
    }
}

/// A run that has a task.
struct Running {
    dlq: TopicName,
    stop: CancellationToken,
    over: CancellationToken,
}

/// The runs' tasks. Owned by the reconciler; follows the store as all else does.
pub(crate) struct Runs {
    control: Arc<Control>,
    shutdown: Shutdown,
    running: BTreeMap<Uid, Running>,
}

impl Runs {
    pub(crate) fn new(control: Arc<Control>, shutdown: Shutdown) -> Self {
        Self { control, shutdown, running: BTreeMap::new() }
    }

    /// Begins what waits and may, stops what was deleted, forgets what is old.
    pub(crate) async fn follow(&mut self, world: &World) -> Result<(), Error> {
        self.running.retain(|_, running| !running.over.is_cancelled());
        for (uid, running) in &self.running {
            if !world.redrives.iter().any(|run| run.metadata.uid == *uid) {
                running.stop.cancel();
            }
        }
        let mut over = Vec::new();
        let mut busy: BTreeSet<TopicName> =
            self.running.values().map(|running| running.dlq.clone()).collect();
        // A name is a UUID v7: the first are the oldest.
        let mut runs: Vec<&Resource> = world.redrives.iter().collect();
        runs.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        for run in runs {
            let stored: Facts = facts(run)?;
            if stored.is_over() {
                over.push(run);
                continue;
            }
            let free = self.running.len() < RUNNING_MAX && !busy.contains(&stored.plan.dlq);
            if free && !self.running.contains_key(&run.metadata.uid) && !self.shutdown.is_requested() {
                busy.insert(stored.plan.dlq.clone());
                self.begin(world, run, stored);
            }
        }
        let old = over.len().saturating_sub(FINISHED_MAX);
        for run in &over[..old] {
            let key = Key::new(&run.metadata.workspace, Kind::Redrive, &run.metadata.name);
            match self.control.store.delete(&key, run.metadata.revision).await {
                Ok(()) | Err(store::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn begin(&mut self, world: &World, run: &Resource, stored: Facts) {
        let control = Arc::clone(&self.control);
        let (workspace, name, uid) =
            (run.metadata.workspace.clone(), run.metadata.name.clone(), run.metadata.uid);
        let key = Key::new(&workspace, Kind::Redrive, &name);
        let dlq = stored.plan.dlq.clone();
        let rate = run.spec.get("rate").and_then(Value::as_u64).and_then(|rate| u32::try_from(rate).ok());
        // Where stages take letters back is looked up anew: one that was deleted since takes none.
        let routes = Routes::of(world, &control.config.env, &workspace);
        let resolve = routes.resolve(workspace, dlq.clone());
        let stop = self.shutdown.token().child_token();
        let over = CancellationToken::new();
        let (stopped, ended) = (stop.clone(), over.clone());
        let task = async move {
            let _over = ended.drop_guard();
            let last = parking_lot::Mutex::new(json!({}));
            let report = |progress: &Progress| {
                let shown = json!(progress);
                control.seen.run(uid, Some(json!({ "state": State::Running, "progress": shown })));
                *last.lock() = shown;
            };
            let outcome =
                match Redrive::new(&control.client, control.store.installation(), stored.plan, rate, resolve)
                {
                    Ok(run) => run.run(&stopped, report).await,
                    Err(error) => Err(error),
                };
            let outcome = match outcome {
                Ok(Ended::Done) => Ok(()),
                // By a stop of the process, after which it is taken up, or by its deletion.
                Ok(Ended::Stopped) => {
                    control.seen.run(uid, None);
                    return;
                }
                Err(error) => Err(runtime::shutdown::chain(&error)),
            };
            match &outcome {
                Ok(()) => tracing::info!(run = name, "redrive done"),
                Err(error) => tracing::warn!(run = name, error, "redrive failed"),
            }
            crate::metrics::redriven(outcome.is_ok());
            let progress = last.lock().clone();
            if let Err(error) = control.end(&key, outcome, progress).await {
                // It is begun again, finds everything settled, and ends again.
                tracing::warn!(
                    run = key.name,
                    error = runtime::shutdown::chain(&error),
                    "the end of a redrive wasn't stored"
                );
            }
            control.seen.run(uid, None);
        };
        self.shutdown.spawn(format!("redrive {uid}"), OnEnd::Expected, task);
        self.running.insert(uid, Running { dlq, stop, over });
    }
}
