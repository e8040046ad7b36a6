//! An expression tried on a sample: compiled and evaluated under the budget of a test, away from the threads that
//! serve requests. Nothing is stored, and no record is read.

use jsonata::{CompileError, ErrorKind, EvalError, Evaluator, Outcome, Output, Position, Program};
use resources::Kind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::Key;

use crate::admit::{Sample, sample_bindings, sample_budget};
use crate::resource::{TransformFacts, facts, version};
use crate::{Control, Error};

/// What is tried on what.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evaluate {
    /// JSONata; else a version of the transform.
    #[serde(default)]
    pub expression: Option<String>,
    /// The version; else the newest.
    #[serde(default)]
    pub version: Option<u32>,
    /// The record's value, with its digits as they are. Absent: undefined.
    #[serde(default)]
    pub input: Option<Box<RawValue>>,
    /// The record's other parts.
    #[serde(default)]
    pub record: Sample,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Evaluated {
    /// A result.
    Value {
        /// As it would be written.
        result: Box<RawValue>,
        /// What it used of its budget.
        steps: u64,
    },
    /// No result: a pipeline writes nothing for such a record.
    Undefined {
        /// What it used of its budget.
        steps: u64,
    },
    /// It doesn't compile, or failed: a pipeline dead-letters such a record.
    Error {
        /// Why.
        error: Failure,
    },
}

/// What is wrong with an expression, and where.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// As published by JSONata, or of the budget.
    pub code: String,
    /// For people.
    pub message: String,
    /// In the expression; `None`: it isn't about a place in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Place>,
    /// What stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The line of the expression, with a caret.
    pub rendered: String,
}

/// A place in an expression.
#[derive(Debug, Serialize)]
pub struct Place {
    /// In UTF-16 units from 0 to just behind the token, as jsonata-js counts.
    pub offset: usize,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl From<Position> for Place {
    fn from(at: Position) -> Self {
        Self { offset: at.offset, line: at.line, column: at.column }
    }
}

impl Failure {
    fn compile(error: &CompileError, source: &str) -> Self {
        Self {
            code: error.code().into(),
            message: error.message().into(),
            position: Some(error.position().into()),
            token: error.token().map(String::from),
            rendered: error.render(source),
        }
    }

    fn eval(error: &EvalError, source: &str) -> Self {
        let (position, token) = match error.kind() {
            ErrorKind::Expression(error) => (Some(error.position.into()), error.token.clone()),
            _ => (None, None),
        };
        Self {
            code: error.code().into(),
            message: error.to_string(),
            position,
            token,
            rendered: error.render(source),
        }
    }
}

impl Evaluated {
    /// Of a value that no expression sees.
    pub(crate) fn invalid_json() -> Self {
        Self::refused("invalid_json", "the value isn't JSON: the pipeline would dead-letter it again".into())
    }

    /// Of a step whose expression gives what it can't take. `step`: its kind.
    pub(crate) fn invalid_result(step: &str, wanted: &str) -> Self {
        let message =
            format!("{step}: the expression doesn't give {wanted}: the pipeline would dead-letter it again");
        Self::refused("invalid_result", message)
    }

    /// Of a value that a step can't redact.
    pub(crate) fn redact_failed(why: &str) -> Self {
        Self::refused("redact_failed", format!("redact: {why}: the pipeline would dead-letter it again"))
    }

    fn refused(code: &str, message: String) -> Self {
        let rendered = message.clone();
        Self::Error { error: Failure { code: code.into(), message, position: None, token: None, rendered } }
    }
}

impl Control {
    /// Tries an expression, or a version of the transform `key`.
    pub async fn evaluate(&self, key: &Key, asked: Evaluate) -> Result<Evaluated, Error> {
        let Evaluate { expression, version: number, input, record } = asked;
        let source = match (expression, number) {
            (Some(_), Some(_)) => {
                return Err(Error::BadRequest("say either expression or version, not both".into()));
            }
            (Some(expression), None) => {
                self.workspace(&key.workspace).await?;
                expression
            }
            (None, number) => {
                let transform = self.get(key).await?;
                let newest: TransformFacts = facts(&transform)?;
                let number = number.unwrap_or(newest.version);
                let body = self.store.version(transform.metadata.uid, number).await?;
                let Some(body) = body.filter(|_| number <= newest.version) else {
                    let name = format!("{}@{number}", key.name);
                    return Err(Error::NotFound { kind: Kind::Transform, name });
                };
                version(body)?.spec.expression
            }
        };
        // As many at once as tests of transforms. Never closed.
        let _turn = self.tests.acquire().await.ok();
        let evaluated = tokio::task::spawn_blocking(move || run(&source, input.as_deref(), &record));
        evaluated.await.map_err(|_| Error::Conflict("the expression ended the thread that ran it".into()))
    }
}

pub(crate) fn run(source: &str, input: Option<&RawValue>, record: &Sample) -> Evaluated {
    let program = match Program::compile(source) {
        Ok(program) => program,
        Err(error) => return Evaluated::Error { error: Failure::compile(&error, source) },
    };
    let (bindings, budget) = (sample_bindings(record), sample_budget());
    let (mut evaluator, mut output) = (Evaluator::new(), Output::new());
    let input = input.map(|input| input.get().as_bytes());
    let (outcome, used) = evaluator.eval_counted(&program, input, &bindings, &budget, &mut output);
    match outcome {
        Err(error) => Evaluated::Error { error: Failure::eval(&error, source) },
        Ok(Outcome::Undefined) => Evaluated::Undefined { steps: used.steps },
        Ok(Outcome::Null | Outcome::Value) => {
            let text = String::from_utf8_lossy(output.as_bytes()).into_owned();
            let result = RawValue::from_string(text).expect("what the engine writes is JSON");
            Evaluated::Value { result, steps: used.steps }
        }
    }
}
