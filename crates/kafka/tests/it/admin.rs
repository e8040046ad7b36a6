use std::time::{Duration, Instant};

use kafka::{Admin, ClientConfig, Kind, NewTopic, OffsetSpec, Producer, ProducerConfig};
use types::{Record, TopicName, TopicPartition};

use crate::engine::Engine;

#[tokio::test]
async fn topics_are_created_described_and_deleted() {
    let engine = Engine::start().await;
    let admin = &engine.admin;
    let topic = engine.topic_with("a", 2, &[("retention.ms", "12345"), ("cleanup.policy", "compact")]).await;
    let again = admin.create_topics(&[NewTopic::new(topic.clone(), 2)], false).await.unwrap();
    assert_eq!(again[&topic].as_ref().unwrap_err().kind(), &Kind::TopicExists);

    let missing = TopicName::new(&engine.name("missing")).unwrap();
    let found = admin.describe_topics(&[topic.clone(), missing.clone()]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&topic].partitions.iter().map(|p| p.partition).collect::<Vec<_>>(), [0, 1]);
    assert!(!found[&topic].id.is_nil());
    assert!(admin.list_topics().await.unwrap().iter().any(|t| t.name == topic && t.id == found[&topic].id));

    let configs = admin.describe_configs(std::slice::from_ref(&topic)).await.unwrap();
    let entry = &configs[&topic]["retention.ms"];
    assert_eq!((entry.value.as_deref(), entry.is_set_on_topic), (Some("12345"), true));
    assert!(!configs[&topic]["max.message.bytes"].is_set_on_topic);
    assert_eq!(
        admin.describe_configs(std::slice::from_ref(&missing)).await.unwrap_err().kind(),
        &Kind::UnknownTopic
    );

    admin.create_partitions(&topic, 4).await.unwrap();
    admin.await_topics(std::slice::from_ref(&topic), Duration::from_secs(10)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while admin.describe_topics(std::slice::from_ref(&topic)).await.unwrap()[&topic].partitions.len() != 4 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(admin.create_partitions(&topic, 3).await.is_err());

    let gone = admin.delete_topics(&[topic.clone(), missing.clone()]).await.unwrap();
    assert!(gone[&topic].is_ok());
    assert_eq!(gone[&missing].as_ref().unwrap_err().kind(), &Kind::UnknownTopic);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !admin.describe_topics(std::slice::from_ref(&topic)).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_topic_that_the_engine_refuses_says_why() {
    let engine = Engine::start().await;
    let name = TopicName::new(&engine.name("bad")).unwrap();
    let bad = NewTopic::new(name.clone(), 0);
    let error = engine.admin.create_topics(&[bad], false).await.unwrap().remove(&name).unwrap().unwrap_err();
    assert_eq!(error.kind(), &Kind::Config, "{error}");
    assert!(
        error.to_string().contains(name.as_str()) && error.to_string().contains("INVALID_PARTITIONS"),
        "{error}"
    );
}

#[tokio::test]
async fn offsets_are_listed_by_end_and_time() {
    let engine = Engine::start().await;
    let topic = engine.topic("o", 2).await;
    let producer = Producer::new(&engine.client, ProducerConfig::default()).unwrap();
    for at in [1_000, 2_000, 3_000] {
        let record = Record { value: Some("x".into()), timestamp: Some(at), ..Record::default() };
        producer.send(&topic, Some(0), record).unwrap().await.unwrap();
    }
    let tp = TopicPartition::new(topic.clone(), 0);
    let other = TopicPartition::new(topic.clone(), 1);
    let list = |spec| {
        let (admin, tp, other) = (engine.admin.clone(), tp.clone(), other.clone());
        async move {
            let found = admin.list_offsets(&[(tp.clone(), spec), (other.clone(), spec)]).await.unwrap();
            (found[&tp].offset, found[&other].offset)
        }
    };
    assert_eq!(list(OffsetSpec::Earliest).await, (0, 0));
    assert_eq!(list(OffsetSpec::Latest).await, (3, 0));
    assert_eq!(list(OffsetSpec::Timestamp(1_500)).await, (1, -1));
    assert_eq!(list(OffsetSpec::Timestamp(9_000)).await, (-1, -1));
    let none = TopicPartition::new(topic, 7);
    let error = engine.admin.list_offsets(&[(none, OffsetSpec::Latest)]).await.unwrap_err();
    assert_eq!(error.kind(), &Kind::UnknownTopic);
}

#[tokio::test]
async fn an_engine_that_is_away_is_named_within_the_timeout() {
    // Bound and dropped: nobody listens there now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let admin =
        Admin::new(&ClientConfig::new(&address, "test")).unwrap().with_timeout(Duration::from_millis(300));
    let begun = Instant::now();
    let error = admin.list_topics().await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains(&address), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn garbage_from_the_peer_is_an_error() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let admin = Admin::new(&ClientConfig::new(&address, "test")).unwrap();
    let error = admin.list_topics().await.unwrap_err();
    assert_eq!(error.kind(), &Kind::Protocol, "{error}");
}
