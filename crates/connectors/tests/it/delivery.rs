//! What arrives, in which order, with what on it.

use std::collections::BTreeMap;

use testkit::{Delivery, Receiver, Reply};

use crate::bench::{Bench, SOON};

fn numbers_by_key(deliveries: &[Delivery]) -> BTreeMap<String, Vec<u32>> {
    let mut keys: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for delivery in deliveries {
        let (key, number) = delivery.header("webhook-id").rsplit_once('-').unwrap();
        keys.entry(key.into()).or_default().push(number.parse().unwrap());
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_signed_in_order_and_once() {
    let receiver = Receiver::start(|_| Reply::Status(202)).await.unwrap();
    let secret = "a-secret-of-the-test";
    let url = format!("http://{}/hooks?a=b", receiver.address());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let reference = format!("${{file:{}}}", file.display());
    let config =
        [("http.url", url.as_str()), ("http.signing.secret", &reference), ("http.header.x-tenant", "t1")];
    let mut bench = Bench::new(&config).await;
    let events: Vec<(&str, u32)> = (0..60).map(|n| (["a", "b", "c"][n as usize % 3], n)).collect();
    bench.produce(&events).await;
    bench.start();
    assert!(receiver.wait(SOON, |came| came.len() >= 60).await, "{:#?}", bench.status());
    let deliveries = receiver.deliveries();
    for (key, numbers) in numbers_by_key(&deliveries) {
        assert_eq!(numbers.len(), 20, "key {key}");
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
    let signer = connectors::http::signature::Signer::parse(secret).unwrap();
    for delivery in &deliveries {
        let timestamp = delivery.header("webhook-timestamp").parse().unwrap();
        let signature = signer.sign(delivery.header("webhook-id"), timestamp, &delivery.body);
        assert_eq!(delivery.header("webhook-signature"), signature);
        assert!(delivery.header("x-request-id").starts_with("request-"));
        assert_eq!(delivery.header("traceparent").len(), 55);
        assert_eq!(delivery.header("content-type"), "application/json");
        assert_eq!(delivery.header("ce-type"), "test");
        assert_eq!(delivery.header("x-tenant"), "t1");
        assert_eq!(delivery.header("cookie"), "", "only what is meant for receivers goes on");
        assert_eq!(delivery.path, "/hooks?a=b");
    }

    bench.stop().await;
    bench.produce(&[("a", 60)]).await;
    bench.start();
    assert!(receiver.wait(SOON, |came| came.len() >= 61).await, "{:#?}", bench.status());
    assert_eq!(receiver.deliveries().len(), 61, "an orderly stop leaves nothing to deliver again");
    assert!(bench.dead_letters().await.is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_always_fails_parks_and_the_others_flow() {
    let receiver = Receiver::start(|delivery| {
        Reply::Status(if delivery.header("webhook-id").starts_with("bad") { 500 } else { 200 })
    })
    .await
    .unwrap();
    let url = format!("http://{}/", receiver.address());
    let mut bench = Bench::new(&[("http.url", &url), ("retry.attempts.max", "4")]).await;
    let mut events = vec![("bad", 0), ("bad", 1), ("bad", 2)];
    events.extend((0..200).map(|n| (["a", "b", "c", "d"][n as usize % 4], n)));
    bench.produce(&events).await;
    bench.start();
    let good = |came: &[Delivery]| came.iter().filter(|d| d.reply == Reply::Status(200)).count();
    assert!(receiver.wait(SOON, move |came| good(came) >= 200).await, "{:#?}", bench.status());
    let failed_by_then = receiver.deliveries().iter().filter(|d| d.reply == Reply::Status(500)).count();
    assert!(
        failed_by_then < 7,
        "the others waited for the bad key: {failed_by_then} of its 7 attempts were over"
    );

    let letters = bench.await_dead_letters(3).await;
    let attempts: Vec<_> =
        letters.iter().map(|letter| letter.headers.get_str("x-dlq-attempts").unwrap().to_owned()).collect();
    assert_eq!(attempts, ["4", "2", "1"], "a key that keeps failing gets fewer attempts");
    for letter in &letters {
        let header = |name| letter.headers.get_str(name).unwrap();
        assert_eq!(header("x-dlq-reason"), "retries_exhausted");
        assert!(header("x-dlq-message").contains("500"), "{}", header("x-dlq-message"));
        assert_eq!(header("x-dlq-stage"), "connector/test/out");
        assert_eq!(header("__connect.errors.connector.name"), "out");
    }
    let bad: Vec<_> =
        receiver.deliveries().into_iter().filter(|d| d.header("webhook-id") == "bad-0").collect();
    assert_eq!(bad.len(), 4);
    for pair in bad.windows(2) {
        assert_eq!(pair[0].header("webhook-id"), pair[1].header("webhook-id"));
        assert!((pair[1].at - pair[0].at).as_millis() >= 100, "backoff");
    }
    bench.stop().await;

    let before = receiver.deliveries().len();
    bench.produce(&[("a", 1000)]).await;
    bench.start();
    assert!(receiver.wait(SOON, move |came| came.len() > before).await);
    assert_eq!(receiver.deliveries().len(), before + 1, "what is dead-lettered isn't tried again");
    assert_eq!(bench.dead_letters().await.len(), 3);
    bench.stop().await;
}
