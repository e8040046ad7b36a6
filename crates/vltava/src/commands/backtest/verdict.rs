//! Whether a candidate may go on, by what changed and failed.

use resources::Most;
use serde_json::{Value, json};

use crate::output;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Records with other outputs, none any more, or some at last.
    changed: u64,
    /// So many of them may be.
    changed_max: u64,
    /// Records that fail, and don't now.
    failed: u64,
    /// So many of them may be.
    failed_max: u64,
    /// Why it doesn't hold; empty: it does.
    why: Vec<String>,
}

impl Verdict {
    pub(super) fn of(report: &Value, max_changed: Most, max_failed: Most) -> Self {
        let count = |name: &str| report["counts"][name].as_u64().unwrap_or(0);
        let compared = report["records"]["compared"].as_u64().unwrap_or(0);
        let changed = count("changed") + count("newlyDropped") + count("newlyMade");
        let failed = count("newFailures");
        let (changed_max, failed_max) = (max_changed.of(compared), max_failed.of(compared));
        let mut why = Vec::new();
        if changed > changed_max {
            why.push(format!("{changed} record(s) changed; {changed_max} may (--max-changed)"));
        }
        if failed > failed_max {
            why.push(format!("{failed} record(s) fail that don't now; {failed_max} may (--max-failed)"));
        }
        if report["complete"] == false {
            why.push("the time was over before all were compared (--time-limit, --last)".into());
        } else if compared == 0 {
            why.push("there was nothing to compare".into());
        }
        Self { changed, changed_max, failed, failed_max, why }
    }

    pub(super) fn holds(&self) -> bool {
        self.why.is_empty()
    }

    pub(super) fn as_json(&self) -> Value {
        let Self { changed, changed_max, failed, failed_max, why } = self;
        json!({
            "holds": self.holds(),
            "changed": changed,
            "changedMax": changed_max,
            "failed": failed,
            "failedMax": failed_max,
            "why": why,
        })
    }

    pub(super) fn print(&self) {
        if self.holds() {
            output::line("ok: no more changed or failed than may");
        }
        self.why.iter().for_each(|why| output::line(format_args!("not ok: {why}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limits_is_said() {
        let report = |complete: bool, compared: u64| {
            json!({
                "counts": {"same": 90, "changed": 3, "newlyDropped": 2, "newlyMade": 1, "newFailures": 4,
                    "fixedFailures": 50, "stillFailing": 9},
                "records": {"compared": compared}, "complete": complete,
            })
        };
        let why = |changed: &str, failed: &str| {
            Verdict::of(&report(true, 200), changed.parse().unwrap(), failed.parse().unwrap()).why
        };
        assert_eq!(why("6", "4"), [""; 0]);
        assert_eq!(why("3%", "2%"), [""; 0]);
        assert_eq!(why("5", "4").len(), 1);
        assert!(why("5", "4")[0].contains("6 record(s) changed; 5 may (--max-changed)"));
        assert!(why("6", "0")[0].contains("4 record(s) fail"));
        let all = Most::Share(10_000);
        assert!(!Verdict::of(&report(false, 200), all, all).holds());
        let none = json!({"counts": {}, "records": {"compared": 0}, "complete": true});
        assert!(Verdict::of(&none, all, all).why[0].contains("nothing"));
    }
}
