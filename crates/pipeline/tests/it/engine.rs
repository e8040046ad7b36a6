//! The engine under test, which can be stopped and started again: the embedded broker, one a test, or, where
//! `VLTAVA_TEST_BOOTSTRAP` is set, what is there. `VLTAVA_TEST_ENGINE_STOP` and `VLTAVA_TEST_ENGINE_START` are then the
//! shell commands that stop and start it (run the tests on one thread with them, since they share it).

use kafka::{Admin, ClientConfig};

pub(crate) enum Engine {
    Embedded(Embedded),
    External(String),
}

pub(crate) struct Embedded {
    broker: Option<broker::testing::Guard>,
    addr: std::net::SocketAddr,
    dir: tempfile::TempDir,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("VLTAVA_TEST_BOOTSTRAP") {
            return Self::External(bootstrap);
        }
        let dir = tempfile::tempdir().unwrap();
        let (addr, broker) = broker::testing::start(dir.path()).unwrap();
        Self::Embedded(Embedded { broker: Some(broker), addr, dir })
    }

    pub(crate) fn bootstrap(&self) -> String {
        match self {
            Self::Embedded(embedded) => embedded.addr.to_string(),
            Self::External(bootstrap) => bootstrap.clone(),
        }
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&ClientConfig::new(self.bootstrap(), "test-admin")).unwrap()
    }

    pub(crate) async fn go_away(&mut self) {
        match self {
            Self::Embedded(embedded) => {
                let broker = embedded.broker.take().expect("it runs");
                tokio::task::spawn_blocking(move || broker.stop()).await.unwrap().unwrap();
            }
            Self::External(_) => shell("VLTAVA_TEST_ENGINE_STOP").await,
        }
    }

    pub(crate) async fn come_back(&mut self) {
        match self {
            Self::Embedded(embedded) => {
                let mut config = broker::Config::new(embedded.dir.path());
                config.listen = embedded.addr;
                let (_, broker) = broker::testing::start_with(config).unwrap();
                embedded.broker = Some(broker);
            }
            Self::External(_) => shell("VLTAVA_TEST_ENGINE_START").await,
        }
    }
}

async fn shell(variable: &str) {
    let command = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} must say how, when VLTAVA_TEST_BOOTSTRAP is set"));
    let run = move || std::process::Command::new("sh").arg("-c").arg(command).status().unwrap();
    let status = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(status.success(), "{variable}: {status}");
}
