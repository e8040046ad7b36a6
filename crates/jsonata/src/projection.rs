//! What the scanner notes of an input for a program: the places that the analysis found, as tables.
//!
//! Invariant: a place that is not here has no influence on the result. A place stands for the values that a path
//! of field names leads to, through arrays of any depth; a whole one is noted with all below it. The fields of
//! the others are numbered, so that a step of the program finds its field without comparing names.

use std::collections::HashMap;

use crate::analysis::{self, Reads};
use crate::ast::{Code, Kind, NodeId};

/// The place of a value that is noted with all below it.
pub(crate) const WHOLE: u32 = u32::MAX;

/// Nodes of a program that is looked at so closely; a larger one gets its input whole.
const NODES_MAX: usize = 5_000;
/// Places and names, likewise.
const PLACES_MAX: usize = 1_000;
/// Keys of this length or more are found together.
const KEY_BYTES_MAX: usize = 32;

/// The places that a program looks at.
#[derive(Debug)]
pub(crate) struct Projection {
    /// The first is the input itself; none if it is whole.
    places: Vec<Place>,
    /// By node, the number of the name that it is.
    names: Vec<u16>,
    /// How many names there are.
    names_len: usize,
    /// By place and name, the number of the field among those of its place, from 1; 0 if there is none.
    numbers: Vec<u16>,
}

#[derive(Debug)]
struct Place {
    /// Sorted by the length of their keys.
    fields: Box<[Field]>,
    /// By a key's length, the first of its fields.
    first: [u16; KEY_BYTES_MAX + 2],
}

#[derive(Debug)]
struct Field {
    key: Box<[u8]>,
    place: u32,
}

impl Projection {
    /// All of the input.
    pub(crate) const ALL: &'static Projection = &Projection::all();

    const fn all() -> Self {
        Self { places: Vec::new(), names: Vec::new(), names_len: 0, numbers: Vec::new() }
    }

    /// What a program looks at.
    pub(crate) fn of(code: &Code) -> Self {
        if code.nodes.len() > NODES_MAX {
            return Self::all();
        }
        let Reads::Fields(paths) = analysis::reads(code) else { return Self::all() };
        // A name with a lone surrogate cannot be told apart in a path.
        if paths.iter().flatten().any(|name| name.contains(char::REPLACEMENT_CHARACTER)) {
            return Self::all();
        }
        let mut known = HashMap::new();
        let mut name_of = |text: &[u8]| {
            let next = known.len();
            *known.entry(text.to_vec()).or_insert(next)
        };
        let names: Vec<usize> = code
            .nodes
            .iter()
            .map(|node| match &node.kind {
                Kind::Name(name) => name_of(name),
                _ => 0,
            })
            .collect();
        let mut drafts: Vec<Vec<(&[u8], u32)>> = vec![Vec::new()];
        for path in &paths {
            let mut at = 0;
            for (i, name) in path.iter().enumerate() {
                let name = name.as_bytes();
                let draft = &drafts[at as usize];
                let found = draft.iter().find(|(known, _)| *known == name).map(|(_, place)| *place);
                at = match found {
                    Some(place) => place,
                    None => {
                        let is_last = i + 1 == path.len();
                        let place = if is_last { WHOLE } else { drafts.len() as u32 };
                        drafts[at as usize].push((name, place));
                        if !is_last {
                            drafts.push(Vec::new());
                        }
                        place
                    }
                };
            }
        }
        if drafts.len() > PLACES_MAX || known.len() > PLACES_MAX {
            return Self::all();
        }
        let names_len = known.len().max(1);
        let mut numbers = vec![0; drafts.len() * names_len];
        let mut places = Vec::new();
        for (place, mut draft) in drafts.into_iter().enumerate() {
            draft.sort_by_key(|(key, _)| key.len().min(KEY_BYTES_MAX));
            for (number, (key, _)) in draft.iter().enumerate() {
                if let Some(name) = known.get(*key) {
                    numbers[place * names_len + name] = number as u16 + 1;
                }
            }
            let mut first = [0; KEY_BYTES_MAX + 2];
            for (length, first) in first.iter_mut().enumerate() {
                *first = draft.partition_point(|(key, _)| key.len().min(KEY_BYTES_MAX) < length) as u16;
            }
            let fields = draft.into_iter().map(|(key, place)| Field { key: key.into(), place }).collect();
            places.push(Place { fields, first });
        }
        Self { places, names: names.into_iter().map(|name| name as u16).collect(), names_len, numbers }
    }

    /// The place of the input.
    pub(crate) fn root(&self) -> u32 {
        if self.places.is_empty() { WHOLE } else { 0 }
    }

    /// The place of a field, if the program looks at it, and its number among those of its place, from 1.
    #[inline(always)]
    pub(crate) fn field(&self, place: u32, key: &[u8]) -> Option<(u32, u32)> {
        let place = &self.places[place as usize];
        let length = key.len().min(KEY_BYTES_MAX);
        let (from, to) = (usize::from(place.first[length]), usize::from(place.first[length + 1]));
        let at = place.fields.get(from..to)?.iter().position(|field| same(&field.key, key))? + from;
        Some((place.fields[at].place, at as u32 + 1))
    }

    /// How many fields of a place the program looks at.
    #[inline]
    pub(crate) fn fields(&self, place: u32) -> usize {
        self.places[place as usize].fields.len()
    }

    /// The number of the field that a node of the program names, among those of a place; 0 if none.
    #[inline]
    pub(crate) fn number(&self, place: u32, node: NodeId) -> u32 {
        let name = usize::from(self.names[node as usize]);
        u32::from(self.numbers[place as usize * self.names_len + name])
    }
}

/// Whether two keys are the same. Keys are short: a call costs more than comparing them.
#[inline(always)]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), b.first_chunk::<8>(), a.last_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a8), Some(b8), Some(a_end), Some(b_end)) if a.len() <= 16 => {
            u64::from_ne_bytes(*a8) == u64::from_ne_bytes(*b8)
                && u64::from_ne_bytes(*a_end) == u64::from_ne_bytes(*b_end)
        }
        (Some(_), ..) => a == b,
        _ => match (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>()) {
            (Some(a4), Some(b4), Some(a_end), Some(b_end)) => {
                u32::from_ne_bytes(*a4) == u32::from_ne_bytes(*b4)
                    && u32::from_ne_bytes(*a_end) == u32::from_ne_bytes(*b_end)
            }
            _ => a.iter().zip(b).all(|(a, b)| a == b),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_key_and_by_step() {
        let program =
            crate::Program::compile("{'a': order.id, 'b': order.items.(sku & id), 'c': total}").unwrap();
        let (code, projection) = program.parts();
        assert!(projection.field(0, b"nothing").is_none());
        assert_eq!(projection.field(0, b"total").map(|(place, _)| place), Some(WHOLE));
        let (order, _) = projection.field(0, b"order").unwrap();
        let (items, _) = projection.field(order, b"items").unwrap();
        assert_eq!(projection.fields(items), 2);
        let (_, number) = projection.field(items, b"id").unwrap();
        for (node, kind) in code.nodes.iter().enumerate() {
            match &kind.kind {
                Kind::Name(name) if &**name == b"id" => {
                    assert_eq!(projection.number(items, node as NodeId), number);
                }
                Kind::Name(name) if &**name == b"total" => {
                    assert_eq!(projection.number(items, node as NodeId), 0);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn keys_are_compared_to_the_last_byte() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        for len in 0..=text.len() {
            assert!(same(&text[..len], &text[..len]));
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] = b'X';
                assert!(!same(&text[..len], &other), "{len} {at}");
            }
        }
    }
}
