//! What becomes of records: good ones, poison, too large ones, redriven ones.

use runtime::StageState;
use types::{Headers, Record, names};

use crate::rig::{Rig, assert_exactly_once, id, json, numbered, value};

/// `n` that isn't a number fails.
const STRICT: &str = r#"{"id": id, "n": $number(n)}"#;

#[tokio::test]
async fn a_poison_record_is_dead_lettered_and_its_neighbours_go_on() {
    let rig = Rig::new(1, STRICT).await;
    let bad_json = Record { value: Some("{\"id\": 2,".into()), ..json("k", "") };
    let mut with_id = json("k", r#"{"id":0,"n":"7"}"#);
    with_id.headers.push(names::EVENT_ID, "evt-0");
    with_id.headers.push(names::REQUEST_ID, "req-0");
    with_id.headers.push("x-github-event", "push");
    with_id.headers.push(names::DLQ_REASON, "forged");
    let records = vec![with_id, json("k", r#"{"id":1,"n":"x"}"#), bad_json, json("k", r#"{"id":3,"n":"9"}"#)];
    rig.produce(&rig.source, records).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(4).await;

    assert_eq!(target.iter().map(id).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(value(&target[0])["n"], 7);
    assert_eq!(target[0].key.as_deref(), Some(&b"k"[..]));
    let first = &target[0].headers;
    assert_eq!(first.get_str(names::EVENT_ID), Some("evt-0"));
    assert_eq!(first.get_str(names::REQUEST_ID), Some("req-0"));
    assert_eq!(first.get_str("x-github-event"), Some("push"));
    assert_eq!(first.get_str(names::CONTENT_TYPE), Some("application/json"));
    assert_eq!(first.get_str(names::TRANSFORM), Some("enrich@1"));
    assert_eq!(first.get(names::DLQ_REASON), None, "a caller's");
    assert_eq!(target[1].headers.get_str(names::EVENT_ID), Some(&*format!("{}-0-3", rig.source)));

    let reasons: Vec<_> = dlq.iter().map(|r| r.headers.get_str(names::DLQ_REASON).unwrap()).collect();
    assert_eq!(reasons, ["transform_error", "invalid_json"]);
    let failed = &dlq[0].headers;
    assert_eq!(failed.get_str(names::DLQ_STAGE), Some("pipeline/demo/orders/enrich@1"));
    assert!(failed.get_str(names::DLQ_MESSAGE).unwrap().contains("D3030"), "{failed:?}");
    assert_eq!(failed.get_str(names::ORIGIN_TOPIC), Some(rig.source.as_str()));
    assert_eq!(failed.get_str(names::ORIGIN_OFFSET), Some("1"));
    assert_eq!(dlq[0].value.as_deref(), Some(&br#"{"id":1,"n":"x"}"#[..]), "as it came");

    let status = node.until("counted", |s| s.in_total == 4).await;
    assert_eq!((status.out_total, status.dead_lettered_total), (2, 2));
    assert_eq!(status.version.as_deref(), Some("enrich@1"));
    let status = node.until("caught up", |s| s.lag == Some(0)).await;
    assert_eq!((status.state, status.lag_seconds), (StageState::Running, Some(0.0)));
    node.stop().await;
}

#[tokio::test]
async fn a_topic_of_poison_is_dead_lettered_whole() {
    let rig = Rig::new(3, STRICT).await;
    let poison = |n: u32| json(&format!("k{}", n % 7), &format!("{{\"id\":{n},"));
    rig.produce(&rig.source, (0..600).map(poison).collect()).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(600).await;
    assert_eq!((target.len(), dlq.len()), (0, 600));
    assert!(dlq.iter().all(|r| r.headers.get_str(names::DLQ_REASON) == Some("invalid_json")));
    node.stop().await;
}

#[tokio::test]
async fn an_output_over_the_targets_limit_is_dead_lettered() {
    let limits = [("max.message.bytes", "2000"), ("compression.type", "producer")];
    let rig = Rig::with_target(1, "$", &limits).await;
    let large = format!(r#"{{"id":1,"text":"{}"}}"#, "x".repeat(3_000));
    let mut records = numbered(0..1, 1);
    records.push(json("k", &large));
    // Many small ones in one batch: together they are over the limit, and each is not.
    records.extend((2..100).map(|n| json("k", &format!(r#"{{"id":{n},"text":"{n}{}"}}"#, "y".repeat(300)))));
    rig.produce(&rig.source, records).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(100).await;
    assert_eq!((target.len(), dlq.len()), (99, 1));
    let headers = &dlq[0].headers;
    assert_eq!(headers.get_str(names::DLQ_REASON), Some("output_too_large"));
    assert!(headers.get_str(names::DLQ_MESSAGE).unwrap().contains("2000"), "{headers:?}");
    assert_eq!(dlq[0].value.as_deref(), Some(large.as_bytes()));
    node.stop().await;
}

#[tokio::test]
async fn the_retry_topic_is_read_and_its_origins_are_kept() {
    let rig = Rig::new(2, STRICT).await;
    let redriven = |n: u32, text: &str, count: &str| {
        let mut record = json("k", &format!(r#"{{"id":{n},"n":"{text}"}}"#));
        for (name, value) in [
            (names::ORIGIN_TOPIC, rig.source.as_str()),
            (names::ORIGIN_PARTITION, "1"),
            (names::ORIGIN_OFFSET, "77"),
            (names::ORIGIN_TIMESTAMP, "1700000000000"),
            (names::REDRIVE_ID, "run-1"),
            (names::REDRIVE_COUNT, count),
        ] {
            record.headers.push(name, value.to_owned());
        }
        record
    };
    rig.produce(&rig.retry, vec![redriven(1, "5", "1"), redriven(2, "still bad", "2")]).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(2).await;
    assert_eq!((target.len(), dlq.len()), (1, 1));
    assert_eq!(target[0].headers.get_str(names::EVENT_ID), Some(&*format!("{}-1-77", rig.source)));
    let leaked: Headers =
        target[0].headers.iter().filter(|h| Headers::is_reserved(&h.name)).cloned().collect();
    assert_eq!(leaked.iter().map(|h| &*h.name).collect::<Vec<_>>(), [names::TRANSFORM]);
    let again = &dlq[0].headers;
    assert_eq!(again.get_str(names::ORIGIN_TOPIC), Some(rig.source.as_str()));
    assert_eq!(again.get_str(names::ORIGIN_OFFSET), Some("77"));
    assert_eq!(again.get_str(names::REDRIVE_COUNT), Some("2"));
    node.stop().await;
}

#[tokio::test]
async fn order_is_kept_by_key_over_many_batches_and_lanes() {
    let rig = Rig::new(6, "$").await;
    rig.produce(&rig.source, numbered(0..6_000, 41)).await;
    let config = pipeline::Config { batch_records_max: 100, ..crate::rig::test_config() };
    let node = rig.node_with(config, Some(rig.plan.clone()));
    let (target, _) = rig.settled(6_000).await;
    assert_exactly_once(&target, 6_000);
    node.stop().await;
}

#[tokio::test]
async fn tombstones_pass_and_results_fan_out() {
    let mut rig = Rig::new(1, "items").await;
    rig.plan.fan_out = true;
    rig.plan.target_key = Some("sku".into());
    let mut three = json("k", r#"{"items":[{"id":0,"sku":"a"},{"id":1,"sku":"b"},{"id":2,"sku":"c"}]}"#);
    three.headers.push(names::EVENT_ID, "e");
    let tombstone = Record { value: None, ..json("gone", "") };
    let none = json("k", r#"{"other":1}"#);
    rig.produce(&rig.source, vec![three, none, tombstone]).await;
    let node = rig.node(0);
    let (target, dlq) = rig.settled(4).await;
    assert_eq!((target.len(), dlq.len()), (4, 0));
    let keys: Vec<_> =
        target.iter().map(|r| String::from_utf8(r.key.as_deref().unwrap().to_vec()).unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c", "gone"]);
    let ids: Vec<_> =
        target[..3].iter().map(|r| r.headers.get_str(names::EVENT_ID).unwrap().to_owned()).collect();
    assert_eq!(ids, ["e.0", "e.1", "e.2"]);
    assert_eq!(target[3].value, None);
    let status = node.until("counted", |s| s.in_total == 3).await;
    assert_eq!(status.out_total, 4);
    node.stop().await;
}
