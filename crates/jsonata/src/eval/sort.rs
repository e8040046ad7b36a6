//! Sorting is a stable merge sort with a bounded number of comparisons, so that a comparator
//! which contradicts itself gives some order and nothing worse. The comparator says whether its
//! first argument belongs behind its second.

use super::path::parts;
use super::{R, Run};
use crate::arena::ArenaVec;
use crate::ast::{NodeId, NodeRef};
use crate::error::Raise;
use crate::value::{Frame, Value};
use crate::wtf8;

impl<'a> Run<'a> {
    /// Sorts a copy of `items`.
    pub(crate) fn merge_sort(
        &self,
        items: &[Value<'a>],
        mut behind: impl FnMut(Value<'a>, Value<'a>) -> R<bool>,
    ) -> R<&'a [Value<'a>]> {
        let mut from = ArenaVec::with_capacity(self.arena, items.len())?;
        from.extend(items)?;
        let mut to = ArenaVec::with_capacity(self.arena, items.len())?;
        to.extend(items)?;
        self.merge_halves(from.as_mut_slice(), to.as_mut_slice(), &mut behind)?;
        Ok(from.finish())
    }

    /// Sorts `main`; `spare` holds the same values and is used as room.
    fn merge_halves(
        &self,
        main: &mut [Value<'a>],
        spare: &mut [Value<'a>],
        behind: &mut impl FnMut(Value<'a>, Value<'a>) -> R<bool>,
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
        self.merge_sort(items, |a, b| {
            for (descending, term) in terms {
                let left = self.sort_key(step.at(*term), a, env)?;
                let right = self.sort_key(step.at(*term), b, env)?;
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
        })
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
