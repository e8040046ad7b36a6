//! The main path end to end, on either engine.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use testkit::{Receiver, Reply};
use types::names;

use crate::checker::{self, Outcome};
use crate::flow::{FAILS_EVERY, Flow};
use crate::process::{Platform, binary, bootstrap, client, log_of};

/// Events of one run.
const EVENTS: u64 = 140;

/// Posts `{"n", "key", "seq"}` and returns the ids that were answered 202.
async fn send(platform: &Platform, flow: &Flow, range: std::ops::Range<u64>) -> BTreeSet<String> {
    let client = client(Duration::from_secs(10));
    let mut answered = BTreeSet::new();
    for n in range {
        let id = format!("event-{n}");
        let response = client
            .post(format!("{}/ingest/{}", platform.url, flow.raw))
            .header("content-type", "application/json")
            .header("idempotency-key", &id)
            .header("x-entity-key", format!("k{}", n % 10))
            .body(format!("{{\"n\": {n}, \"key\": \"k{}\", \"seq\": {}}}", n % 10, n / 10))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 202, "{}", response.text().await.unwrap());
        answered.insert(id);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_fail_are_mended_and_all_arrive_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| Reply::Status(204)).await.unwrap();
    let platform = Platform::start(dir.path(), &[]);
    let flow = Flow::write(dir.path(), receiver.address(), false);
    flow.apply(&platform).await;
    let answered = send(&platform, &flow, 0..EVENTS).await;
    let failing = usize::try_from(EVENTS.div_ceil(FAILS_EVERY)).unwrap();
    let good = usize::try_from(EVENTS).unwrap() - failing;
    let all = receiver.wait(Duration::from_secs(60), move |came| came.len() >= good);
    assert!(all.await, "not all arrived: {:#?}\n{}", flow.stages(&platform).await, log_of(dir.path()));

    let letters = checker::read(&platform.kafka, &flow.dlq).await;
    assert_eq!(letters.len(), failing, "{}", log_of(dir.path()));
    for letter in &letters {
        let header = |name| letter.headers.get_str(name).unwrap_or("(none)");
        assert_eq!(header(names::DLQ_REASON), "transform_error");
        assert!(header(names::DLQ_MESSAGE).contains("D3030"), "{}", header(names::DLQ_MESSAGE));
        assert!(header(names::DLQ_MESSAGE).contains("column"), "{}", header(names::DLQ_MESSAGE));
        assert_eq!(header(names::DLQ_STAGE), format!("pipeline/{}/numbers/number@1", flow.workspace));
        assert_eq!(header(names::ORIGIN_TOPIC), flow.raw);
        let value: Value = serde_json::from_slice(letter.value.as_deref().unwrap()).unwrap();
        assert_eq!(value["n"].as_u64().unwrap() % FAILS_EVERY, 0);
    }

    flow.rewrite(receiver.address(), true);
    flow.apply(&platform).await;
    let redrive = |extra: &[&str]| {
        let output = binary()
            .args(["dlq", "redrive", &flow.dlq, "--json", "--url", &platform.url])
            .args(extra)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(output.stdout.trim_ascii()).unwrap()
    };
    assert_eq!(redrive(&["--dry-run"])["selected"], failing);
    assert_eq!(redrive(&[])["redriven"], failing);
    assert_eq!(redrive(&[])["redriven"], 0, "what is settled isn't given back again");
    let total = usize::try_from(EVENTS).unwrap();
    assert!(
        receiver.wait(Duration::from_secs(60), move |came| came.len() >= total).await,
        "{}",
        log_of(dir.path())
    );

    let outcome = Outcome::read(&platform.kafka, &flow, &receiver).await;
    assert_eq!(outcome.judge(&answered), Vec::<String>::new());
    assert_eq!((outcome.target.len(), outcome.dlq.len()), (total, failing));
    let redriven = outcome.target.iter().filter(|r| {
        r.headers.iter().any(|h| h.name.starts_with("x-dlq-") || h.name.starts_with("x-origin-"))
    });
    assert_eq!(redriven.count(), 0, "what a dead letter said of itself doesn't leak into the target");
    let status = platform.terminate(Duration::from_secs(30));
    assert!(status.success(), "{status}\n{}", log_of(dir.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_runs_again_at_the_next_start_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_| Reply::Status(200)).await.unwrap();
    let platform = Platform::start(dir.path(), &[]);
    let flow = Flow::write(dir.path(), receiver.address(), true);
    flow.apply(&platform).await;
    let mut answered = send(&platform, &flow, 0..30).await;
    assert!(receiver.wait(Duration::from_secs(60), |came| came.len() >= 30).await, "{}", log_of(dir.path()));
    assert!(platform.terminate(Duration::from_secs(30)).success());

    let platform = Platform::start(dir.path(), &[]);
    flow.await_running(&platform, Duration::from_secs(60)).await;
    answered.extend(send(&platform, &flow, 30..60).await);
    assert!(receiver.wait(Duration::from_secs(60), |came| came.len() >= 60).await, "{}", log_of(dir.path()));
    let outcome = Outcome::read(&platform.kafka, &flow, &receiver).await;
    assert_eq!(outcome.judge(&answered), Vec::<String>::new());
    assert_eq!(outcome.deliveries.len(), 60, "an orderly stop leaves nothing to deliver again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_proves_itself() {
    let mut command = binary();
    command.args(["demo", "--once", "--json", "--count", "300", "--rate", "0", "--http", "127.0.0.1:0"]);
    match bootstrap() {
        Some(bootstrap) => command.args(["--kafka-bootstrap", &bootstrap]),
        None => command.args(["--broker", "127.0.0.1:0"]),
    };
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["sent"], &summary["delivered"]), (&300.into(), &300.into()), "{summary}");
    assert_eq!((&summary["lost"], &summary["duplicated"]), (&0.into(), &0.into()), "{summary}");
    assert!(summary["dead_lettered"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["dead_lettered"], summary["redriven"], "{summary}");
}
