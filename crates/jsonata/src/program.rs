//! What callers hold: a compiled [`Program`], the [`Bindings`] of an evaluation, and an
//! [`Evaluator`] whose memory is used again and again.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::analysis::{self, Reads};
use crate::arena::{Arena, OutOfBytes};
use crate::ast::{Code, Name, NodeRef};
use crate::budget::{Budget, Limit};
use crate::compile;
use crate::error::{CompileError, ErrorKind, EvalError, ExpressionError, OverBudget};
use crate::eval::{BINDINGS_BASE, Fail, R, Run, STEPS_PER_CLOCK};
use crate::host::Host;
use crate::json::scan::{self, Item, Refused, Scratch};
use crate::json::write::Output;
use crate::messages;
use crate::projection::{Projection, WHOLE};
use crate::value::{Value, mark};

/// A compiled expression. Cheap to clone; one program serves many threads.
#[derive(Clone)]
pub struct Program {
    code: Arc<Code>,
    projection: Arc<Projection>,
}

impl Program {
    /// Compiles an expression.
    ///
    /// # Errors
    /// The first syntax error, with the code that jsonata-js publishes and its position.
    pub fn compile(source: &str) -> Result<Program, CompileError> {
        Self::compile_with(source, &Host::new())
    }

    /// As [`Program::compile`], with functions and constants of the host.
    ///
    /// # Errors
    /// As [`Program::compile`]; also a call of a host function with arguments that its signature
    /// cannot let through, whatever the input (`T0410`).
    pub fn compile_with(source: &str, host: &Host) -> Result<Program, CompileError> {
        match compile::compile(source, host) {
            Ok(code) => Ok(Program { projection: Arc::new(Projection::of(&code)), code: Arc::new(code) }),
            Err(raise) => Err(CompileError::of(&raise, source)),
        }
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Code, &Projection) {
        (&self.code, &self.projection)
    }

    /// The text that was compiled.
    pub fn source(&self) -> &str {
        &self.code.source
    }

    /// Names of variables that the program reads where it has not bound them, without `$`,
    /// sorted: what must be given in [`Bindings`] for it to see more than undefined. Built-in
    /// functions and what the [`Host`] has are not among them, nor is what the text of an `$eval`
    /// reads.
    pub fn variables(&self) -> Vec<String> {
        analysis::variables(&self.code)
    }

    /// What the program reads of its input.
    pub fn reads(&self) -> Reads {
        analysis::reads(&self.code)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("source", &self.source()).finish_non_exhaustive()
    }
}

/// A value bound to a name.
#[derive(Debug, Clone)]
enum Bound {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    /// A range of [`Bindings::text`].
    String(usize, usize),
    /// A range of [`Bindings::json`].
    Json(usize, usize),
}

/// What an evaluation takes from outside besides its input: the clock, the seed of `$random` and
/// `$shuffle`, and named values. The same program, input and bindings give the same bytes.
///
/// Reusable: [`Bindings::clear`] keeps the memory.
#[derive(Debug, Clone, Default)]
pub struct Bindings {
    now_millis: i64,
    seed: u64,
    names: Vec<(Name, Bound)>,
    /// How many of `names` are in use; the others wait to be used again.
    used: usize,
    text: Vec<u8>,
    json: Vec<u8>,
}

impl Bindings {
    /// Bindings with `$now` and `$millis` at `now_millis` (Unix time in milliseconds) and random
    /// numbers that follow from `random_seed`.
    pub fn new(now_millis: i64, random_seed: u64) -> Self {
        Self { now_millis, seed: random_seed, ..Self::default() }
    }

    /// Removes all named values and sets clock and seed anew.
    pub fn clear(&mut self, now_millis: i64, random_seed: u64) {
        self.now_millis = now_millis;
        self.seed = random_seed;
        self.used = 0;
        self.text.clear();
        self.json.clear();
    }

    fn bind(&mut self, name: &str, value: Bound) {
        if let Some(known) = self.names[..self.used].iter_mut().find(|(n, _)| &*n.text == name.as_bytes()) {
            known.1 = value;
            return;
        }
        match self.names.get_mut(self.used) {
            Some(free) => {
                if &*free.0.text != name.as_bytes() {
                    free.0 = Name::new(name.as_bytes());
                }
                free.1 = value;
            }
            None => self.names.push((Name::new(name.as_bytes()), value)),
        }
        self.used += 1;
    }

    /// Binds a string to `$name`.
    pub fn set_str(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.extend_from_slice(value.as_bytes());
        self.bind(name, Bound::String(start, self.text.len()));
    }

    /// Binds a number to `$name`.
    pub fn set_number(&mut self, name: &str, value: f64) {
        self.bind(name, Bound::Number(value));
    }

    /// Binds a boolean to `$name`.
    pub fn set_bool(&mut self, name: &str, value: bool) {
        self.bind(name, Bound::Bool(value));
    }

    /// Binds null to `$name`.
    pub fn set_null(&mut self, name: &str) {
        self.bind(name, Bound::Null);
    }

    /// Binds undefined to `$name`, which hides a built-in function of that name.
    pub fn set_undefined(&mut self, name: &str) {
        self.bind(name, Bound::Undefined);
    }

    /// Binds a JSON text to `$name`. It is checked when the evaluation begins.
    pub fn set_json(&mut self, name: &str, json: &[u8]) {
        let start = self.json.len();
        self.json.extend_from_slice(json);
        self.bind(name, Bound::Json(start, self.json.len()));
    }

    /// [`Bindings::set_str`], to chain.
    #[must_use]
    pub fn with_str(mut self, name: &str, value: &str) -> Self {
        self.set_str(name, value);
        self
    }

    /// [`Bindings::set_number`], to chain.
    #[must_use]
    pub fn with_number(mut self, name: &str, value: f64) -> Self {
        self.set_number(name, value);
        self
    }

    /// [`Bindings::set_bool`], to chain.
    #[must_use]
    pub fn with_bool(mut self, name: &str, value: bool) -> Self {
        self.set_bool(name, value);
        self
    }

    /// [`Bindings::set_json`], to chain.
    #[must_use]
    pub fn with_json(mut self, name: &str, json: &[u8]) -> Self {
        self.set_json(name, json);
        self
    }
}

/// What kind of result an evaluation gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the output is empty. A function as the result counts as nothing too.
    Undefined,
    /// `null`.
    Null,
    /// Any other value.
    Value,
}

/// Evaluates programs. Owns the memory that evaluations use, so a thread keeps one.
pub struct Evaluator {
    arena: Arena,
    tape: Vec<Item>,
    scratch: Scratch,
    values: Vec<u32>,
    dollar: Name,
    stop: Option<Arc<AtomicBool>>,
}

impl Default for Evaluator {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator").finish_non_exhaustive()
    }
}

/// What was counted in the last evaluation, for tests and tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Steps taken.
    pub steps: u64,
    /// Bytes charged.
    pub bytes: usize,
}

/// Tape capacity that is kept between evaluations.
const TAPE_ITEMS_RETAINED_MAX: usize = 1 << 16;

impl Evaluator {
    /// An evaluator that holds no memory yet.
    pub fn new() -> Self {
        Self {
            arena: Arena::new(),
            tape: Vec::new(),
            scratch: Scratch::default(),
            values: Vec::new(),
            dollar: Name::new(b"$"),
            stop: None,
        }
    }

    /// An evaluator that another thread, or a signal, can stop: once the flag is set, an evaluation ends
    /// as if its wall time were used up (`D1012`). The flag stays the caller's to clear.
    #[must_use]
    pub fn stopped_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.stop = Some(flag);
        self
    }

    /// Evaluates a program over one JSON text and writes the result to `out`.
    ///
    /// # Errors
    /// The input is not JSON, the expression fails, or the evaluation would exceed `budget`. In
    /// every case `out` is left empty.
    pub fn eval(
        &mut self,
        program: &Program,
        input: &[u8],
        bindings: &Bindings,
        budget: &Budget,
        out: &mut Output,
    ) -> Result<Outcome, EvalError> {
        self.eval_counted(program, Some(input), bindings, budget, out).0
    }

    /// As [`Evaluator::eval`] with no input at all: `$` is undefined.
    ///
    /// # Errors
    /// As [`Evaluator::eval`].
    pub fn eval_undefined(
        &mut self,
        program: &Program,
        bindings: &Bindings,
        budget: &Budget,
        out: &mut Output,
    ) -> Result<Outcome, EvalError> {
        self.eval_counted(program, None, bindings, budget, out).0
    }

    /// As [`Evaluator::eval`] over a value that is already parsed.
    ///
    /// # Errors
    /// As [`Evaluator::eval`].
    pub fn eval_value(
        &mut self,
        program: &Program,
        input: &serde_json::Value,
        bindings: &Bindings,
        budget: &Budget,
        out: &mut Output,
    ) -> Result<Outcome, EvalError> {
        self.eval(program, input.to_string().as_bytes(), bindings, budget, out)
    }

    /// As [`Evaluator::eval`], and says what was used. `None` as input is undefined.
    pub fn eval_counted(
        &mut self,
        program: &Program,
        input: Option<&[u8]>,
        bindings: &Bindings,
        budget: &Budget,
        out: &mut Output,
    ) -> (Result<Outcome, EvalError>, Usage) {
        let mut usage = Usage::default();
        let projection = &*program.projection;
        let mut result = self.prepare_and_run(program, projection, input, bindings, budget, out, &mut usage);
        let is_raised = result.as_ref().is_err_and(|e| matches!(e.kind(), ErrorKind::Expression(_)));
        if is_raised && projection.root() != WHOLE {
            // An error may show a value; it is to show all of it.
            result = self.prepare_and_run(program, Projection::ALL, input, bindings, budget, out, &mut usage);
        }
        if result.is_err() {
            out.clear();
        }
        (result, usage)
    }

    #[expect(clippy::too_many_arguments, reason = "what an evaluation takes and what it leaves")]
    fn prepare_and_run(
        &mut self,
        program: &Program,
        projection: &Projection,
        input: Option<&[u8]>,
        bindings: &Bindings,
        budget: &Budget,
        out: &mut Output,
        usage: &mut Usage,
    ) -> Result<Outcome, EvalError> {
        out.clear();
        self.arena.reset(budget.bytes);
        self.tape.clear();
        self.tape.shrink_to(TAPE_ITEMS_RETAINED_MAX);
        self.scratch.clear();
        self.values.clear();
        let over = |limit| {
            EvalError::new(ErrorKind::OverBudget(OverBudget { limit, allowed: allowed(budget, limit) }))
        };
        let refused = |refused| match refused {
            Refused::Invalid(e) => EvalError::new(ErrorKind::InvalidJson(e)),
            Refused::Over => over(Limit::Bytes),
        };
        let most = budget.bytes;
        let root = match input {
            Some(input) => {
                let root = scan::scan(input, 0, projection, &mut self.tape, &mut self.scratch, most);
                Some(root.map_err(refused)?)
            }
            None => None,
        };
        for (_, bound) in &bindings.names[..bindings.used] {
            if let Bound::Json(from, to) = bound {
                let base = BINDINGS_BASE + *from as u32;
                let json = &bindings.json[*from..*to];
                let index = scan::scan(json, base, Projection::ALL, &mut self.tape, &mut self.scratch, most)
                    .map_err(refused)?;
                self.values.push(index);
            }
        }
        let scanned = std::mem::size_of_val(&*self.tape) + std::mem::size_of_val(&*self.scratch.slots);
        self.arena.charge(scanned).map_err(|_| over(Limit::Bytes))?;
        let heads = || -> Result<_, OutOfBytes> {
            let arrays = self.arena.filled(self.scratch.arrays as usize, None)?;
            Ok((arrays, self.arena.filled(self.scratch.objects as usize, None)?))
        };
        let (arrays, objects) = heads().map_err(|_| over(Limit::Bytes))?;
        let run = Run {
            arena: &self.arena,
            budget,
            input: input.unwrap_or(&[]),
            bindings: &bindings.json,
            tape: &self.tape,
            slots: &self.scratch.slots,
            projection,
            steps_left: Cell::new(budget.steps),
            clock_at: Cell::new(budget.steps.saturating_sub(STEPS_PER_CLOCK)),
            started: Cell::new(None),
            stop: self.stop.as_deref(),
            depth: Cell::new(0),
            regex_steps_left: Cell::new(budget.regex_steps),
            now_millis: bindings.now_millis,
            random: Cell::new(bindings.seed),
            globals: Cell::new(&[]),
            host: &program.code.host,
            arrays,
            objects,
        };
        let result = execute(&run, &program.code, root, bindings, &self.values, &self.dollar, out);
        usage.steps = budget.steps - run.steps_left.get();
        usage.bytes = self.arena.charged();
        result.map_err(|fail| match fail {
            Fail::Over(limit) => over(limit),
            Fail::Raise(raise) => {
                let source = program.source();
                let origin = if raise.origin.is_none() { raise.span } else { raise.origin };
                EvalError::new(ErrorKind::Expression(ExpressionError {
                    code: raise.code,
                    message: messages::message(&raise),
                    position: raise.span.locate(source),
                    origin: origin.locate(source),
                    token: raise.token,
                    value: raise.value,
                }))
            }
        })
    }
}

fn allowed(budget: &Budget, limit: Limit) -> u64 {
    match limit {
        Limit::Steps => budget.steps,
        Limit::Depth => u64::from(budget.depth),
        Limit::Bytes => budget.bytes as u64,
        Limit::OutputBytes => budget.output_bytes as u64,
        Limit::RegexSteps => budget.regex_steps,
        Limit::WallTime => u64::try_from(budget.wall.as_millis()).unwrap_or(u64::MAX),
    }
}

fn execute<'a>(
    run: &Run<'a>,
    code: &'a Code,
    root: Option<u32>,
    bindings: &'a Bindings,
    values: &[u32],
    dollar: &'a Name,
    out: &mut Output,
) -> R<Outcome> {
    let input = match root {
        Some(index) => run.value_at(index)?,
        None => Value::Undefined,
    };
    let frame = run.frame(None)?;
    let mut json = values.iter();
    for (name, bound) in &bindings.names[..bindings.used] {
        let value = match bound {
            Bound::Undefined => Value::Undefined,
            Bound::Null => Value::Null,
            Bound::Bool(b) => Value::Bool(*b),
            Bound::Number(n) => Value::number(*n),
            Bound::String(from, to) => Value::String(&bindings.text[*from..*to]),
            Bound::Json(..) => match json.next() {
                Some(index) => run.value_at(*index)?,
                None => Value::Undefined,
            },
        };
        run.bind(frame, name, value)?;
    }
    run.bind(frame, dollar, input)?;
    // An input that is an array is one value, not a sequence of values.
    let context = match input {
        Value::Array(_) => {
            let items = run.arena.alloc_slice(&[input])?;
            Value::Array(run.array(items, mark::SEQUENCE | mark::OUTER)?)
        }
        other => other,
    };
    let result = run.eval(NodeRef::root(code), context, frame)?;
    let result = match result {
        Value::Array(array) if array.has(mark::OUTER) => input,
        other => other,
    };
    match result {
        Value::Undefined | Value::Function(_) => Ok(Outcome::Undefined),
        Value::Null => {
            run.write_output(result, out)?;
            Ok(Outcome::Null)
        }
        _ => {
            run.write_output(result, out)?;
            Ok(Outcome::Value)
        }
    }
}
