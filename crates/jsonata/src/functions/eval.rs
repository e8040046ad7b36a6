//! `$eval`: an expression out of a string, in the caller's scope.

use std::sync::Arc;

use super::text;
use crate::ast::{Code, NodeRef};
use crate::error::Raise;
use crate::eval::{Call, Fail, R, Run};
use crate::messages;
use crate::value::{Value, mark};
use crate::wtf8;

/// What a compiled expression is charged for each byte of its source.
const BYTES_PER_SOURCE_BYTE: usize = 256;
/// Steps that compiling takes for each byte of source.
const STEPS_PER_SOURCE_BYTE: u64 = 4;

pub(super) fn eval<'a>(run: &Run<'a>, call: &Call<'a, '_>) -> R<Value<'a>> {
    let Some(source) = text(call.arg(0)) else { return Ok(Value::Undefined) };
    run.tick(source.len() as u64 * STEPS_PER_SOURCE_BYTE)?;
    run.arena.charge(source.len().saturating_mul(BYTES_PER_SOURCE_BYTE) + std::mem::size_of::<Code>())?;
    let source = wtf8::to_str(source);
    let code = crate::compile::compile(&source, run.host).map_err(|raise| {
        Raise::new("D3120").value(run.show_text(source.as_bytes())).text(messages::message(&raise))
    })?;
    let code: &'a Code = run.arena.keep(Arc::new(code));
    let input = match call.arg(1) {
        Value::Undefined => call.input,
        Value::Array(array) if !array.has(mark::SEQUENCE) => {
            let items = run.arena.alloc_slice(&[call.arg(1)])?;
            Value::Array(run.array(items, mark::SEQUENCE | mark::OUTER)?)
        }
        other => other,
    };
    run.deeper(|| run.eval(NodeRef::root(code), input, call.env)).map_err(|fail| match fail {
        Fail::Raise(raise) => {
            Raise::new("D3121").value(run.show_text(source.as_bytes())).text(messages::message(&raise)).into()
        }
        over => over,
    })
}
