//! Paths. A step maps over a sequence and its results are flattened by one level; a step that
//! binds variables (`@`, `#`, or one that a `%` refers to) turns the path into a stream of
//! tuples, which carry the bindings along.

use std::cell::Cell;

use super::{R, Run};
use crate::arena::ArenaVec;
use crate::ast::{Extra, Kind, Name, NodeId, NodeRef, Stage};
use crate::value::{Array, Content, Frame, Tuple, Value, mark};

/// Where names lead to on the tape.
pub(super) struct Reached {
    /// 0 if a field isn't there.
    pub(super) index: u32,
    /// How many names were followed.
    pub(super) names: usize,
}

impl<'a> Run<'a> {
    #[inline(never)]
    pub(super) fn path(
        &self,
        node: NodeRef<'a>,
        steps: &'a [NodeId],
        names: usize,
        keep_singleton: bool,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let extra = node.node.extra.as_deref();
        let group = extra.and_then(|e| e.group.as_ref());
        let first = node.at(steps[0]);
        let (mut current, mut from) = match input {
            Value::Array(array) if !matches!(first.node.kind, Kind::Variable(_)) => (self.items(array)?, 0),
            _ => {
                // While the path only names fields of objects, no sequence is needed.
                let (value, done) = self.fields(node, &steps[..names], input)?;
                if done == steps.len() && group.is_none() && !keep_singleton && !node.node.tuple {
                    return Ok(value);
                }
                match value {
                    _ if done == 0 => (self.arena.alloc_slice(&[input])?, 0),
                    Value::Undefined => (&[][..], steps.len()),
                    _ if done == steps.len() => (self.arena.alloc_slice(&[value])?, done),
                    Value::Array(array) => (self.items(array)?, done),
                    value => (self.arena.alloc_slice(&[value])?, done),
                }
            }
        };
        let mut result = None;
        let mut tuples: Option<&'a Array<'a>> = None;
        let mut is_tuples = false;
        if from == steps.len() {
            result = Some(match current {
                [Value::Array(array)] => Value::Array(array),
                _ => self.sequence(current)?,
            });
        }
        while from < steps.len() {
            let step = node.at(steps[from]);
            is_tuples |= step.node.tuple;
            if from == 0 && step.node.cons {
                let whole = match input {
                    Value::Array(array) if !matches!(first.node.kind, Kind::Variable(_)) => {
                        Value::Array(array)
                    }
                    _ => self.sequence(current)?,
                };
                result = Some(self.eval(step, whole, env)?);
            } else if is_tuples {
                tuples = Some(self.tuple_step(step, current, tuples, env)?);
            } else {
                let marks = match result {
                    Some(Value::Array(array)) => array.marks.get(),
                    _ => mark::SEQUENCE,
                };
                let is_last = from == steps.len() - 1;
                result = Some(Value::Array(self.step(step, current, marks, env, is_last)?));
            }
            if !is_tuples {
                current = match result {
                    Some(Value::Array(array)) => self.items(array)?,
                    _ => &[],
                };
                if current.is_empty() {
                    break;
                }
            }
            from += 1;
        }
        let mut value = result.unwrap_or(Value::Undefined);
        if is_tuples {
            let stream = match tuples {
                Some(stream) => stream,
                None => self.array(&[], mark::SEQUENCE | mark::TUPLES)?,
            };
            if node.node.tuple {
                value = Value::Array(stream);
            } else {
                let items = self.items(stream)?;
                let mut out = ArenaVec::with_capacity(self.arena, items.len())?;
                for item in items {
                    out.push(untupled(*item))?;
                }
                value = self.sequence(out.finish())?;
            }
            if let Some(group) = group {
                return self.group(node, group, Value::Array(stream), env);
            }
        }
        if keep_singleton && let Value::Array(array) = value {
            if array.has(mark::CONS) && !array.has(mark::SEQUENCE) {
                value = self.sequence(self.arena.alloc_slice(&[value])?)?;
            }
            if let Value::Array(array) = value {
                array.set(mark::KEEP_SINGLETON);
            }
        }
        match group {
            Some(group) => self.group(node, group, value, env),
            None => Ok(value),
        }
    }

    /// Follows bare names through objects. Returns what was reached and how many of them that took: all, unless it is
    /// an array.
    #[inline]
    pub(super) fn fields(
        &self,
        node: NodeRef<'a>,
        names: &[NodeId],
        input: Value<'a>,
    ) -> R<(Value<'a>, usize)> {
        let (mut value, mut done) = (input, 0);
        if let Value::Object(object) = input
            && let Content::Tape(index) = object.content.get()
        {
            let reached = self.fields_on_tape(index, names);
            done = reached.names;
            self.tick(done as u64)?;
            if done > 0 {
                value = self.reached(reached)?;
            }
        }
        while let Some(id) = names.get(done) {
            let step = node.at(*id);
            match (value, &step.node.kind) {
                (Value::Object(object), Kind::Name(name)) => value = self.get_step(object, *id, name)?,
                (Value::Array(_), _) => return Ok((value, done)),
                _ => return Ok((Value::Undefined, names.len())),
            }
            done += 1;
            self.tick(1)?;
        }
        Ok((value, done))
    }

    /// As far as names lead through objects of the tape whose fields have slots; no value is made on the way.
    #[inline]
    pub(super) fn fields_on_tape(&self, mut index: u32, names: &[NodeId]) -> Reached {
        for (done, id) in names.iter().enumerate() {
            match self.slot(index, *id) {
                None => return Reached { index, names: done },
                Some(0) => return Reached { index: 0, names: done + 1 },
                Some(field) => index = field,
            }
        }
        Reached { index, names: names.len() }
    }

    /// The value that names lead to.
    #[inline]
    pub(super) fn reached(&self, reached: Reached) -> R<Value<'a>> {
        if reached.index == 0 { Ok(Value::Undefined) } else { self.value_at(reached.index) }
    }

    fn step(
        &self,
        step: NodeRef<'a>,
        input: &'a [Value<'a>],
        marks: u8,
        env: &'a Frame<'a>,
        is_last: bool,
    ) -> R<&'a Array<'a>> {
        let extra = step.node.extra.as_deref();
        if let Kind::Sort(terms) = &step.node.kind {
            let sorted = self.sort_items(step, terms, input, env)?;
            // One element is not sorted and stays the sequence that it is in.
            let sorted = self.array(sorted, if sorted.len() <= 1 { marks } else { 0 })?;
            return self.stages(step, extra, sorted, env);
        }
        let id = step.id();
        let mut out = ArenaVec::with_capacity(self.arena, input.len())?;
        let mut only = Value::Undefined;
        let mut count = 0usize;
        for item in input {
            if extra.is_none()
                && let (Kind::Name(_), Value::Object(object)) = (&step.node.kind, item)
                && let Content::Tape(index) = object.content.get()
                && let Some(field) = self.slot(index, id)
                && !self.is_array_at(field)
            {
                self.tick(1)?;
                if field != 0 {
                    out.push(self.value_at(field)?)?;
                    count += 1;
                }
                continue;
            }
            let mut value = match &step.node.kind {
                Kind::Name(name) if extra.is_none() => {
                    self.tick(1)?;
                    let value = self.field(*item, id, name)?;
                    self.finish(step, value)?
                }
                _ => self.eval(step, *item, env)?,
            };
            if let Some(extra) = extra {
                for stage in &extra.stages {
                    if let Stage::Filter(predicate) = stage {
                        value = self.filter(step.at(*predicate), value, env)?;
                    }
                }
            }
            match value {
                Value::Undefined => continue,
                Value::Array(array) if !array.has(mark::CONS) => out.extend(self.items(array)?)?,
                value => out.push(value)?,
            }
            only = value;
            count += 1;
        }
        if is_last
            && count == 1
            && let Value::Array(array) = only
            && !array.has(mark::SEQUENCE)
        {
            return Ok(array);
        }
        self.array(out.finish(), mark::SEQUENCE)
    }

    /// The predicates and index bindings of a step that apply to its whole result.
    fn stages(
        &self,
        step: NodeRef<'a>,
        extra: Option<&'a Extra>,
        mut result: &'a Array<'a>,
        env: &'a Frame<'a>,
    ) -> R<&'a Array<'a>> {
        let Some(extra) = extra else { return Ok(result) };
        for stage in &extra.stages {
            match stage {
                Stage::Filter(predicate) => {
                    match self.filter(step.at(*predicate), Value::Array(result), env)? {
                        Value::Array(array) => result = array,
                        other => result = self.array(self.arena.alloc_slice(&[other])?, mark::SEQUENCE)?,
                    }
                }
                Stage::Index(name) => {
                    let items = self.items(result)?;
                    let mut out = ArenaVec::with_capacity(self.arena, items.len())?;
                    for (i, item) in items.iter().enumerate() {
                        out.push(match item {
                            Value::Tuple(tuple) => self.with_binding(
                                tuple.item,
                                tuple.bindings.get(),
                                name,
                                Value::number(i as f64),
                            )?,
                            other => *other,
                        })?;
                    }
                    result = self.array(out.finish(), result.marks.get())?;
                }
            }
        }
        Ok(result)
    }

    fn tuple(&self, item: Value<'a>, bindings: &'a [(&'a Name, Value<'a>)]) -> R<Value<'a>> {
        Ok(Value::Tuple(self.arena.alloc(Tuple { item, bindings: Cell::new(bindings) })?))
    }

    fn with_binding(
        &self,
        item: Value<'a>,
        bindings: &'a [(&'a Name, Value<'a>)],
        name: &'a Name,
        value: Value<'a>,
    ) -> R<Value<'a>> {
        let mut out = ArenaVec::with_capacity(self.arena, bindings.len() + 1)?;
        let mut found = false;
        for (old, was) in bindings {
            if old.text == name.text {
                found = true;
                out.push((*old, value))?;
            } else {
                out.push((*old, *was))?;
            }
        }
        if !found {
            out.push((name, value))?;
        }
        self.tuple(item, out.finish())
    }

    /// A frame with a tuple's bindings.
    pub(super) fn frame_of(
        &self,
        env: &'a Frame<'a>,
        bindings: &[(&'a Name, Value<'a>)],
    ) -> R<&'a Frame<'a>> {
        let frame = self.frame(Some(env))?;
        for (name, value) in bindings {
            self.bind(frame, name, *value)?;
        }
        Ok(frame)
    }

    fn tuple_step(
        &self,
        step: NodeRef<'a>,
        input: &'a [Value<'a>],
        tuples: Option<&'a Array<'a>>,
        env: &'a Frame<'a>,
    ) -> R<&'a Array<'a>> {
        let extra = step.node.extra.as_deref();
        let marks = mark::SEQUENCE | mark::TUPLES;
        if let Kind::Sort(terms) = &step.node.kind {
            let sorted = match tuples {
                Some(tuples) => self.array(self.sort_items(step, terms, self.items(tuples)?, env)?, marks)?,
                None => {
                    let sorted = self.sort_items(step, terms, input, env)?;
                    let mut out = ArenaVec::with_capacity(self.arena, sorted.len())?;
                    for (i, item) in sorted.iter().enumerate() {
                        out.push(match extra.and_then(|e| e.index.as_ref()) {
                            Some(name) => self.with_binding(*item, &[], name, Value::number(i as f64))?,
                            None => self.tuple(*item, &[])?,
                        })?;
                    }
                    self.array(out.finish(), marks)?
                }
            };
            return self.stages(step, extra, sorted, env);
        }
        let stream = match tuples {
            Some(tuples) => self.items(tuples)?,
            None => {
                let mut out = ArenaVec::with_capacity(self.arena, input.len())?;
                for item in input {
                    out.push(self.tuple(*item, &[])?)?;
                }
                out.finish()
            }
        };
        let mut out = self.vec();
        for element in stream {
            let (item, bindings) = parts(*element);
            let frame = self.frame_of(env, bindings)?;
            let value = self.eval(step, item, frame)?;
            let (values, are_tuples) = match value {
                Value::Undefined => continue,
                Value::Array(array) => (self.items(array)?, array.has(mark::TUPLES)),
                value => (self.arena.alloc_slice(&[value])?, false),
            };
            for (i, value) in values.iter().enumerate() {
                self.tick(1)?;
                if are_tuples {
                    let (inner, more) = parts(*value);
                    let mut tuple = self.tuple(inner, bindings)?;
                    for (name, value) in more {
                        if let Value::Tuple(t) = tuple {
                            tuple = self.with_binding(t.item, t.bindings.get(), name, *value)?;
                        }
                    }
                    out.push(tuple)?;
                    continue;
                }
                let focus = extra.and_then(|e| e.focus.as_ref());
                let mut all = ArenaVec::with_capacity(self.arena, bindings.len() + 3)?;
                all.extend(bindings)?;
                if let Some(name) = focus {
                    set(&mut all, name, *value)?;
                }
                if let Some(name) = extra.and_then(|e| e.index.as_ref()) {
                    set(&mut all, name, Value::number(i as f64))?;
                }
                if let Some(name) = extra.and_then(|e| e.ancestor_name.as_ref()) {
                    set(&mut all, name, item)?;
                }
                out.push(self.tuple(if focus.is_some() { item } else { *value }, all.finish())?)?;
            }
        }
        let result = self.array(out.finish(), marks)?;
        self.stages(step, extra, result, env)
    }

    /// A predicate: an index, several indices, or a condition.
    #[inline(never)]
    pub(super) fn filter(
        &self,
        predicate: NodeRef<'a>,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let (items, tuples) = match input {
            Value::Array(array) => (self.items(array)?, array.has(mark::TUPLES)),
            Value::Undefined => (&[Value::Undefined][..], false),
            value => (self.arena.alloc_slice(&[value])?, false),
        };
        let marks = if tuples { mark::SEQUENCE | mark::TUPLES } else { mark::SEQUENCE };
        if let Kind::Number(number) = predicate.node.kind
            && predicate.node.extra.is_none()
        {
            return match at_index(number, items.len()).map(|i| items[i]) {
                Some(Value::Array(array)) => Ok(Value::Array(array)),
                Some(Value::Undefined) | None => Ok(Value::Array(self.array(&[], marks)?)),
                Some(item) => Ok(Value::Array(self.array(self.arena.alloc_slice(&[item])?, marks)?)),
            };
        }
        let mut out = self.vec();
        for (i, item) in items.iter().enumerate() {
            let chosen = if tuples {
                let (context, bindings) = parts(*item);
                self.eval(predicate, context, self.frame_of(env, bindings)?)?
            } else {
                self.eval(predicate, *item, env)?
            };
            match chosen {
                Value::Number(number) => {
                    self.finite(number.value)?;
                    if !number.value.is_nan() && at_index(number.value, items.len()) == Some(i) {
                        out.push(*item)?;
                    }
                }
                Value::Array(array) if self.all_numbers(array)? => {
                    for index in self.items(array)? {
                        self.tick(1)?;
                        if let Value::Number(number) = index
                            && at_index(number.value, items.len()) == Some(i)
                        {
                            out.push(*item)?;
                        }
                    }
                }
                value => {
                    if self.truthy(value)? {
                        out.push(*item)?;
                    }
                }
            }
        }
        Ok(Value::Array(self.array(out.finish(), marks)?))
    }

    /// Whether all elements are numbers (so of an empty array too).
    pub(crate) fn all_numbers(&self, array: &'a Array<'a>) -> R<bool> {
        let items = self.items(array)?;
        self.tick(items.len() as u64 / 8)?;
        for item in items {
            match item {
                Value::Number(number) => self.finite(number.value)?,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn set<'a>(
    bindings: &mut ArenaVec<'a, (&'a Name, Value<'a>)>,
    name: &'a Name,
    value: Value<'a>,
) -> Result<(), crate::arena::OutOfBytes> {
    match bindings.as_mut_slice().iter_mut().find(|(old, _)| old.text == name.text) {
        Some(old) => {
            old.1 = value;
            Ok(())
        }
        None => bindings.push((name, value)),
    }
}

/// Item and bindings of an element of a tuple stream.
pub(super) fn parts<'a>(value: Value<'a>) -> (Value<'a>, &'a [(&'a Name, Value<'a>)]) {
    match value {
        Value::Tuple(tuple) => (tuple.item, tuple.bindings.get()),
        other => (other, &[]),
    }
}

fn untupled(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Tuple(tuple) => tuple.item,
        other => other,
    }
}

/// The element that an index means: rounded down, counted from the end if negative.
fn at_index(number: f64, len: usize) -> Option<usize> {
    let index = number.floor();
    let index = if index < 0.0 { index + len as f64 } else { index };
    (index >= 0.0 && index < len as f64).then_some(index as usize)
}
