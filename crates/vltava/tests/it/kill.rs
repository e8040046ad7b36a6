//! SIGKILL at random moments, under load; in the long run while an operator applies and redrives, too. The seed is printed;
//! `VLTAVA_TEST_SEED` runs it again, as far as the operating system allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testkit::{Delivery, Receiver, Reply};

use crate::checker::Outcome;
use crate::flow::Flow;
use crate::load::{Load, Shape};
use crate::process::{Platform, log_of};

const KILLS: usize = 20;
/// In `cargo xtask conformance kills`, which says otherwise by `VLTAVA_TEST_ROUNDS`.
const KILLS_LONG: usize = 200;
const SHAPE: Shape = Shape { senders: 4, keys_a_sender: 5, every: Duration::ZERO };
/// After the last start, everything that is stored must be through within this time.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// A number from the environment.
pub(crate) fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// The seed of this run, printed.
pub(crate) fn seed() -> u64 {
    let seed = told("VLTAVA_TEST_SEED").unwrap_or_else(|| rand::rng().random());
    println!("seed {seed} (VLTAVA_TEST_SEED)");
    seed
}

/// Every fifth event of a sender is refused for good, while `refuse` is set.
fn refusing(refuse: &Arc<AtomicBool>) -> impl Fn(&Delivery) -> Reply + Send + Sync + 'static {
    let refuse = Arc::clone(refuse);
    move |delivery| {
        let number = delivery.header("webhook-id").rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
        let refused = refuse.load(Ordering::Relaxed) && number.is_some_and(|n| n % 5 == 1);
        Reply::Status(if refused { 422 } else { 204 })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_answered_202_is_lost_or_doubled_by_kills() {
    random_kills(KILLS, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo xtask conformance kills"]
async fn long_nothing_is_lost_or_doubled_by_many_kills() {
    let rounds = told("VLTAVA_TEST_ROUNDS").map_or(KILLS_LONG, |n| usize::try_from(n).unwrap());
    random_kills(rounds, true).await;
}

async fn random_kills(kills: usize, operated: bool) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let refuse = Arc::new(AtomicBool::new(operated));
    let receiver = Receiver::start(refusing(&refuse)).await.unwrap();
    let mut platform = Platform::start(dir.path(), &[]);
    let flow = Flow::write(dir.path(), receiver.address(), false);
    flow.apply(&platform).await;

    let load = Load::start(&platform.url, &flow.raw, SHAPE);
    let done = Arc::new(Mutex::new([0_usize; 2]));
    let operator = operated.then(|| {
        let (url, done, refuse) = (Arc::clone(&load.url), Arc::clone(&done), Arc::clone(&refuse));
        tokio::spawn(operate(flow.clone(), url, receiver.address(), refuse, done))
    });
    for kill in 0..kills {
        let wait = Duration::from_millis(rng.random_range(50..1200));
        tokio::time::sleep(wait).await;
        platform.kill();
        platform = Platform::start(dir.path(), &[]);
        println!("kill {} of {kills} after {} ms", kill + 1, wait.as_millis());
        load.url.lock().clone_from(&platform.url);
    }
    // Some load after the last start as well: the path must work then, not only recover.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answered = load.finish().await;
    assert!(answered.len() > 200, "only {} events were answered: that is no load", answered.len());
    if let Some(operator) = operator {
        operator.abort();
        // A receiver that goes on refusing what is redriven to it opens the breaker, which then holds what is left, as it
        // should: in the end it takes everything.
        refuse.store(false, Ordering::Relaxed);
        // At least once undisturbed: what the flow does with redriven records must be part of it.
        // Those that were begun and killed come first, and more may wait than another is taken beside.
        let deadline = tokio::time::Instant::now() + SETTLE_MAX;
        while let Err(why) = flow.try_redrive(&platform.url).await {
            let full = why.contains("redrives wait or run");
            assert!(full && tokio::time::Instant::now() < deadline, "seed {seed}: {why}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    // Done is what the topics say, not what a counter says.
    let (outcome, wrong) = Outcome::settle(&platform.kafka, &flow, &receiver, &answered, SETTLE_MAX).await;
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}\n{}\n{}", outcome.tails(), log_of(dir.path()));
    let [applied, redrives] = *done.lock();
    println!(
        "{kills} kills, {} answered, {}; {applied} times applied and {redrives} redriven meanwhile",
        answered.len(),
        outcome.figures()
    );
    assert!(!outcome.dlq.is_empty(), "dead letters must be part of it");
}

/// Applies and redrives again and again; what a kill cuts off fails, and that is none of its business.
async fn operate(
    flow: Flow,
    url: Arc<Mutex<String>>,
    receiver: std::net::SocketAddr,
    refuse: Arc<AtomicBool>,
    done: Arc<Mutex<[usize; 2]>>,
) {
    for mended in [true, false].into_iter().cycle() {
        flow.rewrite(receiver, mended);
        let here = url.lock().clone();
        let applied = flow.try_apply(&here).await;
        refuse.store(!mended, Ordering::Relaxed);
        let redriven = flow.try_redrive(&here).await;
        {
            let mut done = done.lock();
            done[0] += usize::from(applied.is_ok());
            done[1] += usize::from(redriven.is_ok());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
