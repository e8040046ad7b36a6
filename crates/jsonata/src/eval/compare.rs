//! Truth and equality of values. Both follow containers, so both count steps and depth.

use super::operators::identical;
use super::{R, Run};
use crate::value::Value;

impl<'a> Run<'a> {
    /// `$boolean`, with undefined taken for false.
    pub(crate) fn truthy(&self, value: Value<'a>) -> R<bool> {
        Ok(match value {
            Value::Undefined | Value::Null | Value::Function(_) => false,
            Value::Bool(b) => b,
            Value::Number(n) => {
                self.finite(n.value)?;
                n.value != 0.0 && !n.value.is_nan()
            }
            Value::String(text) => !text.is_empty(),
            Value::Object(object) => !self.entries(object)?.is_empty(),
            Value::Tuple(_) => true,
            Value::Array(array) => {
                let mut any = false;
                for item in self.items(array)? {
                    self.tick(1)?;
                    // All are looked at: a number that is out of range is an error anywhere.
                    any |= self.deeper(|| self.truthy(*item))?;
                }
                any
            }
        })
    }

    /// Deep equality.
    pub(crate) fn equal(&self, a: Value<'a>, b: Value<'a>) -> R<bool> {
        self.tick(1)?;
        if identical(a, b) {
            return Ok(true);
        }
        match (a, b) {
            (Value::Array(a), Value::Array(b)) => {
                let (a, b) = (self.items(a)?, self.items(b)?);
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b) {
                    if !self.deeper(|| self.equal(*a, *b))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => {
                let entries = self.entries(a)?;
                if entries.len() != self.entries(b)?.len() {
                    return Ok(false);
                }
                for entry in entries {
                    let other = self.get(b, entry.key)?;
                    if other.is_undefined() || !self.deeper(|| self.equal(entry.value, other))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
