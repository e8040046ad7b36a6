//! Expressions and their tests: compiled and run before a transform is taken, in bounded time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jsonata::{Bindings, Budget, CompileError, Evaluator, Program};
use resources::{Problems, TransformSpec};
use serde::Deserialize;
use types::TimestampMs;

use crate::Error;
use crate::transform_test::{self, Outcome};

/// All tests of a transform together. Past it the rest is a problem, not a wait.
const TESTS_TIME_MAX: Duration = Duration::from_secs(10);

/// One test.
const TEST_TIME_MAX: Duration = Duration::from_secs(2);

/// What a test's values may hold, in bytes: the platform runs beside it.
const TEST_BYTES_MAX: usize = 32 << 20;

/// Checks an expression that has no tests.
pub(super) fn compile(pointer: &str, source: &str, problems: &mut Problems) {
    if let Err(error) = Program::compile(source) {
        refuse(pointer, &error, problems);
    }
}

/// Compiles a transform and runs its tests, away from the threads that serve requests.
pub(crate) async fn check(transform: &TransformSpec) -> Result<Problems, Error> {
    let transform = transform.clone();
    let checked = tokio::task::spawn_blocking(move || run(&transform));
    checked.await.map_err(|_| Error::Conflict("the transform's tests ended the thread that ran them".into()))
}

fn refuse(pointer: &str, error: &CompileError, problems: &mut Problems) {
    problems.add(pointer, "expression_invalid", error.to_string());
}

fn run(transform: &TransformSpec) -> Problems {
    let mut problems = Problems::new();
    let program = match Program::compile(&transform.expression) {
        Ok(program) => program,
        Err(error) => {
            refuse("/spec/expression", &error, &mut problems);
            return problems;
        }
    };
    let begun = Instant::now();
    let mut evaluator = Evaluator::new();
    for (i, test) in transform.tests.iter().enumerate() {
        let pointer = format!("/spec/tests/{i}");
        if begun.elapsed() > TESTS_TIME_MAX {
            let seconds = TESTS_TIME_MAX.as_secs();
            problems.add(pointer, "test_not_run", format!("the tests before it took more than {seconds} s"));
            break;
        }
        let wrong = match transform_test::run(&program, &mut evaluator, test) {
            Outcome::Passed => continue,
            Outcome::Failed(error) => format!("failed: {error}"),
            Outcome::Unreadable(why) => format!("gave a result that can't be compared: {why}"),
            Outcome::Differs(found) => {
                format!("gave another result: {}", transform_test::first_difference(&test.expected, &found))
            }
        };
        problems.add(pointer, "test_failed", format!("test {:?} {wrong}", test.name));
    }
    problems
}

/// A record but for its value, as an expression that is tried sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sample {
    /// `$key`; absent: undefined.
    pub key: Option<String>,
    /// `$headers`.
    pub headers: BTreeMap<String, String>,
    /// `$topic`.
    pub topic: String,
    /// `$partition`.
    pub partition: i32,
    /// `$offset`.
    pub offset: i64,
    /// `$timestamp`, and what `$now()` and `$millis()` say: milliseconds since 1970.
    pub timestamp: TimestampMs,
}

pub(crate) fn sample_bindings(sample: &Sample) -> Bindings {
    let headers = serde_json::to_vec(&sample.headers).expect("a map of strings");
    let mut bindings = Bindings::new(sample.timestamp, 0).with_json("headers", &headers);
    match &sample.key {
        Some(key) => bindings.set_str("key", key),
        None => bindings.set_undefined("key"),
    }
    bindings.set_str("topic", &sample.topic);
    bindings.set_number("partition", f64::from(sample.partition));
    #[expect(clippy::cast_precision_loss, reason = "offsets and times are numbers of JSON here")]
    for (name, number) in [("offset", sample.offset as f64), ("timestamp", sample.timestamp as f64)] {
        bindings.set_number(name, number);
    }
    bindings
}

pub(crate) fn sample_budget() -> Budget {
    Budget { wall: TEST_TIME_MAX, bytes: TEST_BYTES_MAX, ..Budget::default() }
}
