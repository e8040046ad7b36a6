//! Looking into values. Containers of the input are built from the tape one level at a time;
//! an object that is only looked up a few times is never built.

use std::cell::Cell;

use super::{BINDINGS_BASE, R, Run};
use crate::arena::ArenaVec;
use crate::ast::{NodeId, hash};
use crate::json::decode::{parse_number, unescape};
use crate::json::scan::{Item, ItemKind, NO_SLOTS};
use crate::projection::same;
use crate::value::{Array, Content, Entry, Number, Object, Value, mark};

/// Look-ups on the tape before the entries of an object with many are built.
const TAPE_LOOKUPS_MAX: u8 = 3;
/// Objects with more entries are looked up through an index.
const LINEAR_ENTRIES_MAX: usize = 16;
/// In place of the node of a name that no step of the program names.
pub(crate) const NO_STEP: NodeId = NodeId::MAX;
/// A free place of an index.
const FREE: u32 = u32::MAX;

/// Whether JavaScript takes a key for an array index and moves it before other keys.
fn index_key(key: &[u8]) -> Option<u32> {
    match key {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if key.len() <= 10 => {
            let mut n = 0u64;
            for b in key {
                if !b.is_ascii_digit() {
                    return None;
                }
                n = n * 10 + u64::from(b - b'0');
            }
            u32::try_from(n).ok().filter(|n| *n != u32::MAX)
        }
        _ => None,
    }
}

/// Entries in JavaScript's order: array indices ascending, then the others as they came.
pub(super) fn in_key_order<'a>(mut entries: ArenaVec<'a, Entry<'a>>) -> &'a [Entry<'a>] {
    let first_is_digit = |e: &Entry<'_>| e.key.first().is_some_and(u8::is_ascii_digit);
    if entries.as_slice().iter().any(|e| first_is_digit(e) && index_key(e.key).is_some()) {
        entries.as_mut_slice().sort_by_key(|e| index_key(e.key).map_or(u64::MAX, u64::from));
    }
    entries.finish()
}

impl<'a> Run<'a> {
    /// The bytes between two addresses.
    #[inline]
    pub(crate) fn source(&self, start: u32, end: u32) -> &'a [u8] {
        if start >= BINDINGS_BASE {
            &self.bindings[(start - BINDINGS_BASE) as usize..(end - BINDINGS_BASE) as usize]
        } else {
            &self.input[start as usize..end as usize]
        }
    }

    /// The text of a number that was copied, by its [`Number::source`].
    pub(crate) fn number_text(&self, source: u64) -> &'a [u8] {
        self.source(source as u32, (source >> 32) as u32)
    }

    fn text(&self, item: &Item) -> R<&'a [u8]> {
        let raw = self.source(item.start, item.end);
        if item.kind == ItemKind::Plain {
            return Ok(raw);
        }
        // Made beside the arena first.
        self.arena.charge(raw.len())?;
        let mut text = Vec::with_capacity(raw.len());
        unescape(raw, &mut text);
        Ok(self.arena.alloc_slice(&text)?)
    }

    #[inline]
    pub(super) fn is_array_at(&self, index: u32) -> bool {
        self.tape[index as usize].kind == ItemKind::Array
    }

    /// The number at a place of the tape, if it is one.
    #[inline]
    pub(super) fn number_at(&self, index: u32) -> Option<f64> {
        let item = &self.tape[index as usize];
        (item.kind == ItemKind::Number).then(|| parse_number(self.source(item.start, item.end)))
    }

    /// Makes the value at a place of the tape; of a container only its head.
    pub(crate) fn value_at(&self, index: u32) -> R<Value<'a>> {
        let item = &self.tape[index as usize];
        Ok(match item.kind {
            ItemKind::Null => Value::Null,
            ItemKind::True => Value::Bool(true),
            ItemKind::False => Value::Bool(false),
            ItemKind::Number => Value::Number(Number {
                value: parse_number(self.source(item.start, item.end)),
                source: u64::from(item.start) | u64::from(item.end) << 32,
            }),
            ItemKind::Plain | ItemKind::Escaped => Value::String(self.text(item)?),
            ItemKind::Array => {
                let head = &self.arrays[item.end as usize];
                Value::Array(match head.get() {
                    Some(array) => array,
                    None => {
                        let content = Cell::new(Content::Tape(index));
                        let array = self.arena.alloc(Array { content, marks: Cell::new(0) })?;
                        head.set(Some(array));
                        array
                    }
                })
            }
            ItemKind::Object => {
                let head = &self.objects[item.end as usize];
                Value::Object(match head.get() {
                    Some(object) => object,
                    None => {
                        let object = self.arena.alloc(Object {
                            content: Cell::new(Content::Tape(index)),
                            looked: Cell::new(0),
                            has_plain_keys: false,
                            index: Cell::new(None),
                        })?;
                        head.set(Some(object));
                        object
                    }
                })
            }
        })
    }

    /// The elements of an array.
    #[inline]
    pub(crate) fn items(&self, array: &'a Array<'a>) -> R<&'a [Value<'a>]> {
        match array.content.get() {
            Content::Built(items) => Ok(items),
            Content::Tape(index) => self.build_items(array, index),
            Content::Range(from, len) => {
                self.tick(u64::from(len))?;
                let mut out = ArenaVec::with_capacity(self.arena, len as usize)?;
                for i in 0..len {
                    out.push(Value::number(from + f64::from(i)))?;
                }
                let items = out.finish();
                array.content.set(Content::Built(items));
                Ok(items)
            }
        }
    }

    /// The number of elements, without building them.
    #[inline]
    pub(crate) fn len(&self, array: &'a Array<'a>) -> usize {
        match array.content.get() {
            Content::Built(items) => items.len(),
            Content::Tape(index) => self.tape[index as usize].count as usize,
            Content::Range(_, len) => len as usize,
        }
    }

    fn build_items(&self, array: &'a Array<'a>, index: u32) -> R<&'a [Value<'a>]> {
        let item = &self.tape[index as usize];
        self.tick(u64::from(item.count))?;
        let mut out = ArenaVec::with_capacity(self.arena, item.count as usize)?;
        let mut at = index + 1;
        while at < item.next {
            out.push(self.value_at(at)?)?;
            at = self.tape[at as usize].next;
        }
        let items = out.finish();
        array.content.set(Content::Built(items));
        Ok(items)
    }

    /// The entries of an object: distinct keys, in JavaScript's order.
    pub(crate) fn entries(&self, object: &'a Object<'a>) -> R<&'a [Entry<'a>]> {
        match object.content.get() {
            Content::Built(entries) => Ok(entries),
            Content::Tape(index) => self.build_entries(object, index),
            Content::Range(..) => Ok(&[]),
        }
    }

    fn build_entries(&self, object: &'a Object<'a>, index: u32) -> R<&'a [Entry<'a>]> {
        let item = &self.tape[index as usize];
        self.tick(u64::from(item.count))?;
        let mut out = ArenaVec::with_capacity(self.arena, item.count as usize)?;
        let mut at = index + 1;
        while at < item.next {
            let key = self.text(&self.tape[at as usize])?;
            let value = self.value_at(at + 1)?;
            out.push(Entry { key, value })?;
            at = self.tape[at as usize + 1].next;
        }
        let entries = in_key_order(self.without_duplicates(out)?);
        object.content.set(Content::Built(entries));
        Ok(entries)
    }

    /// Of entries with the same key the last value stays, in the place of the first.
    fn without_duplicates(&self, mut entries: ArenaVec<'a, Entry<'a>>) -> R<ArenaVec<'a, Entry<'a>>> {
        let n = entries.len();
        let mut kept = 0;
        if n <= LINEAR_ENTRIES_MAX {
            let slice = entries.as_mut_slice();
            for i in 0..n {
                let entry = slice[i];
                match slice[..kept].iter_mut().find(|e| e.key == entry.key) {
                    Some(first) => first.value = entry.value,
                    None => {
                        slice[kept] = entry;
                        kept += 1;
                    }
                }
            }
        } else {
            let slots = (n * 2).next_power_of_two();
            let mut table = ArenaVec::with_capacity(self.arena, slots)?;
            for _ in 0..slots {
                table.push(FREE)?;
            }
            let table = table.as_mut_slice();
            let slice = entries.as_mut_slice();
            for i in 0..n {
                let entry = slice[i];
                let mut at = hash(entry.key) as usize & (slots - 1);
                loop {
                    match table[at] {
                        FREE => {
                            table[at] = kept as u32;
                            slice[kept] = entry;
                            kept += 1;
                            break;
                        }
                        found if slice[found as usize].key == entry.key => {
                            slice[found as usize].value = entry.value;
                            break;
                        }
                        _ => at = (at + 1) & (slots - 1),
                    }
                    self.tick(1)?;
                }
            }
        }
        entries.truncate(kept);
        Ok(entries)
    }

    /// The value of the key that a step of the program names, or undefined.
    #[inline]
    pub(super) fn get_step(&self, object: &'a Object<'a>, step: NodeId, key: &[u8]) -> R<Value<'a>> {
        if step != NO_STEP
            && let Content::Tape(index) = object.content.get()
            && let Some(value) = self.slot(index, step)
        {
            return if value == 0 { Ok(Value::Undefined) } else { self.value_at(value) };
        }
        self.get(object, key)
    }

    /// The index of the field that a step of the program names, 0 if the object hasn't got it; `None` if there are no
    /// slots for fields, or it is no object.
    #[inline]
    pub(super) fn slot(&self, index: u32, step: NodeId) -> Option<u32> {
        let item = &self.tape[index as usize];
        if item.kind != ItemKind::Object || item.start == NO_SLOTS {
            return None;
        }
        let number = self.projection.number(u32::from(item.place), step);
        Some(if number == 0 { 0 } else { self.slots[(item.start + number) as usize - 1] })
    }

    /// The value of a key, or undefined.
    pub(crate) fn get(&self, object: &'a Object<'a>, key: &[u8]) -> R<Value<'a>> {
        let entries = match object.content.get() {
            Content::Built(entries) => entries,
            Content::Tape(index) => {
                if self.tape[index as usize].count as usize <= LINEAR_ENTRIES_MAX {
                    return self.get_on_tape(index, key);
                }
                if object.looked.get() < TAPE_LOOKUPS_MAX {
                    object.looked.set(object.looked.get() + 1);
                    return self.get_on_tape(index, key);
                }
                self.build_entries(object, index)?
            }
            Content::Range(..) => &[],
        };
        if entries.len() <= LINEAR_ENTRIES_MAX {
            return Ok(entries.iter().find(|e| e.key == key).map_or(Value::Undefined, |e| e.value));
        }
        let table = match object.index.get() {
            Some(table) => table,
            None => self.build_index(object, entries)?,
        };
        let mut at = hash(key) as usize & (table.len() - 1);
        loop {
            match table[at] {
                FREE => return Ok(Value::Undefined),
                found if entries[found as usize].key == key => return Ok(entries[found as usize].value),
                _ => at = (at + 1) & (table.len() - 1),
            }
            self.tick(1)?;
        }
    }

    fn build_index(&self, object: &'a Object<'a>, entries: &[Entry<'a>]) -> R<&'a [u32]> {
        self.tick(entries.len() as u64)?;
        let slots = (entries.len() * 2).next_power_of_two();
        let mut table = ArenaVec::with_capacity(self.arena, slots)?;
        for _ in 0..slots {
            table.push(FREE)?;
        }
        for (i, entry) in entries.iter().enumerate() {
            let mut at = hash(entry.key) as usize & (slots - 1);
            while table.as_slice()[at] != FREE {
                at = (at + 1) & (slots - 1);
                self.tick(1)?;
            }
            table.as_mut_slice()[at] = i as u32;
        }
        let table = table.finish();
        object.index.set(Some(table));
        Ok(table)
    }

    fn get_on_tape(&self, index: u32, key: &[u8]) -> R<Value<'a>> {
        let item = &self.tape[index as usize];
        if item.count > 8 {
            self.tick(u64::from(item.count / 8))?;
        }
        let mut at = index as usize + 1;
        let mut found = None;
        // Of several entries with the key the last counts.
        for _ in 0..item.count {
            let [name, value, ..] = &self.tape[at..] else { break };
            let is_it = if name.kind == ItemKind::Plain {
                (name.end - name.start) as usize == key.len() && same(self.source(name.start, name.end), key)
            } else {
                self.text(name)? == key
            };
            if is_it {
                found = Some(at as u32 + 1);
            }
            at = value.next as usize;
        }
        found.map_or(Ok(Value::Undefined), |at| self.value_at(at))
    }

    /// `input.name`, mapped over arrays; `step` is the node of the name, or [`NO_STEP`].
    pub(crate) fn field(&self, input: Value<'a>, step: NodeId, name: &[u8]) -> R<Value<'a>> {
        match input {
            Value::Object(object) => self.get_step(object, step, name),
            Value::Array(array) => {
                let mut out = self.vec();
                self.field_of_items(array, step, name, &mut out)?;
                self.sequence(out.finish())
            }
            _ => Ok(Value::Undefined),
        }
    }

    fn field_of_items(
        &self,
        array: &'a Array<'a>,
        step: NodeId,
        name: &[u8],
        out: &mut ArenaVec<'a, Value<'a>>,
    ) -> R<()> {
        for item in self.items(array)? {
            self.tick(1)?;
            match item {
                Value::Object(object) => match self.get_step(object, step, name)? {
                    Value::Undefined => {}
                    Value::Array(values) => out.extend(self.items(values)?)?,
                    value => out.push(value)?,
                },
                Value::Array(inner) => self.deeper(|| self.field_of_items(inner, step, name, out))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `*`: all values of an object; arrays in it flattened.
    pub(super) fn wildcard(&self, input: Value<'a>) -> R<Value<'a>> {
        let mut out = self.vec();
        let mut plain = false;
        let mut each = |run: &Self, value: Value<'a>| -> R<()> {
            run.tick(1)?;
            match value {
                Value::Array(_) => {
                    plain = true;
                    run.flatten(value, &mut out)
                }
                value => Ok(out.push(value)?),
            }
        };
        match input {
            Value::Array(array) => {
                let items = self.items(array)?;
                if array.has(mark::OUTER)
                    && let Some(Value::Array(inner)) = items.first()
                {
                    for value in self.items(inner)? {
                        each(self, *value)?;
                    }
                } else if array.has(mark::OUTER)
                    && let Some(Value::Object(object)) = items.first()
                {
                    for entry in self.entries(object)? {
                        each(self, entry.value)?;
                    }
                } else {
                    for value in items {
                        each(self, *value)?;
                    }
                }
            }
            Value::Object(object) => {
                for entry in self.entries(object)? {
                    each(self, entry.value)?;
                }
            }
            _ => {}
        }
        // Appending an array makes a plain array of what was a sequence, as in jsonata-js.
        let marks = if plain { 0 } else { mark::SEQUENCE };
        Ok(Value::Array(self.array(out.finish(), marks)?))
    }

    fn flatten(&self, value: Value<'a>, out: &mut ArenaVec<'a, Value<'a>>) -> R<()> {
        self.tick(1)?;
        match value {
            Value::Array(array) => {
                for item in self.items(array)? {
                    self.deeper(|| self.flatten(*item, out))?;
                }
                Ok(())
            }
            value => Ok(out.push(value)?),
        }
    }

    /// `**`: a value and all below it.
    pub(super) fn descendants(&self, input: Value<'a>) -> R<Value<'a>> {
        if input.is_undefined() {
            return Ok(input);
        }
        let mut out = self.vec();
        self.collect_descendants(input, &mut out)?;
        match out.as_slice() {
            [one] => Ok(*one),
            _ => self.sequence(out.finish()),
        }
    }

    fn collect_descendants(&self, value: Value<'a>, out: &mut ArenaVec<'a, Value<'a>>) -> R<()> {
        self.tick(1)?;
        match value {
            Value::Array(array) => {
                for item in self.items(array)? {
                    self.deeper(|| self.collect_descendants(*item, out))?;
                }
            }
            Value::Object(object) => {
                out.push(value)?;
                for entry in self.entries(object)? {
                    self.deeper(|| self.collect_descendants(entry.value, out))?;
                }
            }
            value => out.push(value)?,
        }
        Ok(())
    }
}
