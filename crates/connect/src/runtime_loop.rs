//! Keeps connectors running as planned.
//!
//! Invariants: of two plans for one connector the newer generation wins; a task that ends with an
//! error is started again after a backoff, for ever, and its reason is on the board meanwhile;
//! nothing stays FAILED until somebody restarts it, but what a plan itself makes impossible (a
//! configuration that is wrong), and that is looked at again too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka::ClientConfig;
use parking_lot::Mutex;
use resources::reference::{Reference, Secret, Template};
use resources::{ConnectorPlan, ConnectorState};
use runtime::shutdown::chain;
use runtime::{Metrics, OnEnd, Shutdown, StageState, StageStatus};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::Uid;

use crate::config::TaskConfig;
use crate::metrics::ConnectMetrics;
use crate::sink::{ConfigProblem, Sink, SinkFactory};
use crate::state::{Board, TaskReport};
use crate::task::{self, End, TaskDeps};

/// The first wait before a task that failed is started again; doubled up to the next.
const RESTART_MIN: Duration = Duration::from_millis(500);
/// No task waits longer to be started again.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A task that ran for this long before it failed starts its backoff anew.
const STEADY: Duration = Duration::from_secs(60);
/// A configuration that was wrong is looked at again this often: the file or variable it names may be there.
const CONFIG_RETRY: Duration = Duration::from_secs(15);
/// A secret's file may be this large, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// What is wanted, by connector: as many as there are resources.
#[derive(Debug, Default)]
struct Wanted {
    plans: Mutex<BTreeMap<Uid, Arc<ConnectorPlan>>>,
    changed: Notify,
}

/// Runs connectors. Built first, then [`Runtime::run`].
pub struct Runtime {
    client: ClientConfig,
    instance: u32,
    factories: Arc<HashMap<&'static str, Arc<dyn SinkFactory>>>,
    wanted: Arc<Wanted>,
    board: Board,
    metrics: ConnectMetrics,
}

/// Tells a [`Runtime`] what to run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    wanted: Arc<Wanted>,
    board: Board,
}

impl Handle {
    /// Wants this plan to run; an older generation than what is wanted already is ignored.
    pub fn apply(&self, plan: ConnectorPlan) {
        let mut plans = self.wanted.plans.lock();
        if plans.get(&plan.uid).is_none_or(|current| current.generation <= plan.generation) {
            plans.insert(plan.uid, Arc::new(plan));
            self.wanted.changed.notify_one();
        }
    }

    /// Stops a connector and forgets it. Its committed offsets stay.
    pub fn remove(&self, uid: Uid) {
        self.wanted.plans.lock().remove(&uid);
        self.wanted.changed.notify_one();
    }

    /// Every connector's state now.
    pub fn status(&self) -> Vec<StageStatus> {
        self.board.list()
    }
}

impl Runtime {
    /// Opens nothing yet. `instance` is this process' number among those that share the connectors.
    pub fn new(
        client: ClientConfig,
        instance: u32,
        factories: Vec<Arc<dyn SinkFactory>>,
        metrics: &Metrics,
    ) -> (Self, Handle) {
        let wanted = Arc::<Wanted>::default();
        let board = Board::default();
        let factories = factories.into_iter().map(|factory| (factory.plugin(), factory)).collect();
        let metrics = ConnectMetrics::register(metrics);
        let handle = Handle { wanted: Arc::clone(&wanted), board: board.clone() };
        (Self { client, instance, factories: Arc::new(factories), wanted, board, metrics }, handle)
    }

    /// Runs until the stop; then every connector drains what is under way and commits.
    pub async fn run(self, shutdown: Shutdown) {
        let mut running: HashMap<Uid, (watch::Sender<Arc<ConnectorPlan>>, CancellationToken)> =
            HashMap::new();
        loop {
            let wanted = self.wanted.plans.lock().clone();
            running.retain(|uid, (_, stop)| {
                let keep = wanted.contains_key(uid);
                if !keep {
                    stop.cancel();
                    self.board.remove(*uid);
                }
                keep
            });
            for (uid, plan) in wanted {
                let Some((current, _)) = running.get(&uid) else {
                    running.insert(uid, self.start(plan, &shutdown));
                    continue;
                };
                current.send_if_modified(|running| {
                    let differs = **running != *plan;
                    *running = plan;
                    differs
                });
            }
            tokio::select! {
                () = shutdown.requested() => break,
                () = self.wanted.changed.notified() => {}
            }
        }
    }

    fn start(
        &self,
        plan: Arc<ConnectorPlan>,
        shutdown: &Shutdown,
    ) -> (watch::Sender<Arc<ConnectorPlan>>, CancellationToken) {
        let name = format!("connector {}/{}", plan.workspace, plan.name);
        let (sender, receiver) = watch::channel(plan);
        let stop = shutdown.token().child_token();
        let supervisor = Supervisor {
            client: self.client.clone(),
            instance: self.instance,
            factories: Arc::clone(&self.factories),
            board: self.board.clone(),
            metrics: self.metrics.clone(),
            stop: stop.clone(),
        };
        shutdown.spawn(name, OnEnd::Expected, supervisor.run(receiver));
        (sender, stop)
    }
}

struct Supervisor {
    client: ClientConfig,
    instance: u32,
    factories: Arc<HashMap<&'static str, Arc<dyn SinkFactory>>>,
    board: Board,
    metrics: ConnectMetrics,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self, mut plans: watch::Receiver<Arc<ConnectorPlan>>) {
        while !self.stop.is_cancelled() {
            let plan = Arc::clone(&plans.borrow_and_update());
            match plan.state {
                ConnectorState::Running => self.running(&plan, &mut plans).await,
                ConnectorState::Paused => {
                    self.board.planned(
                        &plan,
                        StageState::Paused,
                        "paused: its offsets stay where they are until it is resumed",
                    );
                    self.wait(&mut plans, None).await;
                }
                ConnectorState::Stopped => {
                    self.board.planned(
                        &plan,
                        StageState::Stopped,
                        "stopped: it has no tasks until it is resumed",
                    );
                    self.wait(&mut plans, None).await;
                }
            }
        }
    }

    /// Until there is another plan, the stop, or the time is over.
    async fn wait(&self, plans: &mut watch::Receiver<Arc<ConnectorPlan>>, at_most: Option<Duration>) {
        let timer = async {
            match at_most {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            changed = plans.changed() => if changed.is_err() { self.stop.cancel() },
            () = timer => {}
        }
    }

    async fn running(&self, plan: &Arc<ConnectorPlan>, plans: &mut watch::Receiver<Arc<ConnectorPlan>>) {
        self.board.planned(plan, StageState::Starting, "starting");
        let (config, sink) = match self.prepare(plan).await {
            Ok(prepared) => prepared,
            Err(problems) => {
                let reason: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let reason = reason.join("; ");
                warn!(connector = %plan.name, workspace = %plan.workspace, reason, "configuration refused");
                self.board.halted(plan.uid, StageState::Failed, &reason);
                return self.wait(plans, Some(CONFIG_RETRY)).await;
            }
        };
        let stop = self.stop.child_token();
        let mut tasks = JoinSet::new();
        for number in 0..plan.tasks_max {
            // One process' tasks and those of others must not share a name; one task alone keeps the plain slot.
            let slot = if plan.tasks_max == 1 {
                self.instance.to_string()
            } else {
                format!("{}-{number}", self.instance)
            };
            let deps = TaskDeps {
                client: self.client.named(&format!("connector.{}.{}", plan.workspace, plan.name)),
                plan: Arc::clone(plan),
                config,
                sink: Arc::clone(&sink),
                slot,
                metrics: self.metrics.of(&plan.workspace, &plan.name),
                report: TaskReport { board: self.board.clone(), uid: plan.uid, task: number },
            };
            tasks.spawn(keep_running(deps, stop.clone()));
        }
        self.board.running(plan);
        let gone = tokio::select! {
            () = self.wait(plans, None) => None,
            Some(ended) = tasks.join_next() => ended.ok().flatten(),
        };
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        if let Some(message) = gone {
            info!(connector = %plan.name, workspace = %plan.workspace, message, "stopped: the destination is gone");
            self.board.halted(plan.uid, StageState::Stopped, &format!("gone: {message}"));
            self.wait(plans, None).await;
        }
    }

    async fn prepare(&self, plan: &ConnectorPlan) -> Result<(TaskConfig, Arc<dyn Sink>), Vec<ConfigProblem>> {
        let problem = |key: &str, message: String| vec![ConfigProblem { key: key.into(), message }];
        let Some(factory) = self.factories.get(plan.plugin.as_str()) else {
            let mut known: Vec<_> = self.factories.keys().copied().collect();
            known.sort_unstable();
            let message = format!("unknown plugin {:?}; this binary has {}", plan.plugin, known.join(", "));
            return Err(problem("plugin", message));
        };
        let missing = task::missing_dlqs(plan);
        if let Some(topic) = missing.first() {
            return Err(problem("topics", format!("no DLQ is planned for {topic}")));
        }
        let config = resolve(&plan.config).await?;
        let task_config = TaskConfig::parse(&config, factory.keys());
        let sink = factory.create(&config);
        match (task_config, sink) {
            (Ok(task_config), Ok(sink)) => Ok((task_config, sink)),
            (task_config, sink) => {
                Err([task_config.err(), sink.err()].into_iter().flatten().flatten().collect())
            }
        }
    }
}

/// Runs a task again and again until the stop. `Some`: the destination is gone, as it says.
async fn keep_running(deps: TaskDeps, stop: CancellationToken) -> Option<String> {
    let mut wait = RESTART_MIN;
    loop {
        let begun = tokio::time::Instant::now();
        let error = match task::run(deps.clone(), stop.clone()).await {
            Ok(End::Stopped) => return None,
            Ok(End::Gone(message)) => return Some(message),
            Err(error) => chain(&error),
        };
        if begun.elapsed() > STEADY {
            wait = RESTART_MIN;
        }
        let plan = &deps.plan;
        warn!(
            connector = %plan.name, workspace = %plan.workspace, error, wait_ms = wait.as_millis() as u64,
            "task failed, starting it again"
        );
        deps.report.degraded(Some(&error));
        deps.metrics.restarted();
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(RESTART_MAX);
        deps.report.degraded(None);
    }
}

/// Resolves `${env:..}` and `${file:..}`; what can't be resolved is named, never shown.
async fn resolve(config: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>, Vec<ConfigProblem>> {
    let mut resolved = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, value) in config {
        let outcome = match Template::parse(value) {
            Ok(template) => template.resolve(look_up),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(secret) => drop(resolved.insert(key.clone(), secret)),
            Err(message) => problems.push(ConfigProblem { key: key.clone(), message }),
        }
    }
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

fn look_up(reference: &Reference) -> Result<Secret, String> {
    match reference {
        Reference::Env(name) => std::env::var(name)
            .map(Secret::new)
            .map_err(|_| format!("environment variable {name} is not set, or isn't UTF-8")),
        Reference::File(path) => {
            let size = std::fs::metadata(path).map_err(|e| format!("{path}: {e}"))?.len();
            if size > SECRET_FILE_BYTES_MAX {
                return Err(format!("{path}: larger than {SECRET_FILE_BYTES_MAX} bytes"));
            }
            let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
        }
    }
}
