//! Reading JSON values into specs, collecting every problem instead of ending at the first.
//!
//! Invariant: a field that nobody asked for is a problem. `null` is absence.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::problem::{Problems, child, shown};

/// A value and its place.
pub struct At<'a> {
    /// What stands there.
    pub value: &'a Value,
    /// JSON pointer (RFC 6901).
    pub pointer: String,
}

impl<'a> At<'a> {
    /// A value as a whole.
    pub fn root(value: &'a Value) -> Self {
        Self { value, pointer: String::new() }
    }

    fn wrong(&self, wanted: &str, problems: &mut Problems) {
        let message = format!("must be {wanted}, not {}", shown(self.value));
        problems.add(self.pointer.clone(), "wrong_type", message);
    }

    /// A string.
    pub fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong("a string", problems);
        }
        text
    }

    /// A string that is neither empty nor longer than `bytes_max`.
    pub fn some_text(&self, bytes_max: usize, problems: &mut Problems) -> Option<&'a str> {
        let text = self.text(problems)?;
        if text.trim().is_empty() {
            problems.invalid(self.pointer.clone(), "can't be empty");
            return None;
        }
        if text.len() > bytes_max {
            problems.invalid(
                self.pointer.clone(),
                format!("has {} bytes, but at most {bytes_max} are allowed", text.len()),
            );
            return None;
        }
        Some(text)
    }

    /// A boolean.
    pub fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong("true or false", problems);
        }
        value
    }

    /// A whole number from `min` to `max`.
    pub fn integer(&self, min: i64, max: i64, problems: &mut Problems) -> Option<i64> {
        let Some(number) = self.value.as_i64() else {
            self.wrong("a whole number", problems);
            return None;
        };
        if number < min || number > max {
            problems.invalid(self.pointer.clone(), format!("is {number}, but must be from {min} to {max}"));
            return None;
        }
        Some(number)
    }

    /// A string that `parse` takes.
    pub fn parsed<T, E: Display>(
        &self,
        problems: &mut Problems,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(problems)?) {
            Ok(value) => Some(value),
            Err(error) => {
                problems.invalid(self.pointer.clone(), error);
                None
            }
        }
    }

    /// A string that reads as `T`.
    pub fn read<T: FromStr<Err: Display>>(&self, problems: &mut Problems) -> Option<T> {
        self.parsed(problems, T::from_str)
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)], problems: &mut Problems) -> Option<T> {
        let text = self.text(problems)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
            problems.invalid(
                self.pointer.clone(),
                format!("is {}, but must be one of {known}", shown(self.value)),
            );
        }
        found
    }

    /// An array of at most `length_max` elements.
    pub fn list(&self, length_max: usize, problems: &mut Problems) -> Option<Vec<At<'a>>> {
        let Some(list) = self.value.as_array() else {
            self.wrong("an array", problems);
            return None;
        };
        self.at_most(list.len(), length_max, problems)?;
        let element = |(i, value)| At { value, pointer: format!("{}/{i}", self.pointer) };
        Some(list.iter().enumerate().map(element).collect())
    }

    /// `None`, and a problem, where there are more than `length_max` elements or entries.
    pub fn at_most(&self, length: usize, length_max: usize, problems: &mut Problems) -> Option<()> {
        if length > length_max {
            let message = format!("has {length} entries, but at most {length_max} are allowed");
            problems.invalid(self.pointer.clone(), message);
            return None;
        }
        Some(())
    }

    /// An array of strings.
    pub fn texts(&self, length_max: usize, problems: &mut Problems) -> Option<Vec<String>> {
        let list = self.list(length_max, problems)?;
        Some(list.iter().filter_map(|at| at.some_text(1024, problems)).map(String::from).collect())
    }

    /// An object, whatever its fields.
    pub fn map(&self, problems: &mut Problems) -> Option<&'a Map<String, Value>> {
        let map = self.value.as_object();
        if map.is_none() {
            self.wrong("an object", problems);
        }
        map
    }

    /// An object of scalars, which become strings: `retention.ms: 1000` means `"1000"`, as in Kafka's own
    /// configuration. The values are in no message: they may be secrets.
    pub fn scalars(&self, length_max: usize, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
        let map = self.map(problems)?;
        self.at_most(map.len(), length_max, problems)?;
        let mut scalars = BTreeMap::new();
        for (name, value) in map {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    problems.add(
                        child(&self.pointer, name),
                        "wrong_type",
                        "must be a string, a number or a boolean",
                    );
                    continue;
                }
            };
            scalars.insert(name.clone(), text);
        }
        Some(scalars)
    }

    /// An object whose fields are all known.
    pub fn object(&self, problems: &mut Problems) -> Option<Object<'a>> {
        Some(Object { map: self.map(problems)?, pointer: self.pointer.clone(), known: Vec::new() })
    }
}

/// An object that is being read; [`Object::finish`] reports what nobody asked for.
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    /// The field, if it is there.
    pub fn field(&mut self, name: &'static str) -> Option<At<'a>> {
        self.known.push(name);
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(At { value, pointer: child(&self.pointer, name) })
    }

    /// The field, which must be there.
    pub fn required(&mut self, name: &'static str, problems: &mut Problems) -> Option<At<'a>> {
        let field = self.field(name);
        if field.is_none() {
            problems.add(child(&self.pointer, name), "missing_field", format!("{name} is missing"));
        }
        field
    }

    /// Reports the fields that nobody asked for.
    pub fn finish(self, problems: &mut Problems) {
        for name in self.map.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let shown: String = name.chars().take(60).collect();
            problems.add(
                child(&self.pointer, name),
                "unknown_field",
                format!("unknown field {shown:?}; known are {}", self.known.join(", ")),
            );
        }
    }
}
