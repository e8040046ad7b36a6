//! Variables that outlive their line.
//!
//! Invariant: a variable whose value is JSON is that value, whatever happens later. A function can't be
//! held as a value outside of an evaluation, so it is kept as its text, which stands in front of each
//! expression that needs it: it sees variables as they are when it is used.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

/// Variables of one session.
pub(super) const VARIABLES_MAX: usize = 256;
/// What they hold together, in bytes of text: each evaluation reads those that it needs anew.
pub(super) const VARIABLES_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// A JSON text: numbers keep their digits.
    Value(String),
    /// Bound to nothing, which hides a built-in function of that name.
    Undefined,
    /// `$name := function...`, and the variables that it reads.
    Function { text: String, reads: Vec<String> },
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Value(text) | Self::Function { text, .. } => text.len(),
            Self::Undefined => 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Variables {
    kept: BTreeMap<String, Kept>,
}

/// What an expression needs of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needed<'v> {
    /// By name; nothing but values and undefined.
    pub(super) values: Vec<(&'v str, &'v Kept)>,
    /// Names and texts, those first that others read.
    pub(super) functions: Vec<(&'v str, &'v str)>,
}

impl Variables {
    /// # Errors
    /// There are too many, or they would hold too much.
    pub(super) fn keep(&mut self, name: &str, value: Kept) -> Result<()> {
        let others: usize = self.kept.iter().filter(|(n, _)| *n != name).map(|(_, kept)| kept.bytes()).sum();
        ensure!(
            self.kept.contains_key(name) || self.kept.len() < VARIABLES_MAX,
            "${name} isn't kept: there are {VARIABLES_MAX} variables already; `:unset $NAME` makes room"
        );
        ensure!(
            others + value.bytes() <= VARIABLES_BYTES_MAX,
            "${name} isn't kept: variables have at most {VARIABLES_BYTES_MAX} bytes together; `:unset $NAME` makes room"
        );
        self.kept.insert(name.to_owned(), value);
        Ok(())
    }

    /// Whether there was one.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        self.kept.remove(name).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.kept.iter().map(|(name, kept)| (&**name, kept))
    }

    /// What is needed where these names are read. `None`: nobody knows which (`$eval`).
    pub(super) fn needed(&self, names: Option<&[String]>) -> Needed<'_> {
        let mut needed = Needed::default();
        let mut seen = BTreeSet::new();
        match names {
            Some(names) => names.iter().for_each(|name| self.need(name, &mut needed, &mut seen)),
            None => self.kept.keys().for_each(|name| self.need(name, &mut needed, &mut seen)),
        }
        needed
    }

    /// Recursion is as deep as there are variables at most.
    fn need<'v>(&'v self, name: &str, needed: &mut Needed<'v>, seen: &mut BTreeSet<&'v str>) {
        let Some((name, kept)) = self.kept.get_key_value(name) else { return };
        if !seen.insert(name) {
            return;
        }
        match kept {
            Kept::Value(_) | Kept::Undefined => needed.values.push((name, kept)),
            Kept::Function { text, reads } => {
                reads.iter().for_each(|read| self.need(read, needed, seen));
                needed.functions.push((name, text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(text: &str, reads: &[&str]) -> Kept {
        Kept::Function { text: text.into(), reads: reads.iter().map(|r| (*r).to_owned()).collect() }
    }

    #[test]
    fn what_others_read_comes_first_and_cycles_end() {
        let mut variables = Variables::default();
        variables.keep("a", function("a", &["b", "x"])).unwrap();
        variables.keep("b", function("b", &["c", "a"])).unwrap();
        variables.keep("c", function("c", &["c"])).unwrap();
        variables.keep("x", Kept::Value("1".into())).unwrap();
        variables.keep("other", Kept::Undefined).unwrap();
        let needed = variables.needed(Some(&["a".into(), "unknown".into()]));
        assert_eq!(needed.functions, [("c", "c"), ("b", "b"), ("a", "a")]);
        assert_eq!(needed.values, [("x", &Kept::Value("1".into()))]);
        assert_eq!(variables.needed(None).values.len(), 2);
        assert!(variables.forget("a") && !variables.forget("a"));
        assert_eq!(variables.needed(Some(&["a".into()])), Needed::default());
    }

    #[test]
    fn there_is_an_end_of_room() {
        let mut variables = Variables::default();
        for n in 0..VARIABLES_MAX {
            variables.keep(&format!("v{n}"), Kept::Undefined).unwrap();
        }
        let error = variables.keep("more", Kept::Undefined).unwrap_err().to_string();
        assert!(error.contains("$more") && error.contains(":unset"), "{error}");
        // One that is there already takes no more room.
        variables.keep("v7", Kept::Value("x".repeat(VARIABLES_BYTES_MAX))).unwrap();
        variables.keep("v7", Kept::Value("y".repeat(VARIABLES_BYTES_MAX))).unwrap();
        let error = variables.keep("v8", Kept::Value("1".into())).unwrap_err().to_string();
        assert!(error.contains("$v8") && error.contains("bytes"), "{error}");
    }
}
