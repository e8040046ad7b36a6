//! What an evaluation is given beside its input: variables, the clock, chance, and a budget.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use jsonata::{Bindings, Budget};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use super::RECORD_BYTES_MAX;
use crate::cli::JsonataGiven;

/// Names and values of variables, as JSON texts: numbers keep their digits.
pub(super) type Variables = BTreeMap<String, Box<RawValue>>;

pub(super) fn variables(given: &JsonataGiven) -> Result<Variables> {
    let Some(given) = &given.bindings else { return Ok(Variables::new()) };
    if given.trim_start().starts_with('{') {
        return serde_json::from_str(given).context("--bindings: give a JSON object, or a file that has one");
    }
    let size = fs::metadata(given).with_context(|| format!("--bindings {given}"))?.len();
    ensure!(size <= RECORD_BYTES_MAX as u64, "--bindings {given}: larger than {RECORD_BYTES_MAX} bytes");
    let text = fs::read_to_string(given).with_context(|| format!("--bindings {given}"))?;
    serde_json::from_str(&text).with_context(|| format!("--bindings {given}: a JSON object is expected"))
}

/// Bindings with these variables, the clock of this moment, and random numbers that nobody foresees.
pub(super) fn bindings(variables: &Variables) -> Bindings {
    let mut bindings = Bindings::new(Timestamp::now().as_millisecond(), rand::random());
    for (name, value) in variables {
        bindings.set_json(name, value.get().as_bytes());
    }
    bindings
}

/// The default budget with what `--budget` says.
pub(super) fn budget(given: &JsonataGiven) -> Result<Budget> {
    let mut budget = Budget::default();
    for limit in &given.budget {
        set_limit(&mut budget, limit).with_context(|| format!("--budget {limit:?}"))?;
    }
    Ok(budget)
}

/// Sets what `NAME=N` says.
pub(super) fn set_limit(budget: &mut Budget, limit: &str) -> Result<()> {
    let (name, value) = limit.split_once('=').context("give NAME=N, such as steps=1000000")?;
    let value: u64 = value.parse().with_context(|| format!("{value:?} is no number"))?;
    let size = || usize::try_from(value).context("the number is too large");
    let Budget { steps, depth, bytes, output_bytes, regex_steps, wall } = budget;
    match name {
        "steps" => *steps = value,
        "depth" => *depth = value.try_into().context("the number is too large")?,
        "bytes" => *bytes = size()?,
        "output_bytes" => *output_bytes = size()?,
        "regex_steps" => *regex_steps = value,
        "wall" => *wall = Duration::from_millis(value),
        _ => bail!(
            "there is no limit {name:?}; there are steps, depth, bytes, output_bytes, regex_steps and wall (ms)"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(budget: &[&str]) -> JsonataGiven {
        JsonataGiven { bindings: None, budget: budget.iter().map(|b| (*b).to_owned()).collect() }
    }

    #[test]
    fn limits_are_set_or_refused_by_name() {
        let set = budget(&given(&["steps=5", "wall=250", "bytes=1024"])).unwrap();
        assert_eq!((set.steps, set.wall, set.bytes), (5, Duration::from_millis(250), 1024));
        assert_eq!(set.depth, Budget::default().depth);
        for (limit, says) in [
            ("steps", "NAME=N"),
            ("time=1", "regex_steps"),
            ("steps=-1", "\"-1\""),
            ("depth=99999999999", "too large"),
        ] {
            let error = format!("{:#}", budget(&given(&[limit])).unwrap_err());
            assert!(error.contains(says) && error.contains(limit), "{error}");
        }
    }
}
