//! Binary and unary operators.

use std::cell::Cell;

use super::{R, Run};
use crate::ast::{Kind, NodeId, NodeRef, Op};
use crate::compile::is_arithmetic;
use crate::error::Raise;
use crate::value::{Array, Content, Frame, Value, mark};
use crate::wtf8;

/// Elements that a range may have, as in jsonata-js.
const RANGE_ITEMS_MAX: f64 = 1e7;

/// What an operator takes whose operands are numbers right away.
const STEPS_OF_PLAIN: u64 = 4;

impl<'a> Run<'a> {
    /// A number that is infinite is out of range wherever a number is needed.
    pub(crate) fn finite(&self, value: f64) -> R<()> {
        if value.is_infinite() {
            return Err(Raise::new("D1001").value(crate::number::to_string(value)).into());
        }
        Ok(())
    }

    #[inline(never)]
    pub(super) fn binary(
        &self,
        node: NodeRef<'a>,
        op: Op,
        lhs: NodeId,
        rhs: NodeId,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let at = |fail| match fail {
            super::Fail::Raise(raise) => super::Fail::Raise(raise.at(node.node.span).token(op.text())),
            over => over,
        };
        if let (Some(a), Some(b)) = (self.number_of(node.at(lhs), input), self.number_of(node.at(rhs), input))
            && let Some(value) = plain(op, a, b)
        {
            self.tick(STEPS_OF_PLAIN)?;
            return Ok(value);
        }
        let left = self.eval(node.at(lhs), input, env)?;
        if matches!(op, Op::And | Op::Or) {
            let left = self.truthy(left).map_err(at)?;
            if left == (op == Op::Or) {
                return Ok(Value::Bool(left));
            }
            let right = self.eval(node.at(rhs), input, env).and_then(|v| self.truthy(v)).map_err(at)?;
            return Ok(Value::Bool(right));
        }
        let right = self.eval(node.at(rhs), input, env)?;
        if let (Value::Number(a), Value::Number(b)) = (left, right)
            && let Some(value) = plain(op, a.value, b.value)
        {
            return Ok(value);
        }
        let result = if is_arithmetic(op) {
            self.arithmetic(op, left, right)
        } else {
            match op {
                Op::Equal | Op::NotEqual => {
                    if left.is_undefined() || right.is_undefined() {
                        Ok(Value::Bool(false))
                    } else {
                        self.equal(left, right).map(|equal| Value::Bool(equal == (op == Op::Equal)))
                    }
                }
                Op::Concat => self.concat(left, right),
                Op::In => self.includes(left, right),
                Op::Range => self.range(left, right),
                _ => self.order(op, left, right),
            }
        };
        result.map_err(at)
    }

    /// An operand that is a number right away: one that is written down, or one in the input that bare names lead to.
    #[inline]
    fn number_of(&self, operand: NodeRef<'a>, input: Value<'a>) -> Option<f64> {
        match (&operand.node.kind, input) {
            (Kind::Number(number), _) if operand.node.extra.is_none() => Some(*number),
            (Kind::Path { .. }, Value::Object(object)) => {
                let names = operand.node.bare_path()?;
                let Content::Tape(index) = object.content.get() else { return None };
                let reached = self.fields_on_tape(index, names);
                let is_there = reached.index != 0 && reached.names == names.len();
                if is_there { self.number_at(reached.index) } else { None }
            }
            _ => None,
        }
    }

    fn arithmetic(&self, op: Op, left: Value<'a>, right: Value<'a>) -> R<Value<'a>> {
        let number = |value: Value<'a>, code| -> R<Option<f64>> {
            match value {
                Value::Undefined => Ok(None),
                Value::Number(n) if !n.value.is_nan() => {
                    self.finite(n.value)?;
                    Ok(Some(n.value))
                }
                other => Err(Raise::new(code).value(self.show(other)).into()),
            }
        };
        let (left, right) = (number(left, "T2001")?, number(right, "T2002")?);
        let (Some(a), Some(b)) = (left, right) else { return Ok(Value::Undefined) };
        Ok(Value::number(match op {
            Op::Add => a + b,
            Op::Subtract => a - b,
            Op::Multiply => a * b,
            Op::Divide => a / b,
            _ => a % b,
        }))
    }

    fn order(&self, op: Op, left: Value<'a>, right: Value<'a>) -> R<Value<'a>> {
        use std::cmp::Ordering;
        for (value, shown) in [(left, true), (right, false)] {
            if !matches!(value, Value::Undefined | Value::Number(_) | Value::String(_)) {
                let shown =
                    if shown || !matches!(left, Value::Number(_) | Value::String(_)) { left } else { value };
                return Err(Raise::new("T2010").value(self.show(shown)).into());
            }
        }
        let ordering = match (left, right) {
            (Value::Undefined, _) | (_, Value::Undefined) => return Ok(Value::Undefined),
            (Value::Number(a), Value::Number(b)) => a.value.partial_cmp(&b.value),
            (Value::String(a), Value::String(b)) => Some(wtf8::compare(a, b)),
            _ => {
                let raise = Raise::new("T2009").value(self.show(left)).value2(self.show(right));
                return Err(raise.into());
            }
        };
        Ok(Value::Bool(match op {
            Op::Less => ordering == Some(Ordering::Less),
            Op::LessEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Op::Greater => ordering == Some(Ordering::Greater),
            _ => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }))
    }

    fn concat(&self, left: Value<'a>, right: Value<'a>) -> R<Value<'a>> {
        let left = self.to_text(left)?.unwrap_or(&[]);
        let right = self.to_text(right)?.unwrap_or(&[]);
        if wtf8::starts_with_low(right) && wtf8::ends_with_high(left) {
            // Made beside the arena first.
            self.arena.charge(left.len() + right.len())?;
            let mut joined = left.to_vec();
            wtf8::append(&mut joined, right);
            return self.string(&joined);
        }
        self.tick((left.len() + right.len()) as u64 / 64)?;
        let mut out = crate::arena::ArenaVec::with_capacity(self.arena, left.len() + right.len())?;
        out.extend(left)?;
        out.extend(right)?;
        Ok(Value::String(out.finish()))
    }

    fn includes(&self, left: Value<'a>, right: Value<'a>) -> R<Value<'a>> {
        if left.is_undefined() || right.is_undefined() {
            return Ok(Value::Bool(false));
        }
        let found = match right {
            Value::Array(array) => {
                let items = self.items(array)?;
                self.tick(items.len() as u64)?;
                items.iter().any(|item| identical(*item, left))
            }
            value => identical(value, left),
        };
        Ok(Value::Bool(found))
    }

    fn range(&self, left: Value<'a>, right: Value<'a>) -> R<Value<'a>> {
        let integer = |value: Value<'a>, code| -> R<Option<f64>> {
            match value {
                Value::Undefined => Ok(None),
                Value::Number(n) if n.value.is_finite() && n.value.trunc() == n.value => Ok(Some(n.value)),
                other => Err(Raise::new(code).value(self.show(other)).into()),
            }
        };
        let (left, right) = (integer(left, "T2003")?, integer(right, "T2004")?);
        let (Some(from), Some(to)) = (left, right) else { return Ok(Value::Undefined) };
        if from > to {
            return Ok(Value::Undefined);
        }
        let size = to - from + 1.0;
        if size > RANGE_ITEMS_MAX {
            return Err(Raise::new("D2014").value(crate::number::to_string(size)).into());
        }
        Ok(Value::Array(self.arena.alloc(Array {
            content: Cell::new(Content::Range(from, size as u32)),
            marks: Cell::new(mark::SEQUENCE),
        })?))
    }

    #[inline(never)]
    pub(super) fn negate(
        &self,
        node: NodeRef<'a>,
        operand: NodeId,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        match self.eval(node.at(operand), input, env)? {
            Value::Undefined => Ok(Value::Undefined),
            Value::Number(n) if !n.value.is_nan() => {
                self.finite(n.value)?;
                Ok(Value::number(-n.value))
            }
            other => Err(Raise::new("D1002").at(node.node.span).token("-").value(self.show(other)).into()),
        }
    }

    #[inline(never)]
    pub(super) fn apply_operator(
        &self,
        node: NodeRef<'a>,
        lhs: NodeId,
        rhs: NodeId,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let left = self.eval(node.at(lhs), input, env)?;
        let target = node.at(rhs);
        if let crate::ast::Kind::Call { procedure, arguments } = &target.node.kind {
            let value = self.call(target, *procedure, arguments, input, env, Some(left))?;
            return Ok(value);
        }
        let function = match self.eval(target, input, env)? {
            Value::Function(function) => function,
            other => return Err(Raise::new("T2006").at(node.node.span).value(self.show(other)).into()),
        };
        if let Value::Function(first) = left {
            let kind = crate::value::FunctionKind::Chain(first, function);
            return Ok(Value::Function(self.function(kind)?));
        }
        self.apply(Value::Function(function), &[left], Value::Null, env).map_err(|fail| match fail {
            // jsonata-js knows no place here, or that of an unrelated earlier call.
            super::Fail::Raise(raise) if raise.span.is_none() => {
                super::Fail::Raise(raise.at(target.node.span))
            }
            fail => fail,
        })
    }
}

/// What most operators are used for: two finite numbers.
#[inline]
fn plain<'a>(op: Op, a: f64, b: f64) -> Option<Value<'a>> {
    if !a.is_finite() || !b.is_finite() {
        return None;
    }
    Some(match op {
        Op::Add => Value::number(a + b),
        Op::Subtract => Value::number(a - b),
        Op::Multiply => Value::number(a * b),
        Op::Divide => Value::number(a / b),
        Op::Remainder => Value::number(a % b),
        Op::Less => Value::Bool(a < b),
        Op::LessEqual => Value::Bool(a <= b),
        Op::Greater => Value::Bool(a > b),
        Op::GreaterEqual => Value::Bool(a >= b),
        _ => return None,
    })
}

/// JavaScript's `===`: containers and functions are equal to themselves only.
pub(super) fn identical<'a>(a: Value<'a>, b: Value<'a>) -> bool {
    match (a, b) {
        (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a.value == b.value,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Array(a), Value::Array(b)) => std::ptr::eq(a, b),
        (Value::Object(a), Value::Object(b)) => std::ptr::eq(a, b),
        (Value::Function(a), Value::Function(b)) => std::ptr::eq(a, b),
        _ => false,
    }
}
