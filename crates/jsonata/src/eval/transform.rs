//! The transform operator changes a copy: the copy is built whole, so that what the pattern
//! finds in it are the objects of the copy itself.

use std::cell::Cell;

use super::{R, Run, access};
use crate::arena::ArenaVec;
use crate::ast::{Kind, NodeRef};
use crate::error::Raise;
use crate::value::{Content, Entry, Frame, Object, Value};

impl<'a> Run<'a> {
    /// A deep copy, every level built. Functions become empty strings, as `$string` has them.
    pub(crate) fn deep_copy(&self, value: Value<'a>) -> R<Value<'a>> {
        self.tick(1)?;
        match value {
            Value::Array(array) => {
                let items = self.items(array)?;
                let items = match items {
                    [one] if array.has(crate::value::mark::OUTER) => return self.deep_copy(*one),
                    items => items,
                };
                let mut out = ArenaVec::with_capacity(self.arena, items.len())?;
                for item in items {
                    let item = self.deeper(|| self.deep_copy(*item))?;
                    out.push(if item.is_undefined() { Value::Null } else { item })?;
                }
                self.plain(out.finish())
            }
            Value::Object(object) => {
                let entries = self.entries(object)?;
                let mut out = ArenaVec::with_capacity(self.arena, entries.len())?;
                for entry in entries {
                    let value = self.deeper(|| self.deep_copy(entry.value))?;
                    out.push(Entry { key: entry.key, value })?;
                }
                self.object(out)
            }
            Value::Function(_) => Ok(Value::String(b"")),
            Value::Number(n) if !n.value.is_finite() => {
                self.finite(n.value)?;
                Ok(Value::Null)
            }
            other => Ok(other),
        }
    }

    pub(super) fn transform(&self, node: NodeRef<'a>, input: Value<'a>, env: &'a Frame<'a>) -> R<Value<'a>> {
        let Kind::Transform { pattern, update, delete } = &node.node.kind else {
            return Ok(Value::Undefined);
        };
        if input.is_undefined() {
            return Ok(input);
        }
        let clone = self.lookup(env, &crate::ast::Name::new(b"clone"))?;
        if !clone.is_function() {
            return Err(Raise::new("T2013").at(node.node.span).into());
        }
        let copy = self.apply(clone, &[input], Value::Null, env)?;
        let matches = self.eval(node.at(*pattern), copy, env)?;
        let matches = match matches {
            Value::Undefined => return Ok(copy),
            Value::Array(array) => self.items(array)?,
            one => self.arena.alloc_slice(&[one])?,
        };
        for found in matches {
            self.tick(1)?;
            let clause = node.at(*update);
            match self.eval(clause, *found, env)? {
                Value::Undefined => {}
                Value::Object(changes) => {
                    if let Value::Object(target) = found {
                        self.merge_into(target, self.entries(changes)?)?;
                    }
                }
                other => {
                    return Err(Raise::new("T2011").at(clause.node.span).value(self.show(other)).into());
                }
            }
            let Some(delete) = delete else { continue };
            let clause = node.at(*delete);
            let names = self.eval(clause, *found, env)?;
            let list = match names {
                Value::Undefined => continue,
                Value::Array(array) => self.items(array)?,
                one => self.arena.alloc_slice(&[one])?,
            };
            if !list.iter().all(|name| matches!(name, Value::String(_))) {
                return Err(Raise::new("T2012").at(clause.node.span).value(self.show(names)).into());
            }
            if let Value::Object(target) = found {
                self.remove_from(target, list)?;
            }
        }
        Ok(copy)
    }

    fn set_entries(&self, object: &'a Object<'a>, entries: &'a [Entry<'a>]) {
        object.content.set(Content::Built(entries));
        object.index.set(None);
    }

    fn merge_into(&self, target: &'a Object<'a>, changes: &[Entry<'a>]) -> R<()> {
        let old = self.entries(target)?;
        let mut out = ArenaVec::with_capacity(self.arena, old.len() + changes.len())?;
        out.extend(old)?;
        for change in changes {
            self.tick(1 + out.len() as u64 / 16)?;
            match out.as_mut_slice().iter_mut().find(|e| e.key == change.key) {
                Some(entry) => entry.value = change.value,
                None => out.push(*change)?,
            }
        }
        self.set_entries(target, access::in_key_order(out));
        Ok(())
    }

    fn remove_from(&self, target: &'a Object<'a>, names: &[Value<'a>]) -> R<()> {
        let old = self.entries(target)?;
        self.tick(1 + (old.len() as u64 * names.len() as u64) / 16)?;
        let mut out = ArenaVec::with_capacity(self.arena, old.len())?;
        for entry in old {
            let gone = names.iter().any(|name| matches!(name, Value::String(name) if *name == entry.key));
            if !gone {
                out.push(*entry)?;
            }
        }
        self.set_entries(target, out.finish());
        Ok(())
    }

    /// An object whose entries are given and distinct.
    pub(crate) fn object_of(&self, entries: &'a [Entry<'a>]) -> R<Value<'a>> {
        Ok(Value::Object(self.arena.alloc(Object {
            content: Cell::new(Content::Built(entries)),
            looked: Cell::new(0),
            has_plain_keys: false,
            index: Cell::new(None),
        })?))
    }
}
