//! The fields of one event or span, as JSON values.

use std::error::Error;
use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};

/// A text in a field is cut at this many bytes: a log line is for reading.
const TEXT_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) request_id: Option<String>,
    pub(super) rest: Vec<(&'static str, Value)>,
}

impl Fields {
    /// Takes from an outer span what isn't said closer to the event.
    pub(super) fn inherit(&mut self, outer: &Self) {
        if self.request_id.is_none() {
            self.request_id.clone_from(&outer.request_id);
        }
        for (name, value) in &outer.rest {
            if !self.rest.iter().any(|(own, _)| own == name) {
                self.rest.push((name, value.clone()));
            }
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("request_id", Value::String(text)) => self.request_id = Some(text),
            (name, value) => match self.rest.iter_mut().find(|(own, _)| *own == name) {
                Some((_, current)) => *current = value,
                None => self.rest.push((name, value)),
            },
        }
    }

    fn text(&mut self, field: &Field, mut text: String) {
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push('…');
        }
        self.put(field, Value::String(text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity: those are written as text.
        match serde_json::Number::from_f64(value) {
            Some(number) => self.put(field, Value::Number(number)),
            None => self.text(field, value.to_string()),
        }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, crate::shutdown::chain(value));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}
