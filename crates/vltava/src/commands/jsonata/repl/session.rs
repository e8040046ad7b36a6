//! What a session knows: a sample, variables, a budget; and how a line is evaluated.
//!
//! Invariants: every evaluation runs under the budget and ends when the stop flag is set; what fails
//! changes nothing; an error names the line and column of what was typed, also where the texts of
//! functions stand in front of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use jsonata::{
    Bindings, Budget, ErrorKind, EvalError, Evaluator, Limit, Outcome, Output, Program, Syntax, SyntaxKind,
    Usage, builtin_functions,
};

use super::variables::{Kept, Variables};

/// An evaluation that took more than so many steps isn't repeated to see whether undefined is a function.
const SECOND_LOOK_STEPS_MAX: u64 = 1_000_000;

/// What completion may use: a Tab answers at once or not at all.
const LOOK_BUDGET: Budget = Budget {
    steps: 2_000_000,
    depth: 500,
    bytes: 64 << 20,
    output_bytes: 1 << 20,
    regex_steps: 100_000,
    wall: Duration::from_millis(100),
};

/// A sample.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// A path, or what else it is to be called.
    pub(super) name: String,
    pub(super) json: Vec<u8>,
}

/// What a line gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// JSON without white space.
    Json(String),
    Undefined,
    Function,
}

pub(super) struct Session {
    pub(super) sample: Option<Sample>,
    pub(super) variables: Variables,
    pub(super) budget: Budget,
    /// Of the last line.
    pub(super) usage: Option<Usage>,
    /// The last line that was right, for commands that are about one.
    pub(super) last: Option<String>,
    stop: Arc<AtomicBool>,
    evaluator: Evaluator,
    output: Output,
}

/// Names and value of `$a := $b := value`.
struct Assignment<'s> {
    names: Vec<&'s str>,
    value: &'s str,
}

impl Session {
    /// `stop`, once set, ends the evaluation that runs; it is cleared when the next one begins.
    pub(super) fn new(budget: Budget, stop: Arc<AtomicBool>) -> Self {
        Self {
            sample: None,
            variables: Variables::default(),
            budget,
            usage: None,
            last: None,
            evaluator: Evaluator::new().stopped_by(Arc::clone(&stop)),
            stop,
            output: Output::new(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes a sample if it is JSON that the budget has room for.
    ///
    /// # Errors
    /// The message, without the sample's name.
    pub(super) fn load(&mut self, sample: Sample) -> Result<(), String> {
        let before = self.sample.replace(sample);
        match self.whole() {
            Ok(_) => Ok(()),
            Err(error) => {
                self.sample = before;
                Err(error)
            }
        }
    }

    /// The sample as JSON without white space.
    ///
    /// # Errors
    /// The message.
    pub(super) fn whole(&mut self) -> Result<Answer, String> {
        let budget = self.budget.clone();
        self.begin();
        self.run("$", &budget).0
    }

    /// A line's answer. What it assigns is kept.
    ///
    /// # Errors
    /// The message, with a caret where the expression is at fault.
    pub(super) fn evaluate(&mut self, text: &str) -> Result<Answer, String> {
        let budget = self.budget.clone();
        self.begin();
        let (answer, usage) = self.run(text, &budget);
        self.usage = usage;
        if usage.is_some() {
            self.last = Some(text.to_owned());
        }
        let mut answer = answer?;
        let syntax = Syntax::parse(text);
        let assignment = assignment(&syntax);
        if answer == Answer::Undefined && usage.is_some_and(|usage| usage.steps <= SECOND_LOOK_STEPS_MAX) {
            let value = assignment.as_ref().map_or(text, |assignment| assignment.value);
            if self.run(&format!("$type(({value}\n))"), &budget).0 == Ok(Answer::Json("\"function\"".into()))
            {
                answer = Answer::Function;
            }
        }
        if let Some(Assignment { names, value }) = assignment {
            for name in names {
                let kept = match &answer {
                    Answer::Json(json) => Kept::Value(json.clone()),
                    Answer::Undefined => Kept::Undefined,
                    Answer::Function => {
                        let text = format!("${name} := {value}");
                        let reads = Program::compile(&text).map(|p| self.read_by(&p)).unwrap_or_default();
                        Kept::Function { text, reads }
                    }
                };
                self.variables.keep(name, kept).map_err(|error| error.to_string())?;
            }
        }
        Ok(answer)
    }

    /// The names that an expression gives, under a small budget; none where it fails.
    pub(super) fn look(&mut self, expression: &str) -> Vec<String> {
        self.begin();
        match self.run(expression, &LOOK_BUDGET).0 {
            Ok(Answer::Json(json)) => serde_json::from_str(&json).unwrap_or_default(),
            Ok(Answer::Undefined | Answer::Function) | Err(_) => Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Usage is absent where nothing was evaluated.
    fn run(&mut self, text: &str, budget: &Budget) -> (Result<Answer, String>, Option<Usage>) {
        // Alone first: its errors have the places of what was typed.
        let alone = match Program::compile(text) {
            Ok(program) => program,
            Err(error) => return (Err(error.render(text)), None),
        };
        // The text of an `$eval` may read whatever there is.
        let names = (!text.contains("$eval")).then(|| self.read_by(&alone));
        let needed = self.variables.needed(names.as_deref());
        let mut bindings = Bindings::new(Timestamp::now().as_millisecond(), rand::random());
        for (name, kept) in needed.values {
            match kept {
                Kept::Value(json) => bindings.set_json(name, json.as_bytes()),
                Kept::Undefined | Kept::Function { .. } => bindings.set_undefined(name),
            }
        }
        let layout = Layout::new(&needed.functions, text);
        let program = match &layout.whole {
            None => alone,
            Some(whole) => match Program::compile(whole) {
                Ok(program) => program,
                // Each part compiles, so what is too much is their nesting or their length.
                Err(error) => {
                    return (Err(format!("with the functions that it uses: {}", error.message())), None);
                }
            },
        };
        let input = self.sample.as_ref().map(|sample| &*sample.json);
        let (outcome, usage) =
            self.evaluator.eval_counted(&program, input, &bindings, budget, &mut self.output);
        let answer = match outcome {
            Ok(Outcome::Undefined) => Ok(Answer::Undefined),
            Ok(Outcome::Null | Outcome::Value) => {
                Ok(Answer::Json(String::from_utf8_lossy(self.output.as_bytes()).into_owned()))
            }
            Err(error) => Err(self.message(&error, &layout)),
        };
        (answer, Some(usage))
    }

    /// Variables that a program reads. One with a built-in function's name isn't among what the program says.
    fn read_by(&self, program: &Program) -> Vec<String> {
        let mut names = program.variables();
        let hides = |name: &str| {
            builtin_functions().any(|(known, _)| known == name)
                && program.source().contains(&format!("${name}"))
        };
        names.extend(self.variables.iter().filter(|(name, _)| hides(name)).map(|(name, _)| name.to_owned()));
        names
    }

    fn message(&self, error: &EvalError, layout: &Layout<'_>) -> String {
        match error.kind() {
            ErrorKind::OverBudget(over) if over.limit == Limit::WallTime && self.is_stopped() => {
                "stopped".into()
            }
            ErrorKind::Expression(expression) => {
                let (name, text, line) = layout.part(expression.origin.line);
                let mut moved = expression.clone();
                moved.origin.line = line;
                let rendered = moved.render(text);
                name.map_or_else(|| rendered.clone(), |name| format!("in ${name}: {rendered}"))
            }
            ErrorKind::InvalidJson(_) | ErrorKind::OverBudget(_) => error.to_string(),
        }
    }
}

/// `None` if the expression is none, or binds `$` itself.
fn assignment(syntax: &Syntax) -> Option<Assignment<'_>> {
    let mut node = syntax.root();
    let mut names = Vec::new();
    while node.kind() == SyntaxKind::Bind {
        let mut parts = node.children();
        let (variable, value) = (parts.next()?, parts.next()?);
        let name = variable.text().strip_prefix('$')?;
        if name.is_empty() || name == "$" {
            return None;
        }
        names.push(name);
        node = value;
    }
    let value = &syntax.source()[node.extent().bytes.start..];
    (!names.is_empty()).then_some(Assignment { names, value })
}

/// Functions, and the expression that uses them, as one block: each begins at a line of its own.
struct Layout<'t> {
    /// Absent where there are no functions: the expression stands alone.
    whole: Option<String>,
    /// The first line of each part, from 1; the last part is the expression, which has no name.
    parts: Vec<(u32, Option<&'t str>, &'t str)>,
}

impl<'t> Layout<'t> {
    fn new(functions: &[(&'t str, &'t str)], text: &'t str) -> Self {
        if functions.is_empty() {
            return Self { whole: None, parts: vec![(1, None, text)] };
        }
        let mut whole = String::from("(\n");
        let mut parts = Vec::new();
        let mut line = 2;
        let named = functions.iter().map(|(name, text)| (Some(*name), *text));
        for (name, text) in named.chain([(None, text)]) {
            parts.push((line, name, text));
            whole.push_str(text);
            whole.push_str(if name.is_some() { "\n;\n" } else { "\n)" });
            line += 2 + text.matches('\n').count() as u32;
        }
        Self { whole: Some(whole), parts }
    }

    /// The part that a line belongs to: its name, its text, and the line within it.
    fn part(&self, line: u32) -> (Option<&'t str>, &'t str, u32) {
        let at = self.parts.partition_point(|(first, ..)| *first <= line).saturating_sub(1);
        let (first, name, text) = self.parts[at];
        (name, text, (line + 1).saturating_sub(first).max(1))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn session(json: &str) -> Session {
        let mut session = Session::new(Budget::default(), Arc::default());
        if !json.is_empty() {
            session.load(Sample { name: "sample".into(), json: json.into() }).unwrap();
        }
        session
    }

    fn json(text: &str) -> Result<Answer, String> {
        Ok(Answer::Json(text.into()))
    }

    #[test]
    fn variables_are_kept_and_functions_see_them_as_they_are() {
        let mut session = session(r#"{"a": 12345678901234567890.50}"#);
        assert_eq!(session.evaluate("$x := $y := a"), json("12345678901234567890.50"));
        assert_eq!(session.evaluate("[$x, $y]"), json("[12345678901234567890.50,12345678901234567890.50]"));
        assert_eq!(session.evaluate("$k := 2"), json("2"));
        assert_eq!(session.evaluate("$double := function($n) { $n * $k }"), Ok(Answer::Function));
        assert_eq!(
            session.evaluate("$fact := function($n) { $n < 2 ? 1 : $n * $fact($n - 1) } /* recursive */"),
            Ok(Answer::Function)
        );
        assert_eq!(session.evaluate("$both := $fact ~> $double"), Ok(Answer::Function));
        assert_eq!(session.evaluate("$both(5)"), json("240"));
        assert_eq!(session.evaluate("$k := 10"), json("10"));
        assert_eq!(session.evaluate("$both(5)"), json("1200"));
        assert_eq!(session.evaluate("$eval(\"$double(1)\")"), json("10"));
        // A value takes the place of a function, and the other way round.
        assert_eq!(session.evaluate("$double := 7"), json("7"));
        assert_eq!(session.evaluate("$double"), json("7"));
        assert_eq!(session.evaluate("$sum := nothing"), Ok(Answer::Undefined));
        assert_eq!(session.evaluate("$exists($sum)"), json("false"));
        assert_eq!(session.evaluate("$sum := function($a) { 'mine' }"), Ok(Answer::Function));
        assert_eq!(session.evaluate("$sum(1)"), json("\"mine\""));
        session.variables.forget("sum");
        assert_eq!(session.evaluate("$sum([1, 2])"), json("3"));
        assert_eq!(session.evaluate("$uppercase"), Ok(Answer::Function));
        // In brackets it is the block's own.
        assert_eq!(session.evaluate("($z := 1)"), json("1"));
        assert_eq!(session.evaluate("$z"), Ok(Answer::Undefined));
    }

    #[test]
    fn errors_have_the_place_of_what_was_typed() {
        let mut session = session("{}");
        session.evaluate("$f := function($n) {\n  $n +\n  \"x\"\n}").unwrap();
        session.evaluate("$g := function($n) { $n }").unwrap();
        let error = session.evaluate("[$g(1),\n  1 + \"y\"]").unwrap_err();
        assert!(error.starts_with("T2002 at line 2, column 5"), "{error}");
        assert!(error.contains("2 |   1 + \"y\"]\n  |     ^"), "{error}");
        let error = session.evaluate("$g($f(1))").unwrap_err();
        assert!(error.starts_with("in $f: T2002 at line 2, column 6"), "{error}");
        assert!(error.contains("2 |   $n +\n"), "{error}");
        let error = session.evaluate("$f(1").unwrap_err();
        assert!(error.starts_with("S0203 at line 1"), "{error}");
        // What fails changes nothing.
        session.evaluate("$v := 1").unwrap();
        session.evaluate("$v := 1 + \"x\"").unwrap_err();
        assert_eq!(session.evaluate("$v"), json("1"));
    }

    #[test]
    fn a_sample_that_is_no_json_leaves_the_one_before() {
        let mut session = session("[1]");
        let error = session.load(Sample { name: "x".into(), json: b"{\"a\":\n}".into() }).unwrap_err();
        assert!(error.contains("invalid JSON at line 2"), "{error}");
        assert_eq!(session.whole(), json("[1]"));
    }

    #[test]
    fn an_evaluation_is_stopped() {
        let mut session = session("");
        session.budget.steps = u64::MAX;
        session.budget.bytes = usize::MAX / 2;
        let stop = Arc::clone(&session.stop);
        let done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&done);
        let stopper = std::thread::spawn(move || {
            // The flag is cleared at the start, so it is set until that has had its effect.
            while !watched.load(Ordering::Relaxed) {
                stop.store(true, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        assert_eq!(session.evaluate("$count([1..10000000].($ * 2))"), Err("stopped".into()));
        done.store(true, Ordering::Relaxed);
        stopper.join().unwrap();
        assert_eq!(session.evaluate("1"), json("1"));
    }
}
