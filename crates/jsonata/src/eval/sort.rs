//! Sorting is a stable merge sort with a bounded number of comparisons, so that a comparator
//! which contradicts itself gives some order and nothing worse. The comparator says whether its
//! first argument belongs behind its second.

use super::path::parts;
use super::{R, Run};
use crate::arena::ArenaVec;
use crate::ast::{Kind, NodeId, NodeRef};
use crate::error::Raise;
use crate::value::{Frame, Value};
use crate::wtf8;

impl<'a> Run<'a> {
    /// Sorts a copy of `items`.
    pub(crate) fn merge_sort<T: Copy>(
        &self,
        items: &[T],
        mut behind: impl FnMut(T, T) -> R<bool>,
    ) -> R<&'a [T]> {
        let mut from = ArenaVec::with_capacity(self.arena, items.len())?;
        from.extend(items)?;
        let mut to = ArenaVec::with_capacity(self.arena, items.len())?;
        to.extend(items)?;
        self.merge_halves(from.as_mut_slice(), to.as_mut_slice(), &mut behind)?;
        Ok(from.finish())
    }

    /// Sorts `main`; `spare` holds the same values and is used as room.
    fn merge_halves<T: Copy>(
        &self,
        main: &mut [T],
        spare: &mut [T],
        behind: &mut impl FnMut(T, T) -> R<bool>,
    ) -> R<()> {
        let n = main.len();
        if n <= 1 {
            return Ok(());
        }
        let middle = n / 2;
        self.merge_halves(&mut spare[..middle], &mut main[..middle], behind)?;
        self.merge_halves(&mut spare[middle..], &mut main[middle..], behind)?;
        let (mut left, mut right) = (0, middle);
        for slot in main.iter_mut() {
            self.tick(1)?;
            let take_right = left == middle || (right < n && behind(spare[left], spare[right])?);
            if take_right {
                *slot = spare[right];
                right += 1;
            } else {
                *slot = spare[left];
                left += 1;
            }
        }
        Ok(())
    }

    /// The order-by clause of a path.
    pub(super) fn sort_items(
        &self,
        step: NodeRef<'a>,
        terms: &'a [(bool, NodeId)],
        items: &'a [Value<'a>],
        env: &'a Frame<'a>,
    ) -> R<&'a [Value<'a>]> {
        if items.len() <= 1 {
            return Ok(items);
        }
        let mut keys = Keys::new(self, step, terms, items, env)?;
        let mut order = ArenaVec::with_capacity(self.arena, items.len())?;
        for index in 0..items.len() {
            order.push(index)?;
        }
        let order = self.merge_sort(order.as_slice(), |a, b| {
            for (i, (descending, _)) in terms.iter().enumerate() {
                let left = keys.get(i, a)?;
                let right = keys.get(i, b)?;
                let behind = match (left, right) {
                    (Value::Undefined, Value::Undefined) => continue,
                    // What lacks the key stays behind in either direction.
                    (Value::Undefined, _) => return Ok(true),
                    (_, Value::Undefined) => return Ok(false),
                    (Value::Number(a), Value::Number(b)) => {
                        if a.value == b.value {
                            continue;
                        }
                        // What is not less counts as greater, NaN too.
                        !matches!(a.value.partial_cmp(&b.value), Some(std::cmp::Ordering::Less))
                    }
                    (Value::String(a), Value::String(b)) => match wtf8::compare(a, b) {
                        std::cmp::Ordering::Equal => continue,
                        order => order == std::cmp::Ordering::Greater,
                    },
                    (Value::Number(_) | Value::String(_), Value::Number(_) | Value::String(_)) => {
                        let raise = Raise::new("T2007").at(step.node.span);
                        return Err(raise.value(self.show(left)).value2(self.show(right)).into());
                    }
                    _ => {
                        let at_fault =
                            if matches!(left, Value::Number(_) | Value::String(_)) { right } else { left };
                        return Err(Raise::new("T2008").at(step.node.span).value(self.show(at_fault)).into());
                    }
                };
                return Ok(behind != *descending);
            }
            Ok(false)
        })?;
        let mut sorted = ArenaVec::with_capacity(self.arena, items.len())?;
        for &index in order {
            sorted.push(items[index])?;
        }
        Ok(sorted.finish())
    }

    fn sort_key(&self, term: NodeRef<'a>, item: Value<'a>, env: &'a Frame<'a>) -> R<Value<'a>> {
        match item {
            Value::Tuple(_) => {
                let (context, bindings) = parts(item);
                self.eval(term, context, self.frame_of(env, bindings)?)
            }
            _ => self.eval(term, item, env),
        }
    }
}

/// What items are ordered by. A comparison asks for a key when it needs it, as jsonata-js does, so that errors come in its
/// order; one that can only be the same again is kept, for there are more comparisons than items.
struct Keys<'r, 'a> {
    run: &'r Run<'a>,
    step: NodeRef<'a>,
    terms: &'a [(bool, NodeId)],
    items: &'a [Value<'a>],
    env: &'a Frame<'a>,
    /// By item, then by term.
    known: ArenaVec<'a, Option<Value<'a>>>,
}

impl<'r, 'a> Keys<'r, 'a> {
    fn new(
        run: &'r Run<'a>,
        step: NodeRef<'a>,
        terms: &'a [(bool, NodeId)],
        items: &'a [Value<'a>],
        env: &'a Frame<'a>,
    ) -> R<Self> {
        let all = items.len().saturating_mul(terms.len());
        let mut known = ArenaVec::with_capacity(run.arena, all)?;
        for _ in 0..all {
            known.push(None)?;
        }
        Ok(Self { run, step, terms, items, env, known })
    }

    fn get(&mut self, term: usize, item: usize) -> R<Value<'a>> {
        let place = item * self.terms.len() + term;
        if let Some(key) = self.known.as_slice()[place] {
            return Ok(key);
        }
        let node = self.step.at(self.terms[term].1);
        let key = self.run.sort_key(node, self.items[item], self.env)?;
        if only_names(node) {
            self.known.as_mut_slice()[place] = Some(key);
        }
        Ok(key)
    }
}

/// Whether a term can't give anything else the next time, whatever functions of the host and variables do.
fn only_names(term: NodeRef<'_>) -> bool {
    match &term.node.kind {
        Kind::Name(_) => term.node.extra.is_none(),
        Kind::Path { steps, names, .. } => *names == steps.len() && term.node.extra.is_none(),
        _ => false,
    }
}
