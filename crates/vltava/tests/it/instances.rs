//! Two instances of one installation share a flow on one engine, while one of them is killed and started again.
//!
//! The engine is a third process, which also takes the events in: it stays up, so that what is measured is how the
//! instances take over from one another. Both have the same resources: the second one's store is a copy.
//!
//! Not here: one that stays away for longer than its session (10 s), whose partitions the other takes over only then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{ClientConfig, Consumer, Event, FetchConfig, StartFrom};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use testkit::{Receiver, Reply};
use types::{TopicName, TopicPartition};

use crate::checker::{self, Outcome};
use crate::flow::{Flow, PARTITIONS};
use crate::kill::{seed, told};
use crate::load::{Load, Shape};
use crate::process::{Platform, log_of};

const KILLS: u64 = 3;
/// In `cargo xtask conformance kills`, which says otherwise by `VLTAVA_TEST_ROUNDS`.
const KILLS_LONG: u64 = 50;
/// The survivor's records must go on within this time.
const GOES_ON_MAX: Duration = Duration::from_secs(10);
const SHAPE: Shape = Shape { senders: 4, keys_a_sender: 6, every: Duration::from_millis(15) };
const SETTLE_MAX: Duration = Duration::from_secs(90);
const STOP_MAX: Duration = Duration::from_secs(30);

/// The highest number of each sender's events, by partition.
type Seen = Arc<Mutex<BTreeMap<i32, BTreeMap<u64, u64>>>>;

/// Sender and number of `s<sender>-<number>`.
fn sender_and_number(id: &str) -> (u64, u64) {
    let (sender, number) = id.strip_prefix('s').and_then(|id| id.split_once('-')).unwrap();
    (sender.parse().unwrap(), number.parse().unwrap())
}

/// Reads the target as it grows.
fn watch(bootstrap: &str, topic: &str) -> (Seen, tokio::task::JoinHandle<()>) {
    let seen: Seen = Arc::default();
    let topic = TopicName::new(topic).unwrap();
    let start =
        (0..PARTITIONS).map(|p| (TopicPartition::new(topic.clone(), p), StartFrom::Earliest)).collect();
    let client = ClientConfig::new(bootstrap, "watcher");
    let mut consumer = Consumer::assign(&client, start, FetchConfig::default()).unwrap();
    let tell = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        loop {
            if let Event::Records(records) = consumer.next().await {
                let mut seen = tell.lock();
                for record in records {
                    let (sender, number) = sender_and_number(&checker::id(&record));
                    let highest = seen.entry(record.tp.partition).or_default().entry(sender).or_default();
                    *highest = number.max(*highest);
                }
            }
        }
    });
    (seen, task)
}

/// The number of each sender's event that may be under way now: every later one is sent later.
fn under_way(load: &Load) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for (sender, number) in load.answered.lock().iter().map(|id| sender_and_number(id)) {
        let highest: &mut u64 = numbers.entry(sender).or_default();
        *highest = (number + 1).max(*highest);
    }
    numbers
}

/// The partitions of the target that got no event sent after `then`.
fn stand_still(seen: &Seen, then: &BTreeMap<u64, u64>) -> Vec<i32> {
    let seen = seen.lock();
    let later = |numbers: &BTreeMap<u64, u64>| numbers.iter().any(|(s, n)| then.get(s).is_none_or(|t| n > t));
    (0..PARTITIONS).filter(|p| !seen.get(p).is_some_and(later)).collect()
}

fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("store.db") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_flow_while_one_is_killed() {
    share(KILLS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: cargo xtask conformance kills"]
async fn long_two_instances_share_a_flow_while_one_is_killed() {
    share(told("VLTAVA_TEST_ROUNDS").unwrap_or(KILLS_LONG)).await;
}

async fn share(kills: u64) {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dirs = ["engine", "0", "1"].map(|_| tempfile::tempdir().unwrap());
    let logs = || dirs.iter().map(|dir| log_of(dir.path())).collect::<Vec<_>>().join("\n--\n");
    let receiver = Receiver::start(|_| Reply::Status(204)).await.unwrap();
    let engine = Platform::start(dirs[0].path(), &[]);
    let kafka = engine.kafka.clone();
    let start = |instance: usize| {
        let number = instance.to_string();
        let environment = [("VLTAVA_INSTANCE", number.as_str())];
        Platform::start_with(dirs[instance + 1].path(), &["--kafka-bootstrap", &kafka], &environment)
            .unwrap_or_else(|status| panic!("instance {instance} ended with {status}\n{}", logs()))
    };
    let first = start(0);
    let flow = Flow::write(dirs[0].path(), receiver.address(), false);
    flow.apply(&first).await;
    assert!(first.terminate(STOP_MAX).success(), "{}", logs());
    copy_store(dirs[1].path(), dirs[2].path());
    let mut instances = [Some(start(0)), Some(start(1))];
    for instance in instances.iter().flatten() {
        flow.await_running(instance, Duration::from_secs(60)).await;
    }

    let (seen, watching) = watch(&kafka, &flow.enriched);
    let load = Load::start(&engine.url, &flow.raw, SHAPE);
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..2500))).await;
        let victim = rng.random_range(0..2);
        instances[victim].take().expect("both run here").kill();
        let (killed, then) = (Instant::now(), under_way(&load));
        // It comes back at once, or soon.
        let soon = Duration::from_millis(rng.random_range(0..4000));
        let away = if kill % 2 == 0 { Duration::ZERO } else { soon };
        tokio::time::sleep(away).await;
        instances[victim] = Some(start(victim));
        loop {
            let still = stand_still(&seen, &then);
            if still.is_empty() {
                break;
            }
            assert!(
                killed.elapsed() < GOES_ON_MAX,
                "seed {seed}: kill {kill} of instance {victim}, away for {away:?}: partitions {still:?} stand still for {GOES_ON_MAX:?}\n{}",
                logs()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let went_on = killed.elapsed();
        println!(
            "kill {} of {kills}: instance {victim}, away for {away:?}: all partitions go on after {went_on:?}",
            kill + 1
        );
        slowest = slowest.max(went_on);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answered = load.finish().await;
    let (outcome, wrong) = Outcome::settle(&kafka, &flow, &receiver, &answered, SETTLE_MAX).await;
    watching.abort();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}\n{}\n{}", outcome.tails(), logs());
    assert!(answered.len() > 200, "only {} events were answered: that is no load", answered.len());
    println!(
        "{kills} kills, {} answered, {}; the slowest went on after {slowest:?}",
        answered.len(),
        outcome.figures()
    );
    for instance in instances.into_iter().flatten() {
        assert!(instance.terminate(STOP_MAX).success(), "{}", logs());
    }
}
