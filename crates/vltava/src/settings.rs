//! What the process is told: defaults, then `vltava.toml`, then `VLTAVA_A__B`, then flags.
//!
//! Invariant: every problem is reported at once, each with the setting, its value and where it came
//! from; an unknown setting is a problem, wherever it stands. Reading settings opens nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use broker::log::Flush;
use runtime::Listen;
use runtime::telemetry::Format;

/// The file that is read where it exists and none is named.
pub(crate) const FILE_DEFAULT: &str = "vltava.toml";
/// In bytes: a larger file isn't ours.
const FILE_BYTES_MAX: u64 = 1 << 20;
const ENVIRONMENT_PREFIX: &str = "VLTAVA_";
/// Variables of that prefix that belong to tools around the binary, and what the command line shows to get in.
const ENVIRONMENT_FOREIGN: [&str; 4] = ["VLTAVA_ENGINES", "VLTAVA_TEST_", "VLTAVA_TOKEN", "VLTAVA_CLIENT_"];

/// Who needs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// Nobody: listeners are on loopback, and local programs may do everything.
    Local,
    /// Everybody, on whatever address.
    Required,
}

/// The settings of `vltava up`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// `env`: the first part of topic names.
    pub(crate) env: String,
    /// `data_dir`: everything that is kept.
    pub(crate) data_dir: PathBuf,
    /// `http.listen`.
    pub(crate) http: Listen,
    /// `auth.mode`: who needs a token.
    pub(crate) auth_mode: AuthMode,
    /// `auth.algorithm`: how tokens are signed.
    pub(crate) auth_algorithm: auth::Algorithm,
    /// `metrics.listen`: `/metrics` and health once more, on an address of their own.
    pub(crate) metrics: Listen,
    /// `broker.listen`.
    pub(crate) broker: Listen,
    /// `broker.advertised`: what clients are told to connect to.
    pub(crate) broker_advertised: Option<String>,
    /// `broker.flush`.
    pub(crate) flush: Flush,
    /// `broker.auto_create_topics`.
    pub(crate) auto_create_topics: bool,
    /// `kafka.bootstrap`: set, there is no embedded broker.
    pub(crate) kafka_bootstrap: Option<String>,
    /// `instance`: tells processes apart that share stages; stable over restarts.
    pub(crate) instance: u32,
    /// `stop.grace_ms`: what a stop may take.
    pub(crate) stop_grace: Duration,
    /// `log.format`.
    pub(crate) log_format: Format,
    /// `log.filter`.
    pub(crate) log_filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            env: "dev".into(),
            data_dir: "vltava-data".into(),
            http: Listen::At(([127, 0, 0, 1], 8080).into()),
            auth_mode: AuthMode::Local,
            auth_algorithm: auth::Algorithm::Hs256,
            metrics: Listen::Off,
            broker: Listen::At(([127, 0, 0, 1], 9092).into()),
            broker_advertised: None,
            flush: Flush::Sync,
            auto_create_topics: false,
            kafka_bootstrap: None,
            instance: 0,
            stop_grace: Duration::from_secs(20),
            log_format: Format::Auto,
            log_filter: "info".into(),
        }
    }
}

/// Everything that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// One setting as it was given, before it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    text: String,
    source: String,
}

/// Settings by their dotted names, the last source that names one wins.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    given: BTreeMap<String, Given>,
    problems: Vec<String>,
}

impl Sources {
    /// Reads a TOML text; `name` is what problems call it.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        match text.parse::<toml::Table>() {
            Ok(table) => self.table(name, "", table),
            Err(error) => self.problems.push(format!("{name}: {}", error.to_string().trim_end())),
        }
        self
    }

    fn table(&mut self, name: &str, prefix: &str, table: toml::Table) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            let text = match value {
                toml::Value::Table(inner) => {
                    self.table(name, &path, inner);
                    continue;
                }
                toml::Value::String(text) => text,
                other => other.to_string(),
            };
            self.given.insert(path, Given { text, source: name.to_owned() });
        }
    }

    /// Reads the file that was named, or the default one where it exists.
    pub(crate) fn file_at(mut self, path: Option<&Path>) -> Self {
        let shown = path.unwrap_or(Path::new(FILE_DEFAULT));
        match std::fs::metadata(shown) {
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => return self,
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                self.problems.push(format!("{}: larger than {FILE_BYTES_MAX} bytes", shown.display()));
                return self;
            }
            _ => {}
        }
        match std::fs::read_to_string(shown) {
            Ok(text) => self.file(&shown.display().to_string(), &text),
            Err(error) => {
                self.problems.push(format!("{}: {error}", shown.display()));
                self
            }
        }
    }

    /// Takes `VLTAVA_A__B` as `a.b`.
    pub(crate) fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if ENVIRONMENT_FOREIGN.iter().any(|foreign| name.starts_with(foreign)) {
                continue;
            }
            let path = rest.to_ascii_lowercase().replace("__", ".");
            self.given.insert(path, Given { text, source: format!("environment variable {name}") });
        }
        self
    }

    /// A flag, if it was given.
    pub(crate) fn flag(mut self, path: &str, flag: &str, value: Option<String>) -> Self {
        if let Some(text) = value {
            self.given.insert(path.into(), Given { text, source: flag.into() });
        }
        self
    }

    /// Understands it all, over the defaults.
    pub(crate) fn settings(mut self) -> Result<Settings, Problems> {
        let default = Settings::default();
        let settings = Settings {
            env: self.take("env", default.env, |text| {
                resources::name(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
            }),
            data_dir: self.parse("data_dir", default.data_dir),
            http: self.parse("http.listen", default.http),
            auth_mode: self.take("auth.mode", default.auth_mode, |text| match text {
                "local" => Ok(AuthMode::Local),
                "required" => Ok(AuthMode::Required),
                _ => Err("give \"local\" or \"required\"".into()),
            }),
            auth_algorithm: self.take("auth.algorithm", default.auth_algorithm, |text| match text {
                "HS256" => Ok(auth::Algorithm::Hs256),
                "ES256" => Ok(auth::Algorithm::Es256),
                _ => Err("give \"HS256\" or \"ES256\"".into()),
            }),
            metrics: self.parse("metrics.listen", default.metrics),
            broker: self.parse("broker.listen", default.broker),
            broker_advertised: self.take("broker.advertised", None, |text| host_port(text).map(Some)),
            flush: self.take("broker.flush", default.flush, |text| match text {
                "sync" => Ok(Flush::Sync),
                "os" => Ok(Flush::Os),
                _ => Err("give \"sync\" or \"os\"".into()),
            }),
            auto_create_topics: self.parse("broker.auto_create_topics", default.auto_create_topics),
            kafka_bootstrap: self.take("kafka.bootstrap", None, |text| {
                text.split(',').try_for_each(|one| host_port(one.trim()).map(drop))?;
                Ok(Some(text.to_owned()))
            }),
            instance: self.parse("instance", default.instance),
            stop_grace: self.take("stop.grace_ms", default.stop_grace, |text| match text.parse() {
                Ok(ms @ 1..=600_000) => Ok(Duration::from_millis(ms)),
                _ => Err("give milliseconds from 1 to 600000".into()),
            }),
            log_format: self.parse("log.format", default.log_format),
            log_filter: self.take("log.filter", default.log_filter, |text| Ok(text.to_owned())),
        };
        if settings.kafka_bootstrap.is_none() && settings.broker == Listen::Off {
            self.problems.push(
                "broker.listen is off and kafka.bootstrap isn't set: one of them must be the engine".into(),
            );
        }
        if settings.auth_mode == AuthMode::Local {
            for (path, listen) in [("http.listen", settings.http), ("metrics.listen", settings.metrics)] {
                if let Some(addr) = listen.addr().filter(|addr| !runtime::is_loopback(*addr)) {
                    self.problems.push(format!(
                        "{path} is {addr}, which others reach, and auth.mode is \"local\", which lets everybody do \
                         everything: set auth.mode = \"required\", or listen on 127.0.0.1"
                    ));
                }
            }
        }
        if let (None, Some(addr)) = (&settings.kafka_bootstrap, settings.broker.addr())
            && !runtime::is_loopback(addr)
        {
            self.problems.push(format!(
                "broker.listen is {addr}, which others reach, and the embedded broker authenticates nobody: listen on 127.0.0.1"
            ));
        }
        for (path, given) in std::mem::take(&mut self.given) {
            self.problems.push(format!("{path} ({}): unknown setting", given.source));
        }
        if self.problems.is_empty() { Ok(settings) } else { Err(Problems(self.problems)) }
    }

    fn parse<T: FromStr<Err: fmt::Display>>(&mut self, path: &str, default: T) -> T {
        self.take(path, default, |text| text.parse().map_err(|e: T::Err| e.to_string()))
    }

    fn take<T>(&mut self, path: &str, default: T, read: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(Given { text, source }) = self.given.remove(path) else { return default };
        read(text.trim()).unwrap_or_else(|why| {
            let shown: String = text.chars().take(80).collect();
            self.problems.push(format!("{path} = {shown:?} ({source}): {why}"));
            default
        })
    }
}

fn host_port(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("give HOST:PORT".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(Sources::default().settings(), Ok(Settings::default()));
    }

    #[test]
    fn others_reach_a_listener_only_where_tokens_are_required() {
        let listen = |mode: &str| {
            let mode = pair("VLTAVA_AUTH__MODE", mode);
            let addresses = [("VLTAVA_HTTP__LISTEN", "0.0.0.0:1"), ("VLTAVA_METRICS__LISTEN", "[::]:2")]
                .map(|(n, v)| pair(n, v));
            Sources::default().environment(addresses.into_iter().chain([mode])).settings()
        };
        assert_eq!(listen("required").unwrap().auth_mode, AuthMode::Required);
        let Problems(problems) = listen("local").unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|p| p.contains("auth.mode = \"required\"")), "{problems:?}");
        let Problems(problems) = Sources::default()
            .flag("auth.mode", "x", Some("required".into()))
            .flag("broker.listen", "--broker", Some("0.0.0.0:9092".into()))
            .settings()
            .unwrap_err();
        assert!(problems[0].contains("broker.listen is 0.0.0.0:9092"), "{problems:?}");
        let Problems(problems) = listen("none").unwrap_err();
        assert!(problems[0].contains("auth.mode = \"none\""), "{problems:?}");
        // What the command line shows to get in is no setting.
        let own = ["VLTAVA_TOKEN", "VLTAVA_TOKEN_FILE", "VLTAVA_CLIENT_ID", "VLTAVA_CLIENT_SECRET"];
        let own = Sources::default().environment(own.map(|name| pair(name, "x")));
        assert_eq!(own.settings(), Ok(Settings::default()));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let settings = Sources::default()
            .file(
                "f.toml",
                "env = \"a\"\n[http]\nlisten = \"127.0.0.1:1\"\n[broker]\nflush = \"os\"\nlisten = \"off\"",
            )
            .environment([
                pair("VLTAVA_HTTP__LISTEN", "127.0.0.1:2"),
                pair("VLTAVA_ENV", "b"),
                pair("PATH", "x"),
            ])
            .flag("env", "--env", Some("c".into()))
            .flag("kafka.bootstrap", "--kafka-bootstrap", Some("h:9092,i:9092".into()))
            .settings()
            .unwrap();
        assert_eq!(settings.env, "c");
        assert_eq!(settings.http, Listen::At(([127, 0, 0, 1], 2).into()));
        assert_eq!(settings.flush, Flush::Os);
        assert_eq!(settings.kafka_bootstrap.as_deref(), Some("h:9092,i:9092"));
    }

    #[test]
    fn every_problem_names_the_setting_the_value_and_its_source() {
        let Problems(problems) = Sources::default()
            .file("f.toml", "[http]\nlisten = \"nowhere\"\nlisen = 1")
            .environment([
                pair("VLTAVA_BROKER__FLUSH", "never"),
                pair("VLTAVA_HTTP_LISTEN", "x"),
                pair("VLTAVA_ENGINES", "/e"),
            ])
            .flag("broker.listen", "--broker", Some("off".into()))
            .settings()
            .unwrap_err();
        let all = problems.join("\n");
        for part in [
            "http.listen = \"nowhere\" (f.toml)",
            "http.lisen (f.toml): unknown setting",
            "broker.flush = \"never\" (environment variable VLTAVA_BROKER__FLUSH)",
            "http_listen (environment variable VLTAVA_HTTP_LISTEN): unknown setting",
            "one of them must be the engine",
        ] {
            assert!(all.contains(part), "{part:?} isn't in\n{all}");
        }
        assert_eq!(problems.len(), 5, "{all}");
        let Problems(problems) = Sources::default().file("f.toml", "a = [").settings().unwrap_err();
        assert!(problems[0].starts_with("f.toml: "), "{problems:?}");
    }
}
