//! `vltava up` as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// How long a start may take on a busy machine; the demo measures how long it does take.
const READY_MAX: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vltava"));
    // Settings of the machine that runs the tests aren't part of them.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VLTAVA_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// An HTTP client; a request that has no answer by `within` fails.
pub(crate) fn client(within: Duration) -> reqwest::Client {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(within).no_proxy().build().unwrap()
}

/// The engine that tests run on, if it isn't the embedded broker.
pub(crate) fn bootstrap() -> Option<String> {
    std::env::var("VLTAVA_TEST_BOOTSTRAP").ok()
}

/// A running platform; killed when dropped.
pub(crate) struct Platform {
    child: Child,
    /// `http://host:port`.
    pub(crate) url: String,
    /// Where Kafka clients connect to.
    pub(crate) kafka: String,
}

impl Platform {
    /// Starts it on free ports and waits until it says that it is ready.
    pub(crate) fn start(data_dir: &Path, extra: &[&str]) -> Self {
        Self::start_with(data_dir, extra, &[])
            .unwrap_or_else(|status| panic!("it ended at its start with {status}:\n{}", log_of(data_dir)))
    }

    /// The same with variables in its environment; how it ended where it did before it was ready.
    pub(crate) fn start_with(
        data_dir: &Path,
        extra: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self, ExitStatus> {
        let mut command = binary();
        command.envs(environment.iter().copied());
        command.arg("up").arg("--json").args(["--http", "127.0.0.1:0"]).arg("--data-dir").arg(data_dir);
        command.args(["--log", "warn"]).args(extra);
        if !extra.contains(&"--kafka-bootstrap") {
            match bootstrap() {
                Some(bootstrap) => command.args(["--kafka-bootstrap", &bootstrap]),
                None => command.args(["--broker", "127.0.0.1:0"]),
            };
        }
        let log = std::fs::File::options().create(true).append(true).open(data_dir.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (line, first) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            let _ = line.send(lines.next());
            // Read to the end, so that the process is never blocked by a full pipe.
            lines.for_each(drop);
        });
        let first = first.recv_timeout(READY_MAX);
        let first = match first {
            Ok(Some(Ok(first))) => first,
            // The pipe is closed: it has ended.
            Ok(None) => return Err(child.wait().unwrap()),
            other => {
                let _ = child.kill();
                panic!("vltava up did not become ready ({other:?}):\n{}", log_of(data_dir));
            }
        };
        let ready: Value = serde_json::from_str(&first).unwrap();
        assert_eq!(ready["ready"], true, "{first}\n{}", log_of(data_dir));
        let url = format!("http://{}", ready["http"].as_str().unwrap());
        Ok(Self { child, url, kafka: ready["kafka"].as_str().unwrap().to_owned() })
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asks it to stop (SIGTERM).
    pub(crate) fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// SIGKILL: nothing is finished, nothing is flushed.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self, within: Duration) -> ExitStatus {
        self.ask_to_stop();
        let deadline = std::time::Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it did not end within {within:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process logged, for the message of a test that fails.
pub(crate) fn log_of(data_dir: &Path) -> String {
    std::fs::read_to_string(data_dir.join("log")).unwrap_or_default()
}
