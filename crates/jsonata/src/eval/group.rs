//! Object constructors and group-by: the two are one thing, over one item or many. Each pair's
//! key is evaluated for each item; items with the same key are collected, and the pair's value
//! is evaluated over them.

use std::collections::HashMap;

use super::path::parts;
use super::{R, Run};
use crate::arena::ArenaVec;
use crate::ast::{Group, Kind, Name, NodeRef};
use crate::error::Raise;
use crate::value::{Entry, Frame, Value, mark};

/// Groups beyond this number are found through a hash table.
const LINEAR_GROUPS_MAX: usize = 16;

/// Keys that jsonata-js marks its functions with; no object may have them.
pub(crate) fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(b"_jsonata_") && (key == b"_jsonata_lambda" || key == b"_jsonata_function")
}

struct Collected<'a> {
    key: &'a [u8],
    pair: usize,
    first: Value<'a>,
    /// All items, once there are several.
    all: Option<ArenaVec<'a, Value<'a>>>,
}

impl<'a> Run<'a> {
    #[inline(never)]
    pub(super) fn group(
        &self,
        node: NodeRef<'a>,
        group: &'a Group,
        input: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        let (items, tuples) = match input {
            Value::Array(array) => {
                let items = self.items(array)?;
                let tuples = array.has(mark::TUPLES);
                if items.is_empty() && !tuples { (&[Value::Undefined][..], false) } else { (items, tuples) }
            }
            value => return self.single(node, group, value, env),
        };
        if let ([one], false) = (items, tuples) {
            return self.single(node, group, *one, env);
        }
        let mut groups: Vec<Collected<'a>> = Vec::new();
        let mut index: HashMap<&'a [u8], usize> = HashMap::new();
        for item in items {
            let (context, item_env) = if tuples {
                let (context, bindings) = parts(*item);
                (context, self.frame_of(env, bindings)?)
            } else {
                (*item, env)
            };
            for (pair, (key, _)) in group.pairs.iter().enumerate() {
                let Some(key) = self.key(node, group, *key, context, item_env)? else { continue };
                let known = if groups.len() <= LINEAR_GROUPS_MAX {
                    groups.iter().position(|g| g.key == key)
                } else {
                    if index.is_empty() {
                        index = groups.iter().enumerate().map(|(i, g)| (g.key, i)).collect();
                    }
                    index.get(key).copied()
                };
                let Some(known) = known else {
                    self.arena.charge(std::mem::size_of::<Collected<'_>>() + 32)?;
                    if !index.is_empty() {
                        index.insert(key, groups.len());
                    }
                    groups.push(Collected { key, pair, first: *item, all: None });
                    continue;
                };
                let known = &mut groups[known];
                if known.pair != pair {
                    return Err(self.twice(group, key));
                }
                self.collect(known, *item)?;
            }
        }
        let mut out = ArenaVec::with_capacity(self.arena, groups.len())?;
        for collected in groups {
            let (_, value) = group.pairs[collected.pair];
            let data = match collected.all {
                Some(all) => self.plain(all.finish())?,
                None => collected.first,
            };
            let (context, env) = if tuples { self.merged(data, env)? } else { (data, env) };
            let value = self.eval(node.at(value), context, env)?;
            if !value.is_undefined() {
                out.push(Entry { key: collected.key, value })?;
            }
        }
        self.object(out)
    }

    /// The common case: one item, so every key makes an entry of its own.
    fn single(
        &self,
        node: NodeRef<'a>,
        group: &'a Group,
        item: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Value<'a>> {
        if group.is_plain {
            let mut out = ArenaVec::with_capacity(self.arena, group.pairs.len())?;
            for (key, value) in &group.pairs {
                self.tick(1)?;
                let value = self.eval(node.at(*value), item, env)?;
                if let (Kind::String(key), false) = (&node.at(*key).node.kind, value.is_undefined()) {
                    out.push(Entry { key, value })?;
                }
            }
            return self.object_with(out, group.writes_plain);
        }
        let mut keys = ArenaVec::with_capacity(self.arena, group.pairs.len())?;
        for (key, value) in &group.pairs {
            let Some(key) = self.key(node, group, *key, item, env)? else { continue };
            keys.push((key, *value))?;
        }
        let keys = keys.as_slice();
        if keys.len() <= LINEAR_GROUPS_MAX * 4 {
            for (i, (key, _)) in keys.iter().enumerate() {
                if keys[..i].iter().any(|(k, _)| k == key) {
                    return Err(self.twice(group, key));
                }
            }
        } else {
            let mut seen = std::collections::HashSet::new();
            if let Some((key, _)) = keys.iter().find(|(key, _)| !seen.insert(*key)) {
                return Err(self.twice(group, key));
            }
        }
        let mut out = ArenaVec::with_capacity(self.arena, keys.len())?;
        for (key, value) in keys {
            let value = self.eval(node.at(*value), item, env)?;
            if !value.is_undefined() {
                out.push(Entry { key, value })?;
            }
        }
        self.object(out)
    }

    fn twice(&self, group: &Group, key: &[u8]) -> super::Fail {
        Raise::new("D1009").at(group.span).value(self.show_text(key)).into()
    }

    fn key(
        &self,
        node: NodeRef<'a>,
        group: &'a Group,
        key: u32,
        context: Value<'a>,
        env: &'a Frame<'a>,
    ) -> R<Option<&'a [u8]>> {
        let key = node.at(key);
        let text = match &key.node.kind {
            Kind::String(text) if key.node.extra.is_none() => {
                self.tick(1)?;
                text
            }
            _ => match self.eval(key, context, env)? {
                Value::String(text) => text,
                Value::Undefined => return Ok(None),
                other => {
                    return Err(Raise::new("T1003").at(group.span).value(self.show(other)).into());
                }
            },
        };
        if is_reserved(text) {
            return Err(Raise::new("D1013").at(group.span).value(self.show_text(text)).into());
        }
        Ok(Some(text))
    }

    /// Appends an item to a group, as `$append` does.
    fn collect(&self, group: &mut Collected<'a>, item: Value<'a>) -> R<()> {
        if item.is_undefined() {
            return Ok(());
        }
        let all = match &mut group.all {
            Some(all) => all,
            None => {
                let mut all = self.vec();
                match group.first {
                    Value::Undefined => {
                        group.first = item;
                        return Ok(());
                    }
                    Value::Array(array) => all.extend(self.items(array)?)?,
                    value => all.push(value)?,
                }
                group.all.insert(all)
            }
        };
        match item {
            Value::Array(array) => all.extend(self.items(array)?)?,
            value => all.push(value)?,
        }
        Ok(())
    }

    /// Tuples of one group as one: items and bindings appended.
    fn merged(&self, data: Value<'a>, env: &'a Frame<'a>) -> R<(Value<'a>, &'a Frame<'a>)> {
        let tuples = match data {
            Value::Array(array) => self.items(array)?,
            one => {
                let (item, bindings) = parts(one);
                return Ok((item, self.frame_of(env, bindings)?));
            }
        };
        let mut item = Value::Undefined;
        let mut bindings: Vec<(&'a Name, Value<'a>)> = Vec::new();
        for (i, tuple) in tuples.iter().enumerate() {
            let (value, more) = parts(*tuple);
            item = if i == 0 { value } else { self.append(item, value)? };
            for (name, value) in more {
                match bindings.iter_mut().find(|(known, _)| known.text == name.text) {
                    Some(known) => known.1 = self.append(known.1, *value)?,
                    None => bindings.push((name, *value)),
                }
            }
        }
        Ok((item, self.frame_of(env, &bindings)?))
    }

    /// `$append`.
    pub(crate) fn append(&self, a: Value<'a>, b: Value<'a>) -> R<Value<'a>> {
        if a.is_undefined() {
            return Ok(b);
        }
        if b.is_undefined() {
            return Ok(a);
        }
        let mut out = self.vec();
        for value in [a, b] {
            match value {
                Value::Array(array) => {
                    let items = self.items(array)?;
                    self.tick(items.len() as u64 / 8)?;
                    out.extend(items)?;
                }
                value => out.push(value)?,
            }
        }
        self.plain(out.finish())
    }
}
