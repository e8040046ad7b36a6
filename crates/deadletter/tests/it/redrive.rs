use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadletter::{Action, Ended, Error, Outcome, Plan, Reason, Repair, Selection, Settlement};
use jiff::Timestamp;
use kafka::{NewTopic, TransactionalProducer, TxnConfig};
use tokio_util::sync::CancellationToken;
use types::Record;

use crate::desk::{Desk, once, settled_topic};

const STAGE: &str = "pipeline/demo/p/s@1";

#[tokio::test]
async fn letters_go_back_to_their_own_stage_once() {
    let desk = Desk::new().await;
    desk.letters(0..250, STAGE, Reason::TransformError).await;
    desk.letters(250..260, "pipeline/other/p/s@1", Reason::TransformError).await;
    desk.letters(260..265, "ingest/x", Reason::Rejected).await;
    let plan = desk.plan("run-1", Action::Redrive, Selection::default()).await;
    assert_eq!((plan.routable, plan.unroutable), (250, 15));
    assert_eq!(plan.stages[0].to.as_ref(), Some(&desk.retry));
    assert!(plan.stages[1..].iter().all(|stage| stage.to.is_none()));
    assert!(desk.events(&desk.retry).await.is_empty(), "a plan writes nothing");
    // What comes after the plan isn't part of it.
    desk.letters(265..270, STAGE, Reason::TransformError).await;

    let (ended, progress) = desk.run(&plan).await.unwrap();
    assert_eq!(ended, Ended::Done);
    assert_eq!((progress.settled, progress.unroutable, progress.partitions_done), (250, 15, 2));
    assert_eq!(desk.events(&desk.retry).await, once(0..250));
    let copy = &desk.read(&desk.retry).await[0];
    let get = |name| copy.headers.get_str(name);
    assert_eq!((get("x-redrive-id"), get("x-redrive-count")), (Some("run-1"), Some("1")));
    assert_eq!(get("x-origin-topic"), Some(desk.topic("src").as_str()));
    assert!(get("x-dlq-stage").is_none());
    let age_ms = Timestamp::now().as_millisecond() - copy.timestamp_ms;
    assert!((0..60_000).contains(&age_ms), "{age_ms}");

    // Begun again, it has nothing to do; a new one has only what came since.
    let (_, progress) = desk.run(&plan).await.unwrap();
    assert_eq!(progress.settled, 250);
    assert_eq!(desk.events(&desk.retry).await, once(0..250));
    let next = desk.plan("run-2", Action::Redrive, Selection::default()).await;
    assert_eq!((next.routable, next.unroutable), (5, 15));
    assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&next).unwrap()).unwrap(), next);
}

#[tokio::test]
async fn a_run_that_is_killed_loses_and_doubles_nothing() {
    let desk = Arc::new(Desk::new().await);
    desk.letters(0..300, STAGE, Reason::TransformError).await;
    let plan = desk.plan("run", Action::Redrive, Selection::default()).await;
    let mut kills = 0;
    loop {
        let settled = Arc::new(AtomicU64::new(0));
        let run = desk.redrive(&plan, Some(150));
        let task = tokio::spawn({
            let settled = settled.clone();
            async move {
                let stop = CancellationToken::new();
                run.run(&stop, |p| settled.store(p.settled, Ordering::SeqCst)).await
            }
        });
        // After every further 60 or so letters, in the middle of whatever it does.
        let from = 60 * (kills + 1);
        while settled.load(Ordering::SeqCst) < from && !task.is_finished() {
            tokio::time::sleep(Duration::from_micros(700)).await;
        }
        if task.is_finished() {
            assert_eq!(task.await.unwrap().unwrap(), Ended::Done);
            break;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        kills += 1;
    }
    assert!(kills >= 3, "{kills}");
    assert_eq!(desk.events(&desk.retry).await, once(0..300));
}

/// At whatever partition it was: its settlement lies before those of all others. The open transaction is ended at once, and not
/// when its time is over.
#[tokio::test]
async fn what_a_killed_run_left_open_is_not_seen_and_holds_nobody_back() {
    for partition in [0, 1] {
        let desk = Desk::new().await;
        desk.letters(0..4, STAGE, Reason::TransformError).await;
        let plan = desk.plan("run", Action::Redrive, Selection::default()).await;
        // As a process that was killed between its sends and its commit.
        let id = format!("vltava.{}.redrive.{}.{partition}", desk.installation, desk.dlq);
        let config = TxnConfig::default();
        let (begun, over) = (std::time::Instant::now(), Duration::from_millis(config.timeout_ms.into()));
        let mut killed = TransactionalProducer::open(&desk.client, &id, config).await.unwrap();
        let txn = killed.begin().await.unwrap();
        let settlement = Settlement { outcome: Outcome::Redriven, run: "run".into(), at: Timestamp::now() };
        let letter = format!("{}/{partition}/0", desk.dlq).parse().unwrap();
        let mut copy = Record::default();
        copy.headers.push("x-event-id", partition.to_string());
        txn.send(&desk.retry, Some(0), &copy).unwrap();
        txn.send(&settled_topic(), Some(0), &settlement.record(&letter)).unwrap();
        txn.flush(Duration::from_secs(5)).await.unwrap();
        std::mem::forget(txn);

        let (ended, progress) = desk.run(&plan).await.unwrap();
        assert_eq!((ended, progress.settled), (Ended::Done, 4));
        assert!(begun.elapsed() < over, "it waited for the transaction's timeout: {:?}", begun.elapsed());
        assert_eq!(desk.events(&desk.retry).await, once(0..4));
    }
}

#[tokio::test]
async fn the_later_of_two_runs_goes_on_and_no_letter_is_doubled() {
    let desk = Arc::new(Desk::new().await);
    desk.letters(0..200, STAGE, Reason::TransformError).await;
    let first = desk.plan("first", Action::Redrive, Selection::default()).await;
    let second = desk.plan("second", Action::Redrive, Selection::default()).await;
    let begun = Arc::new(AtomicU64::new(0));
    let run = desk.redrive(&first, Some(100));
    let task = tokio::spawn({
        let begun = begun.clone();
        async move {
            let stop = CancellationToken::new();
            run.run(&stop, |p| begun.store(p.settled, Ordering::SeqCst)).await
        }
    });
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (ended, progress) = desk.run(&second).await.unwrap();
    assert_eq!(ended, Ended::Done);
    assert!(progress.settled < 200, "the first did some");
    match task.await.unwrap() {
        Err(Error::Superseded { partition: 0, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(desk.events(&desk.retry).await, once(0..200));
}

#[tokio::test]
async fn settlements_behind_anothers_open_transaction_count() {
    let desk = Desk::new().await;
    desk.letters(0..6, STAGE, Reason::TransformError).await;
    // Another DLQ's run holds the settlement topic's last stable offset back.
    let id = format!("other.{}", desk.dlq);
    let mut other = TransactionalProducer::open(&desk.client, &id, TxnConfig::default()).await.unwrap();
    let txn = other.begin().await.unwrap();
    txn.send(
        &settled_topic(),
        Some(0),
        &Record { key: Some("x.dlq/0/0".into()), value: Some("{}".into()), ..Record::default() },
    )
    .unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    let plan = {
        // The plan waits for it as well; so it is made by hand.
        let made = desk.dlq();
        let resolve = desk.resolve();
        let planning = tokio::spawn(async move {
            made.plan("run", Action::Redrive, Selection::default(), Repair::default(), &resolve).await
        });
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert!(!planning.is_finished(), "settlements that count may lie behind it");
        txn.commit().await.unwrap();
        planning.await.unwrap().unwrap().0
    };
    desk.run(&plan).await.unwrap();
    let txn = other.begin().await.unwrap();
    txn.send(
        &settled_topic(),
        Some(0),
        &Record { key: Some("x.dlq/0/1".into()), value: Some("{}".into()), ..Record::default() },
    )
    .unwrap();
    txn.flush(Duration::from_secs(5)).await.unwrap();
    desk.letters(6..8, STAGE, Reason::TransformError).await;
    let (again, ()) = tokio::join!(desk.run(&plan), async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        txn.abort().await.unwrap();
    });
    assert_eq!(again.unwrap().1.settled, 6);
    assert_eq!(desk.events(&desk.retry).await, once(0..6));
}

#[tokio::test]
async fn a_limit_holds_over_a_stop_and_a_selection_is_kept() {
    let desk = Desk::new().await;
    desk.letters(0..60, STAGE, Reason::TransformError).await;
    desk.letters(60..80, STAGE, Reason::OverBudget).await;
    let selection =
        Selection { reason: Some("transform_error".into()), limit: Some(41), ..Selection::default() };
    let plan = desk.plan("run", Action::Redrive, selection).await;
    assert_eq!(plan.routable, 41);
    let stop = CancellationToken::new();
    let ended = desk
        .redrive(&plan, Some(50))
        .run(&stop, |progress| {
            if progress.settled >= 10 {
                stop.cancel();
            }
        })
        .await
        .unwrap();
    assert_eq!(ended, Ended::Stopped);
    let some = desk.events(&desk.retry).await.len();
    assert!((10..41).contains(&some), "{some}");
    let (ended, progress) = desk.run(&plan).await.unwrap();
    assert_eq!((ended, progress.settled), (Ended::Done, 41));
    let events = desk.events(&desk.retry).await;
    assert_eq!(events.len(), 41);
    assert!(events.iter().all(|(n, count)| *n < 60 && *count == 1), "{events:?}");
}

#[tokio::test]
async fn discarding_settles_and_sends_nothing_and_to_sends_there() {
    let desk = Desk::new().await;
    desk.letters(0..10, STAGE, Reason::TransformError).await;
    desk.letters(10..15, "ingest/x", Reason::Rejected).await;
    let reason = |reason: &str| Selection { reason: Some(reason.into()), ..Selection::default() };
    let plan = desk.plan("d", Action::Discard, reason("transform_error")).await;
    assert_eq!(desk.run(&plan).await.unwrap().1.settled, 10);
    assert!(desk.events(&desk.retry).await.is_empty());
    let target = desk.topic("elsewhere");
    let to = Action::RedriveTo { topic: target.clone() };
    let plan = desk.plan("t", to, Selection::default()).await;
    let error = desk.run(&plan).await.unwrap_err();
    assert!(matches!(&error, Error::MissingTopic { topic, .. } if *topic == target), "{error}");
    desk.create(NewTopic::new(target.clone(), 1)).await;
    assert_eq!(desk.run(&plan).await.unwrap().1.settled, 5, "also what has no stage to go back to");
    assert_eq!(desk.events(&target).await, once(10..15));
}

#[tokio::test]
async fn a_letter_that_does_not_fit_stays_and_the_others_go() {
    let desk = Desk::new().await;
    desk.letters(0..20, STAGE, Reason::TransformError).await;
    let small = desk.topic("small");
    desk.create(NewTopic::new(small.clone(), 1).with("max.message.bytes", "400")).await;
    // Fits the DLQ, not the target.
    let producer = kafka::Producer::new(&desk.client, kafka::ProducerConfig::default()).unwrap();
    let mut big = Record { value: Some(random_bytes(3_000).into()), ..Record::default() };
    big.headers.push("x-event-id", "99");
    producer.send(&desk.dlq, Some(0), big).unwrap().await.unwrap();
    desk.letters(20..24, STAGE, Reason::TransformError).await;
    let plan = desk.plan("t", Action::RedriveTo { topic: small.clone() }, Selection::default()).await;
    let (ended, progress) = desk.run(&plan).await.unwrap();
    assert_eq!((ended, progress.settled, progress.too_large), (Ended::Done, 24, 1));
    assert_eq!(desk.events(&small).await, once(0..24));
}

/// Bytes that don't compress.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut seed = 88_172_645_463_325_252u64;
    std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    })
    .take(count)
    .collect()
}

#[tokio::test]
async fn a_rate_is_kept() {
    let desk = Desk::new().await;
    desk.letters(0..40, STAGE, Reason::TransformError).await;
    let plan = desk.plan("r", Action::Redrive, Selection::default()).await;
    let stop = CancellationToken::new();
    let seen = Mutex::new(Vec::new());
    let begun = std::time::Instant::now();
    desk.redrive(&plan, Some(20)).run(&stop, |p| seen.lock().unwrap().push(p.settled)).await.unwrap();
    // 40 letters at 20 a second, the first batch at once.
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
    let steps = seen.into_inner().unwrap();
    assert!(steps.windows(2).all(|pair| pair[1] - pair[0] <= 4), "evenly: {steps:?}");
}

#[tokio::test]
async fn letters_are_mended_on_their_way_and_those_that_cannot_be_stay() {
    let desk = Desk::new().await;
    desk.letters(0..6, STAGE, Reason::TransformError).await;
    let repair: Repair = serde_json::from_value(serde_json::json!({
        // Of the others there is no result.
        "value": "n < 4 ? {'n': n, 'mended': true}",
        "headers": "{'x-mended-by': 'run', 'x-request-id': null}",
    }))
    .unwrap();
    let selection =
        Selection { predicate: Some("n > 1".to_owned().try_into().unwrap()), ..Selection::default() };
    let planned = desk.plan_with("run", Action::Redrive, selection, repair.clone()).await;
    let (plan, samples) = planned.unwrap();
    assert_eq!((plan.routable, plan.unrepaired, samples.len()), (2, 2, 4));
    assert_eq!(samples.iter().filter(|sample| sample.sent.is_err()).count(), 2);
    // What is stored of a plan reads back.
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);

    let (ended, progress) = desk.run(&plan).await.unwrap();
    assert_eq!((ended, progress.settled, progress.unrepaired), (Ended::Done, 2, 2));
    assert!(progress.unrepaired_why.unwrap().contains("no result"));
    let back = desk.read(&desk.retry).await;
    let mut values: Vec<_> = back.iter().filter_map(|r| r.value.clone()).collect();
    values.sort();
    let mended = [r#"{"n":2,"mended":true}"#, r#"{"n":3,"mended":true}"#];
    assert_eq!(values, mended);
    assert!(back.iter().all(|r| r.headers.get_str("x-mended-by") == Some("run")));
    let left = desk.dlq().list(&Selection::default(), false).await.unwrap();
    assert_eq!(left.matched, 4, "two weren't meant, two can't be mended");

    let nonsense = desk.plan_with("run", Action::Discard, Selection::default(), repair).await;
    assert!(matches!(nonsense, Err(Error::Invalid(_))), "{nonsense:?}");
}

#[tokio::test]
async fn to_their_origin_go_letters_whose_stage_reads_there() {
    let desk = Desk::new().await;
    desk.create(NewTopic::new(desk.topic("src"), 1)).await;
    desk.letters(0..3, STAGE, Reason::TransformError).await;
    desk.letters(3..5, "pipeline/demo/other/s@1", Reason::TransformError).await;
    let plan = desk.plan("run", Action::RedriveToOrigin, Selection::default()).await;
    assert_eq!((plan.routable, plan.unroutable), (3, 2));
    let (ended, progress) = desk.run(&plan).await.unwrap();
    assert_eq!((ended, progress.settled, progress.unroutable), (Ended::Done, 3, 2));
    assert_eq!(desk.events(&desk.topic("src")).await, once(0..3));
    assert_eq!(desk.events(&desk.retry).await, once([]));
}
