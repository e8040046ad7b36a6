//! What a receiver can do wrong, and what must come of it: nothing lost, nothing dead-lettered that
//! shouldn't be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use runtime::StageState;
use testkit::{Receiver, Reply};

use crate::bench::{Bench, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_record_is_dead_lettered_and_its_neighbours_arrive() {
    let receiver = Receiver::start(|delivery| {
        Reply::Status(if delivery.header("webhook-id") == "a-2" { 422 } else { 204 })
    })
    .await
    .unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[("http.url", &url)]).await;
    bench.produce(&[("a", 1), ("a", 2), ("a", 3), ("b", 1)]).await;
    bench.start();
    let letters = bench.await_dead_letters(1).await;
    assert_eq!(letters[0].headers.get_str("x-dlq-reason"), Some("http_status"));
    assert_eq!(letters[0].headers.get_str("x-dlq-attempts"), Some("1"));
    assert_eq!(letters[0].value.as_deref(), Some(&b"{\"key\":\"a\",\"n\":2}"[..]));
    assert!(
        receiver.wait(SOON, |came| came.iter().filter(|d| d.reply == Reply::Status(204)).count() == 3).await
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_hold_everything_and_dead_letter_nothing() {
    let status = Arc::new(AtomicU16::new(401));
    let answer = Arc::clone(&status);
    let receiver = Receiver::start(move |_| Reply::Status(answer.load(Ordering::Relaxed))).await.unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[
        ("http.url", &url),
        ("http.in.flight.max", "2"),
        ("retry.attempts.max", "1"),
        ("retry.age.max.ms", "1"),
    ])
    .await;
    let events: Vec<_> = (0..100).map(|n| (["a", "b", "", "d"][n as usize % 4], n)).collect();
    bench.produce(&events).await;
    bench.start();
    let degraded = bench.await_state(StageState::Degraded).await;
    assert!(degraded.reason.unwrap().contains("401 Unauthorized"));
    // Two at most were under way when it opened, so that three of five are probes: it is still so,
    // and still nothing is given up.
    assert!(receiver.wait(SOON, |came| came.len() >= 5).await, "{:#?}", bench.status());
    assert_eq!(bench.status().dead_lettered_total, 0);
    status.store(200, Ordering::Relaxed);
    assert!(
        receiver
            .wait(SOON, |came| came.iter().filter(|d| d.reply == Reply::Status(200)).count() >= 100)
            .await
    );
    bench.await_state(StageState::Running).await;
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_waited_for_and_costs_no_attempt() {
    let receiver = Receiver::start(|delivery| match delivery.number {
        0..3 => Reply::With(429, vec![("retry-after", "1".into())]),
        _ => Reply::Status(200),
    })
    .await
    .unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench =
        Bench::new(&[("http.url", &url), ("retry.attempts.max", "1"), ("http.in.flight.max", "1")]).await;
    bench.produce(&[("a", 0), ("b", 0)]).await;
    bench.start();
    assert!(receiver.wait(SOON, |came| came.len() >= 5).await, "{:#?}", bench.status());
    let came = receiver.deliveries();
    for pair in came[..4].windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(gap >= Duration::from_millis(990), "{gap:?}");
    }
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_stops_the_connector_until_it_is_applied_anew() {
    let receiver = Receiver::start(|_| Reply::Status(410)).await.unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[("http.url", &url)]).await;
    bench.produce(&[("a", 0)]).await;
    bench.start();
    let stopped = bench.await_state(StageState::Stopped).await;
    assert!(stopped.reason.unwrap().starts_with("gone"));
    assert_eq!(receiver.deliveries().len(), 1);
    receiver.script(|_| Reply::Status(200));
    let mut plan = bench.plan.clone();
    plan.generation = 2;
    bench.apply(plan);
    assert!(receiver.wait(SOON, |came| came.len() >= 2).await, "{:#?}", bench.status());
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hangs_resets_and_cut_connections_are_tried_again() {
    let receiver = Receiver::start(|delivery| match (delivery.header("webhook-id"), delivery.number) {
        ("hang-0", n) if n < 4 => Reply::Hang,
        ("reset-0", n) if n < 4 => Reply::Reset,
        ("close-0", n) if n < 4 => Reply::Close,
        ("slow-0", n) if n < 4 => Reply::Slow(Duration::from_millis(100), Box::new(Reply::Status(200))),
        _ => Reply::Status(200),
    })
    .await
    .unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[("http.url", &url), ("http.timeout.ms", "1000")]).await;
    bench.produce(&[("hang", 0), ("reset", 0), ("close", 0), ("slow", 0)]).await;
    bench.start();
    let all = |came: &[testkit::Delivery]| {
        ["hang-0", "reset-0", "close-0"]
            .iter()
            .all(|id| came.iter().any(|d| d.header("webhook-id") == *id && d.reply == Reply::Status(200)))
    };
    assert!(receiver.wait(SOON, all).await, "{:#?}", bench.status());
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_failures_and_are_not_followed() {
    let inside = Receiver::start(|_| Reply::Status(200)).await.unwrap();
    let location = format!("http://{}/", inside.address());
    let receiver =
        Receiver::start(move |_| Reply::With(302, vec![("location", location.clone())])).await.unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[("http.url", &url), ("retry.attempts.max", "2")]).await;
    bench.produce(&[("a", 0)]).await;
    bench.start();
    let letters = bench.await_dead_letters(1).await;
    assert!(letters[0].headers.get_str("x-dlq-message").unwrap().contains("302"));
    assert_eq!(receiver.deliveries().len(), 2);
    assert!(inside.deliveries().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_inside_are_refused_by_number_and_by_name() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await.unwrap();
    let port = receiver.address().port();
    let by_number = format!("http://127.0.0.1:{port}/");
    let mut bench = Bench::new(&[("http.url", &by_number), ("http.addresses.allow", "10.0.0.0/8")]).await;
    bench.produce(&[("a", 0)]).await;
    bench.start();
    let failed = bench.await_state(StageState::Failed).await;
    assert!(failed.reason.unwrap().contains("http.addresses.allow"));
    let mut plan = bench.plan.clone();
    plan.generation = 2;
    plan.config.insert("http.url".into(), format!("http://localhost:{port}/"));
    bench.apply(plan.clone());
    let degraded = bench.await_state(StageState::Degraded).await;
    assert!(degraded.reason.clone().unwrap().contains("http.addresses.allow"), "{degraded:#?}");
    assert!(receiver.deliveries().is_empty());
    plan.generation = 3;
    plan.config.insert("http.addresses.allow".into(), "127.0.0.0/8, ::1".into());
    bench.apply(plan);
    assert!(receiver.wait(SOON, |came| came.len() == 1).await, "{:#?}", bench.status());
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_said_at_once_and_shows_no_secret() {
    let config =
        [("http.url", "ftp://user:hunter2@example.com/"), ("http.timeout.ms", "soon"), ("no.such.key", "1")];
    let mut bench = Bench::new(&config).await;
    bench.start();
    let reason = bench.await_state(StageState::Failed).await.reason.unwrap();
    for part in ["http.url", "http.timeout.ms", "\"soon\"", "no.such.key"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(!reason.contains("hunter2"), "{reason}");
    bench.stop().await;
}
