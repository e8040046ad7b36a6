//! Redrives: runs that give dead letters back to the stage that failed them.
//!
//! A **run** is a Redrive resource. Its spec says what is meant; its plan, made once when it is begun, fixes the
//! offsets at which it ends; what is done already says Kafka alone, in the settlements. So a run that was cut is
//! taken up from its plan, and gives no letter back twice.
//!
//! States: Planned (waits for its turn: one run at a time a DLQ), Running, Paused, Done, Cancelled, Failed. What a run
//! settled stays settled, however it ends. To delete one that isn't over is to cancel it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deadletter::{Action, Dlq, Ended, Plan, Progress, Redrive, Repair, Resolve, Selection, Stage, Way};
use jiff::Timestamp;
use resources::{Kind, Resource};
use runtime::{OnEnd, Shutdown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Expected, Key};
use tokio_util::sync::CancellationToken;
use types::{Naming, StageKind, TopicName, Uid};

use crate::admit::owner;
use crate::control::{new, not_found};
use crate::reconcile::World;
use crate::rehearse::Rehearsed;
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
    /// How letters are mended on their way.
    #[serde(default, skip_serializing_if = "Repair::is_empty")]
    pub(crate) repair: Repair,
    /// Letters a second; `None`: as fast as it goes.
    pub(crate) rate: Option<u32>,
}

/// What can be asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskedOfRun {
    /// What is under way is committed; nothing more is done until it is resumed.
    Pause,
    /// Goes on with what isn't settled.
    Resume,
    /// As pause, for good.
    Cancel,
}

impl AskedOfRun {
    /// By the word that an URL has.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "cancel" => Self::Cancel,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Planned,
    Running,
    Paused,
    Done,
    Cancelled,
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
    /// Of a run that is paused or over; while it runs, it is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

/// A run that was planned.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) plan: Plan,
    /// Groups that read where letters go, where that isn't a stage's own topic.
    pub(crate) readers: BTreeMap<TopicName, BTreeSet<String>>,
    /// Its name, if it was begun.
    pub(crate) run: Option<String>,
    /// What it would come to, if it was not.
    pub(crate) samples: Vec<Rehearsed>,
}

/// Where letters of a workspace's stages go back to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Routes(BTreeMap<(&'static str, String), (Way, BTreeSet<TopicName>)>);

impl Routes {
    /// Of the stages that are there now.
    pub(crate) fn of(world: &World, env: &str, workspace: &str) -> Self {
        let naming = Naming { env, workspace };
        let mut routes = BTreeMap::new();
        for (kind, name, sources) in world.stages_of(workspace) {
            let Ok(retry) = naming.retry(kind, name) else { continue };
            let dlqs = sources.iter().filter_map(|source| world.dlq(&naming, source).ok()).collect();
            let way = Way { retry, sources: sources.into_iter().cloned().collect() };
            routes.insert((kind.as_str(), name.to_owned()), (way, dlqs));
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
            let (way, dlqs) = self.0.get(&(kind.as_str(), name.clone()))?;
            (*of == workspace && dlqs.contains(&dlq)).then(|| way.clone())
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

    /// Plans a run, and begins it unless `dry_run`.
    pub(crate) async fn redrive(&self, workspace: &str, spec: Spec, dry_run: bool) -> Result<Begun, Error> {
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
        let (action, selection, repair) = (spec.action.clone(), spec.selection.clone(), spec.repair.clone());
        let (plan, samples) =
            dlq.plan(&name, action, selection, repair, &resolve).await.map_err(|error| engine(&error))?;
        let readers = self.readers(&plan).await?;
        if dry_run {
            let samples = self.rehearse(&world, &spec.action, samples).await?;
            return Ok(Begun { plan, readers, run: None, samples });
        }
        let facts =
            Facts { state: State::Planned, reason: None, plan: plan.clone(), progress: None, ended_at: None };
        let key = Key::new(workspace, Kind::Redrive, &name);
        let run = new(&key, json!(spec), json!(facts), BTreeMap::new());
        self.store.put(&key, Expected::Absent, &body(&run)).await?;
        tracing::info!(workspace, run = name, dlq = %spec.topic, letters = plan.routable, "redrive planned");
        Ok(Begun { plan, readers, run: Some(name), samples: Vec::new() })
    }

    /// Who else reads where the letters go, if that isn't their stages' own topics.
    async fn readers(&self, plan: &Plan) -> Result<BTreeMap<TopicName, BTreeSet<String>>, Error> {
        let topics: BTreeSet<TopicName> = match &plan.action {
            Action::Redrive | Action::Discard => BTreeSet::new(),
            Action::RedriveTo { topic } => [topic.clone()].into(),
            Action::RedriveToOrigin => plan.stages.iter().filter_map(|stage| stage.to.clone()).collect(),
        };
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let failed = |error: &kafka::Error| Error::Engine {
            action: "find the groups that read the target".into(),
            detail: runtime::shutdown::chain(error),
        };
        let admin = kafka::Admin::new(&self.client).map_err(|error| failed(&error))?;
        let mut readers = BTreeMap::new();
        for topic in topics {
            let groups = admin.groups_reading(&topic).await.map_err(|error| failed(&error))?;
            readers.insert(topic, groups);
        }
        Ok(readers)
    }

    /// Pauses, resumes or cancels a run. Asking for what is so already changes nothing.
    pub(crate) async fn ask_run(&self, key: &Key, asked: AskedOfRun) -> Result<Resource, Error> {
        let document = self.store.get(key).await?.ok_or_else(|| not_found(key))?;
        let mut run = resource(&document)?;
        let mut facts: Facts = facts(&run)?;
        let wanted = match asked {
            AskedOfRun::Pause => State::Paused,
            AskedOfRun::Resume => State::Planned,
            AskedOfRun::Cancel => State::Cancelled,
        };
        if facts.is_over() && facts.state != wanted {
            let why = format!("the redrive {} is over ({:?}): begin another", key.name, facts.state);
            return Err(Error::Conflict(why));
        }
        if facts.state != wanted {
            let now = Timestamp::now();
            facts.state = wanted;
            facts.ended_at = facts.is_over().then_some(now);
            run.metadata.updated_at = now;
            run.status = json!(facts);
            let expected = Expected::Revision(document.revision);
            run.metadata.revision = self.store.put(key, expected, &body(&run)).await?;
            tracing::info!(workspace = key.workspace, run = key.name, state = ?wanted, "asked of a redrive");
        }
        self.add_seen(&mut run);
        Ok(run)
    }

    /// How far a run was when it stopped, if that was asked for: else it goes on, and says so itself.
    async fn stopped(&self, key: &Key, progress: Value) -> Result<(), Error> {
        let Some(document) = self.store.get(key).await? else { return Ok(()) };
        let mut run = resource(&document)?;
        let mut facts: Facts = facts(&run)?;
        if !matches!(facts.state, State::Paused | State::Cancelled) {
            return Ok(());
        }
        facts.progress = Some(progress);
        run.status = json!(facts);
        match self.store.put(key, Expected::Revision(document.revision), &body(&run)).await {
            // Resumed or deleted between the two: what it shows then is its own.
            Err(store::Error::Conflict { .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
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
        matches!(self.state, State::Done | State::Cancelled | State::Failed)
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
            let stored = world.redrives.iter().find(|run| run.metadata.uid == *uid).map(facts::<Facts>);
            if !stored.transpose()?.is_some_and(|stored| stored.state == State::Planned) {
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
            if stored.state == State::Paused {
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
                // By a stop of the process, after which it is taken up, or because it was asked for.
                Ok(Ended::Stopped) => {
                    let progress = last.lock().clone();
                    if let Err(error) = control.stopped(&key, progress).await {
                        let error = runtime::shutdown::chain(&error);
                        tracing::warn!(run = key.name, error, "how far a redrive was wasn't stored");
                    }
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
