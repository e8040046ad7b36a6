//! The whole platform in one process: what `vltava up` and `vltava demo` run.
//!
//! Starts from the inside out (data directory, store, engine, stages, control plane, HTTP) and stops
//! the other way round: listeners, then stages (what is in flight is committed), then the engine,
//! and the lock of the data directory last. Nothing behind the engine's address knows which engine
//! it is.

mod access;
#[cfg(test)]
mod disk_faults;
mod lock;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use broker::Broker;
use control::{Control, EngineKind, KafkaEngine, Reconciler, Stages};
use ingest::Producers;
use kafka::{Admin, ClientConfig, ProducerConfig};
use resources::{ConnectorPlan, PipelinePlan};
use runtime::http::{Limits, Server};
use runtime::{Check, Health, Metrics, OnEnd, Shutdown, StageStatus, bind, bind_anywhere};
use store::Store as _;
use types::{Scope, Uid};

use self::access::Door;
use self::lock::DataDir;
use crate::settings::Settings;

/// How long a start waits for the engine to answer, before it goes on without it (and isn't ready).
const ENGINE_WAIT: Duration = Duration::from_secs(10);

/// `/ready` looks at the embedded broker's log this often.
const LOG_LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What tests put in the place of the real thing.
struct Parts {
    open: Box<dyn FnOnce(broker::Config) -> Result<Broker, broker::Error> + Send>,
    producer: ProducerConfig,
}

impl Default for Parts {
    fn default() -> Self {
        // A caller waits for each record: under load batches fill while others are under way.
        let producer = ProducerConfig { linger_ms: 0, ..ProducerConfig::default() };
        Self { open: Box::new(Broker::open), producer }
    }
}

/// A running platform.
pub(crate) struct Platform {
    /// Where HTTP listens, unless it is off.
    pub(crate) http: Option<SocketAddr>,
    /// Where `/metrics` listens alone, unless it is off.
    pub(crate) metrics: Option<SocketAddr>,
    /// Where Kafka clients connect to.
    pub(crate) bootstrap: String,
    /// For further clients of this process.
    pub(crate) client: ClientConfig,
    /// Ready, and why not.
    pub(crate) health: Health,
    /// What this process' own requests show instead of a token.
    pub(crate) own: auth::Secret,
    producers: Producers,
    listeners: Shutdown,
    stages: Shutdown,
    engine: Shutdown,
    grace: Duration,
    _data_dir: DataDir,
}

/// Hands plans to the two runtimes of stages.
struct Runtimes {
    pipelines: pipeline::Handle,
    connectors: connect::Handle,
}

impl Stages for Runtimes {
    fn apply_pipeline(&self, plan: PipelinePlan) {
        self.pipelines.apply(plan);
    }

    fn apply_connector(&self, plan: ConnectorPlan) {
        self.connectors.apply(plan);
    }

    fn remove(&self, uid: Uid) {
        self.pipelines.remove(uid);
        self.connectors.remove(uid);
    }

    fn status(&self) -> Vec<StageStatus> {
        let mut all = self.pipelines.status();
        all.extend(self.connectors.status());
        all
    }

    fn backtests(&self) -> Option<pipeline::backtest::Backtests> {
        Some(self.pipelines.backtests())
    }
}

impl Platform {
    /// Starts everything. `process` is requested to stop where a part that must run has ended.
    pub(crate) async fn start(settings: &Settings, process: &Shutdown) -> Result<Self> {
        Self::start_of(Parts::default(), settings, process).await
    }

    async fn start_of(parts: Parts, settings: &Settings, process: &Shutdown) -> Result<Self> {
        let grace = settings.stop_grace;
        let data_dir = DataDir::lock(&settings.data_dir)?;
        let metrics = Metrics::new();
        metrics.register(kafka::metrics::register);
        metrics.register(deadletter::metrics::register);
        metrics.register(control::metrics::register);
        metrics.register(auth::metrics::register);
        let [listeners, stages, engine] = ["listeners", "stages", "engine"].map(|_| Shutdown::new(grace));
        let health = Health::new("vltava", env!("CARGO_PKG_VERSION"), process.clone());

        let store = store::Sqlite::open(&settings.data_dir.join("store.db"))
            .await
            .context("the store can't be opened")?;
        let door = Door::open(settings, store.installation())?;
        let bootstrap = start_engine(settings, parts.open, &engine, &health)?;
        let client = ClientConfig::new(&bootstrap, "vltava");

        let producers = Producers::open(client.named("ingest"), parts.producer)?;
        let deps = pipeline::Deps { client: client.clone(), metrics: metrics.clone() };
        let config = pipeline::Config { slot: settings.instance, ..pipeline::Config::default() };
        let pipelines = pipeline::Runtime::new(config, deps)?;
        let factories: Vec<Arc<dyn connect::SinkFactory>> = vec![Arc::new(connectors::http::Factory)];
        let (connects, connectors) =
            connect::Runtime::new(client.clone(), settings.instance, factories.clone(), &metrics);
        let runtimes = Arc::new(Runtimes { pipelines: pipelines.handle(), connectors });
        stages.spawn("pipelines", OnEnd::StopOwner, pipelines.run(stages.clone()));
        stages.spawn("connectors", OnEnd::StopOwner, connects.run(stages.clone()));

        let kind = if settings.kafka_bootstrap.is_some() { EngineKind::Kafka } else { EngineKind::Embedded };
        let config =
            control::Config { env: settings.env.clone(), engine: kind, ..control::Config::default() };
        let admin = Admin::new(&client.named("control"))?;
        let deps = control::Deps {
            store: Arc::new(store),
            stages: runtimes,
            sinks: factories,
            client: client.clone(),
            authorizer: Arc::clone(&door.authorizer),
        };
        let control = Arc::new(Control::new(config, deps));
        door.first_client(&control).await?;
        let (reconciler, topics) =
            Reconciler::new(Arc::clone(&control), Arc::new(KafkaEngine::new(admin)), health.check("engine"));
        let look = reconciler.look();
        stages.spawn("reconciler", OnEnd::StopOwner, reconciler.run(stages.clone()));

        let ingest =
            ingest::Config { deployment_env: settings.env.clone().into(), ..ingest::Config::default() };
        let deps = ingest::Deps { topics, sink: producers.clone(), look, metrics: metrics.clone() };
        let router = control::router(control)
            .merge(ingest::router(ingest, deps))
            .merge(door.router())
            .merge(health.router())
            .merge(numbers(&metrics));
        let http = listen(settings.http.addr(), "the HTTP API (http.listen)", router, &door, &listeners)?;
        let alone = health.router().merge(numbers(&metrics));
        let metrics = listen(settings.metrics.addr(), "metrics (metrics.listen)", alone, &door, &listeners)?;
        for part in [&stages, &engine, &listeners] {
            follow(part, process);
        }
        Ok(Self {
            http,
            metrics,
            bootstrap,
            client,
            health,
            own: door.own,
            producers,
            listeners,
            stages,
            engine,
            grace,
            _data_dir: data_dir,
        })
    }

    /// `http://host:port`, for the command line's own requests.
    pub(crate) fn url(&self) -> Option<String> {
        self.http.map(|mut address| {
            if address.ip().is_unspecified() {
                let loopback: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
                address.set_ip(loopback);
            }
            format!("http://{address}")
        })
    }

    /// Waits until it is ready; `false`: not within the time that the engine gets.
    pub(crate) async fn ready(&self) -> bool {
        let ready = async {
            while !self.health.is_ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(ENGINE_WAIT, ready).await.is_ok()
    }

    /// Stops in order. What couldn't end in time was logged by its name.
    pub(crate) async fn stop(self, reason: &str) {
        for part in [&self.listeners, &self.stages] {
            part.begin(reason);
            // Past the deadline the names are in the log, and the next part's turn has come.
            let _ = part.drain().await;
        }
        if let Err(error) = self.producers.flush(self.grace).await {
            tracing::warn!(%error, "records of ingest were not acknowledged before the end");
        }
        drop(self.producers);
        self.engine.begin(reason);
        let _ = self.engine.drain().await;
    }
}

/// The end of a part is the end of the process.
fn follow(part: &Shutdown, process: &Shutdown) {
    let (part, whole) = (part.clone(), process.clone());
    process.spawn("watch", OnEnd::Expected, async move {
        tokio::select! {
            () = whole.requested() => {}
            () = part.requested() => {
                let reason = part.request().map_or_else(String::new, |(reason, _)| reason);
                whole.begin(&reason);
            }
        }
    });
}

fn start_engine(
    settings: &Settings,
    open: impl FnOnce(broker::Config) -> Result<Broker, broker::Error>,
    engine: &Shutdown,
    health: &Health,
) -> Result<String> {
    if let Some(bootstrap) = &settings.kafka_bootstrap {
        return Ok(bootstrap.clone());
    }
    let Some(listen) = settings.broker.addr() else {
        unreachable!("settings are checked: one of the two is the engine")
    };
    let config = broker::Config {
        listen,
        advertised: settings.broker_advertised.clone(),
        flush: settings.flush,
        auto_create_topics: settings.auto_create_topics,
        ..broker::Config::new(settings.data_dir.join("broker"))
    };
    let broker = open(config).context("the embedded broker can't start")?;
    let handle = broker.handle();
    let bootstrap = handle.bootstrap();
    engine.spawn("embedded broker", OnEnd::StopOwner, broker.run(engine.clone()));
    let look = look_at_log(handle, health.check("embedded broker"), engine.clone());
    engine.spawn("look at the broker's log", OnEnd::Log, look);
    Ok(bootstrap)
}

/// A broker whose disk fails answers as it can: `/ready` says what it is.
async fn look_at_log(broker: broker::Handle, check: Check, engine: Shutdown) {
    loop {
        match broker.failure().or_else(|| broker.read_failure()) {
            None => check.ready(),
            Some(failure) => check.not_ready(runtime::shutdown::chain(&failure)),
        }
        tokio::select! {
            () = engine.requested() => return,
            () = tokio::time::sleep(LOG_LOOK_INTERVAL) => {}
        }
    }
}

/// `/metrics`, whose labels are everybody's topics and stages.
fn numbers(metrics: &Metrics) -> Router {
    auth::http::for_installation(runtime::metrics::router(metrics.clone()), Scope::ControlRead)
}

fn listen(
    address: Option<SocketAddr>,
    what: &str,
    router: Router,
    door: &Door,
    listeners: &Shutdown,
) -> Result<Option<SocketAddr>> {
    let Some(address) = address else { return Ok(None) };
    let listener = if door.is_guarded() { bind_anywhere(address, what)? } else { bind(address, what)? };
    let bound = listener.local_addr()?;
    let server = Server::new(what, Limits::default()).gate(door.gate());
    listeners.spawn(what, OnEnd::StopOwner, server.serve(listener, router, listeners.clone()));
    Ok(Some(bound))
}

/// The data directory is made where it isn't there.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("the data directory {} can't be made", path.display()))
}
