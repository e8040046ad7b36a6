//! What a pipeline asks for before another version comes into force.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::decode::At;
use crate::problem::Problems;

/// Records that a required backtest reads, unless said otherwise.
pub const REQUIRED_LAST_DEFAULT: u64 = 10_000;

/// The most that it may say: whoever applies waits for it.
pub const REQUIRED_LAST_MAX: u64 = 100_000;

/// How many records may be so: a number, or a share of those that are compared. Written `10` or `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Most {
    /// So many.
    Records(u64),
    /// So many hundredths of a percent, up to 10,000.
    Share(u16),
}

/// A text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a number of records such as 10, nor a share of them such as 0.5%, from 0% to 100%")]
pub struct MostError(String);

impl Default for Most {
    fn default() -> Self {
        Self::Records(0)
    }
}

impl Most {
    /// Of so many records.
    pub fn of(self, records: u64) -> u64 {
        match self {
            Self::Records(most) => most,
            // Up to records: it fits.
            Self::Share(hundredths) => {
                u64::try_from(u128::from(records) * u128::from(hundredths) / 10_000).unwrap_or(records)
            }
        }
    }
}

impl FromStr for Most {
    type Err = MostError;

    fn from_str(text: &str) -> Result<Self, MostError> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let read = || {
            let Some(share) = text.strip_suffix('%') else {
                return text.parse().ok().filter(|_| digits(text)).map(Self::Records);
            };
            let (whole, fraction) = share.split_once('.').unwrap_or((share, "0"));
            if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
                return None;
            }
            let hundredths = format!("{fraction:0<2}").parse::<u16>().ok()?;
            let share = whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
            (share <= 10_000).then_some(Self::Share(share))
        };
        read().ok_or_else(|| MostError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(most) => most.fmt(f),
            Self::Share(hundredths) if hundredths % 100 == 0 => write!(f, "{}%", hundredths / 100),
            Self::Share(hundredths) => write!(f, "{}.{:02}%", hundredths / 100, hundredths % 100),
        }
    }
}

/// As JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Most {
    type Error = MostError;
    fn try_from(written: Written) -> Result<Self, MostError> {
        match written {
            Written::Number(most) => Ok(Self::Records(most)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Most> for Written {
    fn from(most: Most) -> Self {
        match most {
            Most::Records(records) => Self::Number(records),
            share @ Most::Share(_) => Self::Text(share.to_string()),
        }
    }
}

/// How another version comes into force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutSpec {
    /// What must hold before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Requirement>,
}

/// What must hold before another version comes into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// A backtest against the version that runs.
    pub backtest: RequiredBacktest,
}

/// What a backtest must come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequiredBacktest {
    /// So many records may have other outputs, none any more, or some at last.
    #[serde(default)]
    pub max_changed: Most,
    /// So many records may fail that don't now.
    #[serde(default)]
    pub max_failed: Most,
    /// Over so many of the last records; from 1 to [`REQUIRED_LAST_MAX`].
    #[serde(default = "last")]
    pub last: u64,
}

fn last() -> u64 {
    REQUIRED_LAST_DEFAULT
}

impl RolloutSpec {
    /// `None`: it says nothing.
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let require = object.field("require").and_then(|at| {
            let mut object = at.object(problems)?;
            let backtest =
                object.required("backtest", problems).and_then(|at| RequiredBacktest::decode(&at, problems));
            object.finish(problems);
            Some(Requirement { backtest: backtest? })
        });
        object.finish(problems);
        require.map(|require| Self { require: Some(require) })
    }
}

impl RequiredBacktest {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let mut most = |name, problems: &mut Problems| match object.field(name) {
            None => Most::default(),
            Some(at) => match at.value.as_i64() {
                Some(_) => at
                    .integer(0, i64::MAX, problems)
                    .and_then(|n| u64::try_from(n).ok())
                    .map(Most::Records)
                    .unwrap_or_default(),
                None => at.read(problems).unwrap_or_default(),
            },
        };
        let (max_changed, max_failed) = (most("maxChanged", problems), most("maxFailed", problems));
        let most = i64::try_from(REQUIRED_LAST_MAX).unwrap_or(i64::MAX);
        let last = object
            .field("last")
            .and_then(|at| at.integer(1, most, problems))
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(REQUIRED_LAST_DEFAULT);
        object.finish(problems);
        Some(Self { max_changed, max_failed, last })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_limit_is_a_number_or_a_share() {
        let of = |text: &str| text.parse::<Most>().map(|most| (most.of(1_000), most.to_string()));
        for (text, of_thousand, shown) in [
            ("7", 7, "7"),
            ("0%", 0, "0%"),
            ("0.55%", 5, "0.55%"),
            ("0.5%", 5, "0.50%"),
            ("100%", 1_000, "100%"),
        ] {
            assert_eq!(of(text), Ok((of_thousand, shown.to_owned())));
            let most: Most = text.parse().unwrap();
            assert_eq!(serde_json::from_value::<Most>(json!(most)).unwrap(), most);
        }
        for wrong in ["", "-1", "+1", "1.5", "101%", "100.01%", "0.555%", "%", ".5%", "5.%", "many"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Most::Share(10_000).of(u64::MAX), u64::MAX);
    }

    fn decode(value: &Value) -> Result<Option<RolloutSpec>, Vec<String>> {
        let mut problems = Problems::new();
        let spec = RolloutSpec::decode(&At { value, pointer: "/r".into() }, &mut problems);
        if problems.is_empty() { Ok(spec) } else { Err(problems.into_iter().map(|p| p.pointer).collect()) }
    }

    #[test]
    fn a_requirement_reads_with_its_defaults_and_reads_back() {
        assert_eq!(decode(&json!({})), Ok(None));
        let spec = decode(&json!({"require": {"backtest": {}}})).unwrap().unwrap();
        let backtest = &spec.require.as_ref().unwrap().backtest;
        assert_eq!((backtest.max_changed, backtest.last), (Most::Records(0), REQUIRED_LAST_DEFAULT));
        let said = json!({"require": {"backtest": {"maxChanged": "1%", "maxFailed": 3, "last": 50}}});
        let spec = decode(&said).unwrap().unwrap();
        assert_eq!(json!(spec), said);
        assert_eq!(serde_json::from_value::<RolloutSpec>(said).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = json!({"require": {"backtest": {"maxChanged": "some", "maxFailed": -1, "last": 0, "x": 1}, "y": 1}});
        let at = |name: &str| format!("/r/require/{name}");
        assert_eq!(
            decode(&wrong),
            Err(["backtest/maxChanged", "backtest/maxFailed", "backtest/last", "backtest/x", "y"]
                .map(at)
                .into())
        );
        assert_eq!(decode(&json!({"require": {}})), Err(vec![at("backtest")]));
    }
}
