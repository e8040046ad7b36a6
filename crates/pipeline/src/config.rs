//! The settings of the transform runtime. Every limit of the loop is here, with its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of one instance (process) that runs pipelines. Unknown fields are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This instance's number among those that share the pipelines, from 0. Two instances with one slot fence
    /// each other: the later one wins.
    pub slot: u32,
    /// A batch closes this long after its first record came, in milliseconds. It is the commit interval
    /// under light load.
    pub batch_time_max_ms: u64,
    /// A batch closes at this many records.
    pub batch_records_max: usize,
    /// A batch closes at this many bytes of input (keys, values, headers).
    pub batch_bytes_max: usize,
    /// What the results of a batch may weigh, in bytes. Where they get heavier the batch ends with that record, and the
    /// rest is the next one.
    pub batch_output_bytes_max: usize,
    /// A lane (one transactional producer and its partitions) that holds more input than this, in bytes,
    /// pauses its partitions until half of it is gone. Other lanes go on.
    pub lane_bytes_max: usize,
    /// What a consumer may fetch ahead, in bytes, for one pipeline.
    pub fetch_bytes_max: usize,
    /// Expressions evaluated at one time in the process, over all pipelines; 0: one a core.
    pub evaluations_max: usize,
    /// Evaluation steps that all expressions of a pipeline together may take for one record. Deterministic.
    pub record_steps_max: u64,
    /// How deep one expression may nest calls and values. Deterministic.
    pub record_depth_max: u32,
    /// What one expression may allocate for one record, in bytes. Deterministic.
    pub record_bytes_max: usize,
    /// The longest result of one expression, in bytes, before fan-out. Deterministic.
    pub record_output_bytes_max: usize,
    /// Steps of regular expressions that one expression may take for one record. Deterministic.
    pub record_regex_steps_max: u64,
    /// The backstop: expressions that together run longer on one record, in milliseconds, stop the pipeline with a
    /// reason. Nothing is dead-lettered, since it depends on the machine.
    pub record_time_max_ms: u64,
    /// How many records one record may become by fan-out.
    pub fan_out_max: usize,
    /// The transaction coordinator aborts what a dead owner left open after this, in milliseconds.
    pub transaction_timeout_ms: u64,
    /// A dead owner's partitions go to another instance after this, in milliseconds.
    pub session_timeout_ms: u64,
    /// A producer that had nothing to write for this long is closed, in milliseconds.
    pub producer_idle_max_ms: u64,
    /// A stop, a pause and a revocation wait this long for what is in flight, in milliseconds. After it the
    /// transaction is abandoned: the engine aborts it, and nothing of it is visible.
    pub drain_time_max_ms: u64,
    /// A failed pipeline starts again after this, doubled at each failure, in milliseconds.
    pub restart_backoff_min_ms: u64,
    /// The longest wait between two starts of a failed pipeline, in milliseconds.
    pub restart_backoff_max_ms: u64,
    /// How long a pipeline that another instance of the same slot took over stays away, in milliseconds.
    pub fenced_backoff_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slot: 0,
            batch_time_max_ms: 50,
            batch_records_max: 2_000,
            batch_bytes_max: 4 << 20,
            batch_output_bytes_max: 32 << 20,
            lane_bytes_max: 16 << 20,
            fetch_bytes_max: 8 << 20,
            evaluations_max: 0,
            record_steps_max: 20_000_000,
            record_depth_max: 5_000,
            record_bytes_max: 128 << 20,
            record_output_bytes_max: 16 << 20,
            record_regex_steps_max: 10_000_000,
            record_time_max_ms: 30_000,
            fan_out_max: 10_000,
            transaction_timeout_ms: 10_000,
            session_timeout_ms: 10_000,
            producer_idle_max_ms: 30_000,
            drain_time_max_ms: 5_000,
            restart_backoff_min_ms: 500,
            restart_backoff_max_ms: 30_000,
            fenced_backoff_ms: 60_000,
        }
    }
}

/// A setting that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pipeline.{field} = {value}: it must be {rule}")]
pub struct Problem {
    /// The setting's name.
    pub field: &'static str,
    /// What was given.
    pub value: u64,
    /// What it must be.
    pub rule: &'static str,
}

impl Config {
    /// Every problem there is, in the order of the fields.
    pub fn problems(&self) -> Vec<Problem> {
        let Self {
            slot: _,
            batch_time_max_ms,
            batch_records_max,
            batch_bytes_max,
            batch_output_bytes_max,
            lane_bytes_max,
            fetch_bytes_max,
            evaluations_max: _,
            record_steps_max,
            record_depth_max,
            record_bytes_max,
            record_output_bytes_max,
            record_regex_steps_max,
            record_time_max_ms,
            fan_out_max,
            transaction_timeout_ms,
            session_timeout_ms,
            producer_idle_max_ms,
            drain_time_max_ms,
            restart_backoff_min_ms,
            restart_backoff_max_ms,
            fenced_backoff_ms,
        } = self;
        let mut problems = Vec::new();
        let mut check = |field, value: u64, ok: bool, rule| {
            if !ok {
                problems.push(Problem { field, value, rule });
            }
        };
        let bytes = |n: &usize| u64::try_from(*n).unwrap_or(u64::MAX);
        check("batch_time_max_ms", *batch_time_max_ms, *batch_time_max_ms <= 5_000, "at most 5000");
        for (field, value) in [
            ("batch_records_max", bytes(batch_records_max)),
            ("batch_bytes_max", bytes(batch_bytes_max)),
            ("batch_output_bytes_max", bytes(batch_output_bytes_max)),
            ("record_steps_max", *record_steps_max),
            ("record_depth_max", u64::from(*record_depth_max)),
            ("record_bytes_max", bytes(record_bytes_max)),
            ("record_output_bytes_max", bytes(record_output_bytes_max)),
            ("record_regex_steps_max", *record_regex_steps_max),
            ("record_time_max_ms", *record_time_max_ms),
            ("fan_out_max", bytes(fan_out_max)),
            ("producer_idle_max_ms", *producer_idle_max_ms),
            ("drain_time_max_ms", *drain_time_max_ms),
            ("restart_backoff_min_ms", *restart_backoff_min_ms),
            ("fenced_backoff_ms", *fenced_backoff_ms),
        ] {
            check(field, value, value > 0, "above 0");
        }
        check(
            "lane_bytes_max",
            bytes(lane_bytes_max),
            lane_bytes_max >= batch_bytes_max,
            "at least batch_bytes_max",
        );
        check("fetch_bytes_max", bytes(fetch_bytes_max), *fetch_bytes_max >= 64 << 10, "at least 65536");
        check(
            "transaction_timeout_ms",
            *transaction_timeout_ms,
            (1_000..=900_000).contains(transaction_timeout_ms),
            "1000 to 900000",
        );
        check(
            "session_timeout_ms",
            *session_timeout_ms,
            (6_000..=1_800_000).contains(session_timeout_ms),
            "6000 to 1800000, as Kafka allows by default",
        );
        check(
            "restart_backoff_max_ms",
            *restart_backoff_max_ms,
            restart_backoff_max_ms >= restart_backoff_min_ms,
            "at least restart_backoff_min_ms",
        );
        problems
    }

    pub(crate) fn batch_time_max(&self) -> Duration {
        Duration::from_millis(self.batch_time_max_ms)
    }

    pub(crate) fn drain_time_max(&self) -> Duration {
        Duration::from_millis(self.drain_time_max_ms)
    }

    pub(crate) fn producer_idle_max(&self) -> Duration {
        Duration::from_millis(self.producer_idle_max_ms)
    }

    /// Before the `failures`th new start (from 1) of a failed pipeline.
    pub(crate) fn restart_backoff(&self, failures: u32) -> Duration {
        let doubled = self.restart_backoff_min_ms.saturating_mul(1 << failures.saturating_sub(1).min(20));
        Duration::from_millis(doubled.min(self.restart_backoff_max_ms))
    }

    /// Expressions evaluated at one time.
    pub(crate) fn evaluations(&self) -> usize {
        match self.evaluations_max {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_their_own_rules() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn every_problem_is_named() {
        let config =
            Config { batch_records_max: 0, lane_bytes_max: 1, session_timeout_ms: 1, ..Config::default() };
        let fields: Vec<_> = config.problems().into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["batch_records_max", "lane_bytes_max", "session_timeout_ms"]);
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        let config = Config::default();
        let ms = |n| config.restart_backoff(n).as_millis();
        assert_eq!([ms(1), ms(2), ms(3), ms(99)], [500, 1_000, 2_000, 30_000]);
    }
}
