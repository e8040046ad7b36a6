//! The transform runtime: source topics through steps into a target topic, exactly once.
//!
//! A *pipeline* is a plan (what to read, the steps at their versions, the target). Its *supervisor* keeps a *loop*
//! running, which reads with one consumer and writes through *lanes*: transactional producers over disjoint
//! input partitions. A *batch* is read, evaluated on blocking threads, and then written in one transaction with
//! the offsets it came from.
//!
//! Invariants:
//! - read_committed, every input record leads exactly once to its outputs, to one dead letter, or to nothing
//!   (a result of `undefined`, a filter that doesn't hold), whatever is killed, fenced or cut off at any moment.
//! - Per input partition, outputs are written in the order of the inputs.
//! - A record is seen by exactly one generation of the plan, and the generation's number is committed with it.
//! - A bad record never stops its neighbours, unless the plan says `onError: stop`.
//! - A pipeline that can't go on says why in its state, and tries again.
//!
//! It creates no topics, asks no store, and knows no HTTP.
//!
//! Not done:
//! - Canary shares; steps that keep state (dedupe, lookup).
//! - Instances share a pipeline's partitions as the cooperative-sticky assignor gives them, which counts source and
//!   retry partitions alike: of two instances, one may get all sources and the other the (mostly idle) retry topic.
//!   A retry partition that follows the source partition of its number would mend that.
//! - A transactional id that a lower `parallelism` no longer uses isn't fenced at once: what a killed owner left open
//!   under it ends by the transaction's timeout.

pub mod backtest;
mod compiled;
mod config;
mod evaluate;
mod lane;
mod metrics;
mod output;
mod position;
mod queue;
mod reach;
mod record;
mod redact;
mod run;
mod sample;
mod status;
mod supervise;
mod topics;
mod transact;
mod validate;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka::{Admin, ClientConfig};
use parking_lot::Mutex;
use resources::PipelinePlan;
use runtime::{OnEnd, Shutdown, StageStatus};
use tokio::sync::{Notify, watch};
use types::Uid;

pub use config::{Config, Problem};
pub use redact::{Error as RedactError, Redaction};
pub use validate::{SchemaError, check_schema};

use status::Status;
use supervise::Env;
use workers::Workers;

/// What a runtime needs of its process.
#[derive(Clone)]
pub struct Deps {
    /// How the engine is reached.
    pub client: ClientConfig,
    /// Where its metrics are registered; once a process.
    pub metrics: runtime::Metrics,
}

/// A runtime can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Every setting that can't be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<Problem>),
    /// How the engine is reached.
    #[error("{0}")]
    Client(kafka::Error),
}

/// What became of a plan that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// A pipeline that wasn't here.
    New,
    /// It is in effect from the next batch on, or, where it reads or writes elsewhere, in a new loop.
    Changed,
    /// It is what runs already.
    Same,
    /// A newer generation is here already: this one is dropped.
    Older,
}

/// Runs pipelines. [`Runtime::new`] spawns nothing; [`Runtime::run`] does.
pub struct Runtime {
    env: Env,
    /// Told by what asks whether the engine answers.
    reach: watch::Sender<Option<Arc<str>>>,
    shared: Arc<Shared>,
}

/// Hands in plans and reads states. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    pipelines: Mutex<BTreeMap<Uid, Pipeline>>,
    changed: Notify,
    metrics: metrics::Metrics,
    backtests: backtest::Backtests,
}

struct Pipeline {
    plan: watch::Sender<Arc<PipelinePlan>>,
    status: Arc<Status>,
    /// Its supervisor's scope, once it is started.
    scope: Option<Shutdown>,
    /// Removed; here until its supervisor has ended.
    removed: bool,
}

impl Runtime {
    /// A runtime without pipelines. It doesn't connect; only settings can be wrong.
    pub fn new(config: Config, deps: Deps) -> Result<Self, Error> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(Error::Settings(problems));
        }
        let admin = Admin::new(&deps.client.named("pipeline")).map_err(Error::Client)?;
        let workers = Workers::new(config.evaluations(), config.batch_output_bytes_max);
        let metrics = deps.metrics.register(metrics::Metrics::register);
        let (reach, told) = watch::channel(None);
        let config = Arc::new(config);
        let backtests = backtest::Backtests::new(
            deps.client.named("pipeline"),
            admin.clone(),
            config.clone(),
            workers.clone(),
        );
        let env = Env { client: deps.client, admin, reach: told, config, workers };
        let shared = Shared { pipelines: Mutex::default(), changed: Notify::new(), metrics, backtests };
        Ok(Self { env, reach, shared: Arc::new(shared) })
    }

    /// A handle.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Runs what is applied until a stop is requested; then every pipeline ends what is in flight, by the
    /// deadline, and commits it.
    pub async fn run(mut self, shutdown: Shutdown) {
        let tell = std::mem::replace(&mut self.reach, watch::channel(None).0);
        let asking = reach::ask(self.env.admin.clone(), tell, shutdown.clone());
        shutdown.spawn("pipelines' question whether the engine answers", OnEnd::Log, asking);
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.start_new(&shutdown);
            tokio::select! {
                () = changed => {}
                () = shutdown.requested() => break,
            }
        }
        // The supervisors have the same request, and are tasks of the same scope: it is drained by its owner.
        let scopes: Vec<_> = self.shared.pipelines.lock().values().filter_map(|p| p.scope.clone()).collect();
        for scope in scopes {
            if let Err(unfinished) = scope.drain().await {
                tracing::warn!(%unfinished, "a pipeline didn't end in time");
            }
        }
    }

    fn start_new(&self, shutdown: &Shutdown) {
        for (uid, pipeline) in &mut *self.shared.pipelines.lock() {
            if pipeline.scope.is_some() || pipeline.removed {
                continue;
            }
            let name = format!("pipeline {}", pipeline.status.label());
            let scope = shutdown.child(name.clone());
            pipeline.scope = Some(scope.clone());
            let (shared, uid) = (self.shared.clone(), *uid);
            let (status, plans) = (pipeline.status.clone(), pipeline.plan.subscribe());
            let supervisor = supervise::supervise(self.env.clone(), status.clone(), plans, scope.clone());
            scope.spawn(name, OnEnd::Log, async move {
                supervisor.await;
                shared.ended(uid);
            });
        }
    }
}

impl Shared {
    /// A removed pipeline is forgotten when its supervisor has ended, and one that was applied again meanwhile starts.
    fn ended(&self, uid: Uid) {
        let mut pipelines = self.pipelines.lock();
        if let Some(pipeline) = pipelines.get_mut(&uid) {
            pipeline.scope = None;
            if pipeline.removed {
                pipeline.status.forget();
                pipelines.remove(&uid);
            }
        }
        self.changed.notify_one();
    }
}

impl Handle {
    /// Hands in a plan. It is in effect at a batch boundary; nothing is lost or doubled by it. An older
    /// generation than the one that is here is dropped.
    pub fn apply(&self, plan: PipelinePlan) -> Applied {
        let uid = plan.uid;
        let generation = plan.generation;
        let mut pipelines = self.0.pipelines.lock();
        let applied = match pipelines.get_mut(&uid) {
            Some(pipeline) => {
                let here = pipeline.plan.borrow().clone();
                if generation < here.generation {
                    return Applied::Older;
                }
                let back = std::mem::replace(&mut pipeline.removed, false);
                if *here == plan && !back {
                    return Applied::Same;
                }
                pipeline.status.wanted(generation);
                pipeline.plan.send_replace(Arc::new(plan));
                Applied::Changed
            }
            None => {
                let metrics = self.0.metrics.of(&plan.workspace, &plan.name);
                let status = Arc::new(Status::new(&plan, metrics));
                let plan = watch::Sender::new(Arc::new(plan));
                pipelines.insert(uid, Pipeline { plan, status, scope: None, removed: false });
                Applied::New
            }
        };
        drop(pipelines);
        self.0.changed.notify_one();
        applied
    }

    /// Ends a pipeline: what is in flight is committed, and its offsets stay in its group. `false`: there is none.
    pub fn remove(&self, uid: Uid) -> bool {
        let mut pipelines = self.0.pipelines.lock();
        let Some(pipeline) = pipelines.get_mut(&uid) else { return false };
        match &pipeline.scope {
            Some(scope) => {
                pipeline.removed = true;
                scope.begin("the pipeline was removed");
            }
            None => {
                pipelines.remove(&uid);
            }
        }
        true
    }

    /// Runs candidates over recorded input, with this runtime's settings. It needs no [`Runtime::run`].
    pub fn backtests(&self) -> backtest::Backtests {
        self.0.backtests.clone()
    }

    /// Every pipeline as it is now, by workspace and name. Waits for nothing.
    pub fn status(&self) -> Vec<StageStatus> {
        let pipelines = self.0.pipelines.lock();
        let mut all: Vec<_> =
            pipelines.values().filter(|p| !p.removed).map(|p| p.status.snapshot()).collect();
        all.sort_by(|a, b| (&a.workspace, &a.name).cmp(&(&b.workspace, &b.name)));
        all
    }
}
