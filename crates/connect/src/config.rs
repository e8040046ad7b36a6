//! The runner's own keys of `Connector.spec.config`, the same for every plugin. Unknown keys are
//! errors, and every problem is reported at once.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use resources::reference::Secret;

use crate::retry::Limits;
use crate::schedule::Bounds;
use crate::sink::ConfigProblem;

/// How a task runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskConfig {
    /// `retry.attempts.max` (10) and `retry.age.max.ms` (86,400,000: a day).
    pub retry: Limits,
    /// `breaker.failure.ratio` (0.5), above 0 and at most 1.
    pub breaker_failure_ratio: f64,
    /// `parked.records.max` (10,000) and `parked.bytes.max` (16 MiB), each per partition.
    pub parked: Bounds,
}

/// The keys that [`TaskConfig::parse`] takes.
pub const KEYS: [&str; 6] = [
    "retry.attempts.max",
    "retry.age.max.ms",
    "breaker.failure.ratio",
    "parked.records.max",
    "parked.bytes.max",
    "on.dead.letter",
];

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            retry: Limits { attempts_max: 10, age_max: Duration::from_secs(86_400) },
            breaker_failure_ratio: 0.5,
            parked: Bounds { records_max: 10_000, bytes_max: 16 << 20 },
        }
    }
}

impl TaskConfig {
    /// Takes the runner's keys; `plugin_keys` are left to the plugin, any other is a problem.
    pub fn parse(
        config: &BTreeMap<String, Secret>,
        plugin_keys: &[&str],
    ) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        // A plugin's key that ends with a dot stands for all keys that begin so.
        let is_plugins =
            |key: &str| plugin_keys.iter().any(|k| *k == key || (k.ends_with('.') && key.starts_with(k)));
        for key in config.keys().filter(|k| !KEYS.contains(&k.as_str()) && !is_plugins(k)) {
            let mut known: Vec<_> = KEYS.iter().chain(plugin_keys).copied().collect();
            known.sort_unstable();
            let message = format!("unknown key; this plugin knows {}", known.join(", "));
            problems.push(ConfigProblem { key: key.clone(), message });
        }
        let default = Self::default();
        let mut reader = Reader { config, problems };
        let parsed = Self {
            retry: Limits {
                attempts_max: reader.number("retry.attempts.max", default.retry.attempts_max, 1..=1_000),
                age_max: Duration::from_millis(reader.number(
                    "retry.age.max.ms",
                    86_400_000_u64,
                    1..=2_592_000_000,
                )),
            },
            breaker_failure_ratio: reader.number(
                "breaker.failure.ratio",
                default.breaker_failure_ratio,
                0.01..=1.0,
            ),
            parked: Bounds {
                records_max: reader.number("parked.records.max", default.parked.records_max, 1..=1_000_000),
                bytes_max: reader.number("parked.bytes.max", default.parked.bytes_max, 1_024..=(1 << 30)),
            },
        };
        if let Some(other) = config.get("on.dead.letter").map(Secret::expose).filter(|v| *v != "continue") {
            reader.problem(
                "on.dead.letter",
                format!(
                    "{other:?} isn't supported; \"continue\" (the default) goes on with the key's next record"
                ),
            );
        }
        if reader.problems.is_empty() { Ok(parsed) } else { Err(reader.problems) }
    }
}

/// Reads typed values out of a configuration and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The configuration, references resolved.
    pub config: &'a BTreeMap<String, Secret>,
    /// What was wrong so far.
    pub problems: Vec<ConfigProblem>,
}

impl Reader<'_> {
    /// Adds a problem.
    pub fn problem(&mut self, key: &str, message: String) {
        self.problems.push(ConfigProblem { key: key.into(), message });
    }

    /// A number within bounds, or `default` where the key is absent (or wrong, which is noted).
    pub fn number<T>(&mut self, key: &str, default: T, bounds: std::ops::RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let Some(text) = self.config.get(key).map(Secret::expose) else { return default };
        match text.trim().parse::<T>() {
            Ok(number) if bounds.contains(&number) => number,
            _ => {
                let shown: String = text.chars().take(40).collect();
                let message = format!("{shown:?} isn't a number from {} to {}", bounds.start(), bounds.end());
                self.problem(key, message);
                default
            }
        }
    }

    /// A text that must be there.
    pub fn required(&mut self, key: &str) -> Option<&str> {
        let value = self.config.get(key).map(Secret::expose).filter(|v| !v.trim().is_empty());
        if value.is_none() {
            self.problem(key, "is required".into());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect()
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(
            TaskConfig::parse(&config(&[("http.url", "x")]), &["http.url"]),
            Ok(TaskConfig::default())
        );
    }

    #[test]
    fn every_problem_is_reported_with_its_key() {
        let problems = TaskConfig::parse(
            &config(&[
                ("retry.attempts.max", "0"),
                ("retry.age.max.ms", "soon"),
                ("breaker.failure.ratio", "NaN"),
                ("http.ulr", "x"),
                ("on.dead.letter", "hold"),
            ]),
            &["http.url"],
        )
        .unwrap_err();
        let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            ["http.ulr", "retry.attempts.max", "retry.age.max.ms", "breaker.failure.ratio", "on.dead.letter"]
        );
        assert!(problems[0].message.contains("http.url"), "{}", problems[0]);
        assert!(problems[2].message.contains("\"soon\""), "{}", problems[2]);
    }
}
