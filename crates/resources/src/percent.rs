//! Shares in percent, to two decimals: what a sample keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From 0 to 100 percent. Written as a number: `12.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Percent(u16);

/// A value is no such share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no percentage: it must be a number from 0 to 100 with at most two decimals")]
pub struct PercentError(String);

impl Percent {
    /// In hundredths of a percent, from 0 to 10,000.
    pub fn hundredths(self) -> u16 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    fn from_str(text: &str) -> Result<Self, PercentError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let read = || {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
                return None;
            }
            let hundredths = format!("{fraction:0<2}").parse::<u16>().ok()?;
            let percent = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
            (percent <= 10_000).then_some(Self(percent))
        };
        read().ok_or_else(|| PercentError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 100 {
            0 => write!(f, "{}", self.0 / 100),
            rest if rest % 10 == 0 => write!(f, "{}.{}", self.0 / 100, rest / 10),
            rest => write!(f, "{}.{rest:02}", self.0 / 100),
        }
    }
}

impl TryFrom<Value> for Percent {
    type Error = PercentError;

    fn try_from(value: Value) -> Result<Self, PercentError> {
        let text = value.to_string();
        if value.is_number() { text.parse() } else { Err(PercentError(text.chars().take(80).collect())) }
    }
}

impl From<Percent> for Value {
    fn from(Percent(hundredths): Percent) -> Self {
        match hundredths % 100 {
            0 => (hundredths / 100).into(),
            _ => (f64::from(hundredths) / 100.0).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentages_read_back() {
        for value in [json!(0), json!(100), json!(12.5), json!(0.07), json!(99.99), json!(33)] {
            let percent = Percent::try_from(value.clone()).unwrap();
            assert_eq!((Value::from(percent), percent.to_string()), (value.clone(), value.to_string()));
        }
        assert_eq!(Percent::try_from(json!(10.0)).unwrap().hundredths(), 1_000);
        for bad in
            [json!(-1), json!(100.01), json!(0.001), json!("10"), json!("10%"), json!(null), json!(1e300)]
        {
            assert!(Percent::try_from(bad.clone()).is_err(), "{bad}");
        }
    }
}
