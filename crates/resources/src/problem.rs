//! What is wrong with a manifest: all of it at once, each with its place.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the manifest; empty: the whole of it.
    pub pointer: String,
    /// Stable, for programs: `unknown_field`, `missing_field`, `wrong_type`, `invalid_value`, `conflict`, ...
    pub code: String,
    /// For people: the rule, the value where it is no secret, the way out.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

/// Collected problems, at most [`Problems::MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// More than these are not collected: nobody reads them, and a hostile manifest could make millions.
    pub const MAX: usize = 100;

    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn add(&mut self, pointer: impl Into<String>, code: &str, message: impl Into<String>) {
        if self.list.len() < Self::MAX {
            self.list.push(Problem { pointer: pointer.into(), code: code.into(), message: message.into() });
        }
    }

    /// A value that breaks a rule.
    pub fn invalid(&mut self, pointer: impl Into<String>, message: impl fmt::Display) {
        self.add(pointer, "invalid_value", message.to_string());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// `value` if there are none, else all of them.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            Some(_) => Err(self),
            None if self.list.is_empty() => {
                let mut problems = self;
                problems.add("", "invalid_value", "the manifest can't be read");
                Err(problems)
            }
            None => Err(self),
        }
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A pointer one level down; escapes as RFC 6901 says.
pub(crate) fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A value as a message shows it: short, on one line.
pub(crate) fn shown(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    match value {
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        scalar => {
            let text = scalar.to_string();
            match text.char_indices().nth(CHARACTERS_MAX) {
                Some((at, _)) => format!("{}...", &text[..at]),
                None => text,
            }
        }
    }
}
