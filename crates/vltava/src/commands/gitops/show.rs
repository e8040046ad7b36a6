//! Plans and what became of them, for people: without colours, what stays as it is only counted.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::ask::{Asked, SetProblem};
use crate::output::{self, Rows, printable};

/// Characters of a value on one line.
const VALUE_CHARS_MAX: usize = 100;

/// Lines of one text's difference.
const DIFF_LINES_MAX: usize = 60;

/// Lines that didn't change, around those that did.
const DIFF_CONTEXT: usize = 2;

/// A diff that takes longer gets coarser.
const DIFF_TIME_MAX: Duration = Duration::from_millis(200);

/// Orphans that are named.
const ORPHANS_MAX: usize = 10;

#[derive(Debug, Deserialize)]
struct Named {
    kind: String,
    workspace: String,
    name: String,
}

impl Named {
    fn text(&self) -> String {
        let Self { kind, workspace, name } = self;
        if kind == "Workspace" { format!("{kind} {name}") } else { format!("{kind} {workspace}/{name}") }
    }
}

#[derive(Debug, Deserialize)]
struct Field {
    pointer: String,
    // `null` is a value; what isn't there is none.
    #[serde(default, deserialize_with = "there")]
    old: Option<Value>,
    #[serde(default, deserialize_with = "there")]
    new: Option<Value>,
}

fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
struct Warning {
    pointer: String,
    message: String,
}

impl Warning {
    fn text(&self) -> String {
        let Self { pointer, message } = self;
        if pointer.is_empty() { message.clone() } else { format!("{pointer}: {message}") }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    action: String,
    #[serde(flatten)]
    named: Named,
    from: Option<String>,
    fields: Vec<Field>,
    #[serde(default)]
    fields_left_out: usize,
    warnings: Vec<Warning>,
}

/// What applying would change.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    source: String,
    changes: Vec<Change>,
    pub(super) problems: Vec<SetProblem>,
    orphans: Vec<Named>,
    summary: serde_json::Map<String, Value>,
}

impl Plan {
    pub(super) fn has_changes(&self) -> bool {
        self.changes.iter().any(|change| change.action != "unchanged")
    }

    pub(super) fn print(&self) {
        for change in self.changes.iter().filter(|change| change.action != "unchanged") {
            change.print();
        }
        print_orphans(&self.orphans, &self.source);
        if self.problems.is_empty() {
            output::line(format_args!("plan: {}", counts(&self.summary)));
        }
    }
}

impl Change {
    fn print(&self) {
        let Self { action, named, from, fields, fields_left_out, warnings } = self;
        let from = from.as_ref().map_or_else(String::new, |from| format!(", which was {from}"));
        output::line(format_args!("{action:<7} {}{from}", printable(&named.text(), VALUE_CHARS_MAX * 4)));
        // What is new stands in the folder.
        if action == "update" {
            let width = fields.iter().map(|field| field.pointer.chars().count()).max().unwrap_or(0);
            fields.iter().for_each(|field| field.print(width));
            if *fields_left_out > 0 {
                output::line(format_args!("          and {fields_left_out} more fields"));
            }
        }
        for warning in warnings {
            output::line(format_args!("          warning: {}", warning.text()));
        }
    }
}

impl Field {
    fn print(&self, width: usize) {
        let Self { pointer, old, new } = self;
        if let (Some(Value::String(old)), Some(Value::String(new))) = (old, new)
            && (old.contains('\n') || new.contains('\n'))
        {
            output::line(format_args!("          {pointer}"));
            diff(old, new).iter().for_each(|line| output::line(format_args!("            {line}")));
            return;
        }
        let shown = |value: &Option<Value>| {
            value.as_ref().map_or_else(|| "-".into(), |v| printable(&v.to_string(), VALUE_CHARS_MAX))
        };
        output::line(format_args!("          {pointer:<width$}  {} -> {}", shown(old), shown(new)));
    }
}

/// The lines that differ, with some around them.
fn diff(old: &str, new: &str) -> Vec<String> {
    let diff = TextDiff::configure().timeout(DIFF_TIME_MAX).diff_lines(old, new);
    let mut lines = Vec::new();
    for (i, group) in diff.grouped_ops(DIFF_CONTEXT).iter().enumerate() {
        if i > 0 {
            lines.push("...".into());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign}{}", printable(change.value().trim_end(), VALUE_CHARS_MAX * 2)));
        }
    }
    let more = lines.len().saturating_sub(DIFF_LINES_MAX);
    lines.truncate(DIFF_LINES_MAX);
    if more > 0 {
        lines.push(format!("... and {more} more lines"));
    }
    lines
}

fn print_orphans(orphans: &[Named], source: &str) {
    if orphans.is_empty() {
        return;
    }
    let mut names: Vec<String> = orphans.iter().take(ORPHANS_MAX).map(Named::text).collect();
    if orphans.len() > ORPHANS_MAX {
        names.push(format!("and {} more", orphans.len() - ORPHANS_MAX));
    }
    output::note(format_args!(
        "source {source} owns what the folder doesn't have (--prune deletes it): {}",
        names.join(", ")
    ));
}

/// `3 to create, 1 unchanged`, without what there is none of.
fn counts(summary: &serde_json::Map<String, Value>) -> String {
    let some = summary.iter().filter(|(_, n)| n.as_u64() != Some(0));
    let parts: Vec<String> = some
        .map(|(name, n)| match name.as_str() {
            "create" | "update" | "rename" | "delete" => format!("{n} to {name}"),
            _ => format!("{n} {name}"),
        })
        .collect();
    if parts.is_empty() { "nothing to do".into() } else { parts.join(", ") }
}

#[derive(Debug, Deserialize)]
struct OneResult {
    outcome: String,
    #[serde(flatten)]
    named: Named,
    from: Option<String>,
    index: Option<usize>,
    warnings: Vec<Warning>,
    error: Option<Value>,
}

/// What became of it.
#[derive(Debug, Deserialize)]
pub(super) struct Applied {
    source: String,
    complete: bool,
    results: Vec<OneResult>,
    orphans: Vec<Named>,
    summary: serde_json::Map<String, Value>,
}

impl Applied {
    pub(super) fn print(&self) {
        let mut table = Rows::new(&["kind", "workspace", "name", "change"]);
        let mut changed = false;
        for OneResult { outcome, named, from, warnings, .. } in &self.results {
            for warning in warnings {
                output::note(format_args!("warning: {}: {}", named.text(), warning.text()));
            }
            if outcome != "unchanged" {
                let from = from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
                let Named { kind, workspace, name } = named;
                table.row(vec![kind.clone(), workspace.clone(), name.clone(), format!("{outcome}{from}")]);
                changed = true;
            }
        }
        if changed {
            table.print();
        }
        print_orphans(&self.orphans, &self.source);
        output::line(format_args!("applied: {}", counts(&self.summary)));
    }

    /// The error that it is where something failed.
    pub(super) fn or_errors(&self, asked: &Asked<'_>) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let failed = self.results.iter().filter_map(|result| {
            let error = result.error.as_ref()?;
            let detail = error["detail"].as_str().unwrap_or("no detail");
            let place = asked.place(result.index, "");
            let place = if place.is_empty() { place } else { format!("{place}: ") };
            Some(format!("\n  {place}{} {}: {detail}", result.outcome, result.named.text()))
        });
        bail!("not all was applied; applying again does the rest:{}", failed.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_compared_by_lines() {
        let lines = diff("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nd\nE\nf\n");
        assert_eq!(lines, [" c", " d", "-e", "+E", " f"]);
        let long = "x\n".repeat(200);
        assert_eq!(diff(&long, "").len(), DIFF_LINES_MAX + 1);
        assert_eq!(diff("\u{1b}[31m", "")[0], "-\\u{1b}[31m");
    }

    #[test]
    fn counts_say_what_there_is() {
        let summary = |value: Value| counts(value.as_object().unwrap());
        assert_eq!(summary(json!({"create": 2, "update": 0, "unchanged": 1})), "2 to create, 1 unchanged");
        assert_eq!(summary(json!({"create": 0})), "nothing to do");
    }

    #[test]
    fn null_is_a_value() {
        let field: Field = serde_json::from_value(json!({"pointer": "/a", "old": null})).unwrap();
        assert_eq!((field.old, field.new), (Some(Value::Null), None));
    }
}
