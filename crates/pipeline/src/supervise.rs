//! One pipeline's supervisor: it starts the loop, says how it is, and starts it again when it failed.
//!
//! States: Starting, then Running; Paused while the plan says so; Degraded while the engine is away or a newer
//! plan is missing, which pass without anybody's doing; Failed with the reason and when the next try is; Stopped.
//! Invariant: nothing that fails in a loop, a panic too, ends its supervisor or touches another pipeline.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kafka::{
    Admin, ClientConfig, Consumer, ConsumerConfig, FetchConfig, ProducerConfig, StartFrom, TxnConfig,
};
use resources::PipelinePlan;
use runtime::Shutdown;
use tokio::sync::watch;
use types::{TopicName, consumer_group};

use crate::compiled::Compiled;
use crate::config::Config;
use crate::evaluate::Sizes;
use crate::lane::Lane;
use crate::reach::Reach;
use crate::run::{End, Failure, Loop, Retry};
use crate::status::Status;
use crate::topics;
use crate::transact::Opening;
use crate::workers::Workers;

/// A rebalance waits for a revocation a little longer than the loop takes to give up what is in flight.
const REVOKE_MARGIN: Duration = Duration::from_secs(2);
/// With nothing to read, the engine answers so often, in milliseconds: nearly all that an idle pipeline costs.
const FETCH_WAIT_MS: u32 = 1_000;

/// What all pipelines of a runtime share.
#[derive(Clone)]
pub(crate) struct Env {
    pub(crate) client: ClientConfig,
    pub(crate) admin: Admin,
    pub(crate) reach: Reach,
    pub(crate) config: Arc<Config>,
    pub(crate) workers: Workers,
}

/// Runs a pipeline until it is asked to stop.
pub(crate) async fn supervise(
    env: Env,
    status: Arc<Status>,
    mut plans: watch::Receiver<Arc<PipelinePlan>>,
    stop: Shutdown,
) {
    let mut failures = 0;
    loop {
        let plan = plans.borrow_and_update().clone();
        status.wanted(plan.generation);
        if plan.paused {
            status.paused("paused: its offsets stay where they are until it is resumed");
            if wait(&mut plans, &stop, None).await == Waited::Stop {
                break;
            }
            failures = 0;
            continue;
        }
        let attempt = AssertUnwindSafe(attempt(&env, &status, plan, &mut plans, &stop)).catch_unwind().await;
        let (end, progressed) = attempt.unwrap_or_else(|_| {
            let reason = "the pipeline's loop ended with a panic; this is a bug in Vltava";
            (End::Failed(Failure::backoff(reason)), false)
        });
        if progressed {
            failures = 0;
        }
        let Failure { reason, retry } = match end {
            End::Stopped => break,
            End::NewPlan => {
                failures = 0;
                status.starting("the plan changed");
                continue;
            }
            End::Failed(failure) => failure,
        };
        failures += 1;
        let config = &env.config;
        let pause = match retry {
            Retry::Backoff | Retry::Away => Some(config.restart_backoff(failures)),
            // Longer than a static member keeps its partitions: another instance can have them.
            Retry::Superseded => Some(Duration::from_millis(config.session_timeout_ms * 2)),
            Retry::Fenced => Some(Duration::from_millis(config.fenced_backoff_ms)),
            Retry::NewPlan => None,
        };
        match (retry, pause) {
            (Retry::Superseded | Retry::Away, _) => status.degraded(&reason),
            (_, Some(pause)) => {
                status.failed(&format!("{reason}; next try in {:.1} s", pause.as_secs_f64()));
            }
            (_, None) => status.failed(&format!("{reason}; waits for a new plan")),
        }
        status.metrics.restarted();
        match wait(&mut plans, &stop, pause).await {
            Waited::Stop => break,
            Waited::Plan => failures = 0,
            Waited::Time => {}
        }
    }
    status.stopped("the instance stops");
}

#[derive(PartialEq, Eq)]
enum Waited {
    Stop,
    Plan,
    Time,
}

async fn wait(
    plans: &mut watch::Receiver<Arc<PipelinePlan>>,
    stop: &Shutdown,
    time: Option<Duration>,
) -> Waited {
    let time = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stop.requested() => Waited::Stop,
        changed = plans.changed() => if changed.is_ok() { Waited::Plan } else { Waited::Stop },
        () = time => Waited::Time,
    }
}

/// One life of a loop. Says too whether it committed anything.
async fn attempt(
    env: &Env,
    status: &Arc<Status>,
    plan: Arc<PipelinePlan>,
    plans: &mut watch::Receiver<Arc<PipelinePlan>>,
    stop: &Shutdown,
) -> (End, bool) {
    let failed = |reason: String, retry| (End::Failed(Failure { reason, retry }), false);
    let compiled = match Compiled::new(plan.clone(), &env.config) {
        Ok(compiled) => Arc::new(compiled),
        Err(error) => return failed(runtime::shutdown::chain(&error), Retry::NewPlan),
    };
    let looked = tokio::select! {
        looked = topics::look_up(&env.admin, &plan) => looked,
        () = stop.requested() => return (End::Stopped, false),
    };
    let sizes = match looked {
        Ok(sizes) => Arc::new(sizes),
        Err(error) if error.is_unavailable() => return failed(error.to_string(), Retry::Away),
        Err(error) => return failed(error.to_string(), Retry::Backoff),
    };
    let consumer = match Consumer::subscribe(&env.client.named(&client_suffix(&plan)), membership(env, &plan))
    {
        Ok(consumer) => consumer,
        Err(error) => return failed(error.to_string(), Retry::Backoff),
    };
    let lanes = (0..plan.parallelism.max(1)).map(|k| Lane::new(opening(env, &plan, &sizes, k))).collect();
    let looped = Loop::new(env, status.clone(), consumer, compiled, sizes, lanes);
    looped.run(plans, stop).await
}

fn client_suffix(plan: &PipelinePlan) -> String {
    format!("pipeline.{}.{}", plan.workspace, plan.name)
}

fn membership(env: &Env, plan: &PipelinePlan) -> ConsumerConfig {
    let config = &env.config;
    let mut topics: Vec<(TopicName, StartFrom)> = plan
        .sources
        .iter()
        .map(|source| {
            let from = match source.from {
                resources::StartFrom::Earliest => StartFrom::Earliest,
                resources::StartFrom::Latest => StartFrom::Latest,
                resources::StartFrom::Time(ms) => StartFrom::Timestamp(ms),
            };
            (source.topic.clone(), from)
        })
        .collect();
    topics.push((plan.topics.retry.clone(), StartFrom::Earliest));
    let group = consumer_group(plan.installation, plan.uid);
    let revoke = config.drain_time_max() + REVOKE_MARGIN;
    ConsumerConfig {
        group_instance_id: Some(format!("{group}.{}", config.slot)),
        session_timeout_ms: u32::try_from(config.session_timeout_ms).unwrap_or(u32::MAX),
        revoke_timeout_ms: u32::try_from(revoke.as_millis()).unwrap_or(u32::MAX),
        fetch: FetchConfig {
            buffer_bytes_max: config.fetch_bytes_max,
            end_of_partition: true,
            wait_max_ms: FETCH_WAIT_MS,
            ..FetchConfig::default()
        },
        ..ConsumerConfig::new(group, topics)
    }
}

fn opening(env: &Env, plan: &PipelinePlan, sizes: &Sizes, k: u16) -> Opening {
    let config = &env.config;
    let defaults = TxnConfig::default();
    // The broker holds a whole batch against the topic's limit.
    let smallest = sizes
        .dlq_bytes_max
        .values()
        .chain(sizes.target_bytes_max.values())
        .copied()
        .min()
        .unwrap_or(usize::MAX);
    let batch_bytes_max = defaults.producer.batch_bytes_max.min(u32::try_from(smallest).unwrap_or(u32::MAX));
    Opening {
        client: env.client.named(&format!("{}.{k}", client_suffix(plan))),
        transactional_id: format!("{}.{}.{k}", consumer_group(plan.installation, plan.uid), config.slot),
        config: TxnConfig {
            timeout_ms: u32::try_from(config.transaction_timeout_ms).unwrap_or(u32::MAX),
            producer: ProducerConfig { batch_bytes_max, ..defaults.producer },
            ..defaults
        },
    }
}
