//! The evaluator: a walk over compiled nodes. Every node costs a step and a level of depth, so
//! that no expression runs or recurses without bound; the machine's stack is made to fit.

mod access;
mod call;
mod compare;
mod group;
mod matching;
mod operators;
mod path;
mod sort;
mod text;
mod transform;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::arena::{Arena, ArenaVec, OutOfBytes};
use crate::ast::{Kind, Name, NodeRef, Op};
use crate::budget::{Budget, Limit};
use crate::error::Raise;
use crate::host::{Host, HostItem};
use crate::json::scan::Item;
use crate::projection::Projection;
use crate::stack;
use crate::value::{
    Array, Binding, Content, Entry, Frame, Function, FunctionKind, Lambda, Object, Value, mark,
};

pub(crate) use access::NO_STEP;
pub(crate) use call::Call;
pub(crate) use group::is_reserved;
pub(crate) use text::{Style, lossy};

/// Why an evaluation stops.
#[derive(Debug)]
pub(crate) enum Fail {
    Raise(Box<Raise>),
    Over(Limit),
}

impl From<Box<Raise>> for Fail {
    fn from(raise: Box<Raise>) -> Self {
        Fail::Raise(raise)
    }
}

impl From<OutOfBytes> for Fail {
    fn from(_: OutOfBytes) -> Self {
        Fail::Over(Limit::Bytes)
    }
}

pub(crate) type R<T> = Result<T, Fail>;

/// Steps between two looks at the clock.
pub(crate) const STEPS_PER_CLOCK: u64 = 4096;
/// The machine's stack is looked at on every so many levels of depth.
const LEVELS_PER_STACK_CHECK: u32 = 4;

/// One evaluation.
pub(crate) struct Run<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) budget: &'a Budget,
    /// The input and, at addresses from [`BINDINGS_BASE`] on, the JSON of bindings.
    pub(crate) input: &'a [u8],
    pub(crate) bindings: &'a [u8],
    pub(crate) tape: &'a [Item],
    /// Fields of the tape's objects that are not whole.
    pub(crate) slots: &'a [u32],
    pub(crate) projection: &'a Projection,
    pub(crate) steps_left: Cell<u64>,
    pub(crate) clock_at: Cell<u64>,
    /// When the clock was first looked at: short evaluations never do.
    pub(crate) started: Cell<Option<Instant>>,
    /// Looked at with the clock: the caller wants no result any more.
    pub(crate) stop: Option<&'a AtomicBool>,
    pub(crate) depth: Cell<u32>,
    pub(crate) regex_steps_left: Cell<u64>,
    pub(crate) now_millis: i64,
    pub(crate) random: Cell<u64>,
    /// What [`Name::global`] means, made when it is used first; empty before any is.
    pub(crate) globals: Cell<&'a [Cell<Option<Value<'a>>>]>,
    pub(crate) host: &'a Host,
    /// Arrays and objects of the tape that were looked at, by their numbers.
    pub(crate) arrays: &'a [Cell<Option<&'a Array<'a>>>],
    pub(crate) objects: &'a [Cell<Option<&'a Object<'a>>>],
}

/// Addresses from here on are in the bindings' JSON.
pub(crate) const BINDINGS_BASE: u32 = 1 << 31;

impl<'a> Run<'a> {
    /// The next number in [0, 1) of the evaluation's own generator (SplitMix64).
    pub(crate) fn next_random(&self) -> f64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Accounts for `n` steps.
    #[inline]
    pub(crate) fn tick(&self, n: u64) -> R<()> {
        let left = self.steps_left.get();
        if left < n {
            return Err(Fail::Over(Limit::Steps));
        }
        self.steps_left.set(left - n);
        if left - n <= self.clock_at.get() { self.look_at_clock(left - n) } else { Ok(()) }
    }

    #[cold]
    fn look_at_clock(&self, left: u64) -> R<()> {
        self.clock_at.set(left.saturating_sub(STEPS_PER_CLOCK));
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Fail::Over(Limit::WallTime));
        }
        match self.started.get() {
            Some(started) if started.elapsed() > self.budget.wall => Err(Fail::Over(Limit::WallTime)),
            Some(_) => Ok(()),
            None => {
                self.started.set(Some(Instant::now()));
                Ok(())
            }
        }
    }

    /// Runs `f` one level deeper.
    #[inline]
    pub(crate) fn deeper<T>(&self, f: impl FnOnce() -> R<T>) -> R<T> {
        let depth = self.depth.get() + 1;
        if depth > self.budget.depth {
            return Err(Fail::Over(Limit::Depth));
        }
        self.depth.set(depth);
        let result = if depth.is_multiple_of(LEVELS_PER_STACK_CHECK) { stack::grow(f) } else { f() };
        self.depth.set(depth - 1);
        result
    }

    pub(crate) fn vec<T: Copy>(&self) -> ArenaVec<'a, T> {
        ArenaVec::new(self.arena)
    }

    pub(crate) fn array(&self, items: &'a [Value<'a>], marks: u8) -> R<&'a Array<'a>> {
        Ok(self.arena.alloc(Array { content: Cell::new(Content::Built(items)), marks: Cell::new(marks) })?)
    }

    /// A plain array value.
    pub(crate) fn plain(&self, items: &'a [Value<'a>]) -> R<Value<'a>> {
        Ok(Value::Array(self.array(items, 0)?))
    }

    /// A sequence value.
    pub(crate) fn sequence(&self, items: &'a [Value<'a>]) -> R<Value<'a>> {
        Ok(Value::Array(self.array(items, mark::SEQUENCE)?))
    }

    pub(crate) fn string(&self, text: &[u8]) -> R<Value<'a>> {
        Ok(Value::String(self.arena.alloc_slice(text)?))
    }

    pub(crate) fn function(&self, kind: FunctionKind<'a>) -> R<&'a Function<'a>> {
        Ok(self.arena.alloc(Function {
            kind,
            called_at: Cell::new(crate::error::Span::NONE),
            called_as: Cell::new(None),
        })?)
    }

    /// An object of entries with distinct keys.
    pub(crate) fn object(&self, entries: ArenaVec<'a, Entry<'a>>) -> R<Value<'a>> {
        self.object_with(entries, false)
    }

    /// The same; `has_plain_keys` if none needs an escape where it is written.
    pub(crate) fn object_with(&self, entries: ArenaVec<'a, Entry<'a>>, has_plain_keys: bool) -> R<Value<'a>> {
        let entries = access::in_key_order(entries);
        Ok(Value::Object(self.arena.alloc(Object {
            content: Cell::new(Content::Built(entries)),
            looked: Cell::new(0),
            has_plain_keys,
            index: Cell::new(None),
        })?))
    }

    pub(crate) fn frame(&self, parent: Option<&'a Frame<'a>>) -> R<&'a Frame<'a>> {
        Ok(self.arena.alloc(Frame { parent, first: Cell::new(None) })?)
    }

    /// Binds a variable in a frame, over an older value of the same name.
    pub(crate) fn bind(&self, frame: &'a Frame<'a>, name: &'a Name, value: Value<'a>) -> R<()> {
        let mut next = frame.first.get();
        while let Some(binding) = next {
            if binding.name.hash == name.hash && binding.name.text == name.text {
                binding.value.set(value);
                return Ok(());
            }
            next = binding.next;
        }
        let binding = self.arena.alloc(Binding { name, value: Cell::new(value), next: frame.first.get() })?;
        frame.first.set(Some(binding));
        Ok(())
    }

    pub(crate) fn lookup(&self, env: &'a Frame<'a>, name: &Name) -> R<Value<'a>> {
        let mut frame = Some(env);
        while let Some(f) = frame {
            let mut next = f.first.get();
            while let Some(binding) = next {
                if binding.name.hash == name.hash && binding.name.text == name.text {
                    return Ok(binding.value.get());
                }
                next = binding.next;
            }
            frame = f.parent;
        }
        match name.global {
            Some(index) => self.global(usize::from(index)),
            None => Ok(Value::Undefined),
        }
    }

    fn global(&self, index: usize) -> R<Value<'a>> {
        if self.globals.get().is_empty() {
            self.globals.set(self.arena.filled(crate::functions::TABLE.len() + self.host.len(), None)?);
        }
        let cell = &self.globals.get()[index];
        if let Some(value) = cell.get() {
            return Ok(value);
        }
        let builtins = &crate::functions::TABLE;
        let value = match builtins.get(index) {
            Some(builtin) => Value::Function(self.function(FunctionKind::Builtin(builtin))?),
            None => match self.host.item(index - builtins.len()) {
                HostItem::Function(function) => Value::Function(self.function(FunctionKind::Host(function))?),
                HostItem::Constant(value) => self.of_host(value, 0)?,
            },
        };
        cell.set(Some(value));
        Ok(value)
    }

    /// Evaluates a node.
    pub(crate) fn eval(&self, node: NodeRef<'a>, input: Value<'a>, env: &'a Frame<'a>) -> R<Value<'a>> {
        self.tick(1)?;
        if node.node.extra.is_none() {
            // Leaves, which cannot recurse.
            match &node.node.kind {
                Kind::String(text) => return Ok(Value::String(text)),
                Kind::Number(number) => return Ok(Value::number(*number)),
                Kind::Bool(b) => return Ok(Value::Bool(*b)),
                Kind::Null => return Ok(Value::Null),
                Kind::Variable(name) => {
                    let value = self.variable(name, input, env)?;
                    return self.finish(node, value);
                }
                Kind::Path { steps, keep_singleton: false, names }
                    if *names == steps.len() && !node.node.tuple =>
                {
                    // Fields of fields of an object: most of what mappings consist of.
                    if let Value::Object(object) = input {
                        if let Content::Tape(index) = object.content.get() {
                            let reached = self.fields_on_tape(index, steps);
                            if reached.names == steps.len() {
                                self.tick(reached.names as u64)?;
                                return self.reached(reached);
                            }
                        }
                        let (value, done) = self.fields(node, steps, input)?;
                        if done == steps.len() {
                            return self.finish(node, value);
                        }
                    }
                }
                // Never a sequence, so that nothing is to be done with it. A value that isn't moved costs half.
                Kind::Object(group) => return self.deeper(|| self.group(node, group, input, env)),
                Kind::Binary { op, lhs, rhs } if *op != Op::Range => {
                    return self.deeper(|| self.binary(node, *op, *lhs, *rhs, input, env));
                }
                _ => {}
            }
        }
        self.deeper(|| {
            let mut value = self.eval_kind(node, input, env)?;
            if let Some(extra) = node.node.extra.as_deref() {
                for predicate in &extra.predicates {
                    value = self.filter(node.at(*predicate), value, env)?;
                }
                if let Some(group) = &extra.group
                    && !matches!(node.node.kind, Kind::Path { .. })
                {
                    value = self.group(node, group, value, env)?;
                }
            }
            self.finish(node, value)
        })
    }

    fn variable(&self, name: &'a Name, input: Value<'a>, env: &'a Frame<'a>) -> R<Value<'a>> {
        if name.text.is_empty() {
            return match input {
                Value::Array(array) if array.has(mark::OUTER) => {
                    Ok(self.items(array)?.first().copied().unwrap_or(Value::Undefined))
                }
                _ => Ok(input),
            };
        }
        self.lookup(env, name)
    }

    /// Unwraps a sequence of one element; an empty one is undefined.
    #[inline]
    fn finish(&self, node: NodeRef<'a>, value: Value<'a>) -> R<Value<'a>> {
        match value {
            Value::Array(array) if array.has(mark::SEQUENCE) && !array.has(mark::TUPLES) => {
                if node.node.keep_array {
                    array.set(mark::KEEP_SINGLETON);
                }
                match self.len(array) {
                    0 => Ok(Value::Undefined),
                    1 if !array.has(mark::KEEP_SINGLETON) => Ok(self.items(array)?[0]),
                    _ => Ok(value),
                }
            }
            _ => Ok(value),
        }
    }

    #[inline]
    fn eval_kind(&self, node: NodeRef<'a>, input: Value<'a>, env: &'a Frame<'a>) -> R<Value<'a>> {
        match &node.node.kind {
            Kind::Path { steps, keep_singleton, names } => {
                self.path(node, steps, *names, *keep_singleton, input, env)
            }
            Kind::Name(name) => self.field(input, node.id(), name),
            Kind::String(text) => Ok(Value::String(text)),
            Kind::Number(number) => Ok(Value::number(*number)),
            Kind::Bool(b) => Ok(Value::Bool(*b)),
            Kind::Null => Ok(Value::Null),
            Kind::Regex(regex) => Ok(Value::Function(self.function(FunctionKind::Regex { regex, node })?)),
            Kind::Wildcard => self.wildcard(input),
            Kind::Descendant => self.descendants(input),
            Kind::Parent { name, .. } => self.lookup(env, name),
            Kind::Variable(name) => self.variable(name, input, env),
            Kind::Placeholder | Kind::Sort(_) => Ok(Value::Undefined),
            Kind::Binary { op, lhs, rhs } => self.binary(node, *op, *lhs, *rhs, input, env),
            Kind::Negate(operand) => self.negate(node, *operand, input, env),
            Kind::Array(items) => self.array_constructor(node, items, input, env),
            Kind::Object(group) => self.group(node, group, input, env),
            Kind::Bind { name, rhs } => {
                let value = self.eval(node.at(*rhs), input, env)?;
                self.bind(env, name, value)?;
                Ok(value)
            }
            Kind::Apply { lhs, rhs } => self.apply_operator(node, *lhs, *rhs, input, env),
            Kind::Call { procedure, arguments } => self.call(node, *procedure, arguments, input, env, None),
            Kind::Partial { procedure, arguments } => self.partial(node, *procedure, arguments, input, env),
            Kind::Lambda { parameters, signature, body } => {
                let lambda =
                    Lambda { parameters, signature: signature.as_ref(), body: node.at(*body), input, env };
                Ok(Value::Function(self.function(FunctionKind::Lambda(lambda))?))
            }
            Kind::TailCall(call) => Ok(Value::Function(self.function(FunctionKind::TailCall {
                call: node.at(*call),
                input,
                env,
            })?)),
            Kind::Condition { condition, then, otherwise } => {
                let value = self.eval(node.at(*condition), input, env)?;
                if self.truthy(value)? {
                    self.eval(node.at(*then), input, env)
                } else if let Some(otherwise) = otherwise {
                    self.eval(node.at(*otherwise), input, env)
                } else {
                    Ok(Value::Undefined)
                }
            }
            Kind::Default { lhs, rhs, coalesce } => {
                let value = self.eval(node.at(*lhs), input, env)?;
                let keep = if *coalesce { !value.is_undefined() } else { self.truthy(value)? };
                if keep { Ok(value) } else { self.eval(node.at(*rhs), input, env) }
            }
            Kind::Transform { .. } => {
                Ok(Value::Function(self.function(FunctionKind::Transform { node, env })?))
            }
            Kind::Block(parts) => {
                let frame = self.frame(Some(env))?;
                let mut value = Value::Undefined;
                for part in parts {
                    value = self.eval(node.at(*part), input, frame)?;
                }
                Ok(value)
            }
        }
    }

    /// An array constructor: values are appended, nested constructors stay whole.
    #[inline(never)]
    fn array_constructor(
        &self,
        node: NodeRef<'a>,
        items: &'a [u32],
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let marks = if node.node.cons { mark::CONS } else { 0 };
        let mut out = ArenaVec::with_capacity(self.arena, items.len())?;
        for (i, item) in items.iter().enumerate() {
            let item = node.at(*item);
            let value = self.eval(item, input, env)?;
            if let (0, 1, Value::Array(range)) = (i, items.len(), value)
                && matches!(range.content.get(), Content::Range(..))
            {
                // A range alone stays one: `$count([1..1000000])` builds nothing.
                return Ok(Value::Array(
                    self.arena.alloc(Array { content: range.content.clone(), marks: Cell::new(marks) })?,
                ));
            }
            match value {
                Value::Undefined => {}
                Value::Array(array) if !matches!(item.node.kind, Kind::Array(_)) => {
                    out.extend(self.items(array)?)?;
                }
                _ => out.push(value)?,
            }
        }
        Ok(Value::Array(self.array(out.finish(), marks)?))
    }
}
