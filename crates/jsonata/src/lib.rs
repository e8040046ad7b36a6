//! JSONata, bytes to bytes.
//!
//! Invariants: whatever the expression and the input are, [`Evaluator::eval`] returns, within
//! the [`Budget`] it is given, with a result or an ordinary error; it does not panic, hang,
//! overflow the stack or hold more memory than it may. The same program, input, bindings and
//! budget give the same bytes or the same error, everywhere and always, but for the wall-time
//! limit. This crate knows no Kafka, no async and no I/O.
//!
//! The language is that of jsonata-js 2.2.2. [`Program`] is a compiled expression and says what it
//! reads and needs; [`Syntax`] is what an editor is told of any text; a [`Host`] adds functions and
//! constants; [`ERROR_CODES`] lists every code that a program can give.
//!
//! ```
//! use jsonata::{Bindings, Budget, Evaluator, Outcome, Output, Program};
//!
//! let program = Program::compile("{ 'total': $sum(items.(price * quantity)) }")?;
//! let mut evaluator = Evaluator::new();
//! let mut output = Output::new();
//! let outcome = evaluator.eval(
//!     &program,
//!     br#"{"items": [{"price": 2, "quantity": 3}, {"price": 1.5, "quantity": 2}]}"#,
//!     &Bindings::new(0, 0),
//!     &Budget::default(),
//!     &mut output,
//! )?;
//! assert_eq!(outcome, Outcome::Value);
//! assert_eq!(output.as_bytes(), br#"{"total":9}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![doc = include_str!("../DIFFERENCES.md")]

mod analysis;
mod arena;
mod ast;
mod budget;
mod compile;
mod datetime;
mod error;
mod eval;
mod faults;
mod functions;
mod host;
mod json;
mod lex;
mod messages;
mod number;
mod parse;
mod program;
mod projection;
mod regex;
mod signature;
mod stack;
mod syntax;
mod value;
mod wtf8;

pub use analysis::Reads;
pub use budget::{Budget, Limit};
pub use error::{CompileError, ErrorKind, EvalError, ExpressionError, InvalidJson, OverBudget, Position};
pub use faults::SYNTAX_ERRORS_MAX;
pub use functions::builtin_functions;
pub use host::{HOST_NAMES_MAX, HOST_VALUE_DEPTH_MAX, Host, HostCall, HostError, HostNameError};
pub use json::write::Output;
pub use messages::ERROR_CODES;
pub use program::{Bindings, Evaluator, Outcome, Program, Usage};
pub use syntax::{Extent, Syntax, SyntaxKind, SyntaxNode};
