//! What Tab suggests.
//!
//! Invariant: a suggestion replaces the text from the place that is given up to the cursor, can be written as it
//! stands, and has no character that a terminal obeys; there is a bounded number of them.

use std::fs;

use jsonata::builtin_functions;

use super::super::written;
use super::command::{self, COMMANDS, Takes};
use super::context;
use super::cursor::{self, Within};
use super::session::Session;
use super::signature;

/// More than a screen of suggestions says nothing.
const SUGGESTIONS_MAX: usize = 500;
/// Entries of a folder that are looked at.
const FOLDER_ENTRIES_MAX: usize = 10_000;
/// Longer names aren't suggested.
const NAME_CHARS_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suggestion {
    pub(super) text: String,
    /// What the list of suggestions shows.
    pub(super) shown: String,
}

fn plain(text: impl Into<String>) -> Suggestion {
    let text = text.into();
    Suggestion { shown: text.clone(), text }
}

/// Where the text begins that is to be replaced, and by what.
pub(super) fn suggestions(session: &mut Session, before: &str) -> (usize, Vec<Suggestion>) {
    let (start, mut found) = if command::is_command(before) {
        of_command(session, before)
    } else {
        of_expression(session, before)
    };
    found.retain(|suggestion| {
        !suggestion.text.contains(char::is_control) && suggestion.text.chars().nth(NAME_CHARS_MAX).is_none()
    });
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found.dedup_by(|a, b| a.text == b.text);
    found.truncate(SUGGESTIONS_MAX);
    (start, found)
}

fn of_command(session: &mut Session, before: &str) -> (usize, Vec<Suggestion>) {
    let line = before.trim_start();
    let Some((word, rest)) = line.split_once(char::is_whitespace) else {
        let names = COMMANDS.iter().filter(|entry| entry.name.starts_with(line));
        let named = names.map(|entry| Suggestion {
            text: format!("{}{}", entry.name, if entry.takes == Takes::Nothing { "" } else { " " }),
            shown: format!("{} {}", entry.name, entry.argument).trim_end().to_owned(),
        });
        return (before.len() - line.len(), named.collect());
    };
    let rest = rest.trim_start();
    let start = before.len() - rest.len();
    let last = rest.rsplit(char::is_whitespace).next().unwrap_or("");
    match command::find(word).map(|entry| entry.takes) {
        Some(Takes::Sample) if !rest.starts_with(['{', '[', '"']) => (start, files(rest)),
        Some(Takes::Expression) => {
            let (at, found) = of_expression(session, rest);
            (start + at, found)
        }
        Some(Takes::Variables) => {
            let names = session.variables.iter().map(|(name, _)| format!("${name}"));
            (before.len() - last.len(), names.filter(|name| name.starts_with(last)).map(plain).collect())
        }
        Some(Takes::Limits) => {
            let names = ["steps=", "depth=", "bytes=", "output_bytes=", "regex_steps=", "wall="];
            let like = names.into_iter().filter(|name| name.starts_with(last));
            (before.len() - last.len(), like.map(plain).collect())
        }
        Some(Takes::Sample | Takes::Nothing) | None => (before.len(), Vec::new()),
    }
}

/// Files and folders whose paths begin so; the path is all that is left of the line, spaces included.
fn files(path: &str) -> Vec<Suggestion> {
    let (folder, begin) =
        path.rsplit_once('/').map_or(("", path), |(folder, begin)| (&path[..=folder.len()], begin));
    let looked_in = if folder.is_empty() { "./".into() } else { super::home::expanded(folder) };
    let Ok(entries) = fs::read_dir(looked_in) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.take(FOLDER_ENTRIES_MAX).flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let hidden = name.starts_with('.') && !begin.starts_with('.');
        if !hidden && name.starts_with(begin) {
            // What a link leads to counts.
            let end = if fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()) { "/" } else { "" };
            found.push(Suggestion { text: format!("{folder}{name}{end}"), shown: format!("{name}{end}") });
        }
    }
    found
}

fn of_expression(session: &mut Session, before: &str) -> (usize, Vec<Suggestion>) {
    let (start, typed) = match cursor::before(before).within {
        Within::Text => return (before.len(), Vec::new()),
        Within::Name(start) => (start, &before[start + 1..]),
        Within::Code => {
            let word = cursor::last_word(before);
            (before.len() - word.len(), word)
        }
    };
    let quoted = before[start..].starts_with('`');
    if !quoted && before[..start].ends_with('$') {
        return variables(session, before, start - 1, typed);
    }
    if typed.starts_with(|c: char| c.is_ascii_digit()) && !quoted {
        return (before.len(), Vec::new());
    }
    let Some(expression) = context::place(&before[..start]).fields else {
        return (before.len(), Vec::new());
    };
    let names = session.look(&expression);
    let like = |exact: bool| -> Vec<Suggestion> {
        let begins = |name: &&String| match exact {
            true => name.starts_with(typed),
            false => name.to_lowercase().starts_with(&typed.to_lowercase()),
        };
        // A name with a backquote can't be written.
        names
            .iter()
            .filter(begins)
            .filter(|name| !name.contains('`'))
            .map(|name| plain(written(name)))
            .collect()
    };
    let exact = like(true);
    (start, if exact.is_empty() { like(false) } else { exact })
}

/// `start` is where the `$` is.
fn variables(session: &Session, before: &str, start: usize, typed: &str) -> (usize, Vec<Suggestion>) {
    // `$$` is the input.
    if before[..start].ends_with('$') {
        return (before.len(), Vec::new());
    }
    let of_line = context::place(&before[..start]).variables;
    let kept = session.variables.iter().map(|(name, _)| name.to_owned());
    let known = kept.chain(of_line).filter(|name| name.starts_with(typed));
    let mut found: Vec<Suggestion> = known.map(|name| plain(format!("${name}"))).collect();
    for (name, _) in builtin_functions().filter(|(name, _)| name.starts_with(typed)) {
        let text = format!("${name}");
        if found.iter().all(|suggestion| suggestion.text != text) {
            let shown = format!("{text}{}", signature::of(name).unwrap_or_default());
            found.push(Suggestion { text, shown });
        }
    }
    (start, found)
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::session;
    use super::*;

    const SAMPLE: &str = r#"{"order": {"id": 1, "net kind": "x", "items": [{"name": "bolt", "price": 2},
        {"name": "nut", "tags": {"red": 1}}], "Items2": [], "bad`name": 1, "e\u001b[31m": 1, "in": 2}, "other": [[{"deep": 1}]]}"#;

    fn texts(session: &mut Session, before: &str) -> (String, Vec<String>) {
        let (start, found) = suggestions(session, before);
        (before[start..].to_owned(), found.into_iter().map(|s| s.text).collect())
    }

    fn names(before: &str) -> Vec<String> {
        texts(&mut session(SAMPLE), before).1
    }

    #[test]
    fn fields_are_those_at_the_place() {
        let of_order = ["Items2", "`in`", "`net kind`", "id", "items"];
        let of_items = ["name", "price", "tags"];
        assert_eq!(names(""), ["order", "other"]);
        assert_eq!(names("  o"), ["order", "other"]);
        assert_eq!(names("order."), of_order);
        assert_eq!(names("order.ITEMS2"), ["Items2"]);
        assert_eq!(names("order.i"), ["`in`", "id", "items"]);
        assert_eq!(texts(&mut session(SAMPLE), "order.`ne"), ("`ne".into(), vec!["`net kind`".into()]));
        assert_eq!(names("order.items."), of_items);
        assert_eq!(names("order.items.tags."), ["red"]);
        assert_eq!(names("order.items[1].ta"), ["tags"]);
        assert_eq!(names("order.items[price > 1].n"), ["name"]);
        assert_eq!(names("order.items[pr"), ["price"]);
        assert_eq!(names("order.items[name = 'x' and "), of_items);
        assert_eq!(names("{ 'a': order.items.{ 'b': n"), ["name"]);
        assert_eq!(names("order.items{name: "), of_items);
        assert_eq!(names("order.items^(>p"), ["price"]);
        assert_eq!(names("order.(id & ` "), Vec::<String>::new());
        assert_eq!(names("order.(items[0].price + i"), ["`in`", "id", "items"]);
        assert_eq!(names("$sum(order.items.pr"), ["price"]);
        assert_eq!(names("other."), ["deep"]);
        assert_eq!(names("$.order.items.*."), ["red"]);
        assert_eq!(names("$$.o"), ["order", "other"]);
        // With what variables and parameters hold.
        assert_eq!(names("($i := order.items; $i."), of_items);
        assert_eq!(names("$map(order.items, function($v, $n) { $v."), of_items);
        assert_eq!(names("order.items ~> $filter(function($v) { $v.t"), ["tags"]);
        assert_eq!(names("$reduce(order.items, function($a, $v) { $a + $v.p"), ["price"]);
        assert_eq!(names("order ~> |items|{'a': p"), ["price"]);
        let mut session = session(SAMPLE);
        session.evaluate("$kept := order.items[1]").unwrap();
        assert_eq!(texts(&mut session, "$kept.").1, ["name", "tags"]);
        session.evaluate("$f := function($x) { $x.order }").unwrap();
        assert_eq!(texts(&mut session, "$f($).it").1, ["items"]);
    }

    #[test]
    fn nothing_is_suggested_where_nothing_fits() {
        for before in ["order.id.", "order 'it", "'a.", "order.1", "nothing.", "order id", "a.[b)."] {
            assert_eq!(names(before), Vec::<String>::new(), "{before}");
        }
        // No sample, and one that is too large for a Tab.
        assert_eq!(texts(&mut session(""), "a.").1, Vec::<String>::new());
        assert_eq!(names("$map([1..1000000], function($n) { $n })."), Vec::<String>::new());
    }

    #[test]
    fn variables_are_kept_ones_those_of_the_line_and_functions() {
        let mut session = session(SAMPLE);
        session.evaluate("$summary := 1").unwrap();
        assert_eq!(texts(&mut session, "1 + $sum"), ("$sum".into(), vec!["$sum".into(), "$summary".into()]));
        assert_eq!(texts(&mut session, "($suffix := 1; $suf").1, ["$suffix"]);
        assert_eq!(texts(&mut session, "function($sunny) { $sun").1, ["$sunny"]);
        assert!(texts(&mut session, "$").1.len() > 50);
        assert_eq!(texts(&mut session, "$$").1, Vec::<String>::new());
        let (_, found) = suggestions(&mut session, "$lengt");
        assert_eq!(found[0].shown, "$length(string = $) → number");
    }

    #[test]
    fn commands_their_files_and_what_else_they_take() {
        let mut session = session(SAMPLE);
        session.evaluate("$total := 1").unwrap();
        assert_eq!(texts(&mut session, ":in"), (":in".into(), vec![":input ".into()]));
        assert_eq!(texts(&mut session, ":").1.len(), COMMANDS.len());
        assert_eq!(texts(&mut session, ":paths order.it").1, ["items"]);
        assert_eq!(texts(&mut session, ":unset $to"), ("$to".into(), vec!["$total".into()]));
        assert_eq!(texts(&mut session, ":budget steps=1 wa"), ("wa".into(), vec!["wall=".into()]));
        assert_eq!(texts(&mut session, ":show x").1, Vec::<String>::new());
        assert_eq!(texts(&mut session, ":nope x").1, Vec::<String>::new());

        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("orders")).unwrap();
        fs::write(dir.path().join("order 1.json"), "{}").unwrap();
        fs::write(dir.path().join(".hidden"), "{}").unwrap();
        let shown = dir.path().display();
        let line = format!(":input {shown}/ord");
        assert_eq!(
            texts(&mut session, &line),
            (format!("{shown}/ord"), vec![format!("{shown}/order 1.json"), format!("{shown}/orders/")])
        );
        assert_eq!(texts(&mut session, &format!(":i {shown}/.h")).1, [format!("{shown}/.hidden")]);
        assert_eq!(texts(&mut session, &format!(":input {shown}/")).1.len(), 2);
        assert_eq!(texts(&mut session, ":input {\"a\": ").1, Vec::<String>::new());
    }
}
