//! The reconciler: whatever the store and the engine hold, topics, plans, the topic table and redrives follow.
//!
//! A **pass** reads all resources and all topics, asks the engine for what is missing, and hands out what is
//! complete. It takes no input but those two, changes nothing that is as it should be, and can be cut at any
//! point: the next pass finds what is left. Passes run on a signal (a write to the store), on a timer (what
//! changed in the engine), and after a failure with a pause that doubles.
//!
//! Invariants:
//! - A stage gets a plan only when every topic that it names is in the engine as it must be; until then the
//!   plan that it has goes on, and its status says what is missing.
//! - No plan names a topic of another workspace, also where two control planes raced.

mod plans;
mod topics;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadletter::SETTLED_TOPIC;
use jiff::Timestamp;
use resources::{IngestSpec, MAX_MESSAGE_BYTES_DEFAULT, TopicEntry, TopicTable};
use runtime::{Check, Shutdown};
use tokio::sync::{Notify, watch};
use types::{Naming, TopicName, Uid};

pub(crate) use self::plans::pipeline_plan;
use self::plans::{Needs, Plan, Planner};
use self::topics::{SourceFacts, Want, drift, reverted, steps};
pub(crate) use self::world::World;
use crate::drift::{DriftKind, Reverted};
use crate::engine::{Engine, EngineError, EngineTopic};
use crate::redrive::Runs;
use crate::seen::{Sight, TopicSeen, TopicState};
use crate::{Control, EngineKind, metrics};

/// The pause after the first failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a pass looks again after the engine did something: stages in a chain, each of which reads what the one
/// before it writes.
const ROUNDS_MAX: usize = 5;

/// Passes that were asked for are this far apart, whoever asks and how often.
const ASKED_INTERVAL: Duration = Duration::from_millis(250);

/// Topics that one request creates.
const CREATE_MAX: usize = 100;

/// Partitions of [`SETTLED_TOPIC`] on a cluster; on the embedded engine it has one.
const SETTLED_PARTITIONS: i32 = 6;

/// Makes topics, plans and the topic table follow the store. Owns what it handed out.
pub struct Reconciler {
    control: Arc<Control>,
    engine: Arc<dyn Engine>,
    ready: Check,
    table: watch::Sender<Arc<TopicTable>>,
    planner: Planner,
    applied: BTreeMap<Uid, Plan>,
    /// What was wanted of topics that the last pass left as they should be: who finds another engine then, while the same is
    /// wanted, knows that somebody else changed it.
    settled: BTreeMap<TopicName, Want>,
    asked: Arc<Notify>,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("applied", &self.applied.len()).finish_non_exhaustive()
    }
}

/// What went wrong with single topics of a pass.
type Refused = BTreeMap<TopicName, String>;

impl Reconciler {
    /// Of a control plane and an engine. `ready` says whether the last pass succeeded. The receiver's table
    /// is empty until the first pass.
    pub fn new(
        control: Arc<Control>,
        engine: Arc<dyn Engine>,
        ready: Check,
    ) -> (Self, watch::Receiver<Arc<TopicTable>>) {
        let (table, receiver) = watch::channel(Arc::new(TopicTable::default()));
        let reconciler = Self {
            control,
            engine,
            ready,
            table,
            planner: Planner::default(),
            applied: BTreeMap::new(),
            settled: BTreeMap::new(),
            asked: Arc::default(),
        };
        (reconciler, receiver)
    }

    /// Told, it looks at the engine soon (at most every [`ASKED_INTERVAL`]), and publishes the topic table: for who
    /// needs to know of a topic that was made by Kafka's protocol a moment ago.
    pub fn look(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Reconciles until a stop is requested. Stages that run go on: their runtimes end them. Redrives are stopped, and
    /// taken up at the next start.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut changed = self.control.store.watch();
        let mut pause = PAUSE_MIN;
        let mut runs = Runs::new(Arc::clone(&self.control), shutdown.child("redrives"));
        loop {
            changed.mark_unchanged();
            let begun = Instant::now();
            let wait = tokio::select! {
                () = shutdown.requested() => return,
                passed = async { runs.follow(&self.pass().await?).await } => match passed {
                    Ok(()) => {
                        metrics::passed(true, begun.elapsed());
                        self.ready.ready();
                        pause = PAUSE_MIN;
                        self.control.config.reconcile_interval
                    }
                    Err(error) => {
                        metrics::passed(false, begun.elapsed());
                        let reason = runtime::shutdown::chain(&error);
                        tracing::warn!(error = reason, pause_ms = pause.as_millis() as u64, "failed to reconcile");
                        self.control.seen.failed(reason.clone());
                        self.ready.not_ready(reason);
                        let wait = pause;
                        pause = (pause * 2).min(PAUSE_MAX);
                        wait
                    }
                },
            };
            tokio::select! {
                () = shutdown.requested() => return,
                // The store outlives the reconciler, which holds it.
                _ = changed.changed() => {}
                () = self.asked.notified() => {
                    let rest = ASKED_INTERVAL.saturating_sub(begun.elapsed());
                    tokio::select! {
                        () = shutdown.requested() => return,
                        () = tokio::time::sleep(rest) => {}
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One pass over everything.
    async fn pass(&mut self) -> Result<World, crate::Error> {
        let env = self.control.config.env.clone();
        // Another process may have written.
        self.control.publish_clients().await?;
        let world = World::of(self.control.all(None, None).await?)?;
        let failed = |action: &str, error: EngineError| crate::Error::Engine {
            action: action.to_owned(),
            detail: error.message,
        };
        let mut engine = self.engine.topics().await.map_err(|error| failed("list topics", error))?;
        let mut refused = Refused::new();
        let mut configured = BTreeSet::new();
        let (mut wants, mut needs) = self.wants(&world, &engine, &env);
        // What one stage makes another may read: its topics are wanted only once their source is there.
        let mut put_back = BTreeMap::new();
        for round in 0..ROUNDS_MAX {
            let mut steps = steps(&wants, &engine, self.control.config.engine);
            if round == 0 {
                put_back = reverted(&steps, &self.settled, &wants, &engine, Timestamp::now());
            }
            // What was asked for and still isn't so is drift: asking again at once changes nothing.
            steps.leave_out(&refused, &configured);
            if steps.is_empty() {
                break;
            }
            configured.extend(steps.configure.iter().map(|(name, _)| name.clone()));
            self.take(steps, &mut refused).await.map_err(|error| failed("create topics", error))?;
            engine = self.engine.topics().await.map_err(|error| failed("list topics", error))?;
            (wants, needs) = self.wants(&world, &engine, &env);
        }
        put_back.retain(|name, _| !refused.contains_key(name));
        for (topic, reverted) in
            put_back.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)))
        {
            metrics::reverted();
            tracing::warn!(%topic, pointer = reverted.pointer, found = reverted.found, "put back: {}", reverted.message);
        }
        let unsettled = steps(&wants, &engine, self.control.config.engine);
        let topics = seen(&world, &wants, &engine, &refused, put_back);
        metrics::drifted(topics.values().filter(|topic| !topic.drift.is_empty()).count());
        let mut sight = Sight { topics, ..Sight::default() };
        wants.retain(|name, _| unsettled.leaves(name));
        self.settled = wants;
        self.publish(&world, &engine, &env);
        self.hand_out(&world, needs, &engine, &refused, &mut sight).await?;
        metrics::held(sight.held.len());
        self.control.seen.passed(sight);
        Ok(world)
    }

    /// What every topic must be, and what every stage needs.
    fn wants(
        &self,
        world: &World,
        engine: &BTreeMap<TopicName, EngineTopic>,
        env: &str,
    ) -> (BTreeMap<TopicName, Want>, BTreeMap<Uid, Needs>) {
        let mut wants: BTreeMap<TopicName, Want> = BTreeMap::new();
        for (name, topic) in &world.topics {
            let want = Want {
                partitions: topic.spec.partitions,
                replication_factor: topic.spec.replication_factor,
                config: topic.spec.config.clone(),
                by_resource: true,
                ..Want::default()
            };
            wants.insert(name.clone(), want);
        }
        let mut system: Vec<(TopicName, Want)> = Vec::new();
        // A topic that stores rejects has a dead-letter topic though no stage reads it.
        for (name, topic) in world.topics.iter().filter(|(_, topic)| topic.spec.ingest.quarantine) {
            let naming = Naming { env, workspace: topic.workspace() };
            let facts = SourceFacts::of(wants.get(name), engine.get(name));
            if let (Ok(dlq), Some(facts)) = (world.dlq(&naming, name), facts) {
                system.push((dlq, facts.copies()));
            }
        }
        let mut needs = BTreeMap::new();
        let stages = plans::stages(world);
        for stage in &stages {
            let need = stage.needs(world, env, &wants, engine);
            system.extend(need.topics.iter().filter_map(|(name, want)| Some((name.clone(), want.clone()?))));
            needs.insert(stage.uid, need);
        }
        if let (false, Ok(settled)) = (stages.is_empty(), TopicName::new(SETTLED_TOPIC)) {
            let partitions = match self.control.config.engine {
                EngineKind::Embedded => 1,
                EngineKind::Kafka => SETTLED_PARTITIONS,
            };
            let config = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
            system.push((settled, Want { partitions, config, ..Want::default() }));
        }
        for (name, want) in system {
            wants.entry(name).or_default().merge(want);
        }
        (wants, needs)
    }

    /// Asks the engine. What it refuses of a single topic is that topic's; what fails as a whole ends the pass.
    async fn take(&self, steps: topics::Steps, refused: &mut Refused) -> Result<(), EngineError> {
        for some in steps.create.chunks(CREATE_MAX) {
            for (name, answer) in self.engine.create(some).await? {
                match answer {
                    Ok(()) => tracing::info!(topic = %name, "topic created"),
                    // Somebody was quicker: the next look tells how it is.
                    Err(error) if error.exists => {}
                    Err(error) => drop(refused.insert(name, error.message)),
                }
            }
        }
        for (name, partitions) in steps.grow {
            match self.engine.grow(&name, partitions).await {
                Ok(()) => tracing::info!(topic = %name, partitions, "topic grown"),
                Err(error) => drop(refused.insert(name, error.message)),
            }
        }
        for (name, changes) in steps.configure {
            match self.engine.configure(&name, &changes).await {
                Ok(()) => tracing::info!(topic = %name, ?changes, "topic configured"),
                Err(error) => drop(refused.insert(name, error.message)),
            }
        }
        Ok(())
    }

    fn publish(&self, world: &World, engine: &BTreeMap<TopicName, EngineTopic>, env: &str) {
        let entry = |(name, topic): (&TopicName, &EngineTopic)| {
            let resource = world.topics.get(name);
            let dlq =
                resource.and_then(|of| world.dlq(&Naming { env, workspace: of.workspace() }, name).ok());
            let entry = TopicEntry {
                partitions: topic.partitions,
                max_message_bytes: topic
                    .config
                    .get("max.message.bytes")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(MAX_MESSAGE_BYTES_DEFAULT),
                ingest: resource.map_or_else(IngestSpec::default, |of| of.spec.ingest.clone()),
                workspace: resource.map(|of| of.workspace().to_owned()),
                dlq: dlq.filter(|dlq| engine.contains_key(dlq)),
            };
            (name.clone(), entry)
        };
        let table = TopicTable::new(engine.iter().map(entry));
        // Told also where nothing changed: who asked for a look waits for it.
        self.table.send_modify(|current| {
            if **current != table {
                *current = Arc::new(table);
            }
        });
    }

    async fn hand_out(
        &mut self,
        world: &World,
        mut needs: BTreeMap<Uid, Needs>,
        engine: &BTreeMap<TopicName, EngineTopic>,
        refused: &Refused,
        sight: &mut Sight,
    ) -> Result<(), crate::Error> {
        let stages = plans::stages(world);
        for stage in &stages {
            let Some(need) = needs.remove(&stage.uid) else { continue };
            let planned = match need.missing(engine, refused) {
                Some(reason) => Err(reason),
                None => {
                    let store = &*self.control.store;
                    self.planner.plan(store.installation(), store, world, stage, need).await?
                }
            };
            match planned {
                Ok(plan) => {
                    if self.applied.get(&stage.uid) != Some(&plan) {
                        plan.apply(&*self.control.stages);
                        self.applied.insert(stage.uid, plan);
                    }
                }
                Err(reason) => {
                    sight.held.insert(stage.uid, self.planner.held(stage, reason));
                }
            }
        }
        let gone: Vec<Uid> = self
            .applied
            .keys()
            .filter(|uid| !stages.iter().any(|stage| stage.uid == **uid))
            .copied()
            .collect();
        for uid in gone {
            self.control.stages.remove(uid);
            self.applied.remove(&uid);
        }
        self.planner.forget_all_but(world, sight);
        Ok(())
    }
}

/// How every Topic resource is.
fn seen(
    world: &World,
    wants: &BTreeMap<TopicName, Want>,
    engine: &BTreeMap<TopicName, EngineTopic>,
    refused: &Refused,
    mut reverted: BTreeMap<TopicName, Vec<Reverted>>,
) -> BTreeMap<Uid, TopicSeen> {
    let mut seen = BTreeMap::new();
    for (name, topic) in &world.topics {
        let Some(want) = wants.get(name) else { continue };
        let there = engine.get(name);
        let (drift, warnings) = there.map_or_else(Default::default, |there| drift(want, there));
        let differs: Vec<&str> = drift
            .iter()
            .filter(|drift| drift.kind == DriftKind::Differs)
            .map(|drift| drift.message.as_str())
            .collect();
        let (state, reason) = match (refused.get(name), there) {
            (Some(reason), _) => (TopicState::Failed, Some(reason.clone())),
            (None, None) => (TopicState::Pending, Some("not in the engine yet".into())),
            (None, Some(_)) if !differs.is_empty() => (TopicState::Drifted, Some(differs.join("; "))),
            (None, Some(_)) => (TopicState::Ready, None),
        };
        let partitions = there.map(|there| there.partitions);
        let reverted = reverted.remove(name).unwrap_or_default();
        seen.insert(topic.uid(), TopicSeen { state, reason, partitions, warnings, drift, reverted });
    }
    for double in &world.doubles {
        let reason = Some("another Topic of this name is older: the name is taken".into());
        let state = TopicState::Failed;
        seen.insert(double.uid(), TopicSeen { state, reason, ..TopicSeen::default() });
    }
    seen
}
