//! The tests' engine: an embedded broker a test, in this process. `VLTAVA_TEST_KAFKA=host:port` runs them on another one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka::{Admin, ClientConfig, NewTopic};
use types::TopicName;

/// An engine for one test, and names of its own on it.
pub(crate) struct Engine {
    pub(crate) client: ClientConfig,
    pub(crate) admin: Admin,
    prefix: String,
    /// Dropped last.
    _broker: Option<(broker::testing::Guard, tempfile::TempDir)>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Engine {
    pub(crate) async fn start() -> Self {
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let (bootstrap, broker) = match std::env::var("VLTAVA_TEST_KAFKA") {
            Ok(bootstrap) => (bootstrap, None),
            Err(_) => {
                let dir = tempfile::tempdir().unwrap();
                let (address, guard) = broker::testing::start(dir.path()).unwrap();
                (address.to_string(), Some((guard, dir)))
            }
        };
        let client = ClientConfig::new(bootstrap, "test");
        let admin = Admin::new(&client).unwrap();
        let prefix = format!("t{}-{}", uuid::Uuid::new_v4().simple(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { client, admin, prefix, _broker: broker }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(crate) async fn topic(&self, name: &str, partitions: i32) -> TopicName {
        self.topic_with(name, partitions, &[]).await
    }

    pub(crate) async fn topic_with(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> TopicName {
        let name = TopicName::new(&self.name(name)).unwrap();
        let mut topic = NewTopic::new(name.clone(), partitions);
        for (k, v) in config {
            topic = topic.with(k, *v);
        }
        for (_, result) in self.admin.create_topics(&[topic], false).await.unwrap() {
            result.unwrap();
        }
        self.admin.await_topics(std::slice::from_ref(&name), Duration::from_secs(10)).await.unwrap();
        name
    }
}
